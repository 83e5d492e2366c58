"Several processes that train one model, started by torchrun and by accelerate, on a CPU with gloo."
import json, signal, subprocess, sys
from types import SimpleNamespace

import pytest
import warm
from corpora import bert, csv_bytes, documents, environment, put, read_jsonl
from warm import HANG

ROWS = documents(150)
# without --multi_gpu it starts processes by MPI alone
LAUNCHERS = {'one': [], 'torchrun': ['torch.distributed.run', '--standalone', '--nproc-per-node', '2', '-m'],
             'accelerate': 'accelerate.commands.launch --multi_gpu --num_processes 2 --num_machines 1 '
             '--mixed_precision no --dynamo_backend no --num_cpu_threads_per_process 1 -m'.split()}


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """The same training in one process and in two, by either launcher; the rows have weights, so that each
    half of a batch weighs something else."""
    root = tmp_path_factory.mktemp('processes')
    # processes could not draw dropout alike; texts of all lengths come in parts of few tokens all the same
    still = dict(hidden_dropout_prob=0., attention_probs_dropout_prob=0.)
    bert(root/'base', [row['text'] for row in ROWS], hidden_size=32, num_hidden_layers=1,
         num_attention_heads=2, intermediate_size=32, **still)
    put(root, {'ds/train.csv': csv_bytes(ROWS[:90] + ROWS[90:108:3]),
               'ds/validation.csv': csv_bytes(documents(60, seed=3)), 'ds/test.csv': csv_bytes(ROWS[120:])})
    done = {}
    for name, launcher in LAUNCHERS.items():
        options = ['--input-hf-dataset', './ds', '-o', f'./{name}/model', '-m', './base', '--epochs', '3',
                   '--train-batch-size', '8', '--learning-rate', '5e-3', '--balance', 'loss', '--device', 'cpu',
                   '--output-classify-file', f'{name}/results.jsonl', '--track-output', f'{name}/wandb']
        done[name] = subprocess.run([sys.executable, '-m', *launcher, 'libdocs.classifier_model', *options], cwd=root,
                                    env=environment(root/'home'), capture_output=True, text=True, timeout=HANG)
        assert done[name].returncode == 0, done[name].stderr
    return SimpleNamespace(folder=root, done=done)


def record(trained, name): return json.loads((trained.folder/name/'model'/'training.json').read_text())


def test_two_processes_learn_what_one_learns(trained):
    "The same loss at every step that is logged, and the same figures of validation, to the rounding of float32."
    def losses(name):
        return [h[key] for h in record(trained, name)['history']
                for key in ('loss', 'eval_log_loss', 'eval_macro_f1') if key in h]
    alone, learned = losses('one'), [h['eval_log_loss']
                                     for h in record(trained, 'one')['history'] if 'eval_log_loss' in h]
    assert len(alone) > 20
    assert learned[-1] < .7 * learned[0]
    for name in trained.done:
        assert losses(name) == pytest.approx(alone, abs=2e-4), name


def test_one_of_them_publishes_and_evaluates(trained):
    "Two processes make the files of one, each of them once."
    for name, done in trained.done.items():
        assert done.stdout.count('wrote ') == 3, name
        assert done.stderr.count(' test rows') == 1, name
        assert [row['predictions'] for row in read_jsonl(trained.folder/name/'results.jsonl')] == [
            row['predictions'] for row in read_jsonl(trained.folder/'one'/'results.jsonl')]
        assert sorted(p.name for p in (trained.folder/name/'model').iterdir()) == sorted(
            p.name for p in (trained.folder/'one'/'model').iterdir())


def test_an_error_ends_them_all(tmp_path):
    "A dataset that is not there: one line and no waiting for each other."
    done = subprocess.run([sys.executable, '-m', *LAUNCHERS['torchrun'], 'libdocs.classifier_model',
                           '--input-hf-dataset', './none', '-o', './model'], cwd=tmp_path,
                          env=environment(tmp_path/'home'), capture_output=True, text=True, timeout=HANG)
    assert done.returncode != 0
    assert 'there is no such folder' in done.stderr
    assert 'unexpected' not in done.stderr


def test_asked_to_end_all_leave_and_go_on(trained):
    """SIGTERM to torchrun in the middle of a training, as a preempted machine gets it: all leave with a
    checkpoint; given again, the training ends as the undisturbed one, to the last digit."""
    options = [word.replace('torchrun/', 'again/') for word in trained.done['torchrun'].args]
    env = environment(trained.folder/'home')
    (trained.folder/'asked.py').write_text(warm.asked(to='os.getppid()')
                                           + 'import runpy\nrunpy.run_module("libdocs.classifier_model", '
                                           'run_name="__main__", alter_sys=True)\n')
    asked = [part for word in options for part in (
        ['asked', str(int(signal.SIGTERM))] if word == 'libdocs.classifier_model' else [word])]
    done = subprocess.run(asked, cwd=trained.folder, env=env, capture_output=True, text=True, timeout=HANG)
    assert done.returncode != 0, done.stderr
    assert list((trained.folder/'again').rglob('checkpoint-*/libdocs.json')), done.stderr
    assert not (trained.folder/'again'/'model').exists(), done.stderr
    done = subprocess.run(options, cwd=trained.folder, env=env, capture_output=True, text=True, timeout=HANG)
    assert done.returncode == 0, done.stderr
    assert 'resuming from step' in done.stderr, done.stderr
    assert (trained.folder/'again'/'model'/'model.safetensors').read_bytes() == (
        trained.folder/'torchrun'/'model'/'model.safetensors').read_bytes()
