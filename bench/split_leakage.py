"""What copies do to a test split: scikit-learn's train_test_split beside libdocs, on the same rows.

    python bench/split_leakage.py DATA [--write]

For each corpus (a JSONL of `text` and `label` under DATA) both make a stratified 80/20 split with
the same seed: `train_test_split` of the rows as they are, and `clean` followed by
`df_to_train_test_bytes`; the latter also without `clean`, where the groups of copies have to be
shared out. `with copies` is the share of the test rows that have a copy anywhere in the rows that
are split, and of all these rows. A test row is leaked if a training row is the same after
normalisation or has a TF-IDF cosine of at least 0.9 with it. The accuracy is that of the TF-IDF +
linear baseline, on all test rows and on those that are not leaked. The last column is about the
label whose share of test rows is furthest from 20 %: by how many points, and how many rows that is.
Labels with fewer than five rows are left out, since train_test_split cannot stratify them."""
import argparse
from pathlib import Path

import numpy as np
from main_job import machine, write
from training import linear_figures
from sklearn.model_selection import train_test_split

from libdocs.core.records import read_records
from libdocs.utils.data_cleaner.clean_data_tfidf import clean
from libdocs.utils.data_cleaner.leakage import leakage
from libdocs.utils.data_cleaner.tfidf import cluster_texts
from libdocs.utils.training.training import df_to_train_test_bytes

CORPORA = ('sms_spam/sms_spam.jsonl', 'clinc150/clinc150_train.jsonl',
           'banking77/banking77_train.jsonl', 'cuad_contracts/cuad_contracts.jsonl')


def measure(df) -> list:
    """(name, train rows, test rows, shares with copies, leaked share, accuracy, that without leaked rows,
    (points, rows) off the target)."""
    plain = train_test_split(df, test_size=0.2, stratify=df['label'], random_state=42)
    ours, uncleaned = (df_to_train_test_bytes(table, 0.2, 42) for table in (clean(df).kept, df))
    rows = []
    parts = {'train_test_split': plain, 'libdocs': ours[2:], 'libdocs, without cleaning': uncleaned[2:]}
    for name, (train, test) in parts.items():
        copies = leakage(train, test).leaked
        score = linear_figures(train, test).top_1
        honest = linear_figures(train, test[~copies]).top_1
        rows.append((name, len(train), len(test), with_copies(train, test), copies.mean(), score,
                     honest, off_target(train['label'], test['label'])))
    return rows


def with_copies(train, test) -> tuple:
    "The share of the test rows, and of all rows, that have a copy among all rows."
    cluster = cluster_texts([*train['text'], *test['text']], 0.9).cluster
    copied = np.bincount(cluster)[cluster] > 1
    return copied[len(train):].mean(), copied.mean()


def off_target(train, test) -> tuple:
    "How far the test share of a label is from 20 %, at most: (points, rows)."
    here, there = test.value_counts(), train.value_counts()
    total = here.add(there, fill_value=0)
    rows = (here.reindex(total.index, fill_value=0) - 0.2 * total).abs()
    worst = (rows / total).idxmax()
    return 100 * rows[worst] / total[worst], rows[worst]


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('data', type=Path)
    p.add_argument('--write', action='store_true', help='put the table into bench/RESULTS.md')
    args = p.parse_args()
    lines = [machine(), '', '| corpus | split by | train / test | with copies: test, all | test rows with '
             'a copy in train | accuracy, all test rows | accuracy, rows without a copy | furthest label '
             'from its share |', '|---|---|---|---|---|---|---|---|']
    for corpus in CORPORA:
        if not (args.data/corpus).exists(): print(f'skipped {corpus}: not there'); continue
        df = read_records(args.data/corpus).df
        df = df[df.groupby('label')['label'].transform('size') >= 5].reset_index(drop=True)
        for name, train, test, (in_test, in_all), share, score, honest, (points, off) in measure(df):
            lines.append(f'| {Path(corpus).stem} | {name} | {train:,} / {test:,} | {in_test:.1%}, '
                         f'{in_all:.1%} | {share:.1%} | {score:.4f} | {honest:.4f} | {points:.1f} points, '
                         f'{off:.1f} rows |')
            print(lines[-1], flush=True)
    if args.write: write('\n'.join(lines), 'split_leakage.py')


if __name__ == '__main__': main()
