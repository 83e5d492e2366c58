"""What users get: the wheel, built and installed into an empty environment, with every module, the
commands, and no slow imports."""
import json, re, shutil, subprocess, sys, sysconfig, venv, zipfile
from pathlib import Path

import pytest
from corpora import MODULES as COMMANDS
from warm import HANG

ROOT = Path(__file__).resolve().parent.parent


def exported_modules():
    "The module of every notebook that has one."
    names = set()
    for path in (ROOT/'nbs').rglob('*.ipynb'):
        if '.ipynb_checkpoints' in path.parts: continue
        cells = (''.join(cell['source']) for cell in json.loads(path.read_text(encoding='utf-8'))['cells'])
        names |= {f'libdocs.{match[1]}' for cell in cells if (match := re.match(r'#\|\s*default_exp\s+(\S+)', cell))}
    return sorted(names)


def run(*command, **options):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=HANG, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
    # Built from a copy: setuptools leaves a build/ folder behind, and what lies in an old one would get into the wheel.
    folder = tmp_path_factory.mktemp('wheel')
    source = folder/'source'
    for name in ('libdocs', 'nbs/pipelines'):
        shutil.copytree(ROOT/name, source/name, ignore=shutil.ignore_patterns('__pycache__', '.ipynb_checkpoints'))
    for name in ('setup.py', 'settings.ini', 'pyproject.toml', 'README.md', 'LICENSE'):
        shutil.copy2(ROOT/name, source)
    run(sys.executable, '-m', 'build', '--wheel', '--no-isolation', '--outdir', folder/'dist', source)
    return next((folder/'dist').glob('*.whl'))


@pytest.fixture(scope='module')
def installed(wheel, tmp_path_factory):
    "The bin folder of a fresh environment that holds libdocs from the wheel, and nothing else of its own."
    folder = tmp_path_factory.mktemp('installed')/'venv'
    venv.create(folder, with_pip=False)
    python = folder/'bin'/'python'
    run(sys.executable, '-m', 'pip', '--python', python, 'install', '--no-deps', '--no-index',
        '--quiet', '--disable-pip-version-check', wheel)
    # The dependencies are not downloaded again: a .pth file puts the packages of this environment after
    # those of the fresh one. Python does not read
    # .pth files in a folder that came from a .pth file, so the editable libdocs of this environment cannot
    # be found: libdocs comes from the wheel only.
    packages = next((folder/'lib').glob('python*'))/'site-packages'
    (packages/'dependencies.pth').write_text(
        '\n'.join(sorted({sysconfig.get_path('purelib'), sysconfig.get_path('platlib')})) + '\n')
    return folder/'bin'


def python(installed, code):
    """What a program prints in the fresh environment, started where no source of libdocs is, with none of this
    one's settings."""
    return run(installed/'python', '-I', '-c', code, cwd=installed).strip()


def brought(installed, code):
    "The packages that a program imports, but for those of Python itself."
    whole = (f"import sys; before = {{*sys.modules}}\n{code}\nprint(); "
             f"print(*sorted({{name.split('.')[0] for name in {{*sys.modules}} - before}} - "
             "sys.stdlib_module_names))")
    return python(installed, whole).splitlines()[-1].split()


def test_wheel_holds_every_module_and_pipeline(wheel):
    "And no tests, notebooks, docs or benchmarks."
    names = set(zipfile.ZipFile(wheel).namelist())
    missing = [m for m in exported_modules() if m.replace('.', '/') + '.py' not in names]
    assert not missing
    assert not [p.name for p in (ROOT/'nbs/pipelines').glob('*.ipynb') if f'libdocs/notebooks/{p.name}' not in names]
    assert {f'libdocs/report/{name}' for name in ('style.css', 'local.css', 'script.js', 'serve.js')} <= names
    assert not [n for n in names if n.startswith(('tests/', 'nbs/', 'docs/', 'bench/'))]


def test_wheel_says_what_it_needs(wheel):
    "Its metadata have name, licence, Python and requirements."
    archive = zipfile.ZipFile(wheel)
    metadata = archive.read(next(n for n in archive.namelist() if n.endswith('METADATA'))).decode()
    for line in ('Name: libdocs', 'License-Expression: Apache-2.0', 'Requires-Python: >=3.10',
                 'Requires-Dist: transformers', 'Provides-Extra: dev'):
        assert line in metadata
    assert 'extra == "dev"' in next(line for line in metadata.splitlines() if line.startswith('Requires-Dist: nbdev'))


def test_every_module_is_imported_from_the_wheel(installed):
    "From the installed files, not from the source tree."
    code = f'import importlib\nfor name in {exported_modules()}: print(importlib.import_module(name).__file__)'
    for path in python(installed, code).splitlines():
        assert path.startswith(str(installed.parent)), path


def test_a_page_is_made_from_the_wheel(installed):
    "The style sheet and the script of the report are files of the package."
    page = python(installed, "from libdocs.report.layout import html_page\nprint(html_page('x', []))")
    assert '@media print' in page and 'aria-sort' in page


@pytest.mark.parametrize('command', COMMANDS)
def test_help_at_once(installed, command):
    "Nothing is imported for it but what Python brings: how many seconds that takes is the machine's affair."
    assert run(installed/command, '--help', cwd=installed).startswith(f'usage: {command}')
    code = f'from {COMMANDS[command]} import main\ntry: main(["--help"])\nexcept SystemExit: pass'
    assert brought(installed, code) == ['libdocs']


@pytest.mark.parametrize('command', COMMANDS)
def test_help_as_a_module(installed, command):
    "Each command runs with `python -m` too."
    assert 'usage:' in run(installed/'python', '-I', '-m', COMMANDS[command], '--help', cwd=installed)


@pytest.mark.parametrize('module', ['libdocs', *COMMANDS.values()])
def test_import_at_once(installed, module):
    "Importing a command brings in nothing slow."
    assert brought(installed, f'import {module}') == ['libdocs']
