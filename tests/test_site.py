"The site as a reader meets it: built once into a temporary folder, then opened in a real browser."
import importlib, re, subprocess, sys, threading
from html import unescape
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from pages import SIZES, findings
from warm import HANG

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope='module')
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp('site')
    command = [sys.executable, 'docs/build.py', '--out', folder/'html', '--stage', folder/'stage']
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=HANG)
    assert built.returncode == 0, built.stdout + built.stderr
    assert not built.stderr.strip(), 'a warning: ' + built.stderr
    return folder/'html'


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args): pass


@pytest.fixture(scope='module')
def address(site):
    "Where the site is served."
    server = ThreadingHTTPServer(('127.0.0.1', 0), partial(Quiet, directory=site))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{server.server_port}/'
    server.shutdown()
    server.server_close()


def open_page(browser, address, name, width=1280):
    "The page, and what went wrong on it: console errors, exceptions, failed requests, requests that leave the site."
    page, faults = browser.new_page(viewport={'width': width, 'height': 900}), []
    page.set_default_timeout(1000 * HANG)
    page.on('console', lambda message: faults.append(message.text) if message.type == 'error' else None)
    page.on('pageerror', lambda error: faults.append(str(error)))
    page.on('requestfailed', lambda request: faults.append(f'failed: {request.url}'))
    page.on('request', lambda request: faults.append(f'leaves the site: {request.url}')
            if not request.url.startswith((address, 'data:')) else None)
    page.on('response', lambda response: faults.append(f'{response.status}: {response.url}')
            if response.status >= 400 else None)
    page.goto(address + name, wait_until='load')
    return page, faults


def notebooks():
    paths = (path.relative_to(ROOT/'nbs') for path in (ROOT/'nbs').rglob('*.ipynb'))
    return sorted(path for path in paths if not any(part[0] in '._' for part in path.parts))


def test_every_notebook_is_a_page_in_the_sidebar(site):
    "None is forgotten."
    index = (site/'index.html').read_text(encoding='utf-8')
    for path in notebooks():
        assert (site/path.with_suffix('.html')).is_file(), path
        if path.name != 'index.ipynb':
            assert f'href="{path.with_suffix(".html").as_posix()}"' in index, f'{path} is not in the sidebar'


def test_sidebar_has_its_parts_in_order(site):
    "From the first steps to what is inside; each part begins with what comes first in it."
    index = (site/'index.html').read_text(encoding='utf-8')
    tree = index[index.index('class="sidebar-tree"'):]
    parts = re.findall(r'<span class="caption-text">(.*?)</span></p>\s*<ul.*?href="([^"]+)"', tree, flags=re.S)
    assert [caption for caption, _ in parts] == [
        'Start', 'How-to', 'Explanations', 'Reference: commands', 'Reference: library', 'Reference: internals']
    assert [page for _, page in parts] == [
        '#', 'howto/imbalance.html', 'explanations/honest_evaluation.html', 'commands/index.html', 'library.html',
        'internals/core.html']


def test_every_option_is_on_the_page_of_its_command(site):
    "With its meaning; the pages are made from the parsers."
    from libdocs.command import commands
    for name, (module, _) in (commands | {'libdocs-pipeline': ('pipelines', '')}).items():
        page = (site/'commands'/f'{name}.html').read_text(encoding='utf-8')
        text = ' '.join(unescape(re.sub(r'<[^>]+>', '', page)).replace('–', '--').split()).lower()
        for action in importlib.import_module(f'libdocs.{module}').parser()._actions:
            if action.dest == 'help': continue
            for flag in action.option_strings: assert flag in text, (name, flag)
            meaning = re.sub(r' \(default: .*\)$', '', action.help, flags=re.S).replace('`', '')
            assert ' '.join(meaning.lower().replace('–', '--').split()) in text, (name, action.dest)


def test_the_page_on_troubleshooting_has_the_messages(site):
    "Those that docs/messages.py reads from the source."
    page = (site/'howto'/'troubleshooting.html').read_text(encoding='utf-8')
    text = ' '.join(unescape(re.sub(r'<[^>]+>', '', page)).split())
    assert text.count('did you mean') > 10 and 'give files, or one dataset' in text and 'messages -->' not in text


def test_links_between_pages_lead_somewhere(site):
    "Page and anchor are there."
    anchors = {page: set(re.findall(r'\bid="([^"]+)"', page.read_text(encoding='utf-8')))
               for page in site.rglob('*.html')}
    for page in anchors:
        for target in re.findall(r'<a [^>]*href="([^"]+)"', page.read_text(encoding='utf-8')):
            if re.match(r'[a-z]+:', target): continue
            name, _, anchor = target.partition('#')
            to = (page.parent/name).resolve() if name else page
            assert to.exists(), f'{page.name}: {target}'
            assert not anchor or to not in anchors or anchor in anchors[to], f'{page.name}: {target}'


# the last two made the theme
OTHER_SITES = {'github.com', 'onnx.ai', 'onnxruntime.ai', 'huggingface.co', 'arxiv.org', 'pypi.org',
               'www.rfc-editor.org', 'numba.pydata.org', 'www.sphinx-doc.org', 'pradyunsg.me',
               'filesystem-spec.readthedocs.io'}


def test_links_to_other_sites_are_right(site):
    "Encrypted, to one of the sites that are known, and, where it is the own repository, to a file that is there."
    own = re.compile(r'https://github\.com/libdocs/libdocs/(?:blob|edit|raw)/main/([^?#]+)')
    for page in site.rglob('*.html'):
        for target in re.findall(r'<a [^>]*href="([a-z]+:[^"]*)"', page.read_text(encoding='utf-8')):
            parts = urlsplit(unescape(target))
            assert parts.scheme == 'https' and ' ' not in target, f'{page.name}: {target}'
            assert parts.netloc in OTHER_SITES, f'{page.name}: {target}: is this site meant? Add it to OTHER_SITES'
            file = own.match(target)
            assert not file or (ROOT/file[1]).exists(), f'{page.name}: {target}: there is no such file'


def test_index_in_a_browser(address, browser):
    "It opens without faults, and a link in the sidebar leads to its page."
    page, faults = open_page(browser, address, 'index.html')
    assert page.title().startswith('libdocs')
    assert page.locator('h1').first.inner_text().strip('¶# ').startswith('libdocs')
    page.locator('.sidebar-tree a', has_text='Records').first.click()
    page.wait_for_load_state('load')
    assert page.url.endswith('11_core.records.html')
    assert faults == []


@pytest.mark.parametrize('width', [1280, 390], ids=['desktop', 'phone'])
def test_api_page_in_a_browser(address, browser, width):
    "Signature, meanings of parameters and saved outputs are shown, on a phone too."
    page, faults = open_page(browser, address, '11_core.records.html', width)
    assert page.title().startswith('Records')
    signature = page.locator('dt[id="libdocs.core.records.read_records"]')
    assert 'read_records(' in signature.inner_text()
    assert 'bad_rows' in signature.inner_text()
    described = page.locator('dl', has=signature).last.inner_text()
    assert 'the column that holds the document' in described
    assert 'one row per record' in described
    assert page.locator('table.dataframe').first.is_visible()
    assert page.evaluate('document.documentElement.scrollWidth <= document.documentElement.clientWidth'), (
        'the page is wider than the window')
    source = page.locator('details', has_text='def read_records').first
    assert not source.locator('pre').is_visible()
    source.locator('summary').click()
    assert source.locator('pre').is_visible()
    assert faults == []


def test_search_finds_a_function(address, browser):
    "Without a server."
    page, faults = open_page(browser, address, 'search.html?q=read_records')
    page.wait_for_selector('#search-results a', timeout=1000 * HANG)
    assert any('read_records' in text for text in page.locator('#search-results').all_inner_texts())
    assert faults == []


def test_search_works_without_a_server(site, browser):
    "From the sidebar of a page that was opened from a file; a page may not read others there, and does not try."
    page, faults = open_page(browser, site.as_uri() + '/', 'howto/offline.html')
    page.locator('.sidebar-search').first.fill('natural-test')
    page.keyboard.press('Enter')
    page.wait_for_selector('#search-results a', timeout=1000 * HANG)
    assert any('libdocs prepare' in text for text in page.locator('#search-results').all_inner_texts())
    page.locator('#search-results a', has_text='libdocs prepare').first.click()
    page.wait_for_selector('dl.option')
    assert faults == []


KINDS = ('index', 'tutorials/gpu_machine', 'howto/imbalance', 'explanations/near_duplicates', 'commands/index',
         'commands/prepare', 'library', 'internals/core', '00_core.errors', 'pipelines/evaluate', 'search')


@pytest.mark.parametrize('name', KINDS)
def test_pages_can_be_used_by_everyone(address, browser, name):
    "axe finds nothing serious on a page of each kind, desktop and phone, light and dark; none is too wide."
    page, faults = open_page(browser, address, f'{name}.html')
    page.add_style_tag(content='* { transition: none !important }')  # no colour is halfway between light and dark
    for width, scheme in SIZES:
        page.set_viewport_size(dict(width=width, height=900))
        page.emulate_media(color_scheme=scheme)
        assert findings(page) == [], f'{width}, {scheme}'
        assert page.evaluate('document.documentElement.scrollWidth <= document.documentElement.clientWidth'), (
            f'the page is wider than a window of {width}')
    assert faults == []


def test_readme_is_what_the_index_says():
    "The README is made from the index notebook."
    checked = subprocess.run([sys.executable, 'docs/readme.py', '--check'], cwd=ROOT,
                             capture_output=True, text=True, timeout=HANG)
    assert checked.returncode == 0, checked.stdout + checked.stderr
