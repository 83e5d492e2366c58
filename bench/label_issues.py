"""Wrong labels planted and looked for, libdocs beside cleanlab's stock recipe, and what dropping the suspects does to accuracy.

    python bench/label_issues.py DATA [--seeds 3] [--write]

A tenth of the labels of clinc150_train and banking77_train is replaced by another label, drawn evenly. Stock recipe: TfidfVectorizer() and
LogisticRegression(max_iter=1000), cross_val_predict with 5 folds, cleanlab's find_label_issues() and its ranking, all by their defaults.
Precision at the number planted: the share of planted rows among the first n of the ranking, n being how many were planted. Precision, recall
and F1 are those of the rows that are called suspects. Accuracy is that of the TF-IDF + linear baseline on the dataset's own test file,
which is not touched, after training on the right labels, on the wrong ones, and on the wrong ones without the suspects. The last part
times 50,000 rows of 227 labels: both files twice over, each copy with one word left out."""
import argparse, time, warnings
from pathlib import Path

import numpy as np
import pandas as pd
from main_job import machine, write
from training import linear_figures

from libdocs.utils.data_cleaner.label_issues import label_issues, to_drop


def planted(df: pd.DataFrame, seed: int) -> tuple:
    "(df with a tenth of its labels wrong, which rows)."
    rng, names = np.random.default_rng(seed), np.array(sorted(set(df['label'])))
    rows = rng.choice(len(df), len(df) // 10, replace=False)
    labels = df['label'].to_numpy(dtype=object).copy()
    for row in rows: labels[row] = rng.choice(names[names != labels[row]])
    return df.assign(label=labels), np.isin(np.arange(len(df)), rows)


def ours(df: pd.DataFrame) -> tuple:
    "(suspects, ranking by the probability of the given label)."
    found = label_issues(df)
    return found.suspects['row'].to_numpy(), found.outliers.sort_values('confidence', kind='stable')['row'].to_numpy()


def stock(df: pd.DataFrame) -> tuple:
    "(suspects, ranking) of the stock recipe."
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_predict
    given = pd.factorize(df['label'], sort=True)[0]
    P = cross_val_predict(LogisticRegression(max_iter=1000), TfidfVectorizer().fit_transform(df['text']), given, cv=5, method='predict_proba')
    return np.flatnonzero(find_label_issues(given, P, n_jobs=1)), np.argsort(get_label_quality_scores(given, P), kind='stable')


def score(found: tuple, wrong: np.ndarray) -> tuple:
    "(precision at the number planted, precision, recall, F1)."
    suspects, ranking = found
    right = wrong[suspects].sum()
    precision, recall = right / max(1, len(suspects)), right / wrong.sum()
    return wrong[ranking[:wrong.sum()]].mean(), precision, recall, 2 * precision * recall / max(1e-9, precision + recall)


def corpus(name: str, train: pd.DataFrame, test: pd.DataFrame, seeds: int) -> tuple:
    "(lines of the first table, lines of the second)."
    found, effect = [], [f'{linear_figures(train, test)["top_1"]:.4f}']
    for seed in range(seeds):
        dirty, wrong = planted(train, seed)
        for way in (ours, stock):
            start = time.perf_counter()
            result = way(dirty)
            figures = ' | '.join(f'{x:.3f}' for x in score(result, wrong))
            found.append(f'| {name} | {seed} | {"libdocs" if way is ours else "stock"} | {figures} | {time.perf_counter() - start:.1f} s |')
            print(found[-1], flush=True)
        left = dirty.drop(index=to_drop(label_issues(dirty), dirty['label']))
        effect.append(f'{linear_figures(dirty, test)["top_1"]:.4f} → {linear_figures(left, test)["top_1"]:.4f}')
    own = label_issues(train)
    left = train.drop(index=to_drop(own, train['label']))
    return found, [f'| {name} | {" | ".join(effect)} | {len(own.suspects)} of {len(train):,}: {linear_figures(left, test)["top_1"]:.4f} |']


def fifty_thousand(tables: list) -> str:
    "How long 50,000 rows take."
    rng, df = np.random.default_rng(0), pd.concat(tables, ignore_index=True)
    def shorter(text):
        words = text.split()
        del words[rng.integers(len(words))]
        return ' '.join(words) or text
    df = pd.concat([df, df.assign(text=[shorter(t) for t in df['text']])], ignore_index=True)[:50_000]
    start = time.perf_counter()
    label_issues(df)
    return f'{len(df):,} rows of {df["label"].nunique()} labels: {time.perf_counter() - start:.1f} s.'


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('data', type=Path)
    p.add_argument('--seeds', type=int, default=3)
    p.add_argument('--write', action='store_true', help='put the tables into bench/RESULTS.md')
    args = p.parse_args()
    warnings.filterwarnings('ignore')
    names = [n for n in ('clinc150', 'banking77') if (args.data/n).exists()]
    if not names: raise SystemExit(f'skipped: neither clinc150 nor banking77 is in {args.data}')
    tables = {n: [pd.read_json(args.data/n/f'{n}_{s}.jsonl', lines=True, dtype=str)[['text', 'label']] for s in ('train', 'test')] for n in names}
    for n, (train, test) in tables.items(): tables[n][1] = test[test['label'].isin(set(train['label']))].reset_index(drop=True)
    parts = [corpus(n, *tables[n], args.seeds) for n in names]
    lines = [machine(), '', '| corpus | seed | method | precision at the number planted | precision | recall | F1 | time |', '|---|---|---|---|---|---|---|---|', *[line for found, _ in parts for line in found], '',
             'Top-1 accuracy of the baseline on the untouched test file, before → after dropping the suspects; last, what happens to the data as they are.', '',
             f'| corpus | right labels |{"".join(f" seed {s} |" for s in range(args.seeds))} as published, suspects dropped |', '|---' * (args.seeds + 3) + '|', *[line for _, effect in parts for line in effect], '',
             fifty_thousand([train for train, _ in tables.values()])]
    print('\n'.join(lines))
    if args.write: write('\n'.join(lines), 'label_issues.py')


if __name__ == '__main__': main()
