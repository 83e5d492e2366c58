"""Run every notebook, as nbdev-test does, and fail if one raises or prints something else than it
has stored: what the documentation shows is what the code says today.

    python tests/check_outputs.py [--workers 2] [--store] [NOTEBOOK ...]

With --store, cells whose outputs have changed get the new ones: look at the diff before you commit it.
A cell that shows something and has stored nothing is wrong too. Outputs are stored with the versions of
packages that constraints.txt names for Python 3.11 and newer; on 3.10, which has older ones,
notebooks are only run. Each has a process of its own, forked from this one after the slow imports."""
import argparse
import difflib
import json
import math
import multiprocessing
import os
import re
import signal
import sys
import time
from functools import partial
from pathlib import Path

from warm import import_slow

ROOT = Path(__file__).resolve().parent.parent
NBS = ROOT/'nbs'
KINDS = ('text/html', 'text/markdown', 'text/plain')  # a reader sees the first that there is; pictures are not compared
MOST_LINES = 40  # of the differences of a cell
CELL = 600  # seconds after which a cell is taken to hang

COMPARED = sys.version_info[:2] == (3, 11)  # argparse writes its help otherwise from 3.13 on

# Processors round differently, and some train in bfloat16: what a model that was trained or drawn in the notebook
# answers is the same only on one kind of processor. Numbers in these notebooks are not compared, the text around
# them is, but for the cells that are named, which show what the model says.
TRAINED = {
    '45_classifiers.forward.ipynb': (),
    '46_classifiers.deberta.ipynb': ('794a5915',),
    '73_finetune.tune.ipynb': (),
    '75_finetune.finetune.ipynb': (),
    '78_phases.training.ipynb': (),
    '82_classifier_model.ipynb': ('af532185',),
    '86_pipelines.ipynb': (),
    'index.ipynb': ('7c44e762',),
    'tutorials/first_classifier.ipynb': ('d2669e0e', 'cd447b40', '3b135ea6'),
}
NUMBER = re.compile(r'(?<![\w.])[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?')


def without_addresses(text: str) -> str:
    "Addresses in memory are different in each run."
    return re.sub(r'0x[0-9a-f]{6,}', '0x…', text)


def one_tag_a_line(page: str) -> str:
    "A page that is all on one line, so that its differences can be read."
    return re.sub(r'(>|&gt;)(?=<|&lt;)', r'\1\n', page)


def text_of(outputs: list) -> str:
    "What a reader sees of the outputs of a cell, but for pictures and what went to stderr."
    parts = []
    for output in outputs:
        if output['output_type'] == 'stream' and output['name'] == 'stdout':
            parts.append(''.join(output['text']))
        shown = next((kind for kind in KINDS if kind in output.get('data', {})), None)
        if shown: parts.append(''.join(output['data'][shown]).rstrip('\n') + '\n')
    return one_tag_a_line(without_addresses(''.join(parts))).rstrip()


def executed(path: Path) -> dict:
    "Cell id → outputs, of each cell that was run; raises the first error."
    from execnb.shell import CaptureShell
    from fastcore.xtras import working_directory
    from nbdev.config import get_config
    from nbdev.process import NBProcessor
    from nbdev.test import _skip_cell
    nb = NBProcessor(path, rm_directives=False, process=True).nb
    skipped, outputs = _skip_cell(nb, get_config(path.parent).tst_flags.split()), {}
    def keep(cell): outputs[cell.id] = cell.outputs
    shell = CaptureShell(path)
    with working_directory(path.parent):
        try: shell.run_all(nb, exc_stop=True, preproc=skipped, postproc=keep, cell_timeout=CELL)
        except BaseException as error:
            raise RuntimeError(shell.prettytb(fname=path) or repr(error)) from None
    return outputs


def numbers(line: str) -> list: return [float(n.replace(',', '').rstrip('.')) for n in NUMBER.findall(line)]


def alike(before: str, after: str, exact: bool) -> bool:
    "Whether two lines say the same; numbers may differ by as much as processors round differently, or at all."
    if NUMBER.sub('#', before).split() != NUMBER.sub('#', after).split(): return False
    if not exact: return True
    return all(math.isclose(x, y, rel_tol=1e-3, abs_tol=1e-3) for x, y in zip(numbers(before), numbers(after)))


def differences(path: Path, outputs: dict) -> dict:
    "Cell id → the lines of what it has stored and what it says now that differ, of each cell where some do."
    name, report = path.relative_to(NBS).as_posix(), {}
    for cell in json.loads(path.read_text(encoding='utf-8'))['cells']:
        if cell['id'] not in outputs or cell['id'] in TRAINED.get(name, ()): continue
        before, after = (text_of(made).splitlines() for made in (cell['outputs'], outputs[cell['id']]))
        same = len(before) == len(after) and all(alike(*pair, name not in TRAINED) for pair in zip(before, after))
        if same: continue
        lines = list(difflib.unified_diff(before, after, 'stored', 'new', n=0, lineterm=''))
        if len(lines) > MOST_LINES: lines[MOST_LINES:] = [f'… {len(lines) - MOST_LINES} more lines']
        report[cell['id']] = [f'cell {cell["id"]}: {"".join(cell["source"])[:80]!r}', *(line[:200] for line in lines)]
    return report


def store(path: Path, outputs: dict):
    "Cell id → outputs, into the notebook; what went to stderr is not stored."
    import nbformat
    nb = nbformat.read(path, nbformat.NO_CONVERT)
    for cell in nb.cells:
        made = [output for output in outputs.get(cell.id, ()) if output.get('name') != 'stderr']
        if cell.id in outputs: cell.outputs = [nbformat.from_dict(output) for output in made]
    nbformat.write(nb, path)


def check(path: Path, storing: bool = False) -> tuple:
    "(path, seconds, what is wrong with it as lines)."
    sys.path.insert(0, str(ROOT))
    os.environ |= {'IN_TEST': '1', 'COLUMNS': '80', 'LINES': '24'}  # as under nbdev-test, and as wide as in Jupyter
    start = time.perf_counter()
    try:
        outputs = executed(path)
        different = differences(path, outputs) if COMPARED else {}
        if storing and different: store(path, {cell: outputs[cell] for cell in different})
        wrong = [line for lines in different.values() for line in lines]
    except Exception as error: wrong = [str(error)]
    return path, time.perf_counter() - start, wrong


def slow_first(path: Path) -> tuple:
    "A key for sorting, so that no slow notebook is left for the end: the index runs the complete job."
    return path.name != 'index.ipynb', -path.stat().st_size


def main() -> int:
    parser = argparse.ArgumentParser(description='Run notebooks and compare their outputs with those stored.')
    parser.add_argument('notebooks', nargs='*', type=Path, help='default: all')
    parser.add_argument('--workers', type=int, default=2, help='how many run at a time')
    parser.add_argument('--store', action='store_true', help='store the outputs of cells where they have changed')
    args = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which processes in the background ignore
    import_slow()  # what most notebooks import, once for all
    import matplotlib.pyplot, nbdev.test  # noqa: F401
    from nbdev.doclinks import nbglob
    paths = [path.resolve() for path in args.notebooks] or sorted(nbglob(NBS, as_path=True), key=slow_first)
    failed = []
    with multiprocessing.get_context('fork').Pool(args.workers, maxtasksperchild=1) as pool:
        for path, seconds, wrong in pool.imap_unordered(partial(check, storing=args.store), paths):
            name = path.relative_to(NBS).as_posix()
            print(f'{name}: {"not as stored" if wrong else "ok"}, {seconds:.1f} s', *wrong, sep='\n    ', flush=True)
            if wrong: failed.append(name)
    if failed:
        print(f'{len(failed)} of {len(paths)} notebooks fail or are not as stored:', *sorted(failed), sep='\n  ')
    return int(bool(failed))


if __name__ == '__main__': sys.exit(main())
