"`libdocs report`: the same page from the files of a real evaluation, a page to share, and bad input."
import json, shutil
from pathlib import Path

import pytest
from corpora import command, environment, snapshot, succeeds

from libdocs.report_again import main, report_again


@pytest.fixture
def copied(trained, tmp_path, monkeypatch):
    "A copy of a training with all of its files, as the current folder."
    shutil.copytree(trained.folder, tmp_path/'copy')
    monkeypatch.chdir(tmp_path/'copy')
    return tmp_path/'copy'


@pytest.mark.parametrize('place', ['res', 'res/results.jsonl', 'res/metrics.json', 'model_run', 'model'])
def test_it_is_the_same_page(copied, place):
    "Whatever names the evaluation, with the record of the training and the facts of the evaluation."
    first = (copied/'res'/'report.html').read_text()
    assert main([place, '-o', 'again.html']) == 0
    assert (copied/'again.html').read_text() == first


def test_the_command(copied):
    "One line says what was written; nothing else changes."
    before = snapshot(copied)
    argv = ['res', '--no-quotations', '-o', 'share.html']
    done = command('libdocs', 'report', *argv, cwd=copied, env=environment(copied))
    assert succeeds(done).stdout == 'wrote share.html\n'
    page = snapshot(copied).pop('share.html').decode()
    assert snapshot(copied) == before | {'share.html': page.encode()}
    texts = [json.loads(line)['text'] for line in (copied/'res'/'results.jsonl').read_text().splitlines()]
    assert not any(text[:60] in page for text in texts if len(text) > 40)


def test_only_figures(copied):
    "A metrics.json without predictions, as in a model repo: everything but the mistakes."
    (copied/'alone').mkdir()
    shutil.copy(copied/'res'/'metrics.json', copied/'alone')
    page = report_again('alone')
    assert page == report_again('alone/metrics.json')
    assert 'id="each-label"' in page.read_text() and 'quotes no documents' in page.read_text()


def cut(path):
    "Lose the second half of a file, within a line."
    path.write_bytes(path.read_bytes()[:path.stat().st_size // 2 + 3])


FAULTS = {
    'damaged figures': (lambda: cut(Path('res/metrics.json')), ['res'], 'metrics.json: damaged'),
    'figures that are a list': (lambda: Path('res/metrics.json').write_text('[1]'), ['res'], 'damaged, or no metrics'),
    'no figures': (lambda: Path('res/metrics.json').unlink(), ['res'], 'not finished: there is no metrics.json'),
    'cut predictions': (lambda: cut(Path('res/results.jsonl')), ['res'], 'cut short'),
    'figures of other rows': (lambda: Path('res/results.jsonl').write_text(
        '\n'.join(Path('res/results.jsonl').read_text().split('\n')[:5]) + '\n'), ['res'], 'is about'),
    'a dataset': (None, ['ds'], 'holds no evaluation'),
    'a file of something else': (None, ['model/config.json'], 'model/config.json'),
    'nothing': (None, ['nowhere'], 'no such file or folder'),
    'its own predictions': (None, ['res', '-o', 'res/results.jsonl'], 'would be overwritten'),
    'its own figures': (None, ['res', '-o', 'res/metrics.json'], 'would be overwritten'),
    'a folder': (None, ['res', '-o', 'model'], 'model'),
    'below a file': (None, ['res', '-o', 'model/config.json/page.html'], 'config.json'),
    'two runs': (None, ['res', 'model'], 'unrecognized arguments: model'),
}


@pytest.mark.parametrize('name', FAULTS)
def test_bad_input(copied, capfd, name):
    "One line and exit code 2, and no file is touched."
    spoil, argv, message = FAULTS[name]
    if spoil: spoil()
    before = snapshot(copied)
    try: code = main(argv)
    except SystemExit as left: code = left.code
    said = capfd.readouterr().err
    assert code == 2 and said.count('\n') == 1 and message in said, said
    assert snapshot(copied) == before


def test_damaged_neighbours_are_left_out(copied):
    "The train rows beside the mistakes are no reason to have no report."
    (copied/'res'/'mistakes.jsonl').write_text('{"id": 3}\n')
    assert 'most like it' not in report_again('res').read_text()
