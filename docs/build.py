"""Build the site from the notebooks: stage them with their API written out, then Sphinx. Nothing is
executed; saved outputs are shown.

    python docs/build.py [--out _docs] [--stage _proc]
"""
import argparse, ast, inspect, json, re, shutil, sys
from collections import Counter
from importlib import import_module
from operator import attrgetter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NBS = ROOT/'nbs'
SOURCE = 'https://github.com/libdocs/libdocs/blob/main'
GROUPS = {  # caption in the sidebar → folder in nbs/, and the pages that come first in it
    'Start': ('tutorials', ['first_classifier', 'dirty_corpus', 'gpu_machine']),
    'How-to': ('howto', ['imbalance', 'long_documents', 'thresholds', 'several_gpus', 'several_machines', 'storage',
                         'offline', 'from_run_classification', 'from_setfit', 'from_autotrain', 'troubleshooting']),
    'Explanations': ('explanations', ['honest_evaluation', 'honest_split', 'near_duplicates', 'base_models'])}
LIBRARY = (  # modules that users import from, beside those that `import libdocs` names
    'libdocs.core.errors', 'libdocs.core.settings', 'libdocs.core.labels', 'libdocs.core.corrections',
    'libdocs.utils.training.training', 'libdocs.evaluation.metrics', 'libdocs.finetune.finetune',
    'libdocs.finetune.run', 'libdocs.demo')
DEFS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


# Notebooks

def directives(source: str) -> dict:
    "The `#| name value` lines of a cell, as `{name: value}`."
    pairs = re.findall(r'^#\|\s*([\w-]+):?[ \t]*(.*?)\s*$', source, flags=re.M)
    return dict(pairs)


def without_directives(source: str) -> str:
    "A cell without its `#|` lines."
    return re.sub(r'^#\|.*\n?', '', source, flags=re.M).strip('\n')


def without_front_matter(source: str) -> str:
    "A title cell without nbdev's `- key: value` lines."
    return re.sub(r'^- [a-z_-]+: .*\n?', '', source, flags=re.M).rstrip() if source.startswith('# ') else source


def read_notebook(path: Path) -> dict:
    "A notebook as a dictionary, the source of each cell one string."
    nb = json.loads(path.read_text(encoding='utf-8'))
    for cell in nb['cells']: cell['source'] = ''.join(cell['source'])
    return nb


def visible_cells(nb: dict) -> list:
    "The cells a reader sees, without front matter, hidden cells and error streams; exported cells are still there."
    cells = []
    for cell in nb['cells']:
        if cell['cell_type'] == 'raw' or not cell['source'].strip(): continue
        if cell['cell_type'] == 'markdown': cell['source'] = without_front_matter(cell['source'])
        else:
            if {'hide', 'default_exp'} & set(directives(cell['source'])): continue
            cell['outputs'] = [o for o in cell['outputs'] if o.get('name') != 'stderr']
        cells.append(cell)
    return cells


def find_pages(kind: str = 'ipynb') -> list:
    "The notebooks, or the Markdown files, that become pages."
    return sorted(p for p in NBS.rglob(f'*.{kind}') if not any(part[0] in '._' for part in p.relative_to(NBS).parts))


# The API from the exported cells

def module_of(nb: dict) -> str | None:
    "The module that a notebook is exported to."
    names = (directives(cell['source']).get('default_exp') for cell in nb['cells'] if cell['cell_type'] == 'code')
    name = next((n for n in names if n), None)
    return name and f'libdocs.{name}'


def public(nodes: list) -> list:
    "The functions and classes among `nodes` whose names do not begin with an underscore."
    return [n for n in nodes if isinstance(n, DEFS) and not n.name.startswith('_')]


def exported(nb: dict) -> list:
    "The syntax trees of the exported cells."
    cells = (cell['source'] for cell in nb['cells'] if cell['cell_type'] == 'code')
    return [ast.parse(source) for source in cells if {'export', 'exports'} & set(directives(source))]


def owner(node) -> str:
    "The class, with a dot, that fastcore's `@patch` adds a function to; nothing for other functions."
    if isinstance(node, ast.ClassDef) or not any(ast.unparse(d).startswith('patch') for d in node.decorator_list):
        return ''
    return f'{ast.unparse(node.args.args[0].annotation)}.'


def members(node) -> list:
    "The public methods and properties of a class, in order; none for a function."
    return [n for n in node.body if isinstance(n, DEFS)
            and (not n.name.startswith('_') or n.name == '__call__')] if isinstance(node, ast.ClassDef) else []


def find_symbols(notebooks: list) -> dict:
    "`{name: full name}` of every public function and class, short names that stand for one thing only, and modules."
    modules, paths = set(), {}
    for nb in notebooks:
        if not (module := module_of(nb)): continue
        modules.add(module)
        for node in (node for tree in exported(nb) for node in public(tree.body)):
            names = [owner(node) + node.name] + [f'{node.name}.{n.name}' for n in members(node)]
            paths |= {f'{module}.{name}': {name, name.rpartition('.')[2]} if owner(node) else {name} for name in names}
    once = Counter(short for shorts in paths.values() for short in shorts)
    short = {name: full for full, names in paths.items() for name in names if once[name] == 1 and len(name) > 2}
    return short | {name: name for name in modules | set(paths)}


def link_names(text: str, symbols: dict) -> str:
    "Markdown in which every `name` of the library is a link to where it is described."
    def link(match):
        name = match[1].removesuffix('()')
        kind = 'option' if ' ' in name else 'py:obj'
        return f'{{{kind}}}`{match[1]} <{symbols[name]}>`' if name in symbols else match[0]
    lines, fenced = text.split('\n'), False
    for i, line in enumerate(lines):
        if line.lstrip().startswith(('```', '~~~')): fenced = not fenced
        elif not fenced and not line.startswith('#'):
            lines[i] = re.sub(r'(?<![`\[{}])`([\w.]+(?:\(\))?|[a-z_-]+(?: [a-z]+)? --?[a-z-]+)`(?![`\]])', link, line)
    return '\n'.join(lines)


def link_sources(text: str, page: Path) -> str:
    "Markdown of a notebook in which links to files outside of nbs/, which are not on the site, lead to the repository."
    def link(match):
        to = (page.parent/match[1]).resolve()
        return (match[0] if to.is_relative_to(NBS)
                or not to.is_relative_to(ROOT) else f']({SOURCE}/{to.relative_to(ROOT).as_posix()}')
    return re.sub(r'\]\(((?:\.\./)+[^)\s#]+)', link, text)


def as_markdown(text: str, symbols: dict) -> str:
    "A comment or docstring as Markdown: what is not between backticks is meant as it stands."
    parts = re.split(r'(`[^`]*`)', ' '.join(text.split()))
    return link_names(''.join(p if p.startswith('`') else re.sub(r'([\\*_\[\]<>#$|])', r'\\\1', p) for p in parts),
                      symbols)


def is_property(node) -> bool:
    marks = [ast.unparse(d) for d in node.decorator_list]
    return any(mark.split('.')[-1] in ('property', 'cached_property') or 'as_prop=True' in mark for mark in marks)


def arguments(node, obj=None) -> str:
    "The arguments of a call, as written, without `self`; options are written out."
    if hasattr(obj, 'options'):
        return str(inspect.signature(obj).replace(return_annotation=inspect.Signature.empty))
    args = ast.parse(ast.unparse(node)).body[0].args
    if args.args and args.args[0].arg in ('self', 'cls'): args.args.pop(0)
    return f'({ast.unparse(args)})'


def default_of(field: ast.AnnAssign) -> str:
    "The default of a field, with an equals sign; of an option it is what `option` is given first."
    value = field.value
    if isinstance(value, ast.Call) and getattr(value.func, 'id', '') == 'option':
        value = value.args[0] if value.args else None
    return f' = {ast.unparse(value)}' if value else ''


def fields(node: ast.ClassDef) -> str | None:
    "What a dataclass or named tuple is made from, as the arguments of a call."
    parts = [ast.unparse(n.target) + f': {ast.unparse(n.annotation)}' + default_of(n)
             for n in node.body if isinstance(n, ast.AnnAssign) and 'ClassVar' not in ast.unparse(n.annotation)]
    return f'({", ".join(parts)})' if parts else None


def parameters(obj, symbols: dict) -> list:
    "The documented parameters and the return value, as a field list."
    from fastcore.docments import docments
    from libdocs.core.options import option_help, Options, parameter_help
    comments = docments(inspect.unwrap(obj))
    if inspect.isclass(obj) and issubclass(obj, Options):
        own = inspect.get_annotations(obj)
        comments |= {name: parameter_help(obj.__dataclass_fields__[name]) for name in own}
    if hasattr(obj, 'options'):
        meanings = comments | option_help(obj)
        comments = {name: meanings[name] for name in (*inspect.signature(obj).parameters, 'return')}
    lines = []
    for name, comment in comments.items():
        if name == 'self' or not comment: continue
        lines.append((':returns: ' if name == 'return' else f':param {name}: ') + as_markdown(comment, symbols))
    return lines


def kind_of(node, inside: bool) -> str:
    "What Sphinx calls it."
    if isinstance(node, ast.ClassDef): return 'class'
    if is_property(node): return 'property'
    return 'method' if inside or owner(node) else 'function'


def describe(node, obj, symbols: dict, inside: bool = False) -> list:
    "The lines of a Sphinx directive for a function, method or property, or for a class with what is inside it."
    kind, fence = kind_of(node, inside), '```' if inside else '````'
    options, inner = [], []
    if kind == 'class':
        init = next((n for n in node.body if isinstance(n, DEFS) and n.name == '__init__'), None)
        signature = fields(node) or (arguments(init) if init else '')
        for n in members(node): inner += ['', *describe(n, getattr(obj, n.name), symbols, inside=True)]
    else:
        returns = ast.unparse(node.returns).strip('\'"') if node.returns else ''
        signature = '' if kind == 'property' else arguments(node, obj) + (f' -> {returns}' if returns else '')
        if kind == 'property' and returns: options = [f':type: {returns}']
        if any(getattr(d, 'id', '') == 'classmethod' for d in node.decorator_list):
            options = [':classmethod:']
    text = as_markdown(ast.get_docstring(node) or '', symbols)
    documented = parameters(obj, symbols) if kind != 'property' else []
    return [f'{fence}{{py:{kind}}} {owner(node)}{node.name}{signature}', *options, '', text, '',
            *documented, *inner, fence]


# Pages

def markdown_cell(source: str) -> dict:
    return {'cell_type': 'markdown', 'metadata': {}, 'source': source}


def align_tables(html: str) -> str:
    "HTML in which the columns of pandas' tables know whether they hold words, which stand to the left, or numbers."
    from bs4 import BeautifulSoup
    soup = BeautifulSoup(html, 'html.parser')
    for style in soup.select('style[scoped]'): style.decompose()
    for table in soup.select('table.dataframe'):
        del table['border']
        rows = [row.find_all(['th', 'td']) for row in table.select('tr')]
        for column in zip(*rows) if len({len(row) for row in rows}) == 1 else []:
            if not all(re.fullmatch(r'[-+.,\d%e]*|NaN|None|<NA>', cell.text.strip()) for cell in column[1:]):
                for cell in column: cell['class'] = 'words'
    return str(soup)


def shown_output(output: dict) -> dict:
    "An output as it is shown: tables aligned."
    html = ''.join(output.get('data', {}).get('text/html', ''))
    return output | {'data': output['data']
                     | {'text/html': align_tables(html)}} if 'class="dataframe"' in html else output


def code_cell(cell: dict, *tags: str) -> dict:
    "A code cell as it is shown."
    return {'cell_type': 'code', 'metadata': {'tags': list(tags)} if tags else {}, 'execution_count': None,
            'source': without_directives(cell['source']), 'outputs': [shown_output(o) for o in cell['outputs']]}


def only_imports(cell: dict) -> bool:
    "Whether a code cell does nothing but import; cells with magics are not Python and count as no."
    try:
        return all(isinstance(node, (ast.Import, ast.ImportFrom)) for node in ast.parse(cell['source']).body)
    except SyntaxError: return False


def api_cells(cell: dict, module, symbols: dict) -> list:
    "What stands on the page for one exported cell: each signature with its parameters, and the source folded away."
    body = ast.parse(cell['source']).body
    if only_imports(cell): return []
    shown = public(body)
    if not shown and any(isinstance(n, (ast.Assign, ast.AnnAssign))
                         and not ast.unparse(n).startswith('_') for n in body):
        return [code_cell(cell)]
    blocks = [describe(n, attrgetter(owner(n) + n.name)(module), symbols) for n in shown]
    return [markdown_cell('\n'.join(block)) for block in blocks] + [code_cell(cell, 'hide-input')]


def make_page(nb: dict, path: Path, symbols: dict) -> dict:
    "A notebook as a page."
    name, cells = module_of(nb), []
    module = import_module(name) if name else None
    for cell in visible_cells(nb):
        marks = directives(cell['source']) if cell['cell_type'] == 'code' else {}
        if cell['cell_type'] == 'markdown':
            cells.append(markdown_cell(link_sources(link_names(cell['source'], symbols), path)))
        elif {'export', 'exports', 'exporti'} & set(marks): cells += api_cells(cell, module, symbols)
        else:
            cells.append(code_cell(cell, *cell['metadata'].get('tags', []),
                                   *(['hide-input'] if only_imports(cell) else [])))
    if name: cells.insert(1, markdown_cell(f'```{{py:module}} {name}\n```'))
    for i, cell in enumerate(cells): cell['id'] = f'cell-{i}'
    return {'cells': cells, 'metadata': nb['metadata']
            | {'language_info': {'name': 'python', 'pygments_lexer': 'ipython3'}}, 'nbformat': 4, 'nbformat_minor': 5}


def toctree(entries: list, caption: str = '') -> str:
    "A hidden table of contents, which is a part of the sidebar."
    head = f':caption: {caption}\n' if caption else ''
    return f'```{{toctree}}\n:hidden:\n{head}\n' + '\n'.join(entries) + '\n```\n\n'


def in_order(folder: str, first: list) -> list:
    "The pages of a folder: those of `first`, then the others by their names."
    names = {path.stem for kind in ('ipynb', 'md') for path in find_pages(kind) if path.parent == NBS/folder}
    return [f'{folder}/{name}' for name in [*(n for n in first if n in names), *sorted(names - set(first))]]


def library_modules() -> set:
    "The modules that users import from."
    import libdocs
    return {f'libdocs.{module}' for module in libdocs._MODULES.values()} | set(LIBRARY)


def contents(notebooks: dict, commands: list) -> str:
    "The tables of contents that make the sidebar."
    parts = {caption: in_order(*places) for caption, places in GROUPS.items()}
    parts['Start'].insert(0, 'Overview <self>')
    parts['Reference: commands'] = [name.removesuffix('.md') for name in commands]
    modules = [path.stem for path, nb in notebooks.items() if module_of(nb) in library_modules()]
    parts['Reference: library'] = ['library', *modules]
    parts['Reference: internals'] = [f'internals/{package}' for package in packages(notebooks)]
    return ''.join(toctree(entries, caption) for caption, entries in parts.items())


def summary_of(nb: dict) -> str:
    "The sentence under the title of a notebook."
    cells = (cell['source'] for cell in nb['cells'] if cell['cell_type'] == 'markdown')
    return next(found[1] for text in cells if (found := re.search(r'^> (.+)', text, flags=re.M)))


def packages(notebooks: dict) -> dict:
    "Package → its notebooks by path, in the order of the layers; the modules of commands are in none."
    found = {}
    for path, nb in notebooks.items():
        if name := module_of(nb):
            parts = name.split('.')
            found.setdefault(parts[1] if len(parts) > 2 else 'commands', {})[path] = nb
    return found


def package_pages(notebooks: dict, symbols: dict) -> dict:
    "Path → Markdown of the page of each package."
    pages, own = {}, library_modules()
    for package, members in packages(notebooks).items():
        about = 'The modules of the commands.' if package == 'commands' else f'The modules of `libdocs.{package}`.'
        rows = [f'| [{module_of(nb)}](../{path.name}) | {summary_of(nb)} |' for path, nb in members.items()]
        inner = [f'/{path.stem}' for path, nb in members.items() if module_of(nb) not in own]
        pages[f'internals/{package}.md'] = '\n'.join(
            [f'# {package}', f'> {about}', '', '| module | what it is for |', '|---|---|', *rows, '', toctree(inner)])
    return pages


def library_page(notebooks: dict, symbols: dict) -> str:
    "What users call, with the sentence that says what it does."
    import libdocs
    rows = []
    for name in libdocs.__all__[1:]:
        about = as_markdown((inspect.getdoc(getattr(libdocs, name)) or '').split('\n')[0], symbols)
        rows.append(f'| {{py:obj}}`{name} <libdocs.{libdocs._MODULES[name]}.{name}>` | {about} |')
    modules = [f'| [{module_of(nb)}]({path.name}) | {summary_of(nb)} |'
               for path, nb in notebooks.items() if module_of(nb) in library_modules()]
    return '\n'.join([
        '# What users call', '> The functions behind the commands, and the modules to import from.', '',
        'These are imported from `libdocs` itself, as in `from libdocs import prepare`:', '',
        '| name | what it does |', '|---|---|', *rows, '',
        'Each of these modules has more:', '', '| module | what it is for |', '|---|---|', *modules, ''])


def write_page(stage: Path, name: str, text: str):
    (stage/name).parent.mkdir(parents=True, exist_ok=True)
    (stage/name).write_text(text, encoding='utf-8')


def stage_pages(stage: Path):
    "Write every page into `stage`, with the pictures beside them."
    from commands import command_options, command_pages
    from messages import page as messages_page
    notebooks = {path: read_notebook(path) for path in find_pages()}
    symbols = find_symbols(list(notebooks.values())) | command_options()
    commands = command_pages(symbols)
    shutil.rmtree(stage, ignore_errors=True)
    for path, nb in notebooks.items():
        page = make_page(nb, path, symbols)
        if path == NBS/'index.ipynb':
            page['cells'].append(markdown_cell(contents(notebooks, list(commands))) | {'id': 'contents'})
        write_page(stage, path.relative_to(NBS).as_posix(), json.dumps(page, ensure_ascii=False))
    made = {'library.md': library_page(notebooks, symbols)} | commands | package_pages(notebooks, symbols)
    for path in find_pages('md'):
        text = path.read_text(encoding='utf-8')
        if '<!-- messages -->' in text: text = text.replace('<!-- messages -->', messages_page())
        made[path.relative_to(NBS).as_posix()] = link_sources(link_names(text, symbols), path)
    for name, text in made.items(): write_page(stage, name, text)
    for path in NBS.rglob('*'):
        if (path.suffix in ('.png', '.svg', '.jpg', '.gif', '.html')
            and not any(part[0] == '.' or part == 'tracking' for part in path.relative_to(NBS).parts)):
            to = stage/path.relative_to(NBS)
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, to)


def main() -> int:
    parser = argparse.ArgumentParser(description='Build the site from the notebooks.')
    parser.add_argument('--out', type=Path, default=ROOT/'_docs', help='where the site goes (default: _docs)')
    parser.add_argument('--stage', type=Path, default=ROOT/'_proc', help='where the pages are staged (default: _proc)')
    args = parser.parse_args()
    sys.path[:0] = [str(ROOT), str(ROOT/'docs')]
    stage_pages(args.stage)
    shutil.rmtree(args.out, ignore_errors=True)
    from sphinx.cmd.build import main as sphinx
    failed = sphinx(['-b', 'html', '-q', '-W', '--keep-going', '-c', str(ROOT/'docs'), '-d',
                     str(args.stage/'.doctrees'), str(args.stage), str(args.out)])
    if not failed: print(f'{args.out/"index.html"}: the site')
    return failed


if __name__ == '__main__': sys.exit(main())
