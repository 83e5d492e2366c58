"Every option that a message, a help text or a card names exists in the command that says it."
import ast, importlib, re
from pathlib import Path

import pytest
from corpora import MODULES

import libdocs
from libdocs.command import commands

ROOT = Path(libdocs.__file__).parent
PARTS = {f'libdocs {name}': f'libdocs.{module}' for name, (module, _) in commands.items()}
COMMANDS = {name: module for name, module in MODULES.items() if name != 'libdocs'} | PARTS
OTHERS = ('torchrun', 'accelerate', 'iconv', 'git', 'hf', 'pip', 'papermill')  # programs whose options are theirs
OWN = {'--version'}  # of `libdocs` itself
FIRST, SECOND, THIRD = ['cleaner_finetune'], ['classifier_model'], ['libdocs classify']
AUDIT = ['libdocs audit']
SERVE, PAGES = ['libdocs serve'], ['libdocs serve', 'libdocs review']
READING = FIRST + SECOND + THIRD + AUDIT + SERVE
SAID_BY = {  # module, or package: the commands that print what it says, each of which must have the option
    'cleaner_finetune': FIRST, 'phases.stages': FIRST, 'phases.preparation': FIRST,
    'report.corpus': FIRST, 'utils': FIRST,
    'classifier_model': SECOND, 'finetune': SECOND, 'classifiers': SECOND, 'phases.training': SECOND,
    'phases.comparison': ['libdocs compare'], 'compare': ['libdocs compare'], 'report_again': ['libdocs report'],
    'phases.audit': AUDIT, 'audit': AUDIT, 'evaluation.predictions': AUDIT,
    'pipelines': ['libdocs-pipeline'], 'push': ['libdocs push'],
    'classify': THIRD, 'classifiers.files': THIRD, 'demo': ['libdocs demo'],
    'export': ['libdocs export'], 'classifiers.onnx': ['libdocs export'],
    'serve': SERVE, 'classifiers.serving': SERVE, 'web': PAGES,
    'core.console': list(COMMANDS), 'core.errors': READING, 'core.files': READING, 'core.json_rows': READING,
    'core.csv_rows': READING, 'core.records': READING, 'core.labels': FIRST + SECOND}


def actions(command):
    "Everything that a command or one of its parts takes."
    parsers, found = [importlib.import_module(COMMANDS[command]).parser()], []
    for parser in parsers:
        found += parser._actions
        for action in parser._actions:
            if isinstance(action.choices, dict):
                parsers += [sub for sub in action.choices.values() if hasattr(sub, '_option_string_actions')]
    return found


def options(command):
    "What can be typed: `--epochs`, and what messages call an option by, from `option_name`: `epochs`."
    return {name for action in actions(command) for name in (*action.option_strings, action.dest)}


def asked_for(tree):
    "The options that `option_name` is asked for: (line, name)."
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, 'id', '') == 'option_name':
            if isinstance(node.args[0], ast.Constant): yield node.lineno, node.args[0].value


def texts(tree):
    "The strings of a module, those with gaps as one: (line, text)."
    inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)
             for part in ast.walk(node) if part is not node}
    for node in ast.walk(tree):
        if id(node) in inner: continue
        if isinstance(node, ast.JoinedStr):
            yield node.lineno, ''.join(part.value if isinstance(part, ast.Constant) else '{}' for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


def advice(text):
    "(program or None, option) for each option that a text names."
    if 'var(--' in text or re.fullmatch(r'--[a-z-]+', text):
        return  # a style sheet; the definition of an option
    names = '|'.join(map(re.escape, sorted((*COMMANDS, *OTHERS), key=len, reverse=True)))
    for line in re.split('\n|[.;:] ', text):
        program = None
        for word in re.finditer(rf'(?<![\w-])(?P<program>{names})(?![\w.=-])|(?<![\w-])(?P<option>--[a-z][a-z-]+)',
                                line):
            program = word['program'] or program
            if word['option']: yield program, word['option']


FILES = sorted(p for p in ROOT.rglob('*.py') if not p.name.startswith('_'))


def wrong(path):
    known, module = {name: options(name) for name in COMMANDS}, path.relative_to(ROOT).with_suffix('').parts
    owner = next((o for o in ('.'.join(module[:n]) for n in (2, 1)) if o in SAID_BY), None)
    tree = ast.parse(path.read_text(encoding='utf-8'))
    named = [(line, program, option, text) for line, text in texts(tree) for program, option in advice(text)]
    named += [(line, None, name, f'option_name({name!r})') for line, name in asked_for(tree)]
    for line, program, option, text in named:
        if program in OTHERS: continue
        if program: lacking = [] if option in known[program] else [program]
        elif owner: lacking = [name for name in SAID_BY[owner] if option not in known[name]]
        else: lacking = [] if any(option in options for options in (OWN, *known.values())) else ['any command']
        if lacking:
            yield f'{path.relative_to(ROOT)}:{line}: {option} is no option of {", ".join(lacking)}: {text[:80]!r}'


@pytest.mark.parametrize('path', FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_options_exist(path):
    "Every option that a module names in its strings is one of the commands that say it."
    assert list(wrong(path)) == []


def test_wrong_advice_is_found(tmp_path, monkeypatch):
    "A misspelt option, an option of another command, and one that only one of two commands has."
    import sys
    monkeypatch.setattr(sys.modules[__name__], 'ROOT', tmp_path)
    (tmp_path/'cleaner_finetune.py').write_text('f"{1} rows; see --threshhold"\n"give --threshold, then '
                                                'classifier_model --epochs 3 or --epoch"\n"torchrun --nproc 2"\n')
    assert [re.match(r'\S+ (\S+)', fault)[1]
            for fault in wrong(tmp_path/'cleaner_finetune.py')] == ['--threshhold', '--epoch']
    (tmp_path/'core').mkdir()
    (tmp_path/'core'/'records.py').write_text('"fix it, or pass --merge-labels"\n')
    assert len(list(wrong(tmp_path/'core'/'records.py'))) == 1
    (tmp_path/'finetune.py').write_text("option_name('learning_rat') + option_name('epochs', 3)\n")
    assert [re.match(r'\S+ (\S+)', fault)[1] for fault in wrong(tmp_path/'finetune.py')] == ['learning_rat']
