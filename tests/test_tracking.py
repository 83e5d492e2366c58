"""A W&B server that refuses, hangs, is not there or goes away in the middle: the training is
neither stopped nor kept waiting for what never comes. With SOAK in the environment all of these,
else the one that goes away in the middle."""
import os, random, subprocess, sys

import pytest
from corpora import NOWHERE, TRAIN, csv_bytes, documents, environment, put
from loopback_wandb import KEY, LoopbackWandb
from warm import HANG, MODULE

ROWS = documents(120)


# The module argv[1] as a program, which waits for an answer as long as a slow machine may take: what
# happens depends on what the server does and not on when
PATIENT = f'''
import sys, urllib.request, wandb
usual, opened = wandb.Settings, urllib.request.urlopen
wandb.Settings = lambda **options: usual(**options | dict(init_timeout={HANG}))
urllib.request.urlopen = lambda url, timeout: opened(url, timeout={HANG})
sys.argv.pop(0)
''' + MODULE


def said(work, patient, **env):
    "The stderr of a complete job, which has to end well."
    put(work, {'ds/train.csv': csv_bytes(ROWS[:90]), 'ds/test.csv': csv_bytes(ROWS[90:])})
    command = ['-c', PATIENT, 'libdocs.classifier_model'] if patient else ['-m', 'libdocs.classifier_model']
    done = subprocess.run([sys.executable, *command, *TRAIN], cwd=work,
                          env=environment(work.parent/'home', **env), capture_output=True, text=True, timeout=HANG)
    assert done.returncode == 0, done.stderr
    assert 'Traceback' not in done.stderr, done.stderr
    assert KEY not in done.stderr + done.stdout
    assert not [p for p in work.rglob('*') if p.is_file() and KEY.encode() in p.read_bytes()]
    return done.stderr


SERVERS = [('answer', 'hang'), ('refuse', 'refuse'), ('hang', 'hang'), ('answer', 'answer'),
           ('answer', 'cut'), ('answer', 'refuse'), None, 'no key']


@pytest.mark.parametrize('behaviour', SERVERS if 'SOAK' in os.environ else SERVERS[:1])
def test_server(tmp_path, behaviour):
    """What the server does, and what it does when the first metrics have come; None: there is none. One that
    hangs answers only when the job has ended."""
    server = LoopbackWandb(*behaviour) if isinstance(behaviour, tuple) else None
    env = server.env() if server else dict(WANDB_MODE=None, WANDB_API_KEY=KEY if behaviour is None else None,
                                           WANDB_BASE_URL=NOWHERE)
    stderr = said(tmp_path/'work', patient=behaviour[0] in ('answer', 'refuse') if server else False, **env)
    if not server:
        assert list((tmp_path/'work'/'wb').rglob('*.wandb'))
        assert 'tracking offline' in stderr or behaviour
    else:
        server.close()
        assert server.requests
        assert behaviour[0] == 'hang' or any('UpsertBucket' in body.decode(errors='replace')
                                             for _, _, body in server.requests)
        if behaviour[1] == 'answer':
            assert any(path.endswith('/file_stream') for _, path, _ in server.requests)
            assert 'WARNING: W&B' not in stderr


def noisy(n):
    """Rows of which one in three is labelled wrongly, so that the report has mistakes to quote; every text has
    a word of its own."""
    rng = random.Random(0)
    rows = [dict(row, text=f'{row["text"]} confidential{i}') for i, row in enumerate(documents(n))]
    return [dict(row, label=rng.choice(['invoice', 'contract', 'minutes'])) if rng.random() < .5 else row
            for row in rows]


def job(work, *argv, **env):
    "The command on noisy rows in the folder `work`, whose report has to quote documents."
    rows = noisy(120)
    put(work, {'ds/train.csv': csv_bytes(rows[:80]), 'ds/test.csv': csv_bytes(rows[80:])})
    done = subprocess.run([sys.executable, '-m', 'libdocs.classifier_model', *TRAIN, *argv], cwd=work,
                          env=environment(work.parent/'home', **env), capture_output=True, text=True, timeout=HANG)
    assert done.returncode == 0, done.stderr
    assert 'confidential' in (work/'res'/'report.html').read_text(), done.stderr
    return done


@pytest.mark.parametrize('argv, env', [([], dict(WANDB_MODE=None, WANDB_DISABLED='true')),
                                       ([], dict(WANDB_MODE='disabled')), (['--track', 'none'], dict(WANDB_MODE=None))])
def test_switched_off_nothing_is_written(tmp_path, argv, env):
    "No folder, no run; the report stands beside the results all the same."
    job(tmp_path/'work', *argv, **env)
    assert not [p for p in (tmp_path/'work').rglob('*') if 'wb' in p.parts
                or 'wandb' in p.name], list((tmp_path/'work').iterdir())


@pytest.mark.parametrize('documents', [False, True])
def test_documents_go_to_wandb_only_when_asked(tmp_path, documents):
    """A run has the report, and quotes documents with --wandb-documents alone; the copy beside it, on this
    machine, always does."""
    job(tmp_path/'work', *['--wandb-documents'] * documents, WANDB_MODE='offline')
    written = [p for p in (tmp_path/'work'/'wb').rglob('*') if p.is_file() and p.name != 'report.html']
    assert [p for p in written if p.suffix == '.html']
    assert [p for p in written if p.suffix == '.wandb']
    assert bool([p for p in written if b'confidential' in p.read_bytes()]) == documents
    assert 'confidential' in (tmp_path/'work'/'wb'/'report.html').read_text()


def test_no_document_is_sent(tmp_path):
    "Nothing that a server of W&B gets has a document in it, also with --public."
    server = LoopbackWandb()
    job(tmp_path/'work', '--public', **server.env())
    server.close()
    bodies = [body for _, _, body in server.requests]
    assert any(b'loss' in body for body in bodies)
    assert not [body for body in bodies if b'confidential' in body]
