"""Every call that the two commands make to the Hub, spoilt in every way a Hub can spoil it. What
may pass is tried again and the command ends well, with no commit twice; what may not is reported in
one line, nothing that was done is lost, and the line `libdocs push RUN` completes the publishing.
SOAK in the environment spoils every call in every way instead of every third call in one."""
import os, re, shlex, shutil

import pytest
from corpora import csv_bytes, documents, jsonl, one_error, put
from loopback_hub import forget_cache

from libdocs import classifier_model, cleaner_finetune
from libdocs import command

FAULTS = (429, 'lose', 503, 'cut', 401, 'drip', 412, 403, 500, 'corrupt', 404, 'gone', 409)
LASTING = (401, 403, 404, 'gone')
ROWS = documents(90)
CLEAN = '-i data -f raw.jsonl -o out/letters --target-hf-dataset alice/letters'
TRAIN = ('--input-hf-dataset alice/data -o alice/model -m scratch --epochs 1 --device cpu '
         '--output-classify-file res/results.jsonl --track-output wb')
COMMANDS = {'clean': (cleaner_finetune.main, CLEAN), 'train': (classifier_model.main, TRAIN)}
RUNS = {'clean': 'out/letters_run', 'train': 'models/alice/model_run'}
MADE = {'clean': ('alice/letters', 'dataset'), 'train': ('alice/model', 'model')}
COMMITS = {'clean': 1, 'train': 2}
SOAK = 'SOAK' in os.environ
EVERY = 1 if SOAK else 3  # how many calls for one that is spoilt
CALLS = {'clean': 9, 'train': 32}  # at least; checked


@pytest.fixture
def work(hub, tmp_path, monkeypatch):
    "An empty folder with the inputs; alice is logged in, and nobody waits for long."
    put(tmp_path/'work', {'data/raw.jsonl': jsonl(ROWS)})
    monkeypatch.chdir(tmp_path/'work')
    for sleep in ('libdocs.core.access.sleep', 'time.sleep'):
        monkeypatch.setattr(sleep, lambda seconds: None)
    hub.lfs_over = 2_000  # the splits travel as large files do
    hub.push('alice/data', {'train.csv': csv_bytes(ROWS[:60]), 'test.csv': csv_bytes(ROWS[60:])},
             'dataset', private=True)
    hub.login('alice')
    return tmp_path/'work'


def run(kind, capfd):
    "(exit code, stderr) of the command."
    main, line = COMMANDS[kind]
    code = main(line.split())
    return code, capfd.readouterr().err


def published(hub, kind):
    "What lies on the Hub, but for files that state times."
    return {name: b'' if name.endswith(('.md', '.html', 'metrics.json', 'libdocs.json')) else data
            for name, data in hub.files(*MADE[kind]).items()}


def whole(kind, hub, work, capfd, keep):
    """(The calls of an undisturbed run that has only publishing and what comes after it to do, what it
    published); `keep` is the folder that it begins with."""
    code, said = run(kind, capfd)
    assert code == 0, said
    for path in (work/RUNS[kind]).glob('publish*'):
        path.unlink() if path.is_file() else shutil.rmtree(path)
    for name in ('evaluate', 'report'):
        (work/RUNS[kind]/f'{name}.json').unlink(missing_ok=True)
    shutil.rmtree(work/'res', ignore_errors=True)
    shutil.copytree(work, keep)
    first = published(hub, kind)
    del hub.repos[MADE[kind][1], MADE[kind][0]]
    hub.requests.clear()
    forget_cache(os.environ['HF_HOME'])
    code, said = run(kind, capfd)
    assert code == 0, said
    assert published(hub, kind) == first, said
    assert len(hub.commits(*MADE[kind])) == COMMITS[kind], said
    return [(method, path) for method, path, _ in hub.requests], first


DOWNLOAD = '/resolve/|/lfs/'


def spoil(hub, calls, call, fault):
    "The faults that begin with number `call` of `calls`: a token that is taken away stays away, other things pass."
    if fault == 'gone': hub.cut('.*', '', times=10**6, skip=call)
    elif fault in LASTING: hub.fail('.*', '', fault, times=10**6, skip=call)
    elif fault == 'cut': hub.cut('.*', '', skip=call)
    elif fault == 'lose': hub.lose_reply('.*', '', skip=call)
    elif fault == 'drip': hub.drip('.*', '', 1, skip=call)
    elif fault == 'corrupt':
        hub.corrupt(DOWNLOAD,
                    skip=sum(method == 'GET' and bool(re.search(DOWNLOAD, path)) for method, path in calls[:call]))
    else: hub.fail('.*', '', fault, skip=call, headers={'Retry-After': '3'} if fault == 429 else None)


def fault_of(call, method, path, faults):
    "What call number `call` is spoilt with, of `faults` by turns; None if it is not."
    fitting = [f for f in faults if f != 'corrupt' or method == 'GET' and re.search(DOWNLOAD, path)]
    return fitting[call // EVERY % len(fitting)] if fitting and call % EVERY == 0 else None


@pytest.mark.parametrize('faults', [(f,) for f in FAULTS] if SOAK else [FAULTS],
                         ids=lambda faults: str(faults[0]) if SOAK else 'by turns')
@pytest.mark.parametrize('kind', COMMANDS)
def test_every_call_spoilt(hub, work, kind, faults, capfd, tmp_path, tmp_path_factory, record_property):
    "Each call of a command fails in some way; the command ends well or can be given again."
    kept = tmp_path_factory.mktemp(kind)/'kept'
    calls, expected = whole(kind, hub, work, capfd, kept)
    assert len(calls) >= CALLS[kind], calls
    tried = 0
    for call, (method, path) in enumerate(calls):
        fault = fault_of(call, method, path, faults)
        if fault is None: continue
        begin_again(hub, kind, work, kept)
        spoil(hub, calls, call, fault)
        try: survives(hub, kind, work, capfd, fault, expected)
        except AssertionError as error:
            raise AssertionError(f'{fault} at call {call}, {method} {path}: {error}') from error
        tried += 1
    record_property('faults', tried)


def begin_again(hub, kind, work, kept):
    hub.faults.clear()
    hub.repos.pop((MADE[kind][1], MADE[kind][0]), None)
    hub.lfs, hub.parts = {b.sha256: b.data for repo in hub.repos.values()
                          for b in repo.commits[-1].files.values() if b.lfs}, {}
    forget_cache(os.environ['HF_HOME'])
    shutil.rmtree(work)
    shutil.copytree(kept, work)
    os.chdir(work)


def survives(hub, kind, work, capfd, fault, expected):
    code, said = run(kind, capfd)
    if code:
        assert fault in LASTING, said
        assert one_error(code, said).startswith(('cleaner_finetune: error', 'classifier_model: error')), said
        hub.faults.clear()
        complete(hub, kind, work, capfd, said)
        again, said = run(kind, capfd)
        assert again == 0, said
    assert len(hub.commits(*MADE[kind])) == COMMITS[kind]
    assert published(hub, kind) == expected


def complete(hub, kind, work, capfd, said):
    "What could not be published is published by the line that the error names, which works twice."
    run_folder = work/RUNS[kind]
    late = [plan for plan in run_folder.glob('*.push') if not (run_folder/f'{plan.stem}.json').exists()]
    assert bool(late) == ('libdocs push' in said), said
    if not late: return
    line = shlex.split(re.search(r'libdocs push .*', said)[0])
    for _ in range(2):
        assert command.main(line[1:]) == 0, capfd.readouterr().err
        commits = [c.oid for c in hub.repo(*MADE[kind]).commits]
    assert len(commits) == len(set(commits)) <= 1 + COMMITS[kind]
