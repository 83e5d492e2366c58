"""What answering the list of doubtful labels buys: wrong labels are planted, the list is answered by
the truth, and the corpus is prepared again; libdocs's list beside cleanlab's at the same number of
answers.

    python bench/corrections.py DATA [--seeds 5] [--share .1] [--write]

In clinc150_train and banking77_train a --share of the labels, in rows drawn evenly, is replaced by a
wrong one. Any: another label, drawn evenly. Plausible: the wrong label that an annotator finds the
most plausible for this text; the annotator is that of label_issues.py, a logistic regression on
character n-grams, which learned from the other half of the rows.

`libdocs prepare` then cleans and splits the corpus (1 % for the test split, which is not used) and
lists the rows whose label may be wrong. The first N rows of an order are answered by the published
label, in a file of corrections as `libdocs review` writes it, and the corpus is prepared again with
`--corrections`. Each order is of the same rows, those of the train split. N is the number of rows
that libdocs calls `likely`, then the number that cleanlab's find_label_issues() lists.

- libdocs: its list, as it is written
- cleanlab: the rows of find_label_issues() with its defaults, by self-confidence or by normalized
  margin, then the other rows; or all rows by these scores alone. Probabilities are the stock
  recipe's: TfidfVectorizer(), LogisticRegression(max_iter=1000), cross_val_predict with 5 folds
- random: rows drawn evenly
- none: what the wrong labels cost, beside the same with the published labels

Accuracy is that of TF-IDF + linear on the published test file, trained on the train split; changed
is the share of the answers that changed a label. Mean (least – greatest) over the seeds, which draw
the wrong labels. Seconds of listing include cleanlab's cross-validation; those of preparing again are
without a new list. On the way it is checked that each answered row that is in the new train split has
the right label there."""
import argparse
import json
import logging
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from imbalance import read_parts
from label_issues import annotator, planted, stock_opinions
from main_job import machine, write
from training import linear_figures

from libdocs.core.corrections import correction_line
from libdocs.phases.preparation import prepare

ORDERS = ('libdocs', 'cleanlab, its list by self-confidence', 'cleanlab, its list by normalized margin',
          'cleanlab, all rows by self-confidence', 'cleanlab, all rows by normalized margin', 'random')
NOISE = ('any', 'plausible')


def most_plausible(df: pd.DataFrame) -> np.ndarray:
    "For each row the wrong label that an annotator who has not seen the row finds the most plausible."
    from sklearn.model_selection import cross_val_predict
    labels = df['label'].to_numpy(object)
    names, own = np.unique(labels, return_inverse=True)
    P = cross_val_predict(annotator(0), df['text'], labels, cv=2, method='predict_proba')
    P[np.arange(len(df)), own] = -1
    return names[P.argmax(axis=1)]


def prepared(folder: Path, **options) -> tuple:
    "(what `prepare` says about corpus.jsonl in `folder`, the train split)."
    done = prepare(input_dir=str(folder), input_filename='corpus.jsonl', output_filename=str(folder/'out'),
                   test_size=.01, **options)
    return done, pd.read_json(done.files['train'], lines=True, dtype=str)


def cleanlab_orders(train: pd.DataFrame) -> tuple:
    "(how many rows cleanlab lists, its four orders of all rows)."
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores
    given, P = stock_opinions(train)
    listed = find_label_issues(given, P, n_jobs=1)
    scores = [get_label_quality_scores(given, P, method=method) for method in ('self_confidence', 'normalized_margin')]
    ways = [np.lexsort((score, ~listed)) for score in scores] + [np.argsort(score, kind='stable') for score in scores]
    return listed.sum(), [train['id'].to_numpy()[way] for way in ways]


def answered(folder: Path, train: pd.DataFrame, truth: pd.Series) -> pd.DataFrame:
    "The train split of the corpus prepared again, after the answers to the rows of `train`."
    lines = [correction_line(id, text, label, truth[id], 'bench')
             for id, text, label in zip(train['id'], train['text'], train['label'])]
    path = folder/'corrections.jsonl'
    path.write_text(''.join(json.dumps(line) + '\n' for line in lines))
    again = prepared(folder, corrections=(str(path),), label_issues='off')[1]
    read = again[again['id'].isin(train['id'])]
    assert (read['label'] == read['id'].map(truth)).all(), 'an answer is not in the train split'
    return again


def loop(folder: Path, dirty: pd.DataFrame, truth: pd.Series, test: pd.DataFrame, seed: int) -> list:
    "Figures with the labels of `dirty`, then after the first answers of each order, as dicts."
    dirty.to_json(folder/'corpus.jsonl', orient='records', lines=True)
    first, train = prepared(folder)
    issues, start = pd.read_json(first.files['label_issues'], lines=True, dtype=str), time.perf_counter()
    listed, theirs = cleanlab_orders(train)
    seconds = dict(libdocs_lists=first.seconds['label issues'], cleanlab_lists=time.perf_counter() - start)
    orders = [issues['id'], *theirs, train['id'].sample(frac=1, random_state=seed)]
    counts = dict(likely=(issues['level'] == 'likely').sum(), listed=listed)
    results = [dict(by='none', accuracy=linear_figures(train, test).top_1) | counts | seconds]
    rows, known = train.set_index('id', drop=False), {}
    for by, order in zip(ORDERS, orders):
        for which, n in counts.items():
            if len(order) < n: raise SystemExit(f'{by}: lists {len(order)} rows, fewer than the {n} to be answered')
            asked = rows.loc[list(order[:n])]
            if (same := frozenset(asked['id'])) not in known: known[same] = judged(folder, asked, truth, test)
            changed = (asked['label'] != asked['id'].map(truth)).mean()
            results.append(dict(by=by, which=which, changed=changed) | known[same])
    return results


def judged(folder: Path, asked: pd.DataFrame, truth: pd.Series, test: pd.DataFrame) -> dict:
    "The accuracy after the rows of `asked` are answered, and the seconds of preparing again."
    start = time.perf_counter()
    again = answered(folder, asked, truth)
    return dict(prepare_again=time.perf_counter() - start, accuracy=linear_figures(again, test).top_1)


def corpus(name: str, data: Path, seeds: int, share: float) -> pd.DataFrame:
    "The right labels, then both kinds of wrong ones with all seeds."
    train, test = read_parts(data, name)
    test = test[test['label'].isin(set(train['label']))].reset_index(drop=True)
    train.insert(0, 'id', [f'row {i}' for i in range(len(train))])
    truth, other = train.set_index('id')['label'], most_plausible(train)
    with tempfile.TemporaryDirectory() as folder:
        train.to_json(Path(folder)/'corpus.jsonl', orient='records', lines=True)
        clean = linear_figures(prepared(Path(folder), label_issues='off')[1], test).top_1
    results = [dict(noise=noise, by='none, all labels right', accuracy=clean) for noise in NOISE]
    for seed in range(seeds):
        any_label, wrong = planted(train, seed, share)
        plausible = train.assign(label=np.where(wrong, other, train['label']))
        for noise, dirty in zip(NOISE, (any_label, plausible)):
            with tempfile.TemporaryDirectory() as folder: figures = loop(Path(folder), dirty, truth, test, seed)
            results += [dict(noise=noise, seed=seed) | row for row in figures]
            shown = pd.DataFrame(figures).pivot_table(['accuracy', 'changed'], 'by', 'which', sort=False)
            print(f'{name}, {noise}, seed {seed}', shown.round(4).to_string(), sep='\n', flush=True)
    return pd.DataFrame(results).assign(corpus=name)


def span(values: pd.Series, form: str) -> str:
    "Mean and range as a cell of a table."
    mean, least, most = (format(x, form) for x in (values.mean(), values.min(), values.max()))
    return mean if least == most else f'{mean} ({least} – {most})'


def accuracies(results: pd.DataFrame) -> list:
    "The table of what the answers bought."
    lines = ['| corpus | wrong labels | answers, in the order of | N = rows that libdocs calls likely: accuracy | '
             'changed | N = rows that cleanlab lists: accuracy | changed |', '|---|---|---|---|---|---|---|']
    for (name, noise), part in results.groupby(['corpus', 'noise'], sort=False):
        for by in ('none', 'none, all labels right'):
            accuracy = span(part[part['by'] == by]['accuracy'], '.4f')
            lines.append(f'| {name} | {noise} | {by} | {accuracy} | | {accuracy} | |')
        for by in ORDERS:
            cells = [span(group[column], form) for _, group in part[part['by'] == by].groupby('which', sort=False)
                     for column, form in (('accuracy', '.4f'), ('changed', '.2f'))]
            lines.append(f'| {name} | {noise} | {by} | {" | ".join(cells)} |')
    return lines


def facts(results: pd.DataFrame) -> list:
    "The table of how many rows were answered, and of seconds."
    columns = dict(likely=',.0f', listed=',.0f', libdocs_lists='.1f', cleanlab_lists='.1f', prepare_again='.1f')
    lines = ['| corpus | wrong labels | rows that libdocs calls likely | rows that cleanlab lists | seconds: '
             'libdocs lists | cleanlab lists | libdocs prepares again |', '|---|---|---|---|---|---|---|']
    for (name, noise), part in results.groupby(['corpus', 'noise'], sort=False):
        cells = [span(part[column].dropna(), form) for column, form in columns.items()]
        lines.append(f'| {name} | {noise} | {" | ".join(cells)} |')
    return lines


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('data', type=Path)
    p.add_argument('--seeds', type=int, default=5)
    p.add_argument('--share', type=float, default=.1, help='of the labels that are made wrong')
    p.add_argument('--write', action='store_true', help='put the tables into bench/RESULTS.md')
    args = p.parse_args()
    warnings.filterwarnings('ignore')
    logging.disable(logging.WARNING)
    names = [name for name in ('clinc150', 'banking77') if (args.data/name).exists()]
    if not names: raise SystemExit(f'skipped: neither clinc150 nor banking77 is in {args.data}')
    start = time.perf_counter()
    results = pd.concat([corpus(name, args.data, args.seeds, args.share) for name in names])
    minutes = (time.perf_counter() - start) / 60
    lines = [machine(f'{args.seeds} seeds, {minutes:.0f} minutes'), '', *accuracies(results), '', *facts(results)]
    print('\n'.join(lines))
    if args.write: write('\n'.join(lines), 'corrections.py')


if __name__ == '__main__': main()
