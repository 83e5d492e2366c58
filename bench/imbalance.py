"""Four ways to train on skewed labels, side by side.

    python bench/imbalance.py DATA [--seeds 5] [--jobs 2] [--write]

Two corpora: clinc150_imbalanced_train.jsonl (150 labels of 25 to 100 rows), tested on clinc150_test.jsonl; and a long tail made of
banking77_train.jsonl, in which label number i of 77, in an order drawn anew for each seed, keeps 100 · 100^(-i/76) rows, from 100 down to 1,
tested on banking77_test.jsonl. Both train files have had their copies removed. The base model is `scratch`, 6 and 10 epochs,
everything else by default; a seed sets the rows, the weights, the order and the validation rows. Each cell is the mean over the seeds, with the
standard deviation.

Which way is best depends on the world that the model is for, so there are two tables: of labels that are equally frequent, as they are in both test
files, and of labels as frequent as in the train split, for which the rows of the test file are weighted. `tail` is the mean recall of the third of
the labels with the fewest training rows, `ece` the expected calibration error. One process a training, one thread each."""
import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from main_job import machine, write
from training import linear_figures, spread, tuned

BALANCES = ('none', 'cap', 'loss', 'logit')


def read(path: Path) -> pd.DataFrame: return pd.read_json(path, lines=True, dtype=str)[['text', 'label']]


def long_tail(df: pd.DataFrame, seed: int) -> pd.DataFrame:
    "100 rows of one label, 1 of another, and all sizes between."
    rng = np.random.default_rng(seed)
    labels = rng.permutation(sorted(set(df['label'])))
    sizes = np.maximum(1, np.round(100 * 100 ** (-np.arange(len(labels)) / (len(labels) - 1)))).astype(int)
    return pd.concat([df[df['label'] == label].sample(min(n, (df['label'] == label).sum()), random_state=seed) for label, n in zip(labels, sizes)], ignore_index=True)


def corpora(data: Path) -> dict:
    "name → (seed → train split, test split, epochs)."
    from libdocs.utils.data_cleaner.clean_data_tfidf import clean
    found = {}
    sources = (('clinc150 imbalanced', 'clinc150/clinc150_imbalanced_train', 'clinc150/clinc150_test', lambda df, seed: df, 6),
               ('banking77, 100:1', 'banking77/banking77_train', 'banking77/banking77_test', long_tail, 10))
    for name, source, test, make, epochs in sources:
        if not (data/f'{source}.jsonl').exists(): print(f'skipped {name}: {source}.jsonl is not there'); continue
        df = clean(read(data/f'{source}.jsonl').assign(id=lambda d: d.index.astype(str))).kept[['text', 'label']].reset_index(drop=True)
        found[name] = (lambda seed, df=df, make=make: make(df, seed)), read(data/f'{test}.jsonl'), epochs
    return found


def figures(name: str, train: pd.DataFrame, test: pd.DataFrame, balance: str, epochs: int, seed: int) -> dict:
    "One training: its figures in both worlds."
    counts = train['label'].value_counts()
    if balance == 'TF-IDF + linear': even = linear_figures(train, test, seed, counts.to_dict())
    else: even, _ = tuned(train, test, seed, natural=counts.to_dict(), balance=balance, epochs=epochs)
    rare = set(counts.index[-(len(counts) // 3):])
    tail = np.mean([d['recall'] for d in even['per_label'] if d['label'] in rare])
    as_trained = {f'natural_{k}': even['natural'][k] for k in ('macro_f1', 'top_1', 'ece')}
    result = dict(corpus=name, balance=balance, seed=seed, tail=float(tail)) | {k: even[k] for k in ('macro_f1', 'top_1', 'ece')} | as_trained
    print(result, flush=True)
    return result


def table(results: pd.DataFrame, world: str, columns: dict) -> list:
    "The lines of a table; `columns`: heading → column of `results`."
    lines = [f'{world}:', '', f'| corpus | way | {" | ".join(columns)} |', '|---' * (2 + len(columns)) + '|']
    for (name, balance), part in results.groupby(['corpus', 'balance'], sort=False):
        lines.append(f'| {name} | {balance} | ' + ' | '.join(spread(part[k].astype(float)) for k in columns.values()) + ' |')
    return lines


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('data', type=Path)
    p.add_argument('--seeds', type=int, default=5)
    p.add_argument('--jobs', type=int, default=2)
    p.add_argument('--write', action='store_true', help='put the table into bench/RESULTS.md')
    args = p.parse_args()
    found = corpora(args.data)
    if not found: raise SystemExit('nothing to measure')
    results = pd.DataFrame(Parallel(args.jobs)(delayed(figures)(name, make(seed), test, balance, epochs, seed)
        for name, (make, test, epochs) in found.items() for balance in (*BALANCES, 'TF-IDF + linear') for seed in range(args.seeds)))
    even = {'macro-F1': 'macro_f1', 'top-1': 'top_1', 'tail': 'tail', 'ece': 'ece'}
    natural = {heading: f'natural_{column}' for heading, column in even.items() if heading != 'tail'}
    lines = [machine().replace('one run each', f'{args.seeds} seeds'), '', *table(results, 'Labels equally frequent', even), '',
             *table(results, 'Labels as frequent as in the train split', natural)]
    print('\n'.join(lines))
    if args.write: write('\n'.join(lines), 'imbalance.py')


if __name__ == '__main__': main()
