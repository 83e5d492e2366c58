"""Where the time of a training goes.

    python bench/time_spent.py [DATA --corpus clinc150] [--base xsmall] [--rows 700] [--epochs 2] [--write]

classifier_model, as a command with its default options (but for --epochs, where given). Without
DATA: made-up texts of mixed lengths (`mixed` of shapes.py) with ten labels, a fifth of them for
testing, and a base model of the real shape with random weights; with DATA, the train and test file
of a corpus, and --base is a base model by its name (minilm). The seconds of each stage are those in
the manifests of its run folder; start-up is the rest: imports, loading the base model, the card. Of
the training, the seconds within its start (the output layer), validation and the writing of
checkpoints were taken by a clock around the functions that do it."""
import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import pandas as pd

from imbalance import read_parts
from main_job import machine, write
from shapes import LABELS, make_model, mixed

PARTS = {'loading and splitting the rows': ('load',), 'tokenization': ('tokenize',),
         'training': ('train', 'refit'), 'calibration, test figures, saving': ('save', 'publish'),
         'evaluation of the published model': ('evaluate',), 'report': ('report', 'publish_evaluation')}


def clocked(owner, name: str, part: str, spent: Counter):
    "Have the seconds within a function added up."
    function = getattr(owner, name)

    def with_clock(*given, **options):
        start = time.perf_counter()
        try: return function(*given, **options)
        finally: spent[part] += time.perf_counter() - start
    setattr(owner, name, with_clock)


def child(argv: list):
    "The command in this process; its seconds within parts of the training go into a file."
    from libdocs import classifier_model
    from libdocs.finetune import stages
    from libdocs.finetune.trainer import ClassifierTrainer
    spent = Counter()
    clocked(stages, 'fit_start', 'of it, the start of the output layer', spent)
    clocked(ClassifierTrainer, 'evaluate', 'of it, validation', spent)
    clocked(ClassifierTrainer, '_save_checkpoint', 'of it, checkpoints', spent)
    if code := classifier_model.main(argv): sys.exit(code)
    Path('spent.json').write_text(json.dumps(spent))


def made_up(root: Path, args) -> str:
    "A dataset and a base model in a folder."
    from libdocs.utils.examples import write_dataset
    texts, held_out = mixed(args.rows), 4 * args.rows // 5
    rows = pd.DataFrame(dict(text=texts, label=[LABELS[i % 10] for i in range(len(texts))]))
    write_dataset(root/'ds', train=rows[:held_out], test=rows[held_out:])
    make_model(args.base, root/'base', LABELS, texts)
    return './base'


def real(root: Path, args) -> str:
    "A corpus as a dataset."
    from libdocs.utils.examples import write_dataset
    train, test = read_parts(args.data, args.corpus)
    write_dataset(root/'ds', train=train, test=test)
    return args.base


def measured(args) -> tuple:
    "(seconds of the whole, seconds of stages by name, seconds of parts of the training)"
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        base = (real if args.data else made_up)(root, args)
        epochs = ['--epochs', str(args.epochs)] if args.epochs else []
        start = time.perf_counter()
        subprocess.run([sys.executable, Path(__file__).absolute(), '--child', '--input-hf-dataset', './ds',
                        '-o', './model', '-m', base, *epochs], cwd=root, check=True,
                       env=os.environ | {'WANDB_MODE': 'disabled'})
        whole = time.perf_counter() - start
        made = {path.stem: json.loads(path.read_text()) for path in (root/'model_run').glob('*.json')}
        return whole, {name: made.get(name, {}).get('seconds', 0) for stages in PARTS.values() for name in stages}, \
            json.loads((root/'spent.json').read_text())


def main():
    if sys.argv[1:2] == ['--child']: return child(sys.argv[2:])
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('data', type=Path, nargs='?')
    p.add_argument('--corpus', default='clinc150')
    p.add_argument('--base', default='xsmall')
    p.add_argument('--rows', type=int, default=700)
    p.add_argument('--epochs', type=float)
    p.add_argument('--write', action='store_true', help='put the table into bench/RESULTS.md')
    args = p.parse_args()
    whole, spent, within = measured(args)
    table = {'start-up': whole - sum(spent.values())}
    for part, stages in PARTS.items():
        table[part] = sum(spent[name] for name in stages)
        if part == 'training': table |= within
    work = f'{args.base}, {args.corpus}' if args.data else f'{args.base} shape, {args.rows} texts'
    epochs = f'{args.epochs:g} epochs' if args.epochs else 'default options'
    lines = [machine(), '', f'{work}, {epochs}: {whole:.0f} s.', '', '| part | seconds | share |', '|---|---|---|']
    lines += [f'| {part} | {seconds:.1f} | {seconds / whole:.1%} |' for part, seconds in table.items()]
    print('\n'.join(lines))
    if args.write: write('\n'.join(lines), f'time_spent.py --base {args.base}')


if __name__ == '__main__': main()
