"""What trackers get of a training, read back; and servers of theirs that refuse, hang, are not there or go away in
the middle: the training is neither stopped nor kept waiting for what never comes. With SOAK in the environment all
of these, else those that go away in the middle."""
import json, os, random, signal, sqlite3, struct

import pytest
from corpora import NOWHERE, TRAIN, command, csv_bytes, documents, environment, put
from loopback_mlflow import TOKEN, LoopbackMlflow
from loopback_wandb import KEY, LoopbackWandb
from warm import HANG, MODULE, asked, run

ROWS = documents(120)

# The module argv[0] as a program, which waits for an answer as long as a slow machine may take: what
# happens depends on what the server does and not on when
PATIENT = f'''
import sys, urllib.request, wandb
usual, opened = wandb.Settings, urllib.request.urlopen
wandb.Settings = lambda **options: usual(**options | dict(init_timeout={HANG}))
urllib.request.urlopen = lambda url, timeout: opened(url, timeout={HANG})
''' + MODULE


def said(work, patient, **env):
    "The stderr of a complete job, which has to end well."
    put(work, {'ds/train.csv': csv_bytes(ROWS[:90]), 'ds/test.csv': csv_bytes(ROWS[90:])})
    program, env = PATIENT if patient else MODULE, environment(work.parent/'home', **env)
    done = run(program, ['libdocs.classifier_model', *TRAIN], work, env)
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
    done = command('classifier_model', *TRAIN, *argv, cwd=work, env=environment(work.parent/'home', **env))
    assert done.returncode == 0, done.stderr
    assert 'confidential' in (work/'res'/'report.html').read_text(), done.stderr
    return done


MLFLOW_SERVERS = [('answer', 'hang'), ('hang', 'hang'), None, ('answer', 'cut'), ('refuse', 'refuse')]


@pytest.mark.parametrize('behaviour', MLFLOW_SERVERS if 'SOAK' in os.environ else MLFLOW_SERVERS[:3])
def test_mlflow_server(tmp_path, behaviour):
    "One warning; where nobody answers from the start, the run is in files."
    server = LoopbackMlflow(*behaviour) if behaviour else None
    env = server.env() if server else dict(MLFLOW_TRACKING_URI=NOWHERE, MLFLOW_TRACKING_TOKEN=TOKEN)
    done = job(tmp_path/'work', '--track', 'mlflow', **env)
    if server: server.close()
    warnings = [line for line in done.stderr.splitlines() if 'MLflow' in line or 'mlflow' in line]
    assert len(warnings) == 1, done.stderr
    assert warnings[0].startswith('WARNING: MLflow')
    offline = behaviour in (None, ('hang', 'hang'))
    assert ('tracking offline' in warnings[0]) == offline
    assert bool(list((tmp_path/'work'/'wb').rglob('artifacts/report.html'))) == offline
    assert TOKEN not in done.stderr + done.stdout
    assert not [p for p in tmp_path.rglob('*') if p.is_file() and TOKEN.encode() in p.read_bytes()]


def test_what_an_mlflow_server_gets(tmp_path):
    "Figures, tables and the report; no document, user, program, folder or command line."
    server = LoopbackMlflow()
    work = tmp_path/'folder_of_alice'
    job(work, '--track', 'mlflow', **server.env(), USER='alice', LOGNAME='alice')
    server.close()
    assert not list((work/'wb').rglob('mlruns'))
    sent = [body for _, _, body in server.requests]
    assert b'"user_id": "unknown"' in b''.join(sent)
    assert any(path.endswith('/report.html') for _, path, _ in server.requests)
    for word in (b'confidential', b'alice', b'classifier_model', b'mlflow.source', TOKEN.encode()):
        assert not [body for body in sent if word in body], word


@pytest.mark.parametrize('argv, env', [([], dict(WANDB_MODE=None, WANDB_DISABLED='true')),
                                       ([], dict(WANDB_MODE='disabled')), (['--track', 'none'], dict(WANDB_MODE=None))])
def test_switched_off_nothing_is_written(tmp_path, argv, env):
    "No folder, no run; the report stands beside the results all the same."
    job(tmp_path/'work', *argv, **env)
    assert not [p for p in (tmp_path/'work').rglob('*') if 'wb' in p.parts
                or 'wandb' in p.name], list((tmp_path/'work').iterdir())


def wandb_records(data):
    "What is in a .wandb file: a log of LevelDB after seven bytes, whose blocks have 32 KiB."
    from wandb.proto.wandb_internal_pb2 import Record
    place, whole = 7, b''
    while place + 7 <= len(data):
        if (left := 32768 - place % 32768) < 7: place += left
        length, kind = struct.unpack('<HB', data[place + 4:place + 7])
        whole += data[place + 7:place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            yield Record.FromString(whole)
            whole = b''


def read_wandb(folder):
    "(configuration, the rows that were logged, page, tables) of an offline run."
    def plain(items): return {'.'.join(item.nested_key) or item.key: json.loads(item.value_json) for item in items}
    [file], config, rows = folder.rglob('*.wandb'), {}, []
    for record in wandb_records(file.read_bytes()):
        config |= plain(record.run.config.update) | plain(record.config.update)
        rows += [plain(record.history.item)] if record.history.item else []
    tables = {p.name.split('_')[0]: json.loads(p.read_text()) for p in folder.rglob('*.table.json')}
    [page] = [p for p in folder.rglob('*.html') if 'media' in p.parts]
    return config, rows, page.read_text(), tables


def read_mlflow(folder, monkeypatch):
    monkeypatch.setenv('MLFLOW_ALLOW_FILE_STORE', 'true')
    from mlflow import MlflowClient
    client = MlflowClient((folder/'mlruns').as_uri())
    [run] = client.search_runs([client.get_experiment_by_name('libdocs').experiment_id])
    assert sorted(run.data.tags) == ['mlflow.loggedArtifacts', 'mlflow.runName']
    assert run.info.status == 'FINISHED'
    by_step = {}
    for name in run.data.metrics:
        for point in client.get_metric_history(run.info.run_id, name):
            by_step.setdefault((point.step, point.timestamp), {})[name] = point.value
    rows = [row | {'train/global_step': step} for (step, _), row in sorted(by_step.items(), key=lambda kv: kv[0][1])]
    [artifacts] = folder.rglob('artifacts')
    tables = {p.stem: json.loads(p.read_text()) for p in artifacts.glob('*.json')}
    return run.data.params, rows, (artifacts/'report.html').read_text(), tables


def read_trackio(folder):
    "Straight from its database: where Trackio reads from is decided once in a process."
    db = sqlite3.connect(folder/'trackio'/'libdocs.db')
    rows = [json.loads(text) for text, in db.execute('select metrics from metrics order by id')]
    [config] = [json.loads(text) for text, in db.execute('select config from configs')]
    db.close()
    [page] = (folder/'trackio').rglob('*.html')
    tables = {name: value['_value'] for row in rows for name, value in row.items() if name in ('labels', 'classifiers')}
    assert config.pop('_Username') is None
    return config, rows, page.read_text(), tables


def read_back(track, folder, monkeypatch):
    "The same of any of them, with its figures called as W&B calls them."
    if track == 'wandb': return read_wandb(folder)
    return read_mlflow(folder, monkeypatch) if track == 'mlflow' else read_trackio(folder)


def written_for(track, folder, but=''):
    "The files of a tracker, as bytes, without the name of a folder in which they are."
    return {p: p.read_bytes().replace(but.encode(), b'') if but else p.read_bytes() for p in folder.rglob('*')
            if p.is_file() and p != folder/'report.html'}


@pytest.mark.parametrize('track', ['wandb', 'mlflow', 'trackio'])
def test_what_a_tracker_gets(tmp_path, track, monkeypatch):
    """Hyperparameters, figures of the steps and of the test split, tables and the report, which quotes documents
    with --track-documents alone; the copy beside it, on this machine, always does."""
    work, token = tmp_path/'folder_of_alice', 'hf_CANARYcanaryCANARY'
    env = dict(WANDB_MODE='offline', HF_TOKEN=token, HF_HUB_OFFLINE='1', USER='alice', LOGNAME='alice')
    job(work, '--track', track, **env)
    config, rows, page, tables = read_back(track, work/'wb', monkeypatch)
    assert float((config if track == 'mlflow' else config['hyperparameters'])['epochs']) == 2
    assert int(config['seed']) == 42
    loss, test = ('loss', 'test_top_1') if track == 'mlflow' else ('train/loss', 'test/top_1')
    assert [row['train/global_step'] for row in rows if loss in row] == [1, 2, 3, 4, 5, 6]
    metrics = json.loads((work/'res'/'metrics.json').read_text())
    assert [row[test] for row in rows if test in row] == [pytest.approx(metrics['top_1'])]
    assert set(tables) == {'classifiers', 'labels'}
    assert page.startswith('<!doctype html>')
    secret = b'confidential', b'alice', token.encode(), b'--track', b'classifier_model'
    files = written_for(track, work/'wb', but=str(work))
    assert not [(p, word) for p, data in files.items() for word in secret if word in data]
    assert 'confidential' in (work/'wb'/'report.html').read_text()
    job(work, '--track', track, '--track-documents', **env)
    assert [p for p, data in written_for(track, work/'wb').items() if b'confidential' in data]


@pytest.mark.parametrize('track', ['wandb', 'mlflow', 'trackio'])
def test_a_training_that_goes_on(tmp_path, track):
    "Interrupted and given again, the same command does the rest, and tracks it."
    work, line = tmp_path/'work', [*TRAIN, '--epochs', '4', '--track', track]
    put(work, {'ds/train.csv': csv_bytes(ROWS[:90]), 'ds/test.csv': csv_bytes(ROWS[90:])})
    env = environment(tmp_path/'home', WANDB_MODE='offline')
    stopped = run(asked() + 'sys.argv.pop(0)\n' + MODULE,
                  ['-', int(signal.SIGTERM), 'libdocs.classifier_model', *line], work, env)
    assert stopped.returncode == 143, stopped.stderr
    done = command('classifier_model', *line, cwd=work, env=env)
    assert done.returncode == 0, done.stderr
    assert 'resuming from step' in done.stderr
    for said in (stopped.stderr, done.stderr): assert 'goes on without it' not in said, said


def test_no_document_is_sent(tmp_path):
    "Nothing that a server of W&B gets has a document in it, also with --public."
    server = LoopbackWandb()
    job(tmp_path/'work', '--public', **server.env())
    server.close()
    bodies = [body for _, _, body in server.requests]
    assert any(b'loss' in body for body in bodies)
    assert not [body for body in bodies if b'confidential' in body]
