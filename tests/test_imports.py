"A module imports only from lower packages, and within its package only from modules of lower-numbered notebooks."
import ast
import re
from pathlib import Path

import pytest

import libdocs

ROOT = Path(libdocs.__file__).parent
COMMANDS = 'commands'  # the modules beside the packages
PACKAGES = ('core', 'utils', 'evaluation', 'classifiers', 'report', 'finetune', 'phases', COMMANDS)  # lowest first


def module_of(path):
    "The name of a module below libdocs: core/files.py is core.files."
    return '.'.join(path.relative_to(ROOT).with_suffix('').parts)


MODULES = {module_of(path): path for path in ROOT.rglob('*.py') if not path.name.startswith('_')}


def package_of(module): return module.split('.')[0] if '.' in module else COMMANDS


def number_of(module):
    "The number of the notebook that a module is exported from, as its header says."
    return re.search(r'File to edit: \S*?nbs/(\d+)_', MODULES[module].read_text(encoding='utf-8'))[1]


def nearest(name):
    "The module that a dotted name is, or is in; None for a package."
    parts = name.split('.')
    candidates = ('.'.join(parts[:n]) for n in range(len(parts), 0, -1))
    return next((candidate for candidate in candidates if candidate in MODULES), None)


def imported(module):
    "The modules of libdocs that a module imports, at its top or inside functions."
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding='utf-8'))):
        if isinstance(node, ast.Import):
            names = [alias.name.removeprefix('libdocs.') for alias in node.names if alias.name.startswith('libdocs.')]
        elif isinstance(node, ast.ImportFrom) and (node.level or (node.module or '').split('.')[0] == 'libdocs'):
            above = ['libdocs', *module.split('.')][:-node.level] if node.level else []
            start = '.'.join([*above, *(node.module or '').split('.')]).strip('.')
            full = [f'{start}.{alias.name}'.removeprefix('libdocs.') for alias in node.names]
            lazy = libdocs._MODULES  # `from libdocs import prepare`
            names = [f'{lazy[name]}.{name}' if name in lazy else name for name in full]
        else: continue
        yield from (other for name in names if (other := nearest(name)) and other != module)


def test_every_package_has_its_place():
    "The order names every package that there is."
    assert {package_of(module) for module in MODULES} == set(PACKAGES)


def test_imports_are_found():
    "Relative ones, absolute ones, those of a module and those inside functions."
    assert {'core.files', 'core.options'} <= set(imported('core.settings'))
    assert 'phases.preparation' in set(imported('cleaner_finetune'))
    assert 'utils.data_cleaner.kernels' in set(imported('utils.data_cleaner.tfidf'))


@pytest.mark.parametrize('module', sorted(MODULES))
def test_only_lower_packages(module):
    "What a package offers can be understood, and used, without the packages above it."
    place = PACKAGES.index(package_of(module))
    assert [other for other in imported(module) if PACKAGES.index(package_of(other)) > place] == []


@pytest.mark.parametrize('module', sorted(MODULES))
def test_only_lower_notebooks(module):
    "The notebooks can be read in the order of their numbers: none needs a later one."
    assert [other for other in imported(module) if number_of(other) >= number_of(module)] == []
