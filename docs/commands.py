"""The pages of the commands, from their parsers."""
import argparse, re, textwrap
from importlib import import_module

from build import as_markdown

PHASES = {'prepare': 'cleaner_finetune', 'train': 'classifier_model'}  # command → its other name
PIPELINES = 'libdocs-pipeline'
LITERAL = re.compile(r'(?<![\w`/-])(--?[a-z][a-z-]+\b(?: [A-Z]+\b)?|[A-Z][A-Z]*_[A-Z_]+|[A-Z]+_\w+\.jsonl)(?![`\w])')


def command_parsers() -> dict:
    "Name of the page → (what is typed, its parser)."
    from libdocs.command import commands
    from libdocs.pipelines import parser
    made = {name: (f'libdocs {name}', import_module(f'libdocs.{module}').parser(prog=f'libdocs {name}'))
            for name, (module, _) in commands.items()}
    return made | {PIPELINES: (PIPELINES, parser())}


def prose(text: str, symbols: dict) -> str:
    "A help text as Markdown, with options and variables as code."
    parts = re.split(r'(`[^`]*`)', ' '.join(text.split()))
    return as_markdown(''.join(p if p.startswith('`') else LITERAL.sub(r'`\1`', p) for p in parts), symbols)


def calls(action: argparse.Action) -> str:
    "How an option is given: each of its names with its value."
    if not action.option_strings: return action.metavar or action.dest
    metavar = action.metavar or (f'{{{",".join(action.choices)}}}' if action.choices else action.dest.upper())
    words = ' '.join(metavar) if isinstance(metavar, tuple) else metavar
    value = {0: '', '+': f' {words} [{words} ...]'}.get(action.nargs, f' {words}')
    return ', '.join(name + value for name in sorted(action.option_strings, key=len, reverse=True))


def meaning(action: argparse.Action) -> tuple:
    "(what an option does, its default in words)."
    text = action.help or ''
    if found := re.fullmatch(r'(.*) \(default: (.*)\)', text, flags=re.S): return found[1], found[2]
    if action.required or (not action.option_strings and action.nargs not in ('?', '*')): return text, 'required'
    return text, 'off' if action.nargs == 0 else ''


def option(action: argparse.Action, symbols: dict) -> list:
    "The lines of a Sphinx directive for an option."
    text, default = meaning(action)
    end = {'': '', 'required': ' *Required.*'}.get(default, f' *Default:* {prose(default, symbols)}.')
    sentence = prose(text[:1].upper() + text[1:], symbols)
    return [f'```{{option}} {calls(action)}', '', f'{sentence}.{end}' if sentence else end, '```', '']


def examples(epilog: str, symbols: dict) -> list:
    "The text under the options as Markdown: what is indented is code."
    lines = []
    for block in re.split(r'\n\n+', epilog or ''):
        head, indented = block.split('\n'), []
        while len(head) > 1 and head[-1].startswith('  '): indented.insert(0, head.pop())
        if indented and len(head) == 1 and head[0].endswith(':') and len(head[0]) < 40:
            lines += [f'## {head[0][:1].upper()}{head[0][1:-1]}', '']
        else:
            told = prose(' '.join(head), symbols)
            lines += [told[:1].upper() + told[1:], '']
        if indented:
            shell = any(re.match(r'  +(libdocs|torchrun|cleaner_finetune|classifier_model)', line) for line in indented)
            least = min(len(line) - len(line.lstrip()) for line in indented)
            lines += [f'```{"sh" if shell else "text"}', *(line[least:] for line in indented), '```', '']
    return lines


def groups(parser: argparse.ArgumentParser) -> list:
    "(heading, actions) of each group that has some, as in the help."
    parser.format_help()  # puts the groups in order
    found = [(group.title, [a for a in group._group_actions if not isinstance(a, argparse._HelpAction)])
             for group in parser._action_groups]
    first = [(title, actions) for title, actions in found if title in ('positional arguments', 'options')]
    rest = [(title, actions) for title, actions in found if title not in ('positional arguments', 'options')]
    named = {'positional arguments': 'What is given', 'options': 'Everywhere' if rest else 'Options'}
    ordered = [pair for pair in first if pair[0] != 'options'] + rest + [pair for pair in first if pair[0] == 'options']
    return [(named.get(title, title[:1].upper() + title[1:]), actions) for title, actions in ordered if actions]


def command_page(name: str, typed: str, parser: argparse.ArgumentParser, symbols: dict) -> str:
    "The page of one command."
    lines = [f'# {typed}', f'> {prose(parser.description, symbols)}', '']
    if name in PHASES: lines += [f'`{PHASES[name]}` is another name of this command.', '']
    usage = textwrap.wrap(parser.format_usage().removeprefix('usage: '), 72, subsequent_indent='    ',
                          break_on_hyphens=False)
    lines += ['```text', *usage, '```', '', f'```{{program}} {typed}\n```', '']
    for title, actions in groups(parser):
        lines += [f'## {title}', '']
        for action in actions: lines += option(action, symbols)
    lines += examples(parser.epilog, symbols)
    if name == PIPELINES: lines += ['```{toctree}', ':hidden:', '', '/pipelines/prepare', '/pipelines/finetune',
                                    '/pipelines/evaluate', '```', '']
    return '\n'.join(lines) + '\n'


def overview(parsers: dict) -> str:
    "The page of all commands."
    from libdocs.command import page
    rows = [f'| [`{typed}`]({name}.md) | {parser.description.splitlines()[0]} |'
            for name, (typed, parser) in parsers.items()]
    return '\n'.join([
        '# All commands', '> What can be typed, from a corpus to a model in use.', '',
        '| command | what it does |', '|---|---|', *rows, '',
        'A command exits with 0 when it has done its work, with 2 for what you can fix (one line says what, and how), '
        'with 130 or 143 when it was interrupted, and with 1 for a fault of libdocs. '
        '[Troubleshooting](../howto/troubleshooting.md) lists every message.', '',
        '`libdocs --help` is this page in the terminal:', '', '```text', page(), '```', ''])


def command_pages(symbols: dict) -> dict:
    "Path → Markdown of every page about commands."
    parsers = command_parsers()
    return {'commands/index.md': overview(parsers)} | {
        f'commands/{name}.md': command_page(name, typed, parser, symbols)
        for name, (typed, parser) in parsers.items()}


def command_options() -> dict:
    "`libdocs prepare --text` and the like, under each name of the command → what Sphinx calls the option."
    found = {}
    for name, (typed, parser) in command_parsers().items():
        for action in parser._actions:
            if isinstance(action, argparse._HelpAction): continue
            for flag in action.option_strings:
                for called in {typed, PHASES.get(name, typed)}: found[f'{called} {flag}'] = f'{typed} {flag}'
    return found
