"""What a search for the options bought on the published test file, beside the default options.

    python bench/tune.py DATA [--corpora banking77] [--base scratch] [--trials 12] [--seeds 1] [--share 1] [--write]

For each corpus and seed two trainings on the published train file, everything by default, the
second with `--tune`; both publish a model that is tested on the published test file. The log-loss
is that of the validation rows after calibration, of the first trial (which has the default options)
and of the best: what the search saw. The seconds are those of the whole job, search and refit
included. --share takes that share of the train rows of each label, for a quick try."""
import argparse
import json
import os
import time
from pathlib import Path

import pandas as pd

from imbalance import read_parts
from main_job import machine, write
from pretrained import trained_record
from training import spread

FIGURES = {'top-1': 'top_1', 'macro-F1': 'macro_f1', 'calibration error': 'ece', 'log-loss': 'log_loss'}


def trained(train, test, args, seed: int, trials: int | None) -> dict:
    "The figures of the published model, how long it took, and the trials."
    start = time.perf_counter()
    record = trained_record(train, test, args.base, seed, tune=trials)
    figures = {name: getattr(record.evaluation, name) for name in FIGURES.values()}
    return figures | dict(seconds=time.perf_counter() - start, trials=record.trials)


def measured(corpus: str, seed: int, args) -> list:
    "Both trainings: a row of the table each."
    from libdocs.evaluation.record import best_trial
    from libdocs.finetune.data import downsampled
    train, test = read_parts(args.data, corpus)
    train = downsampled(train, args.share, seed)
    plain, tuned = (trained(train, test, args, seed, trials) for trials in (None, args.trials))
    trials = tuned.pop('trials')
    first, best = trials[0], best_trial(trials)
    print(json.dumps([trial.to_json() for trial in trials]), flush=True)
    rows = [plain | dict(way='default', seen=first.loss, options=first.options),
            tuned | dict(way=f'{len(trials)} trials', seen=best.loss, options=best.options)]
    return [dict(corpus=corpus, seed=seed, rows=len(train)) | row for row in rows]


def table(results: pd.DataFrame) -> list:
    "Its lines."
    heads = ['corpus', 'train rows', 'options', *FIGURES, 'validation log-loss', 'seconds', 'taken']
    lines = ['| ' + ' | '.join(heads) + ' |', '|---' * len(heads) + '|']
    for (corpus, way), part in results.groupby(['corpus', 'way'], sort=False):
        def cell(name, part=part): return spread(part[name]) if len(part) > 1 else f'{part[name].iloc[0]:.4f}'
        taken = '; '.join(' '.join(f'{name}={value}' for name, value in given.items()) for given in part['options'])
        cells = [corpus, str(part['rows'].iloc[0]), way, *map(cell, [*FIGURES.values(), 'seen']),
                 f'{part["seconds"].mean():.0f}', taken]
        lines.append('| ' + ' | '.join(cells) + ' |')
    return lines


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('data', type=Path)
    p.add_argument('--corpora', nargs='+', default=['banking77'])
    p.add_argument('--base', default='scratch')
    p.add_argument('--trials', type=int, default=12)
    p.add_argument('--seeds', type=int, default=1)
    p.add_argument('--share', type=float, default=1., help='of the train rows of each label')
    p.add_argument('--write', action='store_true', help='put the table into bench/RESULTS.md')
    args = p.parse_args()
    os.environ |= dict(WANDB_MODE='disabled', TOKENIZERS_PARALLELISM='false', TRANSFORMERS_VERBOSITY='error')
    results = [row for seed in range(args.seeds) for corpus in args.corpora for row in measured(corpus, seed, args)]
    lines = [machine(f'{args.base}, {args.seeds} seeds' if args.seeds > 1 else f'{args.base}, one seed'), '',
             *table(pd.DataFrame(results))]
    print('\n'.join(lines))
    if args.write: write('\n'.join(lines), 'tune.py')


if __name__ == '__main__': main()
