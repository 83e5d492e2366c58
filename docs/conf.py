"Sphinx configuration of the site; docs/build.py stages the pages and calls Sphinx."
import re, sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from libdocs import __version__

project, author, release = 'libdocs', 'the libdocs contributors', __version__
copyright = author
extensions = ['myst_nb', 'sphinx.ext.githubpages']
exclude_patterns = ['.doctrees']

nb_execution_mode = 'off'
nb_code_prompt_show = 'Source'
nb_code_prompt_hide = 'Source'
myst_enable_extensions = ['fieldlist', 'attrs_inline']
myst_heading_anchors = 3

add_module_names = False
smartquotes_action = 'D'  # dashes only: quotes in the text are code
maximum_signature_line_length = 60
python_maximum_signature_line_length = 60
toc_object_entries_show_parents = 'hide'

html_theme = 'furo'
html_title = 'libdocs'
html_static_path = ['static']
html_css_files, html_js_files = ['site.css'], ['site.js']
html_favicon = 'static/favicon.svg'
html_copy_source = html_show_sourcelink = False
html_theme_options = {'source_repository': 'https://github.com/libdocs/libdocs',
                      'source_branch': 'main', 'source_directory': 'nbs/'}
pygments_style, pygments_dark_style = 'default', 'github-dark'  # whose colours can be told from the background


def without_lists(signature: re.Match) -> str:
    "A signature whose parameters are no list of definitions, since a screen reader would miss their terms."
    text = signature[0].replace('<dl>', '<span class="sig-params">').replace('<dd>', '<span>')
    return text.replace('</dd>', '</span>').replace('</dl>', '</span>')


def finish_page(app, pagename, templatename, context, doctree):
    "What the theme and Sphinx leave to do: levels of the captions in the sidebar, and signatures without lists."
    tree = context.get('furo_navigation_tree', '')
    context['furo_navigation_tree'] = tree.replace('role="heading"', 'role="heading" aria-level="2"')
    if 'body' in context:
        context['body'] = re.sub(r'<dt class="sig .*?</dt>', without_lists, context['body'], flags=re.S)
    if pagename.startswith(('commands/', 'internals/', 'library')):  # made by a program: there is no source to look at
        context['page_source_suffix'] = None


def setup(app): app.connect('html-page-context', finish_page, priority=900)  # after the theme
