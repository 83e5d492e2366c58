"""A hundred pipelines in a row: what they leave in memory, among the processes and in the temporary
folder.

    python bench/many_pipelines.py [--runs 100] [--write]

One process runs the pipeline notebook `prepare` on a corpus of 60 rows again and again, from the
beginning each time, as a service would. After each run it counts its own resident memory, its open
files, threads and children, and the files in its temporary folder (one of its own, for it and the
kernels)."""
import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from main_job import machine, write

COLUMNS = ('resident MB', 'open files', 'threads', 'children', 'files in the temporary folder')


def counted(temporary: Path) -> list:
    "The figures of `COLUMNS`."
    import psutil
    me = psutil.Process()
    return [me.memory_info().rss / 2**20, me.num_fds(), me.num_threads(),
            len(me.children(recursive=True)), sum(len(files) for _, _, files in os.walk(temporary))]


def runs(work: Path, temporary: Path, n: int) -> list:
    from libdocs.pipelines import run_pipeline
    rows = [dict(text=f'{label} {label}{i % 7} number {i} of the {label}s', label=label)
            for i in range(20) for label in ('contract', 'invoice', 'minutes')]
    (work/'raw.jsonl').write_text(''.join(json.dumps(row) + '\n' for row in rows))
    os.chdir(work)
    counts = []
    for i in range(n):
        shutil.rmtree(work/'out', ignore_errors=True)
        run_pipeline('prepare', dict(input_dir='.', input_filename='raw.jsonl', output_filename='out/letters',
                                     target_hf_dataset='./ds'), 'executed.ipynb')
        counts.append(counted(temporary))
        print(i + 1, *(f'{x:,.0f}' for x in counts[-1]), flush=True)
    return counts


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--runs', type=int, default=100)
    p.add_argument('--write', action='store_true', help='put the table into bench/RESULTS.md')
    args = p.parse_args()
    with tempfile.TemporaryDirectory() as work, tempfile.TemporaryDirectory() as temporary:
        tempfile.tempdir = os.environ['TMPDIR'] = temporary
        begun = time.perf_counter()
        counts = runs(Path(work), Path(temporary), args.runs)
        seconds = time.perf_counter() - begun
        os.chdir('/')
        tempfile.tempdir = None
    at = sorted({max(1, round(k * args.runs / 10)) for k in range(11)})
    lines = [f'{machine()}', '', f'{args.runs} runs, {seconds / args.runs:.1f} s each.', '',
             '| after run | ' + ' | '.join(map(str, at)) + ' |', '|---' * (1 + len(at)) + '|']
    lines += [f'| {name} | ' + ' | '.join(f'{counts[n - 1][i]:,.0f}' for n in at) + ' |'
              for i, name in enumerate(COLUMNS)]
    print('\n'.join(lines))
    if args.write: write('\n'.join(lines), 'many_pipelines.py')


if __name__ == '__main__': sys.exit(main())
