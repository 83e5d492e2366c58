"""The small model from scratch beside TF-IDF + linear, on corpora as they were published: trained
on their train file, tested on their test file.

    python bench/scratch.py DATA [--seeds 5] [--epochs 5] [--write]

Both see the same rows, as they are, copies and all; `scratch` holds a tenth of them out to choose
its epoch by. Seconds are those of one training with all cores, from rows to the answers of the
saved, calibrated model. All options of the model were chosen on clinc150_val.jsonl and on rows held
out of banking77_train.jsonl."""
import argparse
import os
import time
from pathlib import Path

import numpy as np
from imbalance import read
from main_job import machine, write
from training import linear_figures, tuned

CORPORA = {'clinc150': 'clinc150/clinc150', 'banking77': 'banking77/banking77'}


def timed(judge, *args, **options) -> tuple:
    "(top-1, macro-F1, seconds) of a function that gives figures."
    start = time.perf_counter()
    figures = judge(*args, **options)
    return figures.top_1, figures.macro_f1, time.perf_counter() - start


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('data', type=Path)
    p.add_argument('--seeds', type=int, default=5)
    p.add_argument('--epochs', type=int, default=5)
    p.add_argument('--write', action='store_true', help='put the table into bench/RESULTS.md')
    args = p.parse_args()
    lines = [machine(f'{args.seeds} seeds, {args.epochs} epochs'), '',
             '| corpus, train / test rows | classifier | top-1 | macro-F1 | seconds |', '|---|---|---|---|---|']
    for name, path in CORPORA.items():
        if not (args.data/f'{path}_train.jsonl').exists():
            print(f'skipped {name}: {path}_train.jsonl is not there'); continue
        train, test = (read(args.data/f'{path}_{part}.jsonl') for part in ('train', 'test'))
        simple = timed(linear_figures, train, test)
        lines.append(f'| {name}, {len(train):,} / {len(test):,} | TF-IDF + linear | {simple[0]:.4f} | '
                     f'{simple[1]:.4f} | {simple[2]:.0f} |')
        measured = np.array([timed(lambda: tuned(train, test, seed, threads=os.cpu_count(), epochs=args.epochs)[0])
                             for seed in range(args.seeds)])
        lines.append('| | scratch | ' + ' | '.join(f'{v.mean():{form}} ({v.min():{form}} – {v.max():{form}})'
                                                   for v, form in zip(measured.T, ('.4f', '.4f', '.0f'))) + ' |')
    print('\n'.join(lines))
    if args.write: write('\n'.join(lines), 'scratch.py')


if __name__ == '__main__': main()
