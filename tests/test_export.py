"`libdocs export`, and what runs on an export: classify and serve, folders and a Hub, faults."
import json, re, shutil, signal, subprocess, sys
from types import SimpleNamespace

import httpx
import numpy as np
import pytest
from corpora import bert, command, documents, environment, jsonl, put, read_jsonl, succeeds
from loopback_hub import LoopbackHub
from test_serve import KEY, started
from warm import HANG, MODULE, run

pytest.importorskip('onnxruntime', reason="needs pip install 'libdocs[onnx]'")
pytest.importorskip('onnx', reason="needs pip install 'libdocs[onnx]'")

from libdocs.classifiers.deberta import DebertaZeroShot

WORDS = ['word', 'clause', 'zero']
SIZES = dict(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
             max_position_embeddings=128, initializer_range=.5)


@pytest.fixture(scope='module')
def work(tmp_path_factory):
    "A folder with tiny models, two exports, and rows."
    root = tmp_path_factory.mktemp('export')
    folder, rows = root/'work', documents(40, WORDS, 1)
    texts = [row['text'] for row in rows]
    put(folder, {'rows.jsonl': jsonl(rows), 'model/README.md': b'# Letters\n'})
    bert(folder/'model', texts, WORDS, **SIZES)
    bert(folder/'nli', texts, ['entailment', 'neutral', 'contradiction'], **SIZES)
    work = SimpleNamespace(folder=folder, texts=texts, env=environment(root/'home'))
    work.said = {name: succeeds(libdocs(work, 'export', './model', *options, '-o', name)).stdout
                 for name, options in {'plain': ['--to', 'onnx'], 'small': ['--quantize', 'int8']}.items()}
    return work


def libdocs(work, *words, **options): return command('libdocs', *words, cwd=work.folder, env=work.env, **options)


def classify(work, model, out, *options):
    succeeds(libdocs(work, 'classify', model, 'rows.jsonl', '-o', out, *options))
    return read_jsonl(work.folder/out)


def one_line(done, message):
    errors = [line for line in done.stderr.splitlines() if not line.startswith(('INFO: ', 'WARNING: '))]
    assert (done.returncode, len(errors)) == (2, 1), done.stderr
    assert re.search(message, errors[0]), errors[0]
    assert not done.stdout


def test_what_is_written(work):
    "All that is needed, without the weights; and the way to use it."
    for name, file in (('plain', 'onnx/model.onnx'), ('small', 'onnx/model_int8.onnx')):
        folder = work.folder/name
        made = {path.relative_to(folder).as_posix() for path in folder.rglob('*') if path.is_file()}
        assert {file, 'config.json', 'tokenizer.json', 'README.md'} <= made
        assert not [path for path in made if path.endswith('.safetensors')]
        assert (folder/'config.json').read_bytes() == (work.folder/'model'/'config.json').read_bytes()
        assert f'wrote ./{name}\nto use it: libdocs classify ./{name} FILE' in work.said[name]
        assert file in work.said[name]
        assert '## About this export' in (folder/'README.md').read_text()
    assert 'for 64 of 64 texts' in work.said['plain']
    assert not list(work.folder.glob('.*'))


def test_classify_says_the_same(work):
    "In float32 every row as torch has it; in int8 nearly; the journal of one is not continued by another."
    torch = classify(work, './model', 'torch.jsonl', '--device', 'cpu')
    plain = classify(work, './plain', 'onnx.jsonl', '--runtime', 'onnx')
    small = classify(work, './small', 'int8.jsonl', '--runtime', 'onnx-int8', '--top', '3')
    for row, other in zip(torch, plain):
        assert row['predictions'] == other['predictions']
        assert row['scores'] == pytest.approx(other['scores'], abs=1e-4)
    assert [row['text'] for row in small] == work.texts
    assert np.mean([row['prediction'] == other['prediction'] for row, other in zip(torch, small)]) > .7
    prints = [DebertaZeroShot(str(work.folder/name), device='cpu', runtime=runtime).fingerprint
              for name, runtime in (('model', 'torch'), ('plain', 'onnx'), ('small', 'onnx'))]
    assert len({*prints}) == 3


def test_an_interrupted_job_starts_over_with_another_runtime(work):
    "Rows that torch has answered do not stand beside rows that onnxruntime answers."
    from libdocs.classifiers.files import classify_files, Journal
    class Ends(Exception): pass
    def stop(*_): raise Ends
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('libdocs.classifiers.files.write_rows', stop)
        for runtime in ('torch', 'onnx'):
            with pytest.raises(Ends):
                classify_files(str(work.folder/('model' if runtime == 'torch' else 'plain')),
                               str(work.folder/'rows.jsonl'), str(work.folder/'both.jsonl'), runtime=runtime)
            note = json.loads((work.folder/'both.jsonl.partial.json').read_text())
            journal = Journal(work.folder/'both.jsonl', note)
            assert len(list(journal.lines())) == len(work.texts)
            journal.close()
            if runtime == 'torch': before = note['model']
    assert note['model'] != before
    journal.remove()


def test_zero_shot(work):
    "An NLI model reads pairs of texts, also by onnxruntime."
    succeeds(libdocs(work, 'export', './nli', '-o', 'nli-onnx'))
    labels = ['--labels', 'letter', 'memo']
    rows = [classify(work, model, out, *labels, '--runtime', runtime)
            for model, out, runtime in (('./nli', 'nli.jsonl', 'torch'), ('./nli-onnx', 'nli2.jsonl', 'onnx'))]
    for row, other in zip(*rows):
        assert dict(zip(row['predictions'], row['scores'])) == pytest.approx(
            dict(zip(other['predictions'], other['scores'])), abs=1e-4)


def test_serve(work):
    "A server answers with the export, alone and together, as the class does."
    model = DebertaZeroShot(str(work.folder/'small'), runtime='onnx')
    job, address = started(work, './small', '--runtime', 'onnx', '--port', '0', LIBDOCS_KEY=KEY)
    with httpx.Client(base_url=address.split('?')[0], headers={'X-Key': KEY}, timeout=HANG) as client:
        together = client.post('/classify', json=dict(texts=work.texts[:9])).json()['answers']
        alone = [client.post('/classify', json=dict(texts=[text])).json()['answers'][0] for text in work.texts[:9]]
    job.send_signal(signal.SIGTERM)
    job.wait()
    assert together == alone
    assert [row['confidence'] for row in alone] == pytest.approx(model.predict_proba(work.texts[:9]).max(1), abs=1e-5)


@pytest.mark.parametrize('words, message', [
    (['./nothing', '-o', 'x'], 'no such folder'),
    (['./plain', '-o', 'x'], 'no weights for torch, but an export'),
    (['rows.jsonl', '-o', 'x'], 'rows.jsonl'),
    (['./model'], r'nowhere to write to: name a folder \(--output FOLDER\), or put .* \(--push\)'),
    (['./model', '-o', 'model'], r'model: is not empty; choose another folder, or .* \(--push\)'),
    (['./model', '-o', 'rows.jsonl'], 'rows.jsonl is not a folder'),
    (['./model', '-o', 'rows.jsonl/x'], 'rows.jsonl is not a folder'),
    (['./model', '-o', '/proc/x'], '/proc'),
    (['./model', '-o', 'x', '--to', 'onyx'], "invalid choice: 'onyx'"),
    (['./model', '-o', 'x', '--quantize', 'int4'], "invalid choice: 'int4'"),
    (['./headless', '-o', 'x'], 'no trained classification head'),
    (['./fnet', '-o', 'x'], 'a FNetForSequenceClassification cannot be exported to ONNX: ')])
def test_bad_input_is_one_line(work, words, message):
    if words[0] == './headless' and not (work.folder/'headless').exists():
        import transformers
        shutil.copytree(work.folder/'model', work.folder/'headless')
        transformers.BertModel.from_pretrained(work.folder/'model').save_pretrained(work.folder/'headless')
    if words[0] == './fnet': bert(work.folder/'fnet', work.texts, WORDS, kind='FNet', **{
        name: size for name, size in SIZES.items() if name != 'num_attention_heads'})
    before = {*work.folder.glob('*'), *work.folder.glob('.*')}
    one_line(libdocs(work, 'export', *words), message)
    assert {*work.folder.glob('*'), *work.folder.glob('.*')} == before


@pytest.mark.parametrize('words, message', [
    (['./model', '--runtime', 'onnx'],
     r'there is no onnx/model.onnx, which --runtime onnx computes; to make one: libdocs export ./model --to onnx -o'),
    (['./model', '--runtime', 'onnx-int8'], 'libdocs export ./model --to onnx --quantize int8 -o FOLDER'),
    (['./plain', '--runtime', 'onnx-int8'], 'there is no onnx/model_int8.onnx'),
    (['./plain'], 'no weights for torch, but an export, which --runtime onnx computes'),
    (['./plain', '--runtime', 'onnx', '--device', 'cuda'], 'leave out --device cuda'),
    (['./plain', '--runtime', 'onnx', '--dtype', 'bfloat16'], 'leave out --dtype bfloat16'),
    (['./torn', '--runtime', 'onnx'], 'onnxruntime cannot open model.onnx, which may be damaged'),
    (['./empty', '--runtime', 'onnx'], 'model.onnx'),
    (['./relabelled', '--runtime', 'onnx'], 'was made from another model than the one that is there now'),
    (['./fewer', '--runtime', 'onnx'], 'it scores 3 labels, and config.json names 2')])
def test_exports_that_are_not_run(work, words, message):
    "Missing, damaged, of another model: one line, and nothing is written."
    file, config = 'onnx/model.onnx', json.loads((work.folder/'plain'/'config.json').read_text())
    whole = (work.folder/'plain'/file).read_bytes()
    swapped = json.dumps(config | dict(id2label=dict(enumerate(reversed(WORDS))))).encode()
    fewer = json.dumps(config | dict(id2label={'0': 'a', '1': 'b'}, label2id=dict(a=0, b=1))).encode()
    for name, changed in dict(torn={file: whole[:-900]}, empty={file: b''}, relabelled={'config.json': swapped},
                              fewer={'config.json': fewer}).items():
        if (work.folder/name).exists(): continue
        shutil.copytree(work.folder/'plain', work.folder/name)
        put(work.folder/name, changed)
    one_line(libdocs(work, 'classify', words[0], 'rows.jsonl', '-o', 'x.jsonl', *words[1:]), message)
    if words == ['./model', '--runtime', 'onnx']: one_line(libdocs(work, 'serve', *words), message)
    assert not list(work.folder.glob('x.jsonl*'))


@pytest.mark.parametrize('lacking, words', [
    ('onnxruntime', ['classify', './plain', 'rows.jsonl', '-o', 'x.jsonl', '--runtime', 'onnx']),
    ('onnx', ['export', './model', '-o', 'x'])])
def test_a_package_is_missing(work, lacking, words):
    "The extra is named."
    code = f'import sys; sys.modules[{lacking!r}] = None\n' + MODULE
    done = run(code, ['libdocs.command', *words], work.folder, work.env)
    one_line(done, rf"{lacking}, which is not installed: pip install 'libdocs\[onnx\]'")
    assert not list(work.folder.glob('x*'))


def test_an_export_that_gives_other_answers_is_not_kept(work, monkeypatch):
    "What is wrong is found before anything is there under its name, and nothing is pushed."
    from libdocs.classifiers import onnx
    from libdocs.core.errors import InputError
    monkeypatch.setattr(onnx, 'rounding', -1)
    before = sorted(work.folder.rglob('*'))
    with pytest.raises(InputError, match='other answers than the model'):
        onnx.export_model(str(work.folder/'model'), output=str(work.folder/'wrong'), push=True)
    assert sorted(work.folder.rglob('*')) == before


def test_into_the_repo_of_the_model(work):
    "A folder gets the file beside its weights, and both runtimes answer from it; new weights make it void."
    shutil.copytree(work.folder/'model', work.folder/'repo')
    done = succeeds(libdocs(work, 'export', './repo', '--push'))
    assert 'wrote ./repo' in done.stdout
    for runtime in ('torch', 'onnx'): classify(work, './repo', f'{runtime}.jsonl', '--runtime', runtime)
    bert(work.folder/'repo', work.texts, WORDS, **SIZES | dict(initializer_range=.4))
    one_line(libdocs(work, 'classify', './repo', 'rows.jsonl', '-o', 'x.jsonl', '--runtime', 'onnx'), 'another model')
    succeeds(libdocs(work, 'export', './repo', '--push'))
    classify(work, './repo', 'onnx.jsonl', '--runtime', 'onnx')


def test_on_a_hub(work, tmp_path):
    "One commit with one file; with the runtime, only that file and what belongs to it is fetched."
    hub = LoopbackHub()
    token = hub.add_user('alice')
    work = SimpleNamespace(folder=work.folder, env=environment(tmp_path, **hub.env(token, tmp_path/'hf')))
    code = ("from pathlib import Path; from libdocs.core.hub import push; "
            "push({p.name: p for p in Path('model').iterdir()}, 'alice/letters', 'model', 'first')")
    run(code, ['-c'], work.folder, work.env).check_returncode()
    one_line(libdocs(work, 'classify', 'alice/letters', 'rows.jsonl', '-o', 'x.jsonl', '--runtime', 'onnx'),
             'libdocs export alice/letters --to onnx')
    for options in ([], ['--quantize', 'int8'], []):
        succeeds(libdocs(work, 'export', 'alice/letters', '--push', *options))
    commits = hub.commits('alice/letters', 'model')
    files = hub.files('alice/letters', 'model')
    assert {'onnx/model.onnx', 'onnx/model_int8.onnx', 'model.safetensors'} <= files.keys()
    assert len(commits) <= 4, 'a second export of the same weights is the same file'
    work.env = environment(tmp_path, **hub.env(token, tmp_path/'other'))
    asked = len(hub.requests)
    classify(work, 'alice/letters', 'hub.jsonl', '--runtime', 'onnx')
    fetched = ' '.join(str(request) for request in hub.requests[asked:])
    assert 'model.onnx' in fetched
    assert 'resolve' in fetched
    assert not re.search(r'resolve\S*(safetensors|model_int8)', fetched)
    reader = hub.add_user('bob', role='read')
    work.env = environment(tmp_path, **hub.env(reader, tmp_path/'hf'))
    done = libdocs(work, 'export', 'alice/letters', '--push')
    assert done.returncode == 2
    assert 'cannot' in done.stderr
    assert reader not in done.stderr
    hub.close()


def test_help_teaches(work):
    "The page is there at once, without torch."
    code = "import sys; from libdocs.command import main\ntry: main(['export', '--help'])\nexcept SystemExit: pass\n" \
           "assert not {'torch', 'onnx', 'onnxruntime'} & sys.modules.keys()"
    done = subprocess.run([sys.executable, '-c', code], cwd=work.folder, env=work.env, capture_output=True, text=True,
                          timeout=HANG)
    assert done.returncode == 0, done.stderr
    assert '--runtime onnx' in done.stdout
