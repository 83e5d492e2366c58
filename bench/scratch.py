"""The small model from scratch beside TF-IDF + linear, on corpora as they were published: trained
on their train file, tested on their test file.

    python bench/scratch.py DATA [--corpora clinc150 banking77] [--seeds 5] [--epochs 5] [--write]

DATA has a folder for each corpus, with NAME_train.jsonl and NAME_test.jsonl. Both see the same rows,
as they are, copies and all; `scratch` holds a tenth of them out to choose its epoch by, and whether
it is published, or a linear model of its tokens in its place. Seconds are those of one training with
all cores, from rows to the answers of the saved, calibrated model. All options of the model were
chosen on clinc150_val.jsonl and on rows held out of banking77_train.jsonl."""
import argparse
import os
import time
from pathlib import Path

import numpy as np
from imbalance import read_parts
from main_job import machine, write
from training import linear_figures, tuned


def timed(judge, *args) -> tuple:
    "(top-1, macro-F1, seconds) of a function that gives figures, and what else it gives."
    start = time.perf_counter()
    figures, *more = judge(*args)
    return figures.top_1, figures.macro_f1, time.perf_counter() - start, *more


def scratch(train, test, seed: int, epochs: int) -> tuple:
    "Figures, and whether a linear model of the tokens was published."
    figures, classifier = tuned(train, test, seed, threads=os.cpu_count(), epochs=epochs)
    return figures, classifier.model.config.classifier_activation == 'linear'


def rows_of(corpus: str, args) -> list:
    "Those of the table."
    train, test = read_parts(args.data, corpus)
    top_1, macro, seconds = timed(lambda: (linear_figures(train, test),))
    measured = np.array([timed(scratch, train, test, seed, args.epochs) for seed in range(args.seeds)])
    cells = (f'{v.mean():{form}} ({v.min():{form}} – {v.max():{form}})'
             for v, form in zip(measured.T, ('.4f', '.4f', '.0f')))
    rows = f'{len(train):,} / {len(test):,}'
    return [f'| {corpus}, {rows} | TF-IDF + linear | {top_1:.4f} | {macro:.4f} | {seconds:.0f} | |',
            f'| | scratch | {" | ".join(cells)} | {measured[:, 3].sum():.0f} of {args.seeds} |']


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('data', type=Path)
    p.add_argument('--corpora', nargs='+', default=['clinc150', 'banking77'])
    p.add_argument('--seeds', type=int, default=5)
    p.add_argument('--epochs', type=int, default=5)
    p.add_argument('--write', action='store_true', help='put the table into bench/RESULTS.md')
    args = p.parse_args()
    lines = [machine(f'{args.seeds} seeds, {args.epochs} epochs'), '',
             '| corpus, train / test rows | classifier | top-1 | macro-F1 | seconds | linear model published |',
             '|---|---|---|---|---|---|']
    for corpus in args.corpora: lines += rows_of(corpus, args)
    print('\n'.join(lines))
    if args.write: write('\n'.join(lines), 'scratch.py')


if __name__ == '__main__': main()
