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

import numpy as np

from imbalance import read
from main_job import machine, write
from pretrained import by_libdocs, CONTENDERS, frozen_features, keep, kept, usual_options

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


def top_1(name: str, train, chosen, test, features: list, args, seed: int) -> float:
    "The share of test rows that a classifier gets right which has learned from the rows `chosen`."
    from libdocs.evaluation.baselines import frozen_predictions, linear_predictions
    few, texts = train.iloc[chosen].reset_index(drop=True), list(test['text'])
    if name == 'libdocs': return by_libdocs(few, test, args, seed)['top_1']
    if name == 'setfit': return float(np.mean(np.array(by_setfit(few, texts, args.base, seed)) == test['label']))
    if name in ('words', 'characters'): answers = linear_predictions(few, texts, chars=name == 'characters')
    else: answers = frozen_predictions(few, texts, features[0][chosen], features[1], words=name == 'frozen-words')
    return float(np.mean([first[0] == label for first, label in zip(answers, test['label'])]))


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


def measure(args) -> list:
    "Figures of all runs, those that are kept too."
    results = kept(args.keep, base=args.base)
    done = {(r['corpus'], r['rows'], r['name'], r['seed']) for r in results}
    for corpus in args.corpora:
        train, test = (read(args.data/corpus/f'{corpus}_{part}.jsonl') for part in ('train', 'test'))
        labels, features = train['label'].to_numpy(str), None
        for seed, rows, name in [(s, n, name) for s in range(args.seeds) for n in args.rows for name in args.only]:
            if (corpus, rows, name, seed) in done: continue
            if features is None: features, _ = frozen_features(train, test, args.base)
            figure = top_1(name, train, drawn(labels, rows, seed), test, features, args, seed)
            results.append(dict(base=args.base, corpus=corpus, rows=rows, name=name, seed=seed, top_1=figure))
            keep(args.keep, results[-1])
    return results


def main():
    p = usual_options(__doc__)
    p.add_argument('--rows', nargs='+', type=int, default=[5, 10, 20])
    p.add_argument('--only', nargs='+', choices=TITLES, default=list(TITLES))
    args = p.parse_args()
    lines = [machine(f'base {args.base}; mean and standard deviation over draws of the rows, and how many'), '',
             *table(measure(args), args)]
    print('\n'.join(lines))
    if args.write: write('\n'.join(lines), f'few_labels.py --base {args.base}')


if __name__ == '__main__': main()
