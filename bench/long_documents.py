"""Ways to read texts that are longer than the model's input.

    python bench/long_documents.py DATA [--seeds 5] [--only late|cuad] [--jobs 2] [--write]

late: 480 made-up documents of four labels (and 200 to test on), 120 to 240 words that say nothing,
and three words that show the label somewhere in the second half; the input holds 64 tokens, 10
epochs. cuad: cuad_contracts.jsonl, cleaned, labels with at least 9 rows, split by libdocs with seed
42; the input holds 512 tokens, 8 epochs. The base model is `scratch`; head-tail reads a quarter
from the beginning, windows overlap by 64 tokens (16 in late). Each cell is the mean over the seeds
(of weights, order and validation rows) with the standard deviation; not read is the share of all
test tokens that the model does not get to see. One process a training, one thread each."""
import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from main_job import machine, write
from shapes import WORDS
from training import linear_figures, spread, tuned

WAYS = {'head': {}, 'head-tail': dict(long='head-tail'), 'windows, mean': dict(long='windows', pool='mean'),
        'windows, max': dict(long='windows', pool='max')}


def late(rows: int, seed: int) -> pd.DataFrame:
    "Documents whose label shows late."
    rng = np.random.default_rng(seed)
    common = 1 / np.arange(1, len(WORDS) + 1)
    def text_of(label):
        text = list(rng.choice(WORDS, rng.integers(120, 241), p=common / common.sum()))
        at = rng.integers(len(text) // 2, len(text) - 3)
        text[at:at + 3] = [f'{label}{k}' for k in rng.integers(0, 5, 3)]
        return ' '.join(text)
    labels = [('invoice', 'contract', 'minutes', 'memo')[i % 4] for i in range(rows)]
    return pd.DataFrame(dict(text=[text_of(label) for label in labels], label=labels))


def cuad(data: Path) -> tuple:
    "(train, test) of the contracts."
    from libdocs.core.records import read_records
    from libdocs.utils.data_cleaner.clean_data_tfidf import clean
    from libdocs.utils.training.training import df_to_train_test_bytes, normalize
    cleaned = clean(read_records(data/'cuad_contracts'/'cuad_contracts.jsonl').df)
    kept = normalize(cleaned.kept, min_label_count=9).kept
    splits = df_to_train_test_bytes(kept, 0.2, 42, groups=cleaned.clusters[kept.index])
    return splits.train_df[['text', 'label']], splits.test_df[['text', 'label']]


def figures(corpus: str, train: pd.DataFrame, test: pd.DataFrame, way: str, seed: int, options: dict) -> dict:
    "One training."
    from libdocs.classifiers.reading import read_tokens
    start, options = time.perf_counter(), options | WAYS[way]
    if options.get('long') != 'windows': options.pop('overlap')
    metrics, classifier = tuned(train, test, seed, **options)
    _, total, lost = read_tokens(classifier.tokenizer, list(test['text']), classifier.reading)
    result = dict(corpus=corpus, way=way, seed=seed, top_1=metrics.top_1, macro_f1=metrics.macro_f1,
                  lost=lost.sum() / total.sum(), seconds=time.perf_counter() - start)
    print(result, flush=True)
    return result


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('data', type=Path)
    p.add_argument('--seeds', type=int, default=5)
    p.add_argument('--only', default='', help='late or cuad')
    p.add_argument('--jobs', type=int, default=2)
    p.add_argument('--write', action='store_true', help='put the tables into bench/RESULTS.md')
    args = p.parse_args()
    for corpus in ('late', 'cuad'):
        if args.only not in corpus: continue
        if corpus == 'cuad' and not (args.data/'cuad_contracts').exists():
            print('skipped cuad: cuad_contracts is not there'); continue
        train, test = (late(480, 0), late(200, 1)) if corpus == 'late' else cuad(args.data)
        options = dict(max_length=64, overlap=16,
                       epochs=10) if corpus == 'late' else dict(max_length=512, overlap=64, epochs=8)
        results = pd.DataFrame(Parallel(args.jobs)(delayed(figures)(corpus, train, test, way, seed, options)
                                                   for way in WAYS for seed in range(args.seeds)))
        lines = [machine(f'{args.seeds} seeds'), '',
                 f'{corpus}: {len(train)} rows to train on, {len(test)} to test on; TF-IDF + linear '
                 f'{linear_figures(train, test).top_1:.4f} top-1.', '',
                 '| way | top-1 | macro-F1 | not read | seconds |', '|---|---|---|---|---|']
        for way, part in results.groupby('way', sort=False):
            lines.append(f'| {way} | ' + ' | '.join(spread(part[k]) for k in ('top_1', 'macro_f1'))
                         + f' | {part["lost"].mean():.0%} | {part["seconds"].mean():.0f} |')
        print('\n'.join(lines))
        if args.write: write('\n'.join(lines), f'long_documents.py {corpus}')


if __name__ == '__main__': main()
