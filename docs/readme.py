"""Write README.md from nbs/index.ipynb, or with --check say whether it is what would be written.

    python docs/readme.py [--check]
"""
import argparse, json, re, sys

import nbformat
from nbconvert import MarkdownExporter

from build import NBS, ROOT, read_notebook, visible_cells, without_directives

README = ROOT/'README.md'


def from_root(text: str) -> str:
    "Markdown whose relative links, which start from nbs/, start from the root of the repository."
    def link(match):
        target = match[2]
        return (match[0] if re.match(r'[a-z]+:|[#/]', target)
                else f'{match[1]}{(NBS/target).resolve().relative_to(ROOT).as_posix()}{match[3]}')
    text = re.sub(r'(\]\()([^)\s]+)([^)]*\))', link, text)
    return re.sub(r'(<(?:img|a)\b[^>]*?\b(?:src|href)=")([^"]+)(")', link, text)


def make_readme() -> tuple:
    "`(text, pictures)`: README.md, and the pictures among the outputs by their paths from the root."
    nb = read_notebook(NBS/'index.ipynb')
    cells = visible_cells(nb)
    for cell in cells:
        cell['metadata'] = {}
        prepare = from_root if cell['cell_type'] == 'markdown' else without_directives
        cell['source'] = prepare(cell['source'])
    page = nbformat.reads(json.dumps(nb | {'cells': cells, 'metadata': {'language_info': {'name': 'python'}}}), 4)
    text, resources = MarkdownExporter().from_notebook_node(
        page, {'output_files_dir': 'nbs/images', 'unique_key': 'index'})
    text = re.sub(r'<style scoped>.*?</style>\n?', '', text, flags=re.S).replace(' border="1" class="dataframe"', '')
    lines = [line.rstrip() for line in text.strip().split('\n')]
    return re.sub(r'\n{3,}', '\n\n', '\n'.join(lines)) + '\n', resources.get('outputs', {})


def main() -> int:
    parser = argparse.ArgumentParser(description='Write README.md from nbs/index.ipynb.')
    parser.add_argument('--check', action='store_true', help='write nothing; exit with 1 if README.md is out of date')
    args = parser.parse_args()
    text, pictures = make_readme()
    wanted = {README: text.encode()} | {ROOT/name: data for name, data in pictures.items()}
    stale = [path for path, data in wanted.items() if not path.is_file() or path.read_bytes() != data]
    if args.check and stale:
        print('out of date: ' + ', '.join(p.relative_to(ROOT).as_posix() for p in stale)
              + '; run: python docs/readme.py')
    for path in [] if args.check else stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(wanted[path])
    return int(args.check and bool(stale))


if __name__ == '__main__': sys.exit(main())
