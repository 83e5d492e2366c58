"""Whether the output layer should begin as a linear model of what the frozen base model makes of the
texts: trainings with that start and with random numbers in its place, on rows of the train files of
corpora, tested on their test files.

    python bench/head_start.py DATA [--base minilm] [--corpora clinc150 banking77] [--seeds 5]
        [--rows 2000] [--epochs 4] [--keep FILE] [--write]

The seed draws the rows, and is that of the training. Both trainings have the same rows, epochs and
other options, --method finetune and no refit; the best epoch is chosen on a tenth of the rows."""
import time
from unittest import mock

from imbalance import read
from main_job import machine, write
from pretrained import cell, keep, kept, trained, usual_options

STARTS = {'linear': 'linear model of frozen features', 'random': 'random numbers'}


def random_head(job, model, *others) -> tuple:
    "In the place of `fit_start`."
    return model, None


def figures_of(train, test, start: str, seed: int, args) -> dict:
    "What a training comes to."
    from libdocs.finetune import stages
    options = dict(epochs=args.epochs, method='finetune', refit='off')
    begun = time.perf_counter()
    with mock.patch.object(stages, 'fit_start', stages.fit_start if start == 'linear' else random_head):
        figures = trained(train, test, args.base, seed, **options)
    return figures | dict(seconds=time.perf_counter() - begun)


def measure(args) -> list:
    "Figures of all runs, those that are kept too."
    alike = dict(base=args.base, rows=args.rows, epochs=args.epochs)
    results = kept(args.keep, **alike)
    done = {(r['corpus'], r['start'], r['seed']) for r in results}
    for seed in range(args.seeds):
        for corpus in args.corpora:
            train, test = (read(args.data/corpus/f'{corpus}_{part}.jsonl') for part in ('train', 'test'))
            some = train.sample(min(args.rows, len(train)), random_state=seed).reset_index(drop=True)
            for start in STARTS:
                if (corpus, start, seed) in done: continue
                figures = figures_of(some, test[test['label'].isin(some['label'])], start, seed, args)
                results.append(alike | dict(corpus=corpus, start=start, seed=seed) | figures)
                keep(args.keep, results[-1])
    return results


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
    lines = [machine(f'base {args.base}; {args.rows:,} rows, {args.epochs:g} epochs'), '', *table(measure(args), args)]
    print('\n'.join(lines))
    if args.write: write('\n'.join(lines), f'head_start.py --base {args.base}')


if __name__ == '__main__': main()
