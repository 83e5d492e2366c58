"""`libdocs classify` on ever more rows: rows a second, and the most memory of the process.

    python bench/classify_rows.py [--rows 10000 1000000] [--write]

The rows are short letters (about 60 characters, JSONL) and the model is `scratch`, so that reading and
writing count for as much as they can. Beside each: the same texts given to the class in one call, without
files (up to a million rows). Each is a process of its own, one after another."""
import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from main_job import machine, write

CLASS = '''
import json, sys, time
from libdocs import DebertaZeroShot
texts = [json.loads(line)['text'] for line in open('rows.jsonl')]
model, start = DebertaZeroShot('./model', device='cpu'), time.perf_counter()
model.predict_proba(texts)
print(time.perf_counter() - start)
'''


def make_model(folder: Path):
    "A model from scratch, of the letters in the documentation, and a function that writes rows."
    import numpy as np
    from libdocs.core.labels import LabelSchema
    from libdocs.finetune.data import Task
    from libdocs.finetune.finetune import finetune
    from libdocs.utils.examples import letters
    train = letters(400, np.random.default_rng(0))
    task = Task('letters', train, train, LabelSchema.from_labels(train['label']))
    finetune(task, str(folder/'model'), base_model='scratch', method='finetune', epochs=1, refit='off', track='none')
    texts = list(train['text'])

    def write_rows(count: int):
        with open(folder/'rows.jsonl', 'w', encoding='utf-8') as file:
            for i in range(count): file.write(json.dumps(dict(id=i, text=f'{texts[i % len(texts)]} {i}')) + '\n')
    return write_rows


def measured(command: list, folder: Path) -> tuple:
    "(seconds, peak GB, what it printed) of one process."
    start = time.perf_counter()
    child = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    said = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    if status: sys.exit(f'{command}: failed')
    return time.perf_counter() - start, usage.ru_maxrss / 1e6, said


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--rows', nargs='+', type=int, default=[10_000, 100_000, 1_000_000])
    p.add_argument('--write', action='store_true', help='put the table into bench/RESULTS.md')
    args = p.parse_args()
    lines = [machine('each once'), '', '| rows | seconds | rows a second | peak memory | the class alone |',
             '|---|---|---|---|---|']
    with tempfile.TemporaryDirectory() as folder:
        write_rows = make_model(Path(folder))
        for count in args.rows:
            write_rows(count)
            command = ['classify', './model', 'rows.jsonl', '-o', 'out.jsonl', '--device', 'cpu']
            seconds, memory, _ = measured([sys.executable, '-m', 'libdocs.command', *command], Path(folder))
            alone = ''
            if count <= 1_000_000:
                _, most, said = measured([sys.executable, '-c', CLASS], Path(folder))
                alone = f'{float(said):.1f} s, {most:.2f} GB'
            lines.append(f'| {count:,} | {seconds:.1f} | {count / seconds:,.0f} | {memory:.2f} GB | {alone} |')
            print(lines[-1], flush=True)
    if args.write: write('\n'.join(lines), 'classify_rows.py')


if __name__ == '__main__': main()
