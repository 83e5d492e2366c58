"""Wrong labels planted and looked for, libdocs beside cleanlab's stock recipe, and what dropping
the likely ones does to accuracy.

    python bench/label_issues.py DATA [--seeds 3] [--write]

Evenly: a tenth of the labels of clinc150_train and banking77_train is replaced by another label,
drawn evenly. As people err: a fifth of the labels is replaced by the wrong label that an annotator
finds most plausible, on the rows where it finds it most plausible. The annotator is a logistic
regression on character n-grams (80 dimensions of their singular value decomposition) that learned
from a quarter of the rows; the half of the rows that it did not see is judged, which is what label
noise that depends on the text looks like (Xia et al., NeurIPS 2020). Half of the draws are sharper
(the plausibility decides), half are softer (chance has more to say). The same with few labels:
those of CLINC150 in six groups, those of BANKING77 in four, of similar words. As they are: nothing
is planted; what is found may be wrong labels of the published data.

Stock recipe: TfidfVectorizer() and LogisticRegression(max_iter=1000), cross_val_predict with 5
folds, cleanlab's find_label_issues() and its ranking, all by their defaults. Precision at the
number planted: the share of planted rows among the first n of the ranking, n being how many were
planted. Precision, recall and F1 are those of the rows of the level `likely`, and of the rows that
cleanlab calls issues. In the second table `expected` is the precision that libdocs expects, with
what it is in truth. Accuracy is that of the TF-IDF + linear baseline on the dataset's own test
file, which is not touched, after training on the right labels, on the wrong ones, and on the wrong
ones without the likely ones. The last part times 50,000 rows of 227 labels: both files twice over,
each copy with one word left out."""
import argparse, time, warnings
from pathlib import Path

import numpy as np
import pandas as pd
from imbalance import read
from main_job import machine, write
from training import linear_figures

from libdocs.utils.data_cleaner.label_issues import label_issues, to_drop


def planted(df: pd.DataFrame, seed: int, share: float = .1) -> tuple:
    "(df with a share of its labels wrong, which rows)."
    rng, names = np.random.default_rng(seed), np.array(sorted(set(df['label'])))
    rows = rng.choice(len(df), int(len(df) * share), replace=False)
    labels = df['label'].to_numpy(dtype=object).copy()
    for row in rows: labels[row] = rng.choice(names[names != labels[row]])
    return df.assign(label=labels), np.isin(np.arange(len(df)), rows)


def annotator(seed: int):
    "A classifier that errs as people do: by what texts look like."
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    words = TfidfVectorizer(analyzer='char_wb', ngram_range=(3, 5), min_df=2, sublinear_tf=True, max_features=40_000)
    return make_pipeline(words, TruncatedSVD(80, random_state=seed), LogisticRegression(C=10, max_iter=300))


def as_people_err(df: pd.DataFrame, seed: int, chance: float) -> tuple:
    "(half of df with a fifth of its labels wrong, which rows)."
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(df))
    seen, judged = df.iloc[order[:len(df) // 4]], df.iloc[np.sort(order[len(df) // 2:])].reset_index(drop=True)
    person = annotator(seed).fit(seen['text'], seen['label'])
    plausible = person.predict_log_proba(judged['text'])
    rows, own = np.arange(len(judged)), np.searchsorted(person.classes_, judged['label'])
    right = plausible[rows, own].copy()
    plausible[rows, own] = -np.inf
    other = plausible.argmax(axis=1)
    doubt = plausible[rows, other] - right
    doubt += chance * doubt.std() * rng.gumbel(size=len(rows))
    wrong = np.isin(rows, np.argsort(-doubt)[:len(rows) // 5])
    return judged.assign(label=np.where(wrong, person.classes_[other], judged['label'])), wrong


def in_groups(df: pd.DataFrame, groups: int) -> pd.DataFrame:
    "`df` with the labels put into groups of similar words."
    from sklearn.cluster import KMeans
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.preprocessing import normalize
    X, (given, names) = (TfidfVectorizer(min_df=2, sublinear_tf=True).fit_transform(df['text']),
                         pd.factorize(df['label'], sort=True))
    means = normalize(np.vstack([np.asarray(X[given == i].mean(axis=0)) for i in range(len(names))]))
    return df.assign(label=[f'group {i}' for i in KMeans(groups, n_init=10, random_state=0).fit_predict(means)[given]])


def ours(df: pd.DataFrame) -> tuple:
    "(likely rows, ranking by the probability of the given label)."
    issues = label_issues(df)
    return issues.likely['row'].to_numpy(), issues.outliers.sort_values('confidence', kind='stable')['row'].to_numpy()


def stock_opinions(df: pd.DataFrame) -> tuple:
    "(given labels as numbers, probabilities of each label) of the stock recipe."
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_predict
    given = pd.factorize(df['label'], sort=True)[0]
    return given, cross_val_predict(LogisticRegression(max_iter=1000), TfidfVectorizer().fit_transform(df['text']),
                                    given, cv=5, method='predict_proba')


def stock(df: pd.DataFrame) -> tuple:
    "(suspects, ranking) of the stock recipe."
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores
    given, P = stock_opinions(df)
    return (np.flatnonzero(find_label_issues(given, P, n_jobs=1)),
            np.argsort(get_label_quality_scores(given, P), kind='stable'))


def score(listed: tuple, wrong: np.ndarray) -> tuple:
    "(precision at the number planted, precision, recall, F1)."
    suspects, ranking = listed
    right = wrong[suspects].sum()
    precision, recall = right / max(1, len(suspects)), right / wrong.sum()
    return (wrong[ranking[:wrong.sum()]].mean(), precision, recall,
            2 * precision * recall / max(1e-9, precision + recall))


def levels_line(name: str, how: str, seed: int, df: pd.DataFrame, wrong: np.ndarray) -> str:
    "What the list of libdocs is worth, and what it says it is worth."
    issues = label_issues(df)
    cells = []
    for part in (issues.suspects, issues.likely, issues.suspects[issues.suspects['level'] == 'possible']):
        right, expected = wrong[part['row'].to_numpy(int)], part['probability_wrong'].mean()
        cells.append(f'{len(part):,}, {right.sum() / max(1, wrong.sum()):.2f}, {right.mean():.2f} ({expected:.2f})'
                     if len(part) else '0')
    print(line := f'| {name} | {how} | {seed} | {" | ".join(cells)} |', flush=True)
    return line


def levels_table(tables: dict, seeds: int) -> list:
    "Each kind of noise on each corpus."
    lines = ['| corpus | wrong labels | seed | all: rows, recall, precision (expected) | likely | possible |',
             '|---|---|---|---|---|---|']
    for name, train in tables.items():
        lines.append(levels_line(name, 'as they are', 0, train, np.zeros(len(train), bool)))
        for seed in range(seeds):
            lines.append(levels_line(name, 'evenly, 10 %', seed, *planted(train, seed)))
            for how, chance in (('as people err, sharper', .5), ('as people err, softer', 1.2)):
                lines.append(levels_line(name, f'{how}, 20 %', seed, *as_people_err(train, seed, chance)))
    return lines


def corpus(name: str, train: pd.DataFrame, test: pd.DataFrame, seeds: int) -> tuple:
    "(lines of the first table, lines of the last)."
    rows, effect = [], [f'{linear_figures(train, test).top_1:.4f}']
    for seed in range(seeds):
        dirty, wrong = planted(train, seed)
        for way in (ours, stock):
            start = time.perf_counter()
            result = way(dirty)
            figures = ' | '.join(f'{x:.3f}' for x in score(result, wrong))
            rows.append(f'| {name} | {seed} | {"libdocs" if way is ours else "stock"} | {figures} | '
                        f'{time.perf_counter() - start:.1f} s |')
            print(rows[-1], flush=True)
        left = dirty.drop(index=to_drop(label_issues(dirty), dirty['label']))
        effect.append(f'{linear_figures(dirty, test).top_1:.4f} → {linear_figures(left, test).top_1:.4f}')
    own = label_issues(train)
    left = train.drop(index=to_drop(own, train['label']))
    return rows, [f'| {name} | {" | ".join(effect)} | {len(own.likely)} of {len(train):,}: '
                  f'{linear_figures(left, test).top_1:.4f} |']


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
    tables = {n: [read(args.data/n/f'{n}_{s}.jsonl') for s in ('train', 'test')] for n in names}
    for n, (train, test) in tables.items():
        tables[n][1] = test[test['label'].isin(set(train['label']))].reset_index(drop=True)
    parts = [corpus(n, *tables[n], args.seeds) for n in names]
    few = {f'{n}, {groups} groups': in_groups(tables[n][0], groups)
           for n, groups in (('clinc150', 6), ('banking77', 4)) if n in tables}
    lines = [machine(), '', '| corpus | seed | method | precision at the number planted | precision | '
             'recall | F1 | time |', '|---|---|---|---|---|---|---|---|',
             *[line for rows, _ in parts for line in rows], '',
             'What the list is worth, and what it says it is worth.', '',
             *levels_table({n: train for n, (train, _) in tables.items()} | few, args.seeds), '',
             'Top-1 accuracy of the baseline on the untouched test file, before → after dropping the '
             'likely ones; last, what happens to the data as they are.', '',
             f'| corpus | right labels |{"".join(f" seed {s} |" for s in range(args.seeds))} as published, '
             'likely ones dropped |', '|---' * (args.seeds + 3) + '|',
             *[line for _, effect in parts for line in effect], '',
             fifty_thousand([train for train, _ in tables.values()])]
    print('\n'.join(lines))
    if args.write: write('\n'.join(lines), 'label_issues.py')


if __name__ == '__main__': main()
