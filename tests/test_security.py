"""Corpora, datasets and models that mean harm: files that fill a machine, paths that lead out, code
in weights and cards, text that a terminal or a spreadsheet obeys; and tokens that must not be seen
by anyone."""
import csv, gzip, json, os, re, signal, subprocess, sys
from pathlib import Path

import pytest
import warm
from corpora import TRAIN, csv_bytes, documents, environment, jsonl, one_error, put, read_jsonl, tiny_bert
from loopback_wandb import LoopbackWandb

from libdocs.core.hub import push
from libdocs.core.fetch import fetch_model, load_splits
from libdocs.core.errors import InputError

ROWS = documents(60)
CLEAN = ['-i', 'data', '-o', 'out/letters', '--target-hf-dataset', './ds']


@pytest.fixture
def run(tmp_path, monkeypatch, capfd):
    "Both commands, by name, in this process and in a folder of their own: (exit code, stdout, stderr)."
    from libdocs import classifier_model, cleaner_finetune
    commands = dict(cleaner_finetune=cleaner_finetune.main, classifier_model=classifier_model.main)
    monkeypatch.chdir(tmp_path)
    return lambda name, *argv: (commands[name](list(argv)), *capfd.readouterr())


def refused(done, *phrases):
    "One line, exit code 2."
    code, _, said = done
    one_error(code, said)
    for words in phrases:
        assert words in said, said


def succeeds(done):
    code, _, said = done
    assert code == 0, said
    return done


# What fills a machine

def bomb(ending):
    import zstandard
    zeros = bytes(150_000_000)
    return gzip.compress(zeros, 9) if ending == 'gz' else zstandard.ZstdCompressor().compress(zeros)


@pytest.mark.parametrize('ending', ['gz', 'zst'])
@pytest.mark.parametrize('bad_rows', ['stop', 'reject'])
def test_decompression_bombs(run, tmp_path, ending, bad_rows):
    "They are refused with one line before they fill memory or disk."
    put(tmp_path, {f'data/raw.jsonl.{ending}': bomb(ending)})
    refused(run('cleaner_finetune', *CLEAN, '-f', f'raw.jsonl.{ending}', '--bad-rows', bad_rows),
            f'raw.jsonl.{ending}', '200 times its size' if bad_rows == 'reject' else ':1: longer than 64 MiB')
    assert not (tmp_path/'ds').exists()


def test_limits_are_raised_by_options(run, tmp_path):
    "The error names the option, and with it the file is read, in both commands."
    put(tmp_path, {'data/raw.jsonl.gz': gzip.compress((b' ' * 1_000_000 + b'\n') * 110 + jsonl(ROWS), 9)})
    clean = [*CLEAN, '-f', 'raw.jsonl.gz', '--label-issues', 'off']
    refused(run('cleaner_finetune', *clean), '--max-unpacked-ratio')
    refused(run('cleaner_finetune', *clean, '--max-unpacked-ratio', '2000', '--max-unpacked-gb', '0.05'),
            '0.05 GB', '--max-unpacked-gb')
    succeeds(run('cleaner_finetune', *clean, '--max-unpacked-ratio', '2000'))
    tiny_bert(tmp_path/'model', [row['text'] for row in ROWS], ['contract', 'invoice', 'minutes'])
    examples = ['--examples', '--input-dir', 'data', '--filename', 'raw.jsonl.gz', '-o', './model',
                '--output-classify-file', 'res/results.jsonl', '--device', 'cpu']
    refused(run('classifier_model', *examples), '--max-unpacked-ratio')
    succeeds(run('classifier_model', *examples, '--max-unpacked-ratio', '2000'))


def test_lines_without_end_and_values_without_bottom(run, tmp_path):
    "Such rows are rejected like others."
    deep = json.dumps(ROWS[0])[:-1].encode() + b', "more": ' + b'[' * 50_000 + b']' * 50_000 + b'}\n'
    endless = b'{"text": "' + b'x' * (70 << 20) + b'", "label": "a"}\n'
    put(tmp_path, {'data/raw.jsonl': deep + endless + jsonl(ROWS)})
    _, _, said = succeeds(run('cleaner_finetune', *CLEAN, '-f', 'raw.jsonl', '--bad-rows', 'reject',
                              '--label-issues', 'off'))
    assert '2 bad rows skipped' in said
    assert [row['line'] for row in read_jsonl(tmp_path/'out'/'letters_rejected.jsonl')] == [1, 2]


# What leads out, or runs

def test_paths_in_a_listing_do_not_lead_out(hub, tmp_path, monkeypatch):
    "A file name from the Hub is never a path outside the repo."
    monkeypatch.chdir(tmp_path)
    (tmp_path/'precious.csv').write_text('mine')
    for path in ('../precious.csv', '../../../../../../../../../..' + str(tmp_path/'precious.csv'),
                 '/' + str(tmp_path/'precious.csv').lstrip('/'), '.git/hooks/post-checkout'):
        hub.reset()
        hub.push('alice/evil', {'train.csv': csv_bytes(ROWS), path: b'text,label\nevil,evil\n'}, 'dataset')
        hub.push('alice/evil', {'config.json': b'{}', 'model.safetensors': b'x', path.replace('.csv', '.json'): b'{}'})
        for read in (load_splits, fetch_model):
            with pytest.raises(InputError, match='is not a path inside a repo'): read('alice/evil')
        assert (tmp_path/'precious.csv').read_text() == 'mine'


def test_links_do_not_lead_out(tmp_path):
    "A link in a folder repo is not followed."
    (tmp_path/'repo').mkdir()
    (tmp_path/'repo'/'train.csv').symlink_to(tmp_path/'precious.csv')
    (tmp_path/'precious.csv').write_text('mine')
    with pytest.raises(InputError, match='leads out of the folder'):
        push({'train.csv': b'text,label\n'}, str(tmp_path/'repo'), 'dataset', 'x')
    assert (tmp_path/'precious.csv').read_text() == 'mine'


@pytest.mark.parametrize('card', ['---\nconfigs: !!python/object/apply:os.system ["touch ran"]\n---\n',
                                  '---\ndataset_info: !!python/object/new:subprocess.Popen [["touch", "ran"]]\n---\n',
                                  '---\na: &a ["x","x","x","x","x","x","x","x","x"]\nb: &b '
                                  '[*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n---\n'])
def test_cards_build_no_objects(tmp_path, monkeypatch, card):
    "YAML tags run nothing, and aliases that multiply do no harm."
    monkeypatch.chdir(tmp_path)
    put(tmp_path/'ds', {'train.csv': csv_bytes(ROWS), 'test.csv': csv_bytes(ROWS[:9]), 'README.md': card.encode()})
    try: assert len(load_splits('./ds')['train']) == len(ROWS)
    except InputError as error: assert 'ds' in str(error)
    assert not (tmp_path/'ran').exists()


class Harm:
    def __reduce__(self): return os.system, ('touch ran',
)


def pickled(folder, harm=False):
    "A base model whose weights are a pickle."
    import torch
    from safetensors.torch import load_file
    weights = load_file(folder/'model.safetensors')
    (folder/'model.safetensors').unlink()
    torch.save(weights | ({'harm': Harm()} if harm else {}), folder/'pytorch_model.bin')
    return folder


def test_pickles_only_on_demand_and_without_code(run, tmp_path):
    "With --allow-pickle weights are read, and code in them is still not run."
    put(tmp_path, {'ds/train.csv': csv_bytes(ROWS[:40]), 'ds/test.csv': csv_bytes(ROWS[40:])})
    texts = [row['text'] for row in ROWS]
    pickled(tiny_bert(tmp_path/'honest', texts)), pickled(tiny_bert(tmp_path/'harmful', texts), harm=True)
    def train(base, *options): return run('classifier_model', *TRAIN, '-m', base, *options)
    refused(train('./honest'), 'a pickle can run code', '--allow-pickle')
    refused(train('./harmful', '--allow-pickle'), './harmful: cannot be loaded as a base model')
    (tmp_path/'honest'/'other.safetensors').write_bytes(b'')  # does not open the door to the pickle beside it
    refused(train('./honest'), './honest: cannot be loaded as a base model')
    (tmp_path/'honest'/'other.safetensors').unlink()
    succeeds(train('./honest', '--allow-pickle'))
    assert not (tmp_path/'ran').exists()
    assert (tmp_path/'model'/'model.safetensors').exists()
    assert not list((tmp_path/'model').glob('*.bin'))


def test_code_in_a_model_is_never_run(run, tmp_path):
    "A model that brings its own code is refused."
    put(tmp_path, {'ds/train.csv': csv_bytes(ROWS[:40]), 'ds/test.csv': csv_bytes(ROWS[40:])})
    base = tiny_bert(tmp_path/'base', [row['text'] for row in ROWS])
    config = json.loads((base/'config.json').read_text())
    config |= dict(model_type='mine', auto_map={'AutoConfig': 'harm.Config',
                                                'AutoModelForSequenceClassification': 'harm.Model',
                                                'AutoTokenizer': [None, 'harm.Tokenizer']})
    put(base, {'config.json': json.dumps(config).encode(), 'harm.py': b'open("ran", "w")\n'})
    refused(run('classifier_model', *TRAIN, '-m', './base'), './base')
    assert not (tmp_path/'ran').exists()


# What a terminal, a page or a spreadsheet obeys

EVIL = ['\x1b]0;owned\x07invoice\x1b[2K', '=HYPERLINK("http://x","y")',
        '</script><img src=x onerror=alert(1)>', '@SUM(A1)\u202e']


def test_hostile_labels(run, tmp_path):
    "Markup, escape sequences and formulas in labels and names are plain text in every output."
    rows = [row | {'label': EVIL[i % len(EVIL)], 'text': row['text'] + ('\x1b[31m' if i % 2 else '')}
            for i, row in enumerate(documents(120, [f'word{i}' for i in range(len(EVIL))]))]
    rows.append(rows[0] | {'id': 'x', 'label': EVIL[0].upper()})
    put(tmp_path, {'data/\x1b[31mraw.jsonl': jsonl(rows + [dict(text='', label=EVIL[0])])})
    clean = [*CLEAN, '-f', '\x1b[31mraw.jsonl', '--bad-rows', 'reject']
    for done in (run('cleaner_finetune', *clean, '--csv-safe', '--merge-labels'), run('classifier_model', *TRAIN)):
        succeeds(done)
        # libraries have escape sequences of their own
        assert not re.search('\x07|\x1b\\]|\x1b\\[31m|\x1b\\[2K', done[1] + done[2]), done
    code, said, stderr = run('cleaner_finetune', *clean, '-o', 'other/letters', '--labels-to-filter', *EVIL)
    assert code == 2, stderr
    assert stderr.count('error: ') == 1, stderr
    assert not re.search('\x07|\x1b\\]|\x1b\\[31m', stderr), stderr
    for path in (tmp_path/'ds'/'train.csv', tmp_path/'ds'/'test.csv'):
        for row in csv.reader(path.open(newline='', encoding='utf-8')):
            assert not [cell for cell in row if cell.startswith(('=', '+', '-', '@', '\t', '\r'))]
    frequencies, metrics = (json.loads((tmp_path/'ds'/'label_frequencies.json').read_text()),
                            json.loads((tmp_path/'res'/'metrics.json').read_text()))
    assert set(frequencies['labels']) == {EVIL[0], "'" + EVIL[1], EVIL[2], "'" + EVIL[3]}
    assert metrics['natural']
    for path in (tmp_path/'out'/'letters_report.html', tmp_path/'res'/'report.html',
                 tmp_path/'ds'/'README.md', tmp_path/'model'/'README.md'):
        page = path.read_text(encoding='utf-8')
        assert '<img src=x' not in page, path
        assert not re.search('[\x00-\x08\x0b-\x1f\x7f-\x9f]', page), path


# Tokens

HF, WB = 'hf_CANARYcanaryCANARYcanary012345', 'wandbCANARY0123456789abcdef0123456789abcdef'


def children(pid):
    "The command lines of all processes below `pid`."
    parents = {}
    for path in Path('/proc').glob('[0-9]*'):
        try:
            parents[int(path.name)] = (int((path/'stat').read_text().rsplit(')', 1)[1].split()[1]),
                                       (path/'cmdline').read_bytes())
        except OSError: continue  # it has ended
    below = {pid}
    while more := {child for child, (parent, _) in parents.items() if parent in below} - below:
        below |= more
    return [parents[child][1] for child in below - {pid} if child in parents]


@pytest.mark.skipif(not Path('/proc/self/cmdline').exists(), reason='needs /proc')
def test_tokens_in_children_and_checkpoints(hub, tmp_path):
    """Both tokens on the command line, W&B online; the job is stopped, looked at, and asked to end, which
    leaves a checkpoint. Neither token is in the command line of a child, or in a file."""
    put(tmp_path/'work', {'ds/train.csv': csv_bytes(ROWS[:45]), 'ds/test.csv': csv_bytes(ROWS[45:])})
    hub.add_user('alice', token=HF)
    server = LoopbackWandb()
    env = environment(tmp_path/'home', **(hub.env(None, tmp_path/'home'/'hf')
                                          | {k: v for k, v in server.env().items() if k != 'WANDB_API_KEY'}))
    line = [sys.executable, '-c', warm.asked() + 'sys.argv.pop(0)\n' + warm.MODULE,
            str(int(signal.SIGSTOP)), 'libdocs.classifier_model', *TRAIN, '--epochs', '9', '-o',
            'alice/model', '--hf-access-token', HF, '--wandb-access-token', WB]
    job = subprocess.Popen(line, cwd=tmp_path/'work', env=env, stderr=subprocess.PIPE, text=True)
    os.waitid(os.P_PID, job.pid, os.WSTOPPED)
    seen = children(job.pid)
    for sent in (signal.SIGTERM, signal.SIGCONT): job.send_signal(sent)
    stderr = job.communicate(timeout=warm.HANG)[1]
    server.close()
    assert job.returncode == 143, stderr
    assert server.requests, stderr
    assert any(b'wandb' in words for words in seen), stderr
    assert not [words for words in seen if b'CANARY' in words]
    assert 'CANARY' not in stderr.replace(' '.join(line), '')
    files = [p for p in tmp_path.rglob('*') if p.is_file()]
    assert [p for p in files if p.name == 'training_args.bin']
    assert not [p for p in files if b'CANARY' in p.read_bytes()]
