"""Memory over time of the two commands on many rows.

    python bench/load.py [--rows 1000000] [--work prepare|evaluate] [--write]

The texts are made up: eight to forty words of a vocabulary of 20,000 that leans towards ten labels,
one in ten a copy of another with a word changed (prepare), all with an id. `prepare` runs
cleaner_finetune on them, into folders; `evaluate` runs classifier_model --examples with a model of
the shape of `scratch` with random weights. Resident memory of the process and its children is read
every half second; the table gives it at each tenth of the time, the picture (bench/load_WORK.svg)
all of it. After the run the results are checked: every row there, in order."""
import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from main_job import machine, write
from shapes import LABELS

HERE = Path(__file__).parent


def corpus(path: Path, rows: int):
    "Write a JSONL of `rows` rows."
    rng = np.random.default_rng(0)
    words = np.array([a + b + c for a in 'bcdfglmnprstvz' for b in ('a', 'e', 'i', 'o', 'u', 'ar', 'en', 'is')
                      for c in ('n', 'ra', 'sti', 'lo', 'm', 'ken', 'ba', 'du', 'fel', 'gor', 'x',
                                'we', 'pol', 'tus', 'lin', 'mer', 'qua', 'zo')])
    last = None
    with open(path, 'w') as file:
        for i in range(rows):
            label = int(rng.integers(10))
            text = words[(rng.zipf(1.3, rng.integers(8, 41)) * (label + 1)) % len(words)]
            if last is not None and rng.random() < .1:
                label, text = last[0], np.append(last[1][1:], 'more')
            last = label, text
            file.write(json.dumps(dict(id=f'r{i}', text=' '.join(text), label=LABELS[label])) + '\n')


def model(folder: Path) -> Path:
    "A checkpoint of the shape of `scratch`, with random weights."
    import torch
    from libdocs.finetune.base import scratch_model, scratch_tokenizer
    from libdocs.core.labels import LabelSchema
    torch.manual_seed(0)
    corpus(folder/'few.jsonl', 2000)
    tokenizer = scratch_tokenizer([json.loads(line)['text'] for line in open(folder/'few.jsonl')])
    scratch_model(LabelSchema.from_labels(LABELS), tokenizer).save_pretrained(folder/'model')
    tokenizer.save_pretrained(folder/'model')
    return folder/'model'


def resident(pid: int) -> float:
    "MB of a process and its children."
    pages = 0
    for stat in Path('/proc').glob('[0-9]*/stat'):
        try: fields = stat.read_text().rpartition(')')[2].split()
        except OSError: continue
        if int(stat.parent.name) == pid or int(fields[1]) == pid: pages += int(fields[21])
    return pages * resource.getpagesize() / 2**20


def watched(argv: list, cwd: Path, done: Path | None) -> list:
    "(seconds, MB, bytes in `done`) every half second of a command; stops if it fails."
    start, seen = time.perf_counter(), []
    with open(cwd/'log.txt', 'w') as log:
        child = subprocess.Popen([sys.executable, '-m', *map(str, argv)], cwd=cwd, stdout=log, stderr=subprocess.STDOUT,
                                 env=dict(os.environ, WANDB_MODE='disabled', HF_HUB_OFFLINE='1'))
        while child.poll() is None:
            seen.append((time.perf_counter() - start, resident(child.pid),
                         done.stat().st_size if done and done.exists() else 0))
            time.sleep(.5)
    if child.returncode: sys.exit(f'{argv[0]} failed\n{(cwd/"log.txt").read_text()[-3000:]}')
    return seen


def evaluate(cwd: Path, rows: int) -> tuple:
    results = cwd/'results.jsonl'
    seen = watched(['libdocs.classifier_model', '--examples', '--input-dir', '.', '--filename', 'rows.jsonl', '-o',
                    f'./{model(cwd).name}', '--output-classify-file', 'results.jsonl', '--device', 'cpu'], cwd, results)
    with open(results) as file: ids = [json.loads(line)['id'] for line in file]
    assert ids == [f'r{i}' for i in range(rows)], 'rows are missing or out of order'
    return seen, f'{len(ids):,} results, all there and in order.'


def prepare(cwd: Path, rows: int) -> tuple:
    seen = watched(['libdocs.cleaner_finetune', '-i', '.', '-f', 'rows.jsonl', '-t', 'text', '-s',
                    'label', '-o', 'out/rows', '--target-hf-dataset', './dataset'], cwd, None)
    ids = []
    for name in ('train', 'test', 'removed'):
        with open(cwd/'out'/f'rows_{name}.jsonl') as file:
            ids += [json.loads(line)['id'] for line in file]
    assert sorted(ids) == sorted(f'r{i}' for i in range(rows)), 'rows are missing or there twice'
    return seen, f'{rows:,} rows, each in one of the train split, the test split and the removed rows.'


def picture(seen: list, path: Path, title: str):
    import matplotlib
    matplotlib.use('svg')
    from matplotlib import pyplot
    figure, axes = pyplot.subplots(figsize=(7, 2.6))
    axes.plot([s for s, _, _ in seen], [mb for _, mb, _ in seen], color='#2a6f97')
    axes.set(xlabel='seconds', ylabel='resident MB', title=title, ylim=0)
    axes.spines[['top', 'right']].set_visible(False)
    figure.savefig(path, bbox_inches='tight', metadata={'Date': None})


def table(seen: list) -> list:
    at = [seen[int(k * (len(seen) - 1) / 10)] for k in range(1, 11)]
    lines = ['| | ' + ' | '.join(f'{s:.0f} s' for s, _, _ in at) + ' |', '|---' * 11 + '|',
             '| resident MB | ' + ' | '.join(f'{mb:,.0f}' for _, mb, _ in at) + ' |']
    return lines + ([] if not seen[-1][2] else ['| share of the results written | '
                                                + ' | '.join(f'{size / seen[-1][2]:.0%}' for _, _, size in at) + ' |'])


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--rows', type=int, default=1_000_000)
    p.add_argument('--work', choices=['prepare', 'evaluate'], default='evaluate')
    p.add_argument('--write', action='store_true', help='put the table into bench/RESULTS.md')
    args = p.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        corpus(Path(folder)/'rows.jsonl', args.rows)
        seen, summary = dict(prepare=prepare, evaluate=evaluate)[args.work](Path(folder), args.rows)
        print((Path(folder)/'log.txt').read_text()[-1500:])
    picture(seen, HERE/f'load_{args.work}.svg', f'{args.work}: {args.rows:,} rows')
    lines = [machine(), '', *table(seen), '', f'{summary} The most: {max(mb for _, mb, _ in seen):,.0f} MB.',
             '', f'![memory over time](load_{args.work}.svg)']
    print('\n'.join(lines))
    if args.write: write('\n'.join(lines), f'load.py --work {args.work}')


if __name__ == '__main__': main()
