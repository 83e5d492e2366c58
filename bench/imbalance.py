"""Four ways to train on skewed labels, side by side.

    python bench/imbalance.py DATA [--seeds 5] [--jobs 2] [--only CORPUS] [--write]

Three corpora: sms_spam.jsonl (two labels, 7:1), split again for each seed;
clinc150_imbalanced_train.jsonl (150 labels of 25 to 100 rows), tested on clinc150_test.jsonl; and a
long tail made of banking77_train.jsonl, in which label number i of 77, in an order drawn again for
each seed, keeps 100 · 100^(-i/76) rows, from 100 down to 1, tested on banking77_test.jsonl. All
train rows have had their copies removed. The base model is `scratch`, 4, 6 and 10 epochs,
everything else by default; a seed sets the rows, the weights, the order and the validation rows.
Each cell is the mean over the seeds, with the standard deviation.

Which way is best depends on the world that the model is for, so there are two tables, for which the
test rows are weighted: of labels that are equally frequent, and of labels as frequent as in the
train split. `tail` is the mean recall of the third of the labels with the fewest training rows,
`ece` the expected calibration error. One process a training, one thread each."""
import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from main_job import machine, write
from training import answered, linear_answered, spread

BALANCES = ('none', 'cap', 'loss', 'logit')


def read(path: Path) -> pd.DataFrame:
    return pd.read_json(path, lines=True, dtype=str)[['text', 'label']]


def read_parts(data: Path, corpus: str) -> tuple:
    "The train and the test file of a corpus."
    return tuple(read(data/corpus/f'{corpus}_{part}.jsonl') for part in ('train', 'test'))


def long_tail(df: pd.DataFrame, seed: int) -> pd.DataFrame:
    "100 rows of one label, 1 of another, and all sizes between."
    rng = np.random.default_rng(seed)
    labels = rng.permutation(sorted(set(df['label'])))
    sizes = np.maximum(1, np.round(100 * 100 ** (-np.arange(len(labels)) / (len(labels) - 1)))).astype(int)
    return pd.concat([df[df['label'] == label].sample(min(n, (df['label'] == label).sum()), random_state=seed)
                      for label, n in zip(labels, sizes)], ignore_index=True)


def cleaned(path: Path) -> pd.DataFrame:
    from libdocs.utils.data_cleaner.clean_data_tfidf import clean
    return clean(read(path).assign(id=lambda d: d.index.astype(str))).kept[['text', 'label']].reset_index(drop=True)


def split(df: pd.DataFrame, seed: int) -> tuple:
    from libdocs.utils.training.training import split_rows
    test = split_rows(list(df['label']), np.arange(len(df)), .2, seed)
    return df[~test].reset_index(drop=True), df[test].reset_index(drop=True)


def corpora(data: Path, only: str | None) -> dict:
    "name → (seed → (train split, test split), epochs)."
    ready = {}
    sources = (('sms_spam', 'sms_spam/sms_spam', None, split, 4),
               ('clinc150 imbalanced', 'clinc150/clinc150_imbalanced_train',
                'clinc150/clinc150_test', lambda df, seed: df, 6),
               ('banking77, 100:1', 'banking77/banking77_train', 'banking77/banking77_test', long_tail, 10))
    for name, source, test, make, epochs in sources:
        if only and not name.startswith(only): continue
        if not (data/f'{source}.jsonl').exists():
            print(f'skipped {name}: {source}.jsonl is not there'); continue
        df, test = cleaned(data/f'{source}.jsonl'), test and read(data/f'{test}.jsonl')
        def both(seed, df=df, test=test, make=make):
            return make(df, seed) if test is None else (make(df, seed), test)
        ready[name] = both, epochs
    return ready


def figures(name: str, train: pd.DataFrame, test: pd.DataFrame, balance: str, epochs: int, seed: int) -> dict:
    "One training: its figures in both worlds."
    from libdocs.evaluation.outcomes import figures as figures_of
    from libdocs.evaluation.intervals import natural_weights
    counts = train['label'].value_counts()
    if balance == 'TF-IDF + linear': outcomes = linear_answered(train, test, seed)
    else: outcomes, _ = answered(train, test, seed, balance=balance, epochs=epochs)
    even, as_trained = (figures_of(outcomes, natural_weights(outcomes, world))
                        for world in (dict.fromkeys(counts.index, 1), counts.to_dict()))
    rare = [outcomes.names.index(label) for label in counts.index[-max(1, len(counts) // 3):]
            if label in outcomes.names]
    tail = np.mean([outcomes.right[outcomes.truth == label].mean() for label in rare])
    result = dict(corpus=name, balance=balance, seed=seed, tail=float(tail))
    for world, figure in (('even', even), ('natural', as_trained)):
        result |= {f'{world}_{k}': figure[k] for k in ('macro_f1', 'top_1', 'ece')}
    print(result, flush=True)
    return result


def table(results: pd.DataFrame, world: str, columns: dict) -> list:
    "The lines of a table; `columns`: heading → column of `results`."
    lines = [f'{world}:', '', f'| corpus | way | {" | ".join(columns)} |', '|---' * (2 + len(columns)) + '|']
    for (name, balance), part in results.groupby(['corpus', 'balance'], sort=False):
        lines.append(f'| {name} | {balance} | '
                     + ' | '.join(spread(part[k].astype(float)) for k in columns.values()) + ' |')
    return lines


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('data', type=Path)
    p.add_argument('--seeds', type=int, default=5)
    p.add_argument('--jobs', type=int, default=2)
    p.add_argument('--only', metavar='CORPUS', help='one corpus, by the beginning of its name')
    p.add_argument('--write', action='store_true', help='put the table into bench/RESULTS.md')
    args = p.parse_args()
    ready = corpora(args.data, args.only)
    if not ready: raise SystemExit('nothing to measure')
    results = pd.DataFrame(Parallel(args.jobs)(delayed(figures)(name, *make(seed), balance, epochs, seed)
                                               for name, (make, epochs) in ready.items() for balance in (
                                                   *BALANCES, 'TF-IDF + linear') for seed in range(args.seeds)))
    headings = {'macro-F1': 'macro_f1', 'top-1': 'top_1', 'ece': 'ece'}
    even, natural = ({heading: f'{world}_{k}' for heading, k in headings.items()} for world in ('even', 'natural'))
    lines = [machine(f'{args.seeds} seeds'), '',
             *table(results, 'Labels equally frequent', even | dict(tail='tail')), '',
             *table(results, 'Labels as frequent as in the train split', natural)]
    print('\n'.join(lines))
    if args.write: write('\n'.join(lines), 'imbalance.py')


if __name__ == '__main__': main()
