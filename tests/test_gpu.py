"""What a GPU does: training and classifying, 16 bits beside 32, the same seed, memory that runs out,
several processes.

    pytest -m gpu tests/test_gpu.py

With DRY in the environment the CPU does the same."""
import gc, json, os, re, subprocess, sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from corpora import LABELS, bert, csv_bytes, deberta, documents, environment, put
from safetensors.torch import load_file
from shortage import Shortage, beyond
from warm import HANG

from libdocs.classifiers.deberta import DebertaZeroShot
from libdocs.classifiers.forward import Forward
from libdocs.core.labels import LabelSchema
from libdocs.finetune.data import Task
from libdocs.finetune.finetune import finetune
from libdocs.finetune.trainer import ClassifierTrainer

DEVICE = 'cpu' if 'DRY' in os.environ else 'cuda'
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(
    DEVICE == 'cuda' and not torch.cuda.is_available(), reason='needs a GPU, and is run by: pytest -m gpu')]

ROWS = documents(240)
STILL = dict(hidden_dropout_prob=0., attention_probs_dropout_prob=0.)
SIZES = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64)
MAKERS = dict(bert=bert, deberta=deberta)


def task(rows=ROWS, times=1):
    "A quarter of the rows is for the test; texts are repeated `times`."
    df = pd.DataFrame(rows).assign(text=lambda d: (d['text'] + ' ') * times)
    return Task('made', df[len(df)//4:], df[:len(df)//4], LabelSchema.from_labels(LABELS))


def train(folder, base, data, **options):
    "Fine-tune a base in a folder."
    usual = dict(device=DEVICE, epochs=3, learning_rate=5e-3, train_batch_size=16, method='finetune', refit='off',
                 track='none', seed=1)
    return finetune(data, str(folder), base_model=str(base), **usual | options)


@pytest.fixture(scope='module', params=MAKERS)
def trained(request, tmp_path_factory):
    "A family's training, made twice: folders of the models, and the results."
    root = tmp_path_factory.mktemp(request.param)
    base = MAKERS[request.param](root/'base', [row['text'] for row in ROWS], **SIZES)
    return [SimpleNamespace(folder=root/name, result=train(root/name, base, task())) for name in ('one', 'again')]


def logits(trained, device, dtype):
    return DebertaZeroShot(str(trained[0].folder), device=device, dtype=dtype).logits([row['text'] for row in ROWS])


# Training and classifying

def test_it_learns_there(trained):
    "In the precision that suits the device, and the published model knows the labels of the test rows."
    result = trained[0].result
    assert result.record.device == DEVICE
    if DEVICE == 'cuda': assert result.record.dtype == 'bfloat16'
    assert result.metrics.top_1 > .9


def test_the_same_seed_gives_the_same_weights(trained):
    one, again = (load_file(made.folder/'model.safetensors') for made in trained)
    assert [name for name in one if not torch.equal(one[name], again[name])] == []


def test_float32_is_that_of_the_cpu(trained):
    np.testing.assert_allclose(logits(trained, DEVICE, 'float32'), logits(trained, 'cpu', 'float32'), atol=1e-3)


def test_bfloat16_agrees_with_float32(trained):
    "To its three digits; the labels are the same wherever two are not nearly as likely as each other."
    exact, rounded = (logits(trained, DEVICE, dtype) for dtype in ('float32', 'bfloat16'))
    off = .03 * abs(exact).max()
    assert 0 < abs(rounded - exact).max() < off
    first, second = np.sort(exact)[:, :-3:-1].T
    clear = first - second > 2 * off
    assert clear.mean() > .9
    assert (exact.argmax(axis=1) == rounded.argmax(axis=1))[clear].all()


# Memory that runs out

@pytest.fixture(scope='module')
def large(tmp_path_factory):
    "A base whose memory goes into what it computes, and long texts."
    data = task(times=16)
    sizes = SIZES | dict(hidden_size=128, intermediate_size=512, max_position_embeddings=512)
    folder = bert(tmp_path_factory.mktemp('large')/'base', data.train['text'], LABELS, **sizes, **STILL)
    return SimpleNamespace(base=folder, data=data)


def in_half_the_memory(work, place, name, monkeypatch):
    """What `work` returns with all the memory that it takes, and with half of it. On the CPU, the method
    `name` of `place` fails where a batch has more than half of the tokens."""
    if DEVICE == 'cpu':
        method, counted = getattr(place, name), Shortage()
        def watched(short):
            monkeypatch.setattr(place, name, short.during(method))
            return work()
        plenty = watched(counted)
        return plenty, watched(Shortage(beyond(max(tokens for tokens, _ in counted.batches) // 2, 1)))
    work()  # what is kept for later is there now
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before, all_there_is = torch.cuda.memory_allocated(), torch.cuda.get_device_properties(0).total_memory
    plenty, taken = work(), torch.cuda.max_memory_allocated() - before
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + taken / 2) / all_there_is)
    try: return plenty, work()
    finally: torch.cuda.set_per_process_memory_fraction(1.)


def test_classifying_survives(large, monkeypatch, caplog):
    "The answers are the same, from smaller batches."
    classifier = DebertaZeroShot(str(large.base), device=DEVICE, dtype='float32')
    texts = [*large.data.train['text']] * (1 if DEVICE == 'cpu' else 4)
    with caplog.at_level('WARNING', 'libdocs'):
        plenty, scarce = in_half_the_memory(lambda: classifier.logits(texts), Forward, 'batch_logits', monkeypatch)
    assert f'the memory of {DEVICE} ran out; batches have at most' in caplog.text
    np.testing.assert_allclose(scarce, plenty, atol=1e-4)


def test_training_survives(large, monkeypatch, caplog, tmp_path):
    "It learns the same, in smaller parts."
    size = dict(epochs=5, train_batch_size=32) if DEVICE == 'cpu' else dict(epochs=25, train_batch_size=160)
    folders = iter(range(9))
    def work():
        return train(tmp_path/str(next(folders)), large.base, large.data, learning_rate=2e-3, **size).metrics.top_1
    with caplog.at_level('WARNING', 'libdocs'):
        plenty, scarce = in_half_the_memory(work, ClassifierTrainer, 'part_logits', monkeypatch)
    assert re.search(rf'the memory of {DEVICE}\S* ran out: a step is now taken in parts', caplog.text)
    assert min(plenty, scarce) > .9


# Several processes

# Processes that share a GPU must not use NCCL, which refuses that
SHARING = f'''
import runpy
from accelerate import PartialState
PartialState(cpu={DEVICE == 'cpu'}, backend='gloo')
runpy.run_module('libdocs.classifier_model', run_name='__main__', alter_sys=True)
'''
LAUNCHER = ['-m', 'torch.distributed.run', '--standalone', '--nproc-per-node']


@pytest.fixture(scope='module')
def dataset(tmp_path_factory):
    root = tmp_path_factory.mktemp('processes')
    bert(root/'base', [row['text'] for row in ROWS], **SIZES, **STILL)
    put(root, {'ds/train.csv': csv_bytes(ROWS[:150]), 'ds/validation.csv': csv_bytes(ROWS[150:200]),
               'ds/test.csv': csv_bytes(ROWS[200:]), 'sharing.py': SHARING.encode()})
    return root


def started(dataset, name, *command):
    "A training in its own folder, by a command."
    options = ['--input-hf-dataset', './ds', '-o', f'./{name}/model', '-m', './base', '--epochs', '2',
               '--train-batch-size', '8', '--learning-rate', '5e-3', '--device', DEVICE, '--dtype', 'float32',
               '--output-classify-file', f'{name}/results.jsonl', '--track-output', f'{name}/wandb']
    env = environment(dataset/'home', ACCELERATE_BYPASS_DEVICE_MAP='true')  # the second process has no second GPU
    return subprocess.run([sys.executable, *command, *options], cwd=dataset, env=env, capture_output=True, text=True,
                          timeout=HANG)


def test_two_processes_on_one_device_learn_what_one_learns(dataset):
    "The loss at each step that is logged, to the rounding of float32."
    def losses(name, *command):
        done = started(dataset, name, *command)
        assert done.returncode == 0, done.stderr
        record = json.loads((dataset/name/'model'/'training.json').read_text())
        return [h[key] for h in record['history'] for key in ('loss', 'eval_log_loss') if key in h]
    alone, together = (losses('one', '-m', 'libdocs.classifier_model'),
                       losses('two', *LAUNCHER, '2', 'sharing.py'))
    assert len(alone) > 10
    assert together == pytest.approx(alone, abs=2e-3)


@pytest.mark.skipif(DEVICE == 'cpu', reason='NCCL is for GPUs')
def test_more_processes_than_gpus_are_refused(dataset):
    "Otherwise NCCL would refuse it later, in its own words."
    gpus = torch.cuda.device_count()
    done = started(dataset, 'refused', *LAUNCHER, str(gpus + 1), '-m', 'libdocs.classifier_model')
    assert done.returncode != 0
    assert f'{gpus + 1} processes are to use one GPU each, and this machine has {gpus}' in done.stderr
