"The commands and programs on the prose pages, and in the help of commands: each would be accepted as it stands."
import ast, importlib, inspect, json, re, shlex
from pathlib import Path

import pytest
from test_advice import COMMANDS, OTHERS

from libdocs.pipelines import pipeline_parameters

ROOT = Path(__file__).resolve().parent.parent
NBS = ROOT/'nbs'
OTHER_PROGRAMS = {*OTHERS, 'make', 'eval', 'split', 'source', 'python3', 'tmux'}
LAUNCHED = re.compile(r'(?:torchrun|accelerate launch) .*-m libdocs\.([\w.]+) ')
OPTION = re.compile(r'(?<![\w-])--[a-z][a-z_-]+')


def texts_of(path):
    "The Markdown of a page."
    text = path.read_text(encoding='utf-8')
    if path.suffix == '.md': return text
    return '\n\n'.join(''.join(c['source']) for c in json.loads(text)['cells'] if c['cell_type'] == 'markdown')


PAGES = {path.relative_to(NBS).as_posix(): texts_of(path) for path in sorted(
    [NBS/'index.ipynb', *(NBS/'howto').glob('*'), *(NBS/'tutorials').glob('*'), *(NBS/'explanations').glob('*')])
    if path.suffix in ('.md', '.ipynb')}


def blocks(text, kind): return re.findall(rf'^```{kind}\n(.*?)^```', text, flags=re.M | re.S)


def lines_of(block):
    "The command lines of a block, those that go on put together, without comments."
    for line in re.sub(r'\\\n\s*', '', block).splitlines():
        line = line.strip().removesuffix('&').strip()
        if line and not line.startswith('#'): yield line


def parsed(line):
    "What is wrong with a command line, or None."
    launched = LAUNCHED.search(line)
    if launched:
        names = [name for name, module in COMMANDS.items() if module == f'libdocs.{launched[1]}']
        if not names: return f'no module libdocs.{launched[1]}'
        line = f'{names[0]} {line[launched.end():]}'
    words = shlex.split(re.sub(r'\$\(.*?\)', 'X', line), comments=True)
    while re.match(r'\w+=', words[0]): words.pop(0)
    name = ' '.join(words[:2]) if words[0] == 'libdocs' else words[0]
    if name in OTHER_PROGRAMS or words[0] in OTHER_PROGRAMS or name == 'libdocs --help': return None
    if name not in COMMANDS: return f'no command {name}'
    given, parser = words[len(name.split()):], importlib.import_module(COMMANDS[name]).parser()
    if any('…' in word for word in given):  # shortened: the options that are named must be there
        unknown = [word for word in given if word.startswith('-') and word not in parser._option_string_actions]
        return f'{name} has no {unknown}' if unknown else None
    try: args = parser.parse_args(given)
    except SystemExit: return f'{name} does not take {given}'
    wrong = {key for key, _ in getattr(args, 'parameter', [])} - set(pipeline_parameters(args.name)) if (
        name == 'libdocs-pipeline') else ()
    return f'the pipeline has no {wrong}' if wrong else None


def test_command_lines_are_accepted():
    "Each line of each block of shell."
    lines = [(page, line) for page, text in PAGES.items() for block in blocks(text, 'sh') for line in lines_of(block)]
    assert len(lines) > 30
    assert {(page, line, wrong) for page, line in lines if (wrong := parsed(line))} == set()


@pytest.mark.parametrize('name', COMMANDS)
def test_examples_of_the_help_are_accepted(name):
    "Each line of an epilog that begins with a command."
    given = {'prog': name} if name.startswith('libdocs ') else {}
    epilog = importlib.import_module(COMMANDS[name]).parser(**given).epilog or '' if name != 'libdocs' else ''
    first = re.compile(r'\s+(libdocs|cleaner_finetune|classifier_model|torchrun)\b')
    lines = [line for line in lines_of('\n'.join(filter(first.match, re.sub(r'\\\n\s*', '', epilog).splitlines())))]
    lines = [re.split(r' {3,}', line)[0] for line in lines]
    assert {(line, wrong) for line in lines if (wrong := parsed(line))} == set()


def named(text):
    "(command or None, option) of inline code; not of the first cells of tables, which are other programs' options."
    text = re.sub(r'^```.*?^```', '', text, flags=re.M | re.S)
    for line in text.splitlines():
        cells = re.split(r'(?<!\\)\|', line)
        for code in re.findall(r'`([^`]+)`', '|'.join(cells[2:]) if line.startswith('| ') else line):
            command = next((name for name in sorted(COMMANDS, key=len, reverse=True) if code.startswith(name)), None)
            if code.startswith(OTHERS): continue
            for option in OPTION.findall(code): yield command, option


@pytest.mark.parametrize('page', PAGES)
def test_options_exist(page):
    "Those named in the text."
    def options(name): return set(importlib.import_module(COMMANDS[name]).parser()._option_string_actions)
    known = {name: options(name) for name in COMMANDS if name != 'libdocs'}
    anything = set().union(*known.values()) | {'--help', '--version'}
    assert [(command, option) for command, option in named(PAGES[page])
            if option not in known.get(command, anything) | {'--help'}] == []


def test_programs_are_right():
    "Blocks of Python on Markdown pages: what they import exists, and takes the arguments that it is given."
    for page, text in PAGES.items():
        for block in blocks(text, 'python') if page.endswith('.md') else ():
            tree, imported = ast.parse(block), {}
            for node in ast.walk(tree):
                if isinstance(node, ast.ImportFrom) and node.module.startswith('libdocs'):
                    module = importlib.import_module(node.module)
                    imported |= {alias.name: getattr(module, alias.name) for alias in node.names}
            for node in ast.walk(tree):
                called = imported.get(getattr(getattr(node, 'func', None), 'id', None))
                if not called: continue
                parameters = inspect.signature(called).parameters
                assert {word.arg for word in node.keywords} <= set(parameters), (page, ast.unparse(node))


def test_faults_are_found():
    "The checks see what they are for."
    assert parsed('libdocs train --epoch 3 -o ./model') and parsed('libdocs trian')
    assert parsed('libdocs prepare …the same options… --correction x') == "libdocs prepare has no ['--correction']"
    assert parsed('torchrun --nproc-per-node 2 -m libdocs.classifer_model -o ./model')
    assert parsed('libdocs-pipeline finetune -p epoch 3')
    told = list(named('see `libdocs train --epochs` and `--epoch`'))
    assert told == [('libdocs train', '--epochs'), (None, '--epoch')]
