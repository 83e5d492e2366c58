"""What to do with few labels: classifiers that learn from 5, 10 and 20 rows a label of the train
files of published corpora, tested on their test files.

    python bench/few_labels.py DATA [--base minilm] [--corpora clinc150 banking77] [--rows 5 10 20]
        [--seeds 5] [--only words frozen] [--keep FILE] [--write]

The seed draws the rows. `libdocs` fine-tunes the base model with default options; that takes minutes
a run, and --only leaves it out. `setfit` tunes it by pairs of texts and fits a logistic regression
after that (pip install --no-deps setfit sentence-transformers evaluate): its defaults, but for 20
pairs of each kind a text instead of all pairs, as in its paper. The others train a linear model of
TF-IDF weights, of what the frozen base model makes of a text, or of both. With --keep, what was
measured is kept in FILE as JSON lines, and not measured again."""
import tempfile
from functools import cache, partial
from pathlib import Path

import numpy as np

from imbalance import read_parts
from main_job import machine, write
from pretrained import all_measured, by_libdocs, CONTENDERS, frozen_features, usual_options

TITLES = {name: CONTENDERS[name] for name in ('words', 'characters', 'frozen', 'frozen-words', 'libdocs')} | {
    'setfit': 'SetFit'}


def by_setfit(few, texts: list, base: str, seed: int) -> list:
    "The labels that SetFit gives."
    from datasets import Dataset
    from setfit import SetFitModel, Trainer, TrainingArguments

    from libdocs.core.base_models import fetch_base
    model = SetFitModel.from_pretrained(str(fetch_base(base)))
    with tempfile.TemporaryDirectory() as folder:
        options = TrainingArguments(folder, num_iterations=20, seed=seed, report_to='none', save_strategy='no')
        Trainer(model, options, train_dataset=Dataset.from_pandas(few[['text', 'label']])).train()
    return list(model.predict(texts))


@cache
def corpus_of(data: Path, corpus: str) -> tuple: return read_parts(data, corpus)


@cache
def features_of(data: Path, corpus: str, base: str) -> list: return frozen_features(*corpus_of(data, corpus), base)[0]


def figures_of(args, corpus: str, rows: int, name: str, seed: int) -> dict:
    "The share of test rows that a classifier gets right which has learned from a few rows of each label."
    from libdocs.evaluation.baselines import frozen_predictions, linear_predictions
    train, test = corpus_of(args.data, corpus)
    chosen = drawn(train['label'].to_numpy(str), rows, seed)
    few, texts = train.iloc[chosen].reset_index(drop=True), list(test['text'])
    if name == 'libdocs': return dict(top_1=by_libdocs(few, test, args, seed)['top_1'])
    if name == 'setfit': answers = by_setfit(few, texts, args.base, seed)
    elif name in ('words', 'characters'):
        answers = [first[0] for first in linear_predictions(few, texts, chars=name == 'characters')]
    else:
        features, new = features_of(args.data, corpus, args.base)
        answers = [first[0] for first in
                   frozen_predictions(few, texts, features[chosen], new, words=name == 'frozen-words')]
    return dict(top_1=float(np.mean(np.array(answers) == test['label'])))


def drawn(labels, rows: int, seed: int) -> np.ndarray:
    "So many rows of each label."
    rng, names = np.random.default_rng(seed), sorted(set(labels))
    return np.sort(np.concatenate([rng.permutation(np.flatnonzero(labels == label))[:rows] for label in names]))


def table(results: list, args) -> list:
    heads = [f'{corpus}, {n}' for corpus in args.corpora for n in args.rows]
    lines = ['| rows a label | ' + ' | '.join(heads) + ' |', '|---' * (1 + len(heads)) + '|']
    for name in args.only:
        cells = []
        for corpus in args.corpora:
            for n in args.rows:
                own = [r['top_1'] for r in results if (r['corpus'], r['rows'], r['name']) == (corpus, n, name)]
                spread = f' ± {np.std(own, ddof=1):.3f}' if len(own) > 1 else ''
                cells.append(f'{np.mean(own):.3f}{spread} ({len(own)})' if own else '')
        lines.append(f'| {TITLES[name]} | ' + ' | '.join(cells) + ' |')
    return lines


def main():
    p = usual_options(__doc__)
    p.add_argument('--rows', nargs='+', type=int, default=[5, 10, 20])
    p.add_argument('--only', nargs='+', choices=TITLES, default=list(TITLES))
    args = p.parse_args()
    runs = [dict(corpus=corpus, rows=rows, name=name, seed=seed) for corpus in args.corpora
            for seed in range(args.seeds) for rows in args.rows for name in args.only]
    results = all_measured(args.keep, dict(base=args.base), runs, partial(figures_of, args))
    lines = [machine(f'base {args.base}; mean and standard deviation over draws of the rows, and how many'), '',
             *table(results, args)]
    print('\n'.join(lines))
    if args.write: write('\n'.join(lines), f'few_labels.py --base {args.base}')


if __name__ == '__main__': main()
