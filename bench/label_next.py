"""How many labels it takes: rows chosen by `to_label_next` beside rows chosen at random.

    python bench/label_next.py DATA [--corpora clinc150 banking77] [--seeds 5] [--step 250] [--write]

DATA has a folder for each corpus, with NAME_train.jsonl and NAME_test.jsonl. At the beginning STEP rows
of the train file, drawn at random, have their labels; then STEP more get them at a time. After each
step TF-IDF + linear learns from the labelled rows and is judged on the test file, until it has 95 % of
the accuracy that it has with all labels. Both begin with the same rows."""
import argparse
from pathlib import Path

import numpy as np
from imbalance import read_parts
from main_job import machine, write
from training import linear_figures

SHARE = .95


def labels_needed(train, test, goal: float, step: int, seed: int, chosen: bool) -> int:
    "How many labelled rows it took."
    from libdocs.report.doubts import to_label_next
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(train))
    known, left = list(order[:step]), list(order[step:])
    while linear_figures(train.iloc[known], test).top_1 < goal:
        if not left: return len(train)
        picked = range(step)
        if chosen:
            texts = [train['text'].iloc[row] for row in left]
            labelled = list(zip(train['text'].iloc[known], train['label'].iloc[known]))
            picked = to_label_next(texts, labelled, step, seed)
        taken = {left[i] for i in picked if i < len(left)}
        known, left = known + sorted(taken), [row for row in left if row not in taken]
    return len(known)


def rows_of(corpus: str, args) -> list:
    "A row of the table."
    train, test = read_parts(args.data, corpus)
    full = linear_figures(train, test).top_1
    cells = [corpus, f'{len(train):,}', f'{full:.4f}', f'{SHARE * full:.4f}']
    for chosen in (False, True):
        needed = np.array([labels_needed(train, test, SHARE * full, args.step, seed, chosen)
                           for seed in range(args.seeds)])
        cells.append(f'{needed.mean():,.0f} ({needed.min():,} – {needed.max():,})')
        print(cells, flush=True)
    return [f'| {" | ".join(cells)} |']


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('data', type=Path)
    p.add_argument('--corpora', nargs='+', default=['clinc150', 'banking77'])
    p.add_argument('--seeds', type=int, default=5)
    p.add_argument('--step', type=int, default=250)
    p.add_argument('--write', action='store_true', help='put the table into bench/RESULTS.md')
    args = p.parse_args()
    lines = [machine(f'{args.seeds} seeds, {args.step} rows at a time'), '',
             '| corpus | rows | accuracy with all | 95 % of it | labels needed, at random | by `to_label_next` |',
             '|---|---|---|---|---|---|']
    for corpus in args.corpora: lines += rows_of(corpus, args)
    print('\n'.join(lines))
    if args.write: write('\n'.join(lines), 'label_next.py')


if __name__ == '__main__': main()
