"""The pipeline notebooks, through papermill and through libdocs-pipeline."""
import json, re, subprocess, sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from commands import BAD, HF, LOCAL, RAW, ROWS, WB, no_canary, slow
from corpora import command, environment, one_error, put
from warm import HANG

NOTEBOOKS = Path(__file__).parents[1]/'nbs'/'pipelines'


@slow
def notebooks(root, jobs):
    "The three notebooks in a row through plain papermill, with a token in the environment."
    put(root, {'data/raw.jsonl': RAW})
    env = environment(root/'home', HF_TOKEN=HF, WANDB_API_KEY=WB)
    steps = {'prepare': dict(input_dir='data', input_filename='raw.jsonl', text='body',
                             subject='topic', output_filename='out/letters',
                             target_hf_dataset='./ds', bad_rows='reject', reduce_majority_to=1.0),
             'finetune': dict(dataset='./ds', model_name='./model', base_model='scratch', epochs=1,
                              device='cpu', track_output='wb'),
             'evaluate': dict(dataset='./ds', model_name='./model',
                              output_classify_file='res/results.jsonl', eval_batch_size=8, device='cpu')}
    papermill = str(Path(sys.executable).parent/'papermill')
    done = []
    for name, params in steps.items():
        words = [word for k, v in params.items() for word in ('-p', k, str(v))]
        done.append(subprocess.run([papermill, str(NOTEBOOKS/f'{name}.ipynb'), f'{name}-out.ipynb', *words],
                                   cwd=root, env=env, capture_output=True, text=True, timeout=HANG))
    return SimpleNamespace(folder=root, runs=done)


def test_notebooks_in_a_row(notebooks, prepared, trained):
    "They write what the commands write."
    for done in notebooks.runs:
        assert done.returncode == 0, done.stderr[-3000:]
    folder = notebooks.folder
    for name in [*LOCAL, 'ds/train.csv', 'ds/test.csv']:
        assert (folder/name).read_bytes() == (prepared.folder/name).read_bytes()
    for name in ('metrics.json', 'results.jsonl'):
        assert (folder/'res'/name).read_bytes() == (trained.folder/'res'/name).read_bytes()
    assert (folder/'res'/'report.html').is_file()
    assert json.loads((folder/'out'/'letters_metrics.json').read_text())['counts']['read'] == len(ROWS) + len(BAD)
    no_canary(folder, *notebooks.runs)


@pytest.mark.parametrize('argv, says', [
    (['evaluate', '-p', 'epochs', '3'], "no parameter 'epochs'.*dataset, model_name, output_classify_file, "
     "eval_batch_size"),
    (['finetune', '-p', 'hf_access_token', HF], 'HF_TOKEN'),
    (['prepair'], "no pipeline 'prepair'; did you mean 'prepare'.*prepare, finetune, evaluate"),
    (['prepare', '--parameter', 'seed'], 'expected 2 arguments')],
                         ids=['of another', 'token', 'no such pipeline', 'no value'])
def test_pipeline_parameters(tmp_path, capsys, monkeypatch, argv, says):
    "What is wrong is said in one line before anything is run."
    from libdocs.pipelines import main
    monkeypatch.chdir(tmp_path)
    try: code = main(argv)
    except SystemExit as stop: code = stop.code
    check_pipeline_error(code, capsys.readouterr().err, says)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('argv, says, script', [
    (['prepare', '-p', 'input_dirr', 'data'], "no parameter 'input_dirr'; did you mean "
     "'input_dir'.*input_dir, input_filename, output_filename, text, subject", True),
    (['prepare', '-p', 'input_filename', 'nothing.jsonl'], 'nothing.jsonl', False)],
                         ids=['unknown', 'found out inside'])
def test_pipeline_command(tmp_path, argv, says, script):
    "As a command too, errors are one line; the executed notebook is kept only if it was run."
    done = command('libdocs-pipeline', *argv, '--out', 'out.ipynb', cwd=tmp_path,
                   env=environment(tmp_path.with_name('home')), script=script)
    check_pipeline_error(done.returncode, done.stderr, says)
    assert (tmp_path/'out.ipynb').exists() == (not script)


def check_pipeline_error(code, said, pattern):
    line = one_error(code, said)
    assert 'CANARY' not in said, said
    assert line.startswith('libdocs-pipeline: error: '), line
    assert re.search(pattern, line), line
