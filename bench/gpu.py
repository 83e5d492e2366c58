"""Everything that has to be seen on a GPU, in one run of 8 minutes, on a machine without network.

    bench/gpu.sh --pack FOLDER              beforehand, on a machine with network, after make weights
    bench/gpu.sh --packed FOLDER [gpu.md]   on the machine with the GPU
    bench/gpu.sh --dry [gpu.md]             the same on the CPU, with tiny models and few rows

The machine with the GPU needs Python 3.12 on x86-64 Linux with torch, transformers, numba, pyarrow,
pandas and scikit-learn, which are too large to be brought along. --pack writes into FOLDER what
else is needed: wheels of small packages and MiniLM in bf16; with the source it has to stay below 64
MiB. Packages that are there already are not installed again, nor is anything installed outside of a
temporary folder. What is lacking all the same is named in the first row.

What is seen, the most important first: the tests marked gpu (training and classifying, bf16 beside
float32, memory that runs out, the same seed, two processes on one GPU); papermill's three pipelines
from the demo corpus to an evaluated MiniLM; training and classifying at the shapes of DeBERTa-v3-base
and ModernBERT-base beside transformers and faster packages (bench/train.py, bench/classify.py).
Each part has its share of the time that is left. One that fails or takes longer leaves a row that
says so, and the others go on. The results are written after each part, what the programs print goes
into a .log file beside them."""
import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from configparser import ConfigParser
from dataclasses import dataclass, field
from functools import partial
from importlib import metadata
from pathlib import Path

from main_job import machine, write
from train import PEERS

ROOT = Path(__file__).resolve().parent.parent
BROUGHT = '''accelerate asttokens comm datasets decorator dill entrypoints executing fastcore fastjsonschema ipykernel
    ipython ipython_pygments_lexers iniconfig jsonschema jsonschema-specifications jupyter_client jupyter_core
    matplotlib-inline multiprocess nbclient nbformat nest-asyncio2 papermill parso pexpect platformdirs pluggy
    prompt_toolkit ptyprocess pure_eval pytest pytest-timeout pyzmq referencing rpds-py stack-data tenacity tornado
    traitlets wcwidth disentangled-flash==1.1.1 flashdeberta==0.0.8'''.split()
AROUND = 25  # seconds that a program of bench/ takes beside its runs
MOST = 64  # MiB of the folder and the source together
MANYLINUX = ('_2_28', '_2_27', '_2_17', '2014', '2010', '1')
LEFT_OUT = dict(wandb='tracking is not tried', zstandard='.zst files are not tried')  # large, and not needed elsewhere
ASKED = {'train.py': {PEERS['padded']: 4, PEERS['tuned-bf16']: 1.5},  # so many times as fast as these
         'classify.py': {'pipeline, batch_size=1': 5, 'pipeline, batch_size=128': 2}}
ASKED_SHARE = 40  # per cent of the speed of one large multiplication, in training


# What is brought along

def pack(folder: Path) -> int:
    "Write wheels and weights; returns the exit code."
    wheels, weights = folder/'wheels', folder/'minilm'
    wheels.mkdir(parents=True, exist_ok=True)
    platforms = [word for version in MANYLINUX for word in ('--platform', f'manylinux{version}_x86_64')]
    subprocess.run([sys.executable, '-m', 'pip', 'download', '--quiet', '--no-deps', '--only-binary=:all:',
                    '--implementation', 'cp', '--python-version', '3.12', *platforms, '--constraint',
                    str(ROOT/'constraints.txt'), '--dest', str(wheels), *BROUGHT], check=True)
    pack_weights(weights)
    listed = subprocess.run(['git', 'ls-files', '-z', '--cached', '--others', '--exclude-standard'], cwd=ROOT,
                            check=True, capture_output=True, text=True).stdout.split('\0')
    source = [path for name in listed if folder.resolve() not in (path := ROOT/name).parents]
    sizes = dict(wheels=size(wheels.iterdir()), weights=size(weights.rglob('*')), source=size(source))
    total = sum(sizes.values())
    print(', '.join(f'{name} {mib:.1f}' for name, mib in sizes.items()), f'MiB; {total:.1f} of {MOST} MiB')
    return int(total > MOST)


def pack_weights(folder: Path):
    "MiniLM with weights of 16 bits."
    import torch
    from safetensors.torch import load_file, save_file
    sys.path.insert(0, str(ROOT))
    from libdocs.core.base_models import fetch_base, minilm_files
    base = fetch_base('minilm')
    for name in minilm_files:
        (folder/name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(base/name, folder/name)
    weights = {name: weight.to(torch.bfloat16) if weight.is_floating_point() else weight
               for name, weight in load_file(base/'model.safetensors').items()}
    save_file(weights, folder/'model.safetensors', metadata=dict(format='pt'))


def size(paths) -> float: return sum(path.stat().st_size for path in paths if path.is_file()) / 2**20


def is_there(package: str) -> bool:
    try: return bool(metadata.version(package))
    except metadata.PackageNotFoundError: return False


def install(folder: Path, site: Path) -> str:
    "Install those wheels whose packages are not there; returns what is wrong, if anything."
    lacking = [wheel for wheel in sorted(folder.glob('wheels/*.whl')) if not is_there(wheel.name.split('-')[0])]
    if not lacking: return ''
    done = subprocess.run([sys.executable, '-m', 'pip', 'install', '--quiet', '--no-index', '--no-deps',
                           '--no-compile', '--target', str(site), *map(str, lacking)], capture_output=True, text=True)
    return (done.stderr.strip() or 'pip failed').splitlines()[-1] if done.returncode else ''


def packages(folder: Path, site: Path) -> str:
    "Install what was brought along, and say what is lacking all the same."
    wrong = install(folder, site)
    sys.path.insert(0, str(site))
    settings = ConfigParser(delimiters=['='], interpolation=None)
    settings.read(ROOT/'settings.ini', encoding='utf-8')
    needed = [re.match(r'[\w-]+', line)[0] for line in settings['DEFAULT']['requirements'].split('\n') if line.strip()]
    lacking = [f'{name} ({LEFT_OUT.get(name, "what needs it fails")})'
               for name in [*needed, 'pytest', 'flashdeberta', 'disentangled-flash'] if not is_there(name)]
    said = f'lacking: {", ".join(lacking)}' if lacking else 'all are there'
    return f'{said}; the wheels could not be installed: {wrong}' if wrong else said


# Parts

@dataclass
class Run:
    "What all parts have in common."
    out: Path
    dry: bool
    packed: Path
    folder: Path  # temporary
    ends: float   # by time.monotonic
    about: str = ''
    rows: list = field(default_factory=list)      # of the table
    sections: list = field(default_factory=list)  # below it
    writing: threading.Lock = field(default_factory=threading.Lock)

    @property
    def device(self) -> str: return 'cpu' if self.dry else 'cuda'

    @property
    def base(self) -> str: return str(self.packed/'minilm') if (self.packed/'minilm').is_dir() else 'scratch'

    def left(self) -> float: return self.ends - time.monotonic()

    def row(self, part: str, seen: str, seconds: float, section: str = ''):
        "Add a row, and write everything anew."
        with self.writing:
            self.rows.append(f'| {part} | {seen.replace("|", "/")} | {seconds:.0f} |')
            print(self.rows[-1], flush=True)
            if section: self.sections.append(f'### {part}\n\n{section}')
            self.out.write_text(f'{self}\n', encoding='utf-8')

    def __str__(self):
        dry = ['**A dry run: tiny models on the CPU. Its figures say nothing.**', ''] if self.dry else []
        return '\n'.join([*dry, self.about, '', '| part | seen | seconds |', '|---|---|---|', *self.rows, '',
                          '\n\n'.join(self.sections)]).rstrip()


def environment(run: Run) -> dict:
    "Of all programs: the source and what was brought along, one GPU or none, no network."
    paths = os.pathsep.join(filter(None, [str(ROOT), str(run.folder/'site'), os.environ.get('PYTHONPATH')]))
    env = dict(CUDA_VISIBLE_DEVICES='0') | dict(
        os.environ, PYTHONPATH=paths, WANDB_MODE='disabled', HF_HUB_OFFLINE='1', HF_HOME=str(run.folder/'hf'),
        TOKENIZERS_PARALLELISM='true', TRANSFORMERS_VERBOSITY='error')
    # one thread: programs side by side that share a few cores wait for each other's threads
    return env | (dict(DRY='1', CUDA_VISIBLE_DEVICES='', OMP_NUM_THREADS='1') if run.dry else {})


def call(run: Run, command: list, limit: float) -> tuple:
    "(what a program printed, what was wrong, seconds); it is ended with its children when `limit` seconds are over."
    if limit <= 0: return '', 'not run: no time was left', 0
    start, log_path = time.monotonic(), run.out.with_suffix('.log')
    with open(log_path, 'a+', encoding='utf-8') as log, tempfile.TemporaryFile('w+') as printed:
        log.write(f'\n{" ".join(command)}\n')
        log.flush()
        before = log.tell()
        child = subprocess.Popen([sys.executable, *command], stdout=printed, stderr=log, cwd=run.folder,
                                 env=environment(run), start_new_session=True)
        wrong = outcome(child, limit)
        log.seek(before)
        said = log.read().strip().splitlines()
        printed.seek(0)
        log.write(text := printed.read())
    if wrong.startswith('failed') and said: wrong += f': {said[-1][:300]}'
    return text, wrong, time.monotonic() - start


def outcome(child: subprocess.Popen, limit: float) -> str:
    "What went wrong with a program, if anything."
    try: code = child.wait(limit)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        return f'killed after {limit:.0f} s'
    return f'failed, exit code {code}' if code else ''


def tests(run: Run, limit: float):
    "The tests marked gpu, one line each."
    text, wrong, seconds = call(run, ['-m', 'pytest', '-m', 'gpu', '-rA', '--tb=short', '-p', 'no:cacheprovider', '-c',
                                      str(ROOT/'pyproject.toml'), str(ROOT/'tests'/'test_gpu.py')], limit)
    lines = re.findall(r'^(?:PASSED|FAILED|ERROR|SKIPPED) .*', text, re.M)
    counted = re.findall(r'^\d+ (?:passed|failed|skipped|error).*', text, re.M)
    run.row('tests marked gpu', '; '.join([*counted[-1:], *([wrong] if wrong else [])]), seconds,
            '\n'.join('- ' + re.sub(r'\S*tests/', '', line) for line in lines))


def pipelines(run: Run, limit: float):
    "The three notebooks, one after the other; what the last one found."
    ends, some = time.monotonic() + limit, ['-p', 'downsample', '.1'] if run.dry else []
    names = ['-p', 'dataset', './dataset', '-p', 'model_name', './model', '-p', 'device', run.device, *some]
    training = ['-p', 'base_model', run.base, '-p', 'track', 'none', *(['-p', 'epochs', '1'] if run.dry else [])]
    commands = {
        'demo corpus': ['-m', 'libdocs.demo', '.', '--corpus-only'],
        'pipeline prepare': ['-m', 'libdocs.pipelines', 'prepare', '-p', 'input_dir', 'raw', '-p', 'input_filename',
                             'corpus.jsonl', '-p', 'text', 'body', '-p', 'subject', 'topic', '-p', 'output_filename',
                             'prepared/letters', '-p', 'target_hf_dataset', './dataset', '-p', 'bad_rows', 'reject',
                             '-p', 'merge_labels', 'true'],
        f'pipeline finetune, {Path(run.base).name}': ['-m', 'libdocs.pipelines', 'finetune', *names, *training],
        'pipeline evaluate': ['-m', 'libdocs.pipelines', 'evaluate', *names, '-p', 'output_classify_file',
                              'results/results.jsonl']}
    wrong = ''
    for name, command in commands.items():
        if wrong: run.row(name, 'not run: the one before it did not succeed', 0); continue
        _, wrong, seconds = call(run, command, ends - time.monotonic())
        run.row(name, wrong or 'done', seconds)
    if not wrong: run.sections.append(f'### What the pipelines made\n\n{figures(run)}')


def figures(run: Run) -> str:
    "What was trained where, and how good it is."
    record = json.loads((run.folder/'model'/'training.json').read_text())
    metrics = json.loads((run.folder/'results'/'metrics.json').read_text())
    return (f'Trained on {record["device"]} in {record["dtype"]}: top-1 {metrics["top_1"]:.4f}, macro-F1 '
            f'{metrics["macro_f1"]:.4f} on {metrics["rows"]} test rows.')


def bench(run: Run, limit: float, what: str, program: str, options: list):
    "One of the programs of bench/, and whether what is asked was seen."
    command = [str(ROOT/'bench'/program), '--device', run.device, '--seconds', f'{limit - AROUND:.0f}', *options]
    text, wrong, seconds = call(run, command, limit)
    table = [[cell.strip() for cell in line.strip('|').split('|')] for line in text.splitlines() if line[:1] == '|']
    seen = [verdict(cells, ASKED[program][cells[0]]) for cells in table if cells[0] in ASKED[program]]
    if program == 'train.py': seen += [share(cells) for cells in table if cells[0] == 'libdocs']
    run.row(what, wrong or ('done' if run.dry else '; '.join(seen)), seconds, text.partition('\n\n')[2].strip())


def verdict(cells: list, asked: float) -> str:
    "A row of a table, beside what is asked."
    if not cells[-1]: return f'{cells[0]}: {cells[1]}'
    times = float(cells[-1].split()[0])
    return f'{times:.2f} times {cells[0]} (asked {asked:g}: {"met" if times >= asked else "missed"})'


def share(cells: list) -> str:
    "The utilisation, beside what is asked."
    seen = int(cells[4].rstrip('%'))
    return f'utilisation {seen}% (asked {ASKED_SHARE}%: {"met" if seen >= ASKED_SHARE else "missed"})'


def shape_parts(run: Run) -> list:
    "(part, weight of its time) of training and classifying at each shape."
    sizes = dict(train=['--rows', '16', '--batch', '8', '--runs', '1'], classify=['--rows', '16', '--runs', '1'])
    if not run.dry: sizes = dict(train=['--rows', '2048', '--batch', '32'], classify=['--rows', '1500', '--runs', '3'])
    parts = []
    for name, shape, faster in ('DeBERTa-v3-base', 'base', True), ('ModernBERT-base', 'modernbert', False):
        if run.dry: shape = dict(base='tiny', modernbert='tiny-modernbert')[shape]
        peers = ['tuned-bf16', 'padded', *(['disentangled-flash', 'flashdeberta'] if faster else [])]
        train = ['--shape', shape, *sizes['train'], '--only', *peers]
        classify = ['--shape', shape, *sizes['classify'], '--batch', '128', '1', '--dtype', 'bfloat16', '--peer-dtype',
                    'bfloat16', *(['--faster'] if faster else [])]
        parts += [(partial(bench, run, what=f'training, {name} shape, bf16', program='train.py', options=train),
                   5 if faster else 3),
                  (partial(bench, run, what=f'classifying, {name} shape, bf16', program='classify.py',
                           options=classify), 4 if faster else 3)]
    return parts


def beside(run: Run, limit: float):
    "What is not timed, at the same time."
    with ThreadPoolExecutor() as pool:
        for done in [pool.submit(part, run, limit) for part in (tests, pipelines)]: done.result()


def whole_run(run: Run):
    "All parts, each with its share of the time that is left."
    parts = [(partial(beside, run), 8), *shape_parts(run)]
    for at, (part, weight) in enumerate(parts):
        try: part(limit=run.left() * weight / sum(w for _, w in parts[at:]))
        except Exception as error: run.row(f'part {at + 1}', f'failed: {type(error).__name__}: {error}', 0)


def machine_facts(dry: bool) -> str:
    "What it ran on."
    import torch
    if dry: return machine('a dry run')
    gpu = torch.cuda.get_device_properties(0)
    return (f'{torch.cuda.device_count()} × {gpu.name}, {gpu.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}; '
            f'{machine("one run")}')


def main() -> int:
    p = argparse.ArgumentParser(prog='bench/gpu.sh', description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('out', type=Path, nargs='?', default=Path('gpu.md'),
                   help='the Markdown file to write (default: gpu.md)')
    p.add_argument('--pack', type=Path, metavar='FOLDER', help='write what is brought along to FOLDER, and stop')
    p.add_argument('--packed', type=Path, metavar='FOLDER', default=Path('gpu-pack'),
                   help='what --pack wrote (default: gpu-pack); where there is none, nothing is installed, and the '
                   'pipelines train scratch')
    p.add_argument('--dry', action='store_true', help='tiny models on the CPU, to try the program')
    p.add_argument('--minutes', type=float, default=8, help='for everything (default: 8)')
    p.add_argument('--write', action='store_true', help='put the tables into bench/RESULTS.md')
    args, start = p.parse_args(), time.monotonic()
    if args.pack: return pack(args.pack)
    if args.dry and args.write: p.error('--write: the figures of a dry run say nothing')
    import torch
    if not args.dry and not torch.cuda.is_available():
        p.error('torch sees no GPU here; bench/gpu.sh --dry tries the program on the CPU')
    with tempfile.TemporaryDirectory() as folder:
        run = Run(args.out.resolve(), args.dry, args.packed.resolve(), Path(folder), start + 60 * args.minutes)
        run.out.with_suffix('.log').unlink(missing_ok=True)
        run.about = machine_facts(args.dry)
        run.row('packages', packages(run.packed, run.folder/'site'), time.monotonic() - start)
        whole_run(run)
    print(f'\n{run}')
    if args.write: write(str(run), 'gpu.sh')
    return 0


if __name__ == '__main__': sys.exit(main())
