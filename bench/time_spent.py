"""Where the time of a training of ten minutes goes.

    python bench/time_spent.py [--shape xsmall] [--rows 700] [--epochs 2] [--write]

classifier_model, as a command, on made-up texts of mixed lengths (`mixed` of shapes.py) with ten
labels, a fifth of them for testing, and a base model of the real shape with random weights. The
seconds of each stage are those in the manifests of its run folder; the rest is start-up: imports,
loading the base model twice, the card."""
import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from main_job import machine, write
from shapes import LABELS, make_model, mixed

PARTS = {'loading and splitting the rows': ('load',), 'tokenization': ('tokenize',),
         'training': ('train',), 'calibration, test figures, saving': ('save', 'publish'),
         'evaluation of the published model': ('evaluate',), 'report': ('report', 'publish_evaluation')}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--shape', default='xsmall')
    p.add_argument('--rows', type=int, default=700)
    p.add_argument('--epochs', type=float, default=2)
    p.add_argument('--write', action='store_true', help='put the table into bench/RESULTS.md')
    args = p.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root, texts = Path(folder), mixed(args.rows)
        rows = [f'"{text}","{LABELS[i % 10]}"\n' for i, text in enumerate(texts)]
        (root/'ds').mkdir()
        for name, part in (('train', rows[:4 * args.rows // 5]), ('test', rows[4 * args.rows // 5:])):
            (root/'ds'/f'{name}.csv').write_text('text,label\n' + ''.join(part))
        make_model(args.shape, root/'base', LABELS, texts)
        start = time.perf_counter()
        subprocess.run([sys.executable, '-m', 'libdocs.classifier_model', '--input-hf-dataset',
                        './ds', '-o', './model', '-m', './base', '--epochs', str(args.epochs)],
                       cwd=root, check=True, env=os.environ | {'WANDB_MODE': 'disabled'})
        whole = time.perf_counter() - start
        spent = {name: json.loads((root/'model_run'/f'{name}.json').read_text())['seconds']
                 for stages in PARTS.values() for name in stages}
    table = {'start-up': whole - sum(spent.values())} | {
        part: sum(spent[name] for name in stages) for part, stages in PARTS.items()}
    lines = [machine(), '', f'{args.shape} shape, {args.rows} texts, {args.epochs:g} epochs: {whole:.0f} s.',
             '', '| part | seconds | share |', '|---|---|---|']
    lines += [f'| {part} | {seconds:.1f} | {seconds / whole:.1%} |' for part, seconds in table.items()]
    print('\n'.join(lines))
    if args.write: write('\n'.join(lines), 'time_spent.py')


if __name__ == '__main__': main()
