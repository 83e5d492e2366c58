"""Faults made on purpose: killed at any change of a file, asked to end, a disk that is full, a
damaged run folder. Whatever happens, the same command given again ends with the same files. SOAK=20
in the environment kills each command at twenty places instead of two."""
import json, os, re, shutil, signal, subprocess, sys, tempfile, time
from pathlib import Path

import pytest
import warm
from corpora import Jobs, csv_bytes, deberta, documents, environment, jsonl, one_error, put, read_jsonl, snapshot

PLACES = int(os.environ.get('SOAK', 2))
ROWS, MORE = documents(240), documents(330)
RAW = jsonl(ROWS + [r | {'id': f'copy {i}', 'text': r['text'].upper()} for i, r in enumerate(ROWS[::9])])
CLEAN = ['libdocs.cleaner_finetune', '-i', 'data', '-f', 'raw.jsonl', '-o', 'out/letters',
         '--target-hf-dataset', './ds']
TRAIN = ['libdocs.classifier_model', '--input-hf-dataset', './ds', '-o', './model', '-m', 'scratch',
         '--epochs', '4', '--device', 'cpu', '--output-classify-file', 'res/results.jsonl', '--track-output', 'wb']
TUNE = [*TRAIN, '--epochs', '2', '--refit', 'off', '--tune', '3']
INPUTS = {'clean': {'data/raw.jsonl': RAW},
          'train': {'ds/train.csv': csv_bytes(ROWS[:180]), 'ds/test.csv': csv_bytes(ROWS[180:])},
          'tune': {'ds/train.csv': csv_bytes(MORE[:280]), 'ds/test.csv': csv_bytes(MORE[280:])}}
COMMANDS = {'clean': CLEAN, 'train': TRAIN, 'tune': TUNE}

# Programs of their own: the module argv[2] as a program, which may not write in the folder argv[1]; and with
# a clock that runs backwards; and, in SHORT, in which an operation of every batch of more than argv[2] tokens
# fails
READ_ONLY = '''
import errno, os, sys
name = os.path.abspath(sys.argv[1])
CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod"}
def watch(event, args):
    opens = event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR)
    changes = event in CHANGES and args[-1] == -1
    if not (opens or changes) or not isinstance(args[0], (str, os.PathLike)): return
    path = os.path.abspath(os.fspath(args[0])) + os.sep
    if path.startswith(name + os.sep): raise OSError(errno.EROFS, os.strerror(errno.EROFS), args[0])
sys.addaudithook(watch)
sys.argv = sys.argv[2:]
''' + warm.MODULE
STRANGE = '''
import time
now, begun = time.time, time.time()
time.time = lambda: begun - 1e6 - (now() - begun)
''' + READ_ONLY
SHORT = f'''
import sys
sys.path.append({str(Path(__file__).parent)!r})
from shortage import Shortage, beyond
when, tokens, step, *sys.argv = sys.argv[1:]
if when == "train": from libdocs.finetune.trainer import ClassifierTrainer as owner
else: from libdocs.classifiers.forward import Forward as owner
name = dict(train="step_in_parts", evaluate="batch_logits")[when]
setattr(owner, name, Shortage(beyond(int(tokens), int(step))).during(getattr(owner, name)))
''' + warm.MODULE

# Programs of their own: the module argv[2] as a program, killed at its change number argv[1] of a file in
# this folder; how many there were is written to ../changes
KILLER = '''
import atexit, os, signal, sys
here, at, seen = os.getcwd(), int(sys.argv[1]), [0]
CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "shutil.rmtree"}
def watch(event, args):
    opens = event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR)
    if not (event in CHANGES or opens): return
    if not isinstance(args[0], (str, os.PathLike)) or not os.path.abspath(os.fspath(args[0])).startswith(here): return
    seen[0] += 1
    if seen[0] == at: os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(watch)
atexit.register(lambda: open("../changes", "w").write(str(seen[0])))
sys.argv = sys.argv[2:]
''' + warm.MODULE


def start(work, kind, at=0, **options):
    "The command in the folder `work`, killed at change `at`; 0: never."
    return warm.run(KILLER, ['-c', at, *COMMANDS[kind]], work, environment(work.parent/'home'), **options)


def made(work):
    "What the command made, but for its run folder and for how long it took."
    def timeless(name, data):
        if name.endswith('.json'):
            return re.sub(r'"(?:evaluation_)?seconds": [\d.]+', '', data.decode())
        return (re.sub(r'[\d.]+', '#', data.decode()) if name.endswith(('.md', 'report.html'))
                and not name.startswith(('out/', 'ds/')) else data)
    return {name: timeless(name, data) for name, data in snapshot(work).items()
            if name.split('/')[0] not in ('wb', 'data')}


def well(done):
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    "kind → (what an undisturbed command made, how often it changed a file)."
    def recipe(kind):
        work = tmp_path_factory.mktemp(f'whole-{kind}')/'work'
        def run():
            put(work, INPUTS[kind])
            begun = time.monotonic()
            well(start(work, kind))
            (work.parent/'seconds').write_text(str(time.monotonic() - begun))
            return made(work), int((work.parent/'changes').read_text()), work
        return run
    jobs = Jobs({kind: recipe(kind) for kind in COMMANDS})
    yield jobs.start(COMMANDS)
    jobs.close()


# Killed

@pytest.mark.parametrize('kind', COMMANDS)
@pytest.mark.parametrize('place', range(PLACES))
def test_killed_and_given_again(whole, tmp_path, kind, place, record_property):
    "Killed at a change of a file and given again, a command makes the same files."
    expected, changes, _ = whole[kind]
    assert changes > 30
    put(tmp_path/'work', INPUTS[kind])
    at = 1 + (changes - 1) * (2 * place + 1) // (2 * PLACES)
    begun = time.monotonic()
    assert start(tmp_path/'work', kind, at).returncode == -signal.SIGKILL
    killed = time.monotonic()
    well(start(tmp_path/'work', kind))
    record_property('seconds before', killed - begun)
    record_property('seconds again', time.monotonic() - killed)
    assert made(tmp_path/'work') == expected
    left = [p for p in (tmp_path/'work').rglob('*') if p.name.endswith('.part') and 'wb' not in p.parts]
    assert not [p for p in left if p.is_dir()], 'a stage was left half done'


@pytest.mark.parametrize('kind', COMMANDS)
def test_given_again_nothing_is_done(whole, kind, record_property):
    "A job that is done is not done again: each stage is found, no file is touched."
    expected, _, work = whole[kind]
    record_property('seconds whole', (work.parent/'seconds').read_text())
    before = {p: p.stat().st_mtime_ns for p in work.rglob('*') if p.is_file()
              and not p.name.endswith(('.push', '.lock', '.md', 'metrics.json', 'report.html'))}
    done = well(start(work, kind))
    assert 're-running' not in done.stderr
    assert done.stderr.count('already done') >= 6
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert made(work) == expected


# Asked to end

def asked_to_end(work, sent, kind='train'):
    "The command in `work`, sent a signal in the second epoch."
    put(work, INPUTS[kind])
    return warm.run(warm.asked() + 'sys.argv.pop(0)\n' + warm.MODULE,
                    ['-c', int(sent), *COMMANDS[kind]], work, environment(work.parent/'home'))


@pytest.mark.parametrize('sent,code', [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_asked_to_end_in_training(whole, tmp_path, sent, code):
    "A checkpoint is kept, the log says how to resume, and the resumed training ends with the same files."
    work = tmp_path/'work'
    done = asked_to_end(work, sent)
    assert done.returncode == code, done.stderr
    assert 'To resume: classifier_model --input-hf-dataset ./ds' in done.stderr
    assert 'Traceback' not in done.stderr
    assert list((work/'model_run'/'train.part'/'checkpoints').glob('checkpoint-*'))
    assert not (work/'model').exists()
    done = well(start(work, 'train'))
    assert re.search(r'resuming from step \d+', done.stderr)
    assert made(work) == whole['train'][0]


@pytest.mark.parametrize('sent,code', [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_ended_in_a_trial(whole, tmp_path, sent, code):
    "Asked to end, or killed, in the second epoch of a trial, a search goes on there and has the same trials."
    work = tmp_path/'work'
    done = asked_to_end(work, sent, 'tune')
    assert done.returncode == code, done.stderr
    assert 'Traceback' not in done.stderr
    assert list((work/'model_run'/'tune.part'/'checkpoints'/'trial-1').glob('checkpoint-*'))
    assert not (work/'model').exists()
    well(start(work, 'tune'))
    assert made(work) == whole['tune'][0]
    assert len(json.loads((work/'model'/'training.json').read_text())['trials']) == 3


def test_damaged_checkpoints_are_found(whole, tmp_path):
    "A flipped bit is noticed; the training starts without that checkpoint and ends the same."
    work = tmp_path/'work'
    asked_to_end(work, signal.SIGTERM)
    for checkpoint in (work/'model_run'/'train.part'/'checkpoints').iterdir():
        data = bytearray((checkpoint/'optimizer.pt').read_bytes())
        data[len(data) // 2] ^= 1
        (checkpoint/'optimizer.pt').write_bytes(data)
    done = well(start(work, 'train'))
    assert 'is not used: ' in done.stderr
    assert 'changed after it was written' in done.stderr
    assert made(work) == whole['train'][0]


# A run folder that was changed, or is in use

@pytest.mark.parametrize('kind,name,stage',
                         [('clean', 'out/letters_run/clean/ledger.parquet', 'clean'),
                          ('clean', 'out/letters_run/read.json', 'read'), ('clean', 'out/letters_test.jsonl', 'write'),
                          ('train', 'model_run/tokenize/train.arrow', 'tokenize'),
                          ('train', 'model_run/train.json', 'train'), ('train', 'res/results.jsonl', 'evaluate')])
def test_what_was_damaged_is_done_again(whole, tmp_path, kind, name, stage):
    "The stage that made a damaged file runs again, those whose inputs are the same do not."
    expected, _, work = whole[kind]
    shutil.copytree(work, tmp_path/'work')
    path = tmp_path/'work'/name
    path.write_bytes(path.read_bytes()[:-7])
    done = well(start(tmp_path/'work', kind))
    again = re.findall(r're-running (\w+):', done.stderr)
    assert again[0] == stage, done.stderr
    # what is made from it is the same, so it stands; the card is written by two stages
    assert len(again) <= 2, done.stderr
    assert made(tmp_path/'work') == expected


@pytest.mark.parametrize('kind,folder', [('clean', 'out/letters_run'), ('train', 'model_run')])
def test_one_at_a_time(whole, kind, folder):
    "A second job on a run folder in use ends at once, with one line, and touches nothing."
    from libdocs.core.runs import held
    expected, _, work = whole[kind]
    with held(work/folder): done = start(work, kind)
    assert done.returncode == 2
    assert f'in use by process {os.getpid()}' in done.stderr
    assert done.stderr.count('\n') == 1
    assert made(work) == expected


# A disk that is full: files may have so many bytes and not more

@pytest.mark.parametrize('kind,share', [('clean', .1), ('clean', .5), ('clean', .9), ('train', .1), ('train', .9)])
def test_full_disk(whole, tmp_path, kind, share):
    "Files may be smaller than such a share of those that are made, by size, and not larger."
    work = tmp_path/'work'
    sizes = sorted(len(data) for name, data in snapshot(whole[kind][2], runs=True).items() if data
                   and name not in INPUTS[kind])
    put(work, INPUTS[kind])
    done = start(work, kind, file_size=sizes[int(share * len(sizes))] - 1)
    assert done.returncode == 2, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert 'File too large' in last, done.stderr
    assert 'Traceback' not in done.stderr, done.stderr
    assert ': error: ' in last, done.stderr
    expected = whole[kind][0]
    assert all(expected[name] == data for name, data in made(work).items() if name in expected
               and not name.endswith(('.md', '.html', '.json'))), 'half a file under a final name'
    well(start(work, kind))
    assert made(work) == expected


# Memory that is short: see test_memory.py for every operation; here one of them, in the complete job

HEAVY = ['--input-hf-dataset', './ds', '-o', './model', '-m', './base', '--epochs', '3', '--device',
         'cpu', '--dtype', 'float32', '--output-classify-file', 'res/results.jsonl', '--track-output', 'wb']
LONG = 4 * 10 + 2  # tokens of each text


@pytest.fixture(scope='module')
def roomy(tmp_path_factory):
    "A folder with texts and a base model, trained and evaluated with all the memory that there is."
    work = tmp_path_factory.mktemp('roomy')/'work'
    texts_and_base(work, 4, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
                   intermediate_size=48, max_position_embeddings=128)
    well(short_of_memory(work, 'train', 1 << 40))
    return work


def texts_and_base(work, times, **sizes):
    "A dataset of 18 texts, each `times` as long as a line, and a DeBERTa to begin with."
    rows = [row | {'text': ' '.join([row['text']] * times)} for row in documents(18)]
    put(work, {'ds/train.csv': csv_bytes(rows[:12]), 'ds/test.csv': csv_bytes(rows[12:])})
    deberta(work/'base', [row['text'] for row in rows], **sizes)


def short_of_memory(work, when, tokens, step=40):
    "The job in `work`; when it trains, or evaluates, the memory runs out in each batch of more than so many tokens."
    return warm.run(SHORT, ['-c', when, tokens, step, 'libdocs.classifier_model', *HEAVY], work,
                    environment(work.parent/'home'))


def undone(done, work, when):
    "A copy of the folder `done` in which there is left to train, or only to evaluate."
    shutil.copytree(done, work)
    shutil.rmtree(work/'res')
    if when == 'train': shutil.rmtree(work/'model'), shutil.rmtree(work/'model_run')
    return work


def same_answers(one, other):
    answers = [[dict(zip(row['predictions'], row['scores'])) for row in read_jsonl(work/'res'/'results.jsonl')]
               for work in (one, other)]
    return all(b == pytest.approx(a, abs=1e-4) for a, b in zip(*answers, strict=True))


@pytest.mark.parametrize('when', ['train', 'evaluate'])
def test_smaller_batches_when_memory_is_short(roomy, tmp_path, when):
    "The job ends with the same answers, and says that memory ran out."
    work = undone(roomy, tmp_path/'work', when)
    done = well(short_of_memory(work, when, 2 * LONG))
    assert 'the memory of cpu ran out' in done.stderr, done.stderr
    assert same_answers(roomy, work), done.stderr


NAMED = r"error: a text of \d+ tokens does not fit into the memory of cpu: .* It begins: '\w+\d+ \w+\d+ "


@pytest.mark.parametrize('when', ['train', 'evaluate'])
def test_one_text_that_does_not_fit_is_named(roomy, tmp_path, when):
    "If even one text alone does not fit, the error says which."
    done = short_of_memory(undone(roomy, tmp_path/'work', when), when, LONG - 1)
    assert done.returncode == 2, done.stderr
    assert re.search(NAMED, done.stderr), done.stderr
    assert 'Traceback' not in done.stderr, done.stderr


# Strange surroundings

@pytest.mark.parametrize('kind,inputs', [('clean', 'data'), ('train', 'ds')])
def test_strange_surroundings(whole, tmp_path, kind, inputs):
    """On another filesystem than the home and the temporary folder, at the end of more than 300 characters of
    path with emoji and spaces in it, in a locale that knows neither, with a clock that runs backwards and
    inputs that cannot be written."""
    shm = Path('/dev/shm')
    with tempfile.TemporaryDirectory(dir=shm if shm.is_dir() else tmp_path) as there:
        work = Path(there)/('\U0001f4c4 caf\u00e9 ' + 'x' * 140)/('a b ' + 'y' * 140)/'work'
        assert len(str(work)) > 300
        put(work, INPUTS[kind])
        plain = dict(LC_ALL='C', PYTHONUTF8='0', PYTHONCOERCECLOCALE='0', PYTHONIOENCODING=None, TMPDIR=str(tmp_path))
        done = subprocess.run([sys.executable, '-c', STRANGE, inputs, *COMMANDS[kind]], cwd=work,
                              env=environment(tmp_path/'home', **plain), capture_output=True, timeout=warm.HANG)
        assert done.returncode == 0, done.stderr.decode(errors='replace')
        assert made(work) == whole[kind][0]


@pytest.mark.parametrize('kind,outputs', [('clean', 'out'), ('clean', 'ds'), ('train', 'model'), ('train', 'res')])
def test_outputs_that_cannot_be_written(tmp_path, kind, outputs):
    "One line that says why, exit code 2, no traceback."
    put(tmp_path/'work', INPUTS[kind])
    done = warm.run(READ_ONLY, ['-c', outputs, *COMMANDS[kind]], tmp_path/'work', environment(tmp_path/'home'))
    one_error(done.returncode, done.stderr)
    assert 'Read-only file system' in done.stderr, done.stderr
