"""A W&B server that refuses, hangs, is not there or goes away in the middle: the training is neither stopped nor kept waiting for more than ten seconds."""
import os, subprocess, sys, time

import pytest
from corpora import csv_bytes, documents, environment, put
from loopback_wandb import KEY, LoopbackWandb

ROWS = documents(120)
TRAIN = ['--input-hf-dataset', './ds', '-o', './model', '-m', 'scratch', '--epochs', '2', '--device', 'cpu', '--output-classify-file', 'res/results.jsonl', '--wandb-output', 'wb']


def timed(work, **env):
    "(seconds, what was said) of a whole job, which has to end well."
    put(work, {'ds/train.csv': csv_bytes(ROWS[:90]), 'ds/test.csv': csv_bytes(ROWS[90:])})
    begun = time.monotonic()
    done = subprocess.run([sys.executable, '-m', 'libdocs.classifier_model', *TRAIN], cwd=work, env=environment(work.parent/'home', **env), capture_output=True, text=True, timeout=200)
    seconds = time.monotonic() - begun
    assert done.returncode == 0 and 'Traceback' not in done.stderr, done.stderr
    assert KEY not in done.stderr + done.stdout and not [p for p in work.rglob('*') if p.is_file() and KEY.encode() in p.read_bytes()]
    return seconds, done.stderr


@pytest.fixture(scope='module')
def usual(tmp_path_factory): return timed(tmp_path_factory.mktemp('usual')/'work', WANDB_MODE='disabled')[0]


def test_no_key(usual, tmp_path):
    seconds, _ = timed(tmp_path/'work', WANDB_MODE=None, WANDB_API_KEY=None)
    assert seconds < usual + 10 and list((tmp_path/'work'/'wb').rglob('*.wandb'))


def test_nobody_there(usual, tmp_path):
    seconds, said = timed(tmp_path/'work', WANDB_MODE=None, WANDB_API_KEY=KEY, WANDB_BASE_URL='http://127.0.0.1:9')
    assert seconds < usual + 10 and 'tracking offline' in said


@pytest.mark.parametrize('behaviour,then', [('answer', 'answer'), ('refuse', 'refuse'), ('hang', 'hang'), ('answer', 'cut'), ('answer', 'hang'), ('answer', 'refuse')])
def test_server(usual, tmp_path, behaviour, then):
    server = LoopbackWandb(behaviour, then)
    seconds, said = timed(tmp_path/'work', **server.env())
    server.close()
    assert seconds < usual + 10, said
    assert server.requests and (behaviour == 'hang' or any('UpsertBucket' in body.decode(errors='replace') for _, _, body in server.requests))
    if then == 'answer': assert any(path.endswith('/file_stream') for _, path, _ in server.requests) and 'WARNING: W&B' not in said
