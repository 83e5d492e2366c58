"""How often the 95 % intervals hold the truth: a simulation.

    python bench/intervals.py [--samples 1000] [--write]

A population of 200,000 groups of documents is made, of which 15 % are groups of 2 to 5 copies.
Labels are as frequent as a power law says, each has a recall of its own (a beta distribution),
wrong answers go to a neighbouring label or to a common one, and nine in ten copies share the fate
of their group. Test splits are drawn from it, of about the given number of rows, and for each the
share of intervals that hold the population's figure is counted; 1,000 samples give it to within 1.4
points (two standard errors). The percentile bootstrap, which draws groups and cuts off 2.5 % of the
figures at either end, stands beside, on 200 of the samples with 400 draws each.

The second table is of test splits whose labels were capped to the same number of rows, while the
commonest label of the population is 20 or 100 times as common as the rarest: the figures at the
frequencies of the population, with and without copies."""
import argparse

import numpy as np
import pandas as pd
from main_job import machine, write

from libdocs.evaluation.outcomes import figures, Outcomes
from libdocs.evaluation.intervals import intervals, natural_weights

SHOWN = ('top_1', 'macro_f1', 'weighted_f1', 'balanced_accuracy', 'log_loss', 'brier')
# labels, recall, skew, rows
CASES = [(2, .9, .7, 300), (8, .9, .5, 200), (8, .97, .5, 200), (8, .9, .5, 1000),
         (20, .8, 1., 300), (30, .85, 1.2, 600), (77, .87, 0., 1000), (150, .9, 0., 4500)]
# labels, recall, commonest to rarest, rows
CAPPED = [(2, .9, 20, 300), (3, .9, 20, 300), (8, .9, 20, 400), (8, .9, 100, 400),
          (8, .97, 100, 240), (8, .9, 20, 80), (20, .85, 100, 1000), (40, .85, 20, 1200)]


def population(labels: int, recall: float, skew: float, copies: float = .15, groups: int = 200_000) -> tuple:
    "(Outcomes, group of each row); `copies` is the share of groups of more than one."
    rng = np.random.default_rng(7)
    prior = 1 / np.arange(1, labels + 1)**skew
    prior /= prior.sum()
    sizes = np.where(rng.random(groups) < copies, rng.integers(2, 6, groups), 1)
    of = np.repeat(np.arange(groups), sizes)
    own = np.clip(rng.beta(8 * recall, 8 * (1 - recall), labels), .02, .995)
    label = rng.choice(labels, groups, p=prior)
    wrong = np.where(rng.random(groups) < .5, (label + 1) % labels, rng.choice(labels, groups, p=prior))
    answer = np.where(rng.random(groups) < own[label], label, np.where(wrong == label, (label + 1) % labels, wrong))
    truth, first = label[of], answer[of]
    apart = (rng.random(len(of)) < .1) & (sizes[of] > 1)
    first = np.where(apart, np.where(rng.random(len(of)) < own[truth], truth, (truth + 1) % labels), first)
    right = first == truth
    sure = np.where(right, rng.beta(6, 1.2, len(of)), rng.beta(1.2, 5, len(of)))  # probability of the truth
    top = np.where(right, np.maximum(sure, .5), np.maximum(1 - sure, .3))
    chances = np.stack([top, sure, (1 - sure)**2 + np.where(right, 0, top)**2], axis=1)
    return Outcomes([str(i) for i in range(labels)], truth, first, np.where(right, 1, 2), chances), of


def drawn(o: Outcomes, of: np.ndarray, starts: np.ndarray, rows: int, rng) -> tuple:
    "A test split of about `rows` rows."
    picked = rng.integers(0, len(starts) - 1, round(rows * (len(starts) - 1) / len(of)))
    at = np.concatenate([np.arange(starts[g], starts[g + 1]) for g in picked])
    return (Outcomes(o.names, *(column[at] for column in o[1:])),
            np.repeat(np.arange(len(picked)), np.diff(starts)[picked]))


def capped(o: Outcomes, of: np.ndarray, starts: np.ndarray, rows: int, rng) -> tuple:
    "A test split of about `rows` rows, as many of each label."
    each, label, sizes, picked = rows // len(o.names), o.truth[starts[:-1]], np.diff(starts), []
    for k in range(len(o.names)):
        some = rng.choice(np.flatnonzero(label == k), each)
        picked.append(some[:np.searchsorted(np.cumsum(sizes[some]), each) + 1])
    picked = np.concatenate(picked)
    at = np.concatenate([np.arange(starts[g], starts[g + 1]) for g in picked])
    return o.only(at), np.repeat(np.arange(len(picked)), sizes[picked])


def percentile(o: Outcomes, groups: np.ndarray, rng, draws: int = 400) -> dict:
    "The usual bootstrap interval of each figure."
    n = groups.max() + 1
    resampled = pd.DataFrame([figures(o, np.bincount(rng.integers(0, n, n), minlength=n)[groups])
                              for _ in range(draws)])
    return {k: resampled[k].quantile([.025, .975]).tolist() for k in SHOWN}


def covered(labels: int, recall: float, skew: float, rows: int, samples: int) -> tuple:
    "(the population's figures, coverage of ours, coverage of the percentile bootstrap), each by figure."
    o, of = population(labels, recall, skew)
    truth, starts, rng = figures(o), np.searchsorted(of, np.arange(of.max() + 2)), np.random.default_rng(0)
    held, usual = [], []
    for i in range(samples):
        sample, groups = drawn(o, of, starts, rows, rng)
        held.append(holds(intervals(sample, groups), truth))
        if i < 200: usual.append(holds(percentile(sample, groups, rng), truth))
    return truth, pd.DataFrame(held).mean(), pd.DataFrame(usual).mean()


def covered_capped(labels: int, recall: float, ratio: float, rows: int, copies: float, samples: int) -> tuple:
    "(the population's figures, coverage of ours), each by figure."
    o, of = population(labels, recall, np.log(ratio) / np.log(labels), copies)
    truth, starts, rng = figures(o), np.searchsorted(of, np.arange(of.max() + 2)), np.random.default_rng(0)
    natural, held = dict(zip(o.names, np.bincount(o.truth, minlength=labels))), []
    for _ in range(samples):
        sample, groups = capped(o, of, starts, rows, rng)
        held.append(holds(intervals(sample, groups, natural_weights(sample, natural)), truth))
    return truth, pd.DataFrame(held).mean()


def holds(intervals: dict, truth: dict) -> dict:
    return {k: intervals[k][0] <= truth[k] <= intervals[k][1] for k in SHOWN}


def table(first: str, rows: list) -> list:
    return [f'| {first} | {" | ".join(SHOWN)} |', '|---' * (1 + len(SHOWN)) + '|', *rows]


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('data', nargs='?', help='not needed; for `make bench`')
    p.add_argument('--samples', type=int, default=1000)
    p.add_argument('--write', action='store_true', help='put the tables into bench/RESULTS.md')
    args = p.parse_args()
    plain, weighted = [], []
    for labels, recall, skew, rows in CASES:
        truth, ours, usual = covered(labels, recall, skew, rows, args.samples)
        plain.append(f'| {labels}, {skew:g}, {rows:,}; top-1 {truth["top_1"]:.3f}, macro-F1 {truth["macro_f1"]:.3f} | '
                     + ' | '.join(f'{100 * ours[k]:.1f} ({100 * usual[k]:.0f})' for k in SHOWN) + ' |')
        print(plain[-1], flush=True)
    for labels, recall, ratio, rows in CAPPED:
        for copies in (0, .15):
            truth, ours = covered_capped(labels, recall, ratio, rows, copies, args.samples)
            name = f'{labels}, {ratio}:1, {rows:,}, {"copies" if copies else "no copies"}'
            weighted.append(f'| {name}; top-1 {truth["top_1"]:.3f} | '
                            + ' | '.join(f'{100 * ours[k]:.1f}' for k in SHOWN) + ' |')
            print(weighted[-1], flush=True)
    lines = [machine(), '', f'Share of {args.samples:,} intervals that hold the truth; in brackets that of '
             'the percentile bootstrap.', '', *table('labels, skew, rows', plain), '',
             'At the frequencies of the source, from a capped test split:', '',
             *table('labels, skew, rows, copies', weighted)]
    if args.write: write('\n'.join(lines), 'intervals.py')


if __name__ == '__main__': main()
