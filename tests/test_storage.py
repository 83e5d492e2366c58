"""Corpora, outputs, run folders, datasets and models in a storage: a real S3 client against a server on
loopback, which answers as Amazon's does. What comes out is what comes out on a disk."""
import json, re, subprocess, sys, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from commands import RAW, TRAIN
from corpora import command, environment, jsonl, MODULES, read_jsonl
from test_processes import LAUNCHERS
from warm import HANG, Job, MODULE

KEY, SECRET = 'AKIDCANARY', 'storageCANARYsecret'
PREPARE = ['-i', 's3://corpora/raw', '-t', 'body', '-s', 'topic', '-o', 's3://corpora/out/letters',
           '--target-hf-dataset', 's3://corpora/ds', '--bad-rows', 'reject', '--reduce-majority-to', '1']


def into(folder):
    "The options, with outputs in another folder."
    new = {'s3://corpora/out/letters': f's3://corpora/{folder}/letters', 's3://corpora/ds': f's3://corpora/{folder}/ds'}
    return [new.get(word, word) for word in PREPARE]


@pytest.fixture(scope='module')
def storage(tmp_path_factory):
    "An S3 server with the bucket `corpora`; `fs` reads and writes it, `env` points commands at it."
    from moto.server import ThreadedMotoServer
    import logging, s3fs
    logging.getLogger('werkzeug').setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address='127.0.0.1', port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    place = f'http://{host}:{port}'
    class Storage:
        url = place
        fs = s3fs.S3FileSystem(key=KEY, secret=SECRET, endpoint_url=place, use_listings_cache=False)
        env = environment(tmp_path_factory.mktemp('home'), AWS_ENDPOINT_URL=place, AWS_ACCESS_KEY_ID=KEY,
                          AWS_SECRET_ACCESS_KEY=SECRET, AWS_DEFAULT_REGION='us-east-1')
        def put(self, files):
            for name, content in files.items(): self.fs.pipe_file(f'corpora/{name}', content)
        def names(self, folder): return sorted(p.split('/', 1)[1] for p in self.fs.find(f'corpora/{folder}'))
        def read(self, name): return self.fs.cat_file(f'corpora/{name}')
        def no_canary(self, *runs):
            "Neither key nor secret is in an object or was printed."
            for name in self.fs.find('corpora'): assert b'CANARY' not in self.fs.cat_file(name), name
            for done in runs: assert 'CANARY' not in done.stdout + done.stderr
    Storage.fs.mkdir('corpora')
    yield Storage()
    server.stop()


@pytest.fixture(scope='module')
def prepared_there(storage, tmp_path_factory):
    "A preparation from bucket to bucket."
    storage.put({'raw/raw.jsonl': RAW})
    done = command('cleaner_finetune', '-f', 'raw.jsonl', *PREPARE, cwd=tmp_path_factory.mktemp('empty'),
                   env=storage.env)
    assert done.returncode == 0, done.stderr
    return done


def test_a_preparation_is_the_same_in_a_bucket(storage, prepared_there, prepared):
    local = prepared.folder
    for name in ('train', 'test', 'removed', 'rejected', 'label_issues', 'outliers'):
        assert storage.read(f'out/letters_{name}.jsonl') == (local/f'out/letters_{name}.jsonl').read_bytes(), name
    for name in ('train.csv', 'test.csv', 'label_frequencies.json'):
        assert storage.read(f'ds/{name}') == (local/'ds'/name).read_bytes()
    assert b'pd.read_csv' in storage.read('ds/README.md')
    assert 'has no locks' in prepared_there.stderr
    assert 'wrote s3://corpora/out/letters_train.jsonl' in prepared_there.stdout
    storage.no_canary(prepared_there)


def test_another_machine_finds_it_done(storage, prepared_there, tmp_path):
    before = storage.read('out/letters_run/write.json')
    done = command('cleaner_finetune', '-f', 'raw.jsonl', *PREPARE, cwd=tmp_path, env=storage.env)
    assert done.returncode == 0 and done.stderr.count('already done') == 7, done.stderr
    assert storage.read('out/letters_run/write.json') == before
    assert list(tmp_path.iterdir()) == []


def test_changed_input_is_read_again(storage, tmp_path):
    "The version of an object is what its storage says; a pattern finds packed and Parquet files too."
    import gzip, io, pandas as pd
    rows = read_jsonl_bytes(RAW)
    table = io.BytesIO()
    pd.DataFrame([{'body': row['body'], 'topic': row['topic']} for row in rows[60:]]).to_parquet(table)
    storage.put({'parts/a.jsonl.gz': gzip.compress(jsonl(rows[:60])), 'parts/b.parquet': table.getvalue()})
    argv = ['-i', 's3://corpora/parts', '-f', '*', '-t', 'body', '-s', 'topic', '-o', 's3://corpora/parted/letters',
            '--label-issues', 'off']
    first = command('cleaner_finetune', *argv, cwd=tmp_path, env=storage.env)
    assert first.returncode == 0, first.stderr
    storage.put({'parts/a.jsonl.gz': gzip.compress(jsonl(rows[:50]))})
    again = command('cleaner_finetune', *argv, cwd=tmp_path, env=storage.env)
    assert again.returncode == 0 and 're-running read: files changed' in again.stderr, again.stderr


def read_jsonl_bytes(content):
    "The good rows."
    rows = []
    for line in content.splitlines():
        try: row = json.loads(line)
        except ValueError: continue
        if isinstance(row.get('body'), str): rows.append(row)
    return rows


def test_killed_in_mid_stage(storage, tmp_path):
    "SIGKILL: nothing under a final name is half there, and the next run does the rest."
    storage.put({'raw/raw.jsonl': RAW})
    argv = into('killed')
    kill = """
import os, signal
from libdocs.phases import stages
from libdocs.core import storage
usual, sent = storage.send, []
def send(file, path):
    sent.append(path)
    if 'normalize' in str(path): os.kill(os.getpid(), signal.SIGKILL)
    usual(file, path)
storage.send = send
"""
    job = Job(kill + MODULE, [MODULES['cleaner_finetune'], '-f', 'raw.jsonl', *argv], cwd=tmp_path, env=storage.env)
    code, _, _ = job.wait()
    assert code == -9
    assert not [name for name in storage.names('killed') if 'letters_train' in name]
    assert 'killed/letters_run/clean.json' in storage.names('killed')
    done = command('cleaner_finetune', '-f', 'raw.jsonl', *argv, cwd=tmp_path, env=storage.env)
    assert done.returncode == 0 and 'clean: already done' in done.stderr, done.stderr
    assert storage.read('killed/letters_train.jsonl') == storage.read('out/letters_train.jsonl')


@pytest.fixture(scope='module')
def trained_there(storage, prepared_there, tmp_path_factory):
    "A training from a dataset in a bucket, to a model and with a run folder in it."
    folder = tmp_path_factory.mktemp('trained')
    done = command('classifier_model', *there(TRAIN), cwd=folder, env=storage.env)
    assert done.returncode == 0, done.stderr
    return folder, done


def there(argv):
    return [{'./ds': 's3://corpora/ds', './model': 's3://corpora/models/letters'}.get(word, word) for word in argv]


def test_a_training_is_the_same_in_a_bucket(storage, trained_there, trained):
    folder, done = trained_there
    local = trained.folder
    assert storage.read('models/letters/model.safetensors') == (local/'model/model.safetensors').read_bytes()
    ours, theirs = ([{k: v for k, v in row.items()} for row in read_jsonl(path/'res'/'results.jsonl')]
                    for path in (folder, local))
    assert ours == theirs
    assert 'models/corpora/models/letters_run/evaluate.json' not in storage.names('models')
    storage.no_canary(done)


def test_a_training_in_a_bucket_is_found_done(storage, trained_there, tmp_path):
    argv = [*there(TRAIN), '--run-folder', 's3://corpora/runs/letters']
    for _ in range(2): done = command('classifier_model', *argv, cwd=tmp_path, env=storage.env)
    assert done.returncode == 0 and 'train: already done' in done.stderr, done.stderr
    assert 'runs/letters/train.json' in storage.names('runs')


def test_two_processes_share_a_run_folder_in_a_bucket(storage, prepared_there, tmp_path):
    launched = [sys.executable, '-m', *LAUNCHERS['torchrun'], 'libdocs.classifier_model', *there(TRAIN),
                '--hf-model-name', './model', '--run-folder', 's3://corpora/runs/two']
    done = subprocess.run(launched, cwd=tmp_path, env=storage.env, capture_output=True, text=True, timeout=HANG)
    assert done.returncode == 0, done.stderr
    assert {'runs/two/train.json', 'runs/two/report.json'} <= set(storage.names('runs'))


@pytest.mark.parametrize('ending', ['jsonl', 'parquet'])
def test_classify_in_a_bucket(storage, trained_there, tmp_path, ending):
    rows = [{'id': i, 'text': f'word{i} clause{i % 7}'} for i in range(30)]
    storage.put({'new/a.jsonl': jsonl(rows[:20]), 'new/b.jsonl': jsonl(rows[20:])})
    output = f's3://corpora/answers/out.{ending}'
    done = command('libdocs', 'classify', 's3://corpora/models/letters', 's3://corpora/new/*.jsonl', '-o', output,
                   cwd=tmp_path, env=storage.env)
    assert done.returncode == 0, done.stderr
    assert f'answers/out.{ending}' in storage.names('answers')
    assert not [name for name in storage.names('answers') if 'partial' in name]
    (tmp_path/'a.jsonl').write_bytes(jsonl(rows))
    command('libdocs', 'classify', 's3://corpora/models/letters', 'a.jsonl', '-o', f'here.{ending}', cwd=tmp_path,
            env=storage.env)
    assert storage.read(f'answers/out.{ending}') == (tmp_path/f'here.{ending}').read_bytes()


def test_audit_in_a_bucket(storage, prepared_there, tmp_path):
    rows = read_jsonl_bytes_of(storage.read('out/letters_test.jsonl'))
    storage.put({'said/model.jsonl': jsonl([dict(id=row['id'], prediction=row['label']) for row in rows])})
    done = command('libdocs', 'audit', '--train', 's3://corpora/out/letters_train.jsonl', '--test',
                   's3://corpora/out/letters_test.jsonl', '--predictions', 's3://corpora/said/model.jsonl',
                   '-o', 's3://corpora/audited', cwd=tmp_path, env=storage.env)
    assert done.returncode == 0, done.stderr
    assert {'audited/report.html', 'audited/metrics.json'} <= set(storage.names('audited'))
    assert list(tmp_path.iterdir()) == []


def read_jsonl_bytes_of(content): return [json.loads(line) for line in content.splitlines()]


# Bad input: one line, exit code 2, nothing left

BAD = {
    'no bucket': (['-i', 's3://nowhere/raw'], 's3://nowhere/raw: no such folder'),
    'no folder': (['-i', 's3://corpora/nothing'], 's3://corpora/nothing: no such folder'),
    'no file': (['-f', 'rew.jsonl'], "did you mean 'raw.jsonl'?"),
    'no bucket to write to': (['-o', 's3://nowhere/out/letters'], 'cannot be reached: The specified bucket does not'),
    'over the input': (['-o', 's3://corpora/raw/raw.jsonl'], 'is an input file'),
    'a run folder with other files': (['--run-folder', 's3://corpora/raw'], 'holds other files'),
    'a secret': (['-i', f's3://me:{SECRET}@corpora/raw'], 'a URL with a password or a key'),
    'memory': (['-o', 'memory://corpora/letters'], 'is gone when the command ends'),
    'no client': (['-i', 'gdrive://corpora/raw'], 'the client of this storage is missing'),
    'no storage': (['-i', 's33://corpora/raw'], "no storage 's33'"),
}


@pytest.mark.parametrize('name', BAD)
def test_bad_places(storage, tmp_path, name):
    argv, message = BAD[name]
    storage.put({'raw/raw.jsonl': RAW})
    before = storage.fs.find('corpora')
    argv = ['-f', 'raw.jsonl', *into('bad'), *argv]
    done = command('cleaner_finetune', *argv, cwd=tmp_path, env=storage.env)
    assert done.returncode == 2 and message in done.stderr, done.stderr
    assert len([line for line in done.stderr.splitlines() if 'error' in line]) == 1
    assert SECRET not in done.stderr
    assert storage.fs.find('corpora') == before and list(tmp_path.iterdir()) == []


LOCAL_ONLY = [
    ['classifier_model', *TRAIN[:2], '--hf-model-name', './model', '-m', 'scratch', '--output-classify-file',
     's3://corpora/results.jsonl'],
    ['classifier_model', *TRAIN[:2], '--hf-model-name', './model', '-m', 'scratch', '--track-output', 's3://corpora/t'],
    ['libdocs', 'compare', 's3://corpora/a', 's3://corpora/b'], ['libdocs', 'report', 's3://corpora/a'],
    ['libdocs', 'review', 's3://corpora/a'], ['libdocs', 'demo', 's3://corpora/demo'],
    ['libdocs', 'export', './model', '-o', 's3://corpora/export'],
    ['libdocs-pipeline', 'prepare', '--out', 's3://corpora/out.ipynb', '-p', 'input_dir', '.',
     '-p', 'input_filename', 'a', '-p', 'output_filename', 'b', '-p', 'target_hf_dataset', './d']]


@pytest.mark.parametrize('argv', LOCAL_ONLY, ids=lambda argv: ' '.join(argv[:2]))
def test_what_has_to_be_on_this_machine_says_so(storage, tmp_path, argv):
    done = command(*argv, cwd=tmp_path, env=storage.env | {'WANDB_MODE': 'offline'})
    assert done.returncode == 2 and 'cannot be in a storage' in done.stderr, done.stderr
    assert not [path for path in tmp_path.iterdir() if path.name.startswith('s3')]


# A storage that fails

def error(code): return f'<Error><Code>{code}</Code><Message>{code}</Message></Error>'.encode()


SPOILT = {403: error('AccessDenied'), 404: error('NoSuchKey'), 500: error('InternalError'), 503: error('SlowDown')}
OF_THE_CONNECTION = 'content-length', 'connection', 'transfer-encoding', 'content-encoding', 'date', 'server'


@pytest.fixture
def failing(storage):
    "A server in front of the storage that spoils calls: `spoil(method, path)` gives a status, or None."
    import httpx
    class Server(ThreadingHTTPServer):
        daemon_threads, spoil, calls = True, staticmethod(lambda method, path: None), []
    class Handler(BaseHTTPRequestHandler):
        protocol_version = 'HTTP/1.1'
        def log_message(self, *_): pass
        def handle_any(self):
            body = self.rfile.read(int(self.headers.get('Content-Length') or 0))
            self.server.calls.append((self.command, self.path))
            status = self.server.spoil(self.command, self.path)
            if status: return self.answer(status, {}, SPOILT[status])
            headers = {k: v for k, v in self.headers.items() if k.lower() not in ('host', 'expect')}
            got = httpx.request(self.command, storage.url + self.path, content=body, headers=headers)
            self.answer(got.status_code, got.headers, got.content)
        def answer(self, status, headers, content):
            self.send_response(status)
            for name, value in headers.items():
                if name.lower() not in OF_THE_CONNECTION: self.send_header(name, value)
            length = headers.get('content-length', len(content)) if self.command == 'HEAD' else len(content)
            self.send_header('Content-Length', str(length))
            self.end_headers()
            if self.command != 'HEAD': self.wfile.write(content)
        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = handle_any
    server = Server(('127.0.0.1', 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    server.env = storage.env | dict(AWS_ENDPOINT_URL=f'http://127.0.0.1:{server.server_port}')
    yield server
    server.shutdown()
    server.server_close()


def try_with(failing, spoil, tmp_path, folder):
    "A preparation through the server."
    failing.spoil = spoil
    return command('cleaner_finetune', '-f', 'raw.jsonl', *into(folder), cwd=tmp_path, env=failing.env)


def test_now_and_then_500_or_slow_down(storage, failing, tmp_path):
    "A storage that fails now and then is asked again by its client, and the result is the same."
    storage.put({'raw/raw.jsonl': RAW})
    seen = {}
    def spoil(method, path):
        seen[method, path] = seen.get((method, path), 0) + 1
        return (503 if len(seen) % 2 else 500) if seen[method, path] == 1 and len(seen) % 5 == 0 else None
    done = try_with(failing, spoil, tmp_path, 'shaky')
    assert done.returncode == 0, done.stderr
    assert storage.read('shaky/letters_train.jsonl') == storage.read('out/letters_train.jsonl')


def test_no_right_to_write_is_seen_before_any_work(storage, failing, tmp_path):
    storage.put({'raw/raw.jsonl': RAW})
    done = try_with(failing, lambda method, path: 403 if method in ('PUT', 'POST') else None, tmp_path, 'forbidden')
    assert done.returncode == 2 and 'what they are allowed to do' in done.stderr, done.stderr
    assert 'read:' not in done.stderr and storage.names('forbidden') == []


def test_no_right_to_read(storage, failing, tmp_path):
    done = try_with(failing, lambda method, path: 403, tmp_path, 'unreadable')
    assert done.returncode == 2 and 'error: s3://corpora/raw' in done.stderr, done.stderr


def test_an_object_that_vanishes_while_it_is_read(storage, failing, tmp_path):
    storage.put({'raw/raw.jsonl': RAW})
    def spoil(method, path): return 404 if method == 'GET' and re.match(r'/corpora/raw/raw\.jsonl', path) else None
    done = try_with(failing, spoil, tmp_path, 'gone')
    assert done.returncode == 2 and 's3://corpora/raw/raw.jsonl: cannot be reached' in done.stderr, done.stderr
    assert not [name for name in storage.names('gone') if name.endswith('.jsonl')]


def test_a_storage_that_dies_at_the_end_loses_nothing(storage, failing, tmp_path):
    "What was done is in the run folder, and the same command does the rest."
    storage.put({'raw/raw.jsonl': RAW})
    done = try_with(failing, lambda method, path: 403 if method == 'PUT' and 'letters_test' in path and 'dying' in path
                    and not path.endswith('x-id=PutObject&probe') else None, tmp_path, 'dying')
    assert done.returncode == 2 and 'letters_test.jsonl: cannot be reached' in done.stderr, done.stderr
    again = try_with(failing, lambda method, path: None, tmp_path, 'dying')
    assert again.returncode == 0 and 'split: already done' in again.stderr, again.stderr
    assert storage.read('dying/letters_test.jsonl') == storage.read('out/letters_test.jsonl')
