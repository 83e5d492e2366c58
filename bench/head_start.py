"""Whether the output layer should begin as a linear model of what the frozen base model makes of the
texts: trainings with that start and with random numbers in its place, on rows of the train files of
corpora, tested on their test files.

    python bench/head_start.py DATA [--base minilm] [--corpora clinc150 banking77] [--seeds 5]
        [--rows 2000] [--epochs 4] [--keep FILE] [--write]

The seed draws the rows, and is that of the training. Both trainings have the same rows, epochs and
other options, --method finetune and no refit; the best epoch is chosen on a tenth of the rows."""
import time
from functools import partial
from unittest import mock

from imbalance import read_parts
from main_job import machine, write
from pretrained import all_measured, cell, trained, usual_options

STARTS = {'linear': 'linear model of frozen features', 'random': 'random numbers'}


def random_head(job, model, *others) -> tuple:
    "In the place of `fit_start`."
    return model, None


def figures_of(args, corpus: str, start: str, seed: int) -> dict:
    "What a training comes to."
    from libdocs.finetune import stages
    train, test = read_parts(args.data, corpus)
    some = train.sample(min(args.rows, len(train)), random_state=seed).reset_index(drop=True)
    known = test[test['label'].isin(some['label'])]
    options = dict(epochs=args.epochs, method='finetune', refit='off')
    begun = time.perf_counter()
    with mock.patch.object(stages, 'fit_start', stages.fit_start if start == 'linear' else random_head):
        figures = trained(some, known, args.base, seed, **options)
    return figures | dict(seconds=time.perf_counter() - begun)


def table(results: list, args) -> list:
    lines = ['| corpus | the output layer begins as | runs | top-1 | macro-F1 | pairs won |',
             '|---|---|---|---|---|---|']
    for corpus in args.corpora:
        own = {start: {r['seed']: r for r in results if (r['corpus'], r['start']) == (corpus, start)}
               for start in STARTS}
        both = own['linear'].keys() & own['random'].keys()
        pairs = [[own[start][seed]['top_1'] for start in STARTS] for seed in both]
        for start, name in STARTS.items():
            top_1, macro = (cell([r[key] for r in own[start].values()], '.4f') for key in ('top_1', 'macro_f1'))
            won = f'{sum(a > b for a, b in pairs)} of {len(pairs)}' if start == 'linear' else ''
            lines.append(f'| {corpus} | {name} | {len(own[start])} | {top_1} | {macro} | {won} |')
    return lines


def main():
    p = usual_options(__doc__)
    p.add_argument('--rows', type=int, default=2000)
    p.add_argument('--epochs', type=float, default=4)
    args = p.parse_args()
    runs = [dict(corpus=corpus, start=start, seed=seed)
            for seed in range(args.seeds) for corpus in args.corpora for start in STARTS]
    alike = dict(base=args.base, rows=args.rows, epochs=args.epochs)
    results = all_measured(args.keep, alike, runs, partial(figures_of, args))
    lines = [machine(f'base {args.base}; {args.rows:,} rows, {args.epochs:g} epochs'), '', *table(results, args)]
    print('\n'.join(lines))
    if args.write: write('\n'.join(lines), f'head_start.py --base {args.base}')


if __name__ == '__main__': main()
