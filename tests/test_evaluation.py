"What users of other toolkits ask for: honest figures, calibrated probabilities, skewed labels, long texts."
import json, re, subprocess, sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from corpora import command, csv_bytes, documents, environment, jsonl, put, read_jsonl, succeeds, tiny_bert

FILLER = [f'filler{i}' for i in range(60)]


def late(n, seed, words=60, at=-6):
    "Rows whose label is told by a few words near the end, behind `words` words that say nothing."
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        label = ('invoice', 'contract')[i % 2]
        text = list(rng.choice(FILLER, words))
        text[at:at + 3] = rng.choice([f'{label}{k}' for k in range(4)], 3)
        rows.append(dict(id=f'd{seed}-{i}', text=' '.join(text), label=label))
    return rows


def dataset(folder, train, test, **more):
    put(folder, {'train.csv': csv_bytes(train), 'test.csv': csv_bytes(test)} | more)
    return str(folder)


@pytest.fixture
def quiet(monkeypatch):
    "One thread, no W&B."
    import torch
    monkeypatch.setenv('WANDB_MODE', 'disabled')
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def tuned(tmp_path, data, name='model', **options):
    from libdocs.classifiers.deberta import DebertaZeroShot
    from libdocs.finetune.finetune import finetune
    result = finetune(data, str(tmp_path/name), **dict(base_model='scratch', refit='off', device='cpu', wandb_output=tmp_path/'wb') | options)
    return result, DebertaZeroShot(str(tmp_path/name), device='cpu')


# Long texts

@pytest.fixture(scope='module')
def windows(tmp_path_factory):
    "Models that read texts with a late signal in each way."
    from pytest import MonkeyPatch
    with MonkeyPatch.context() as patch:
        patch.setenv('WANDB_MODE', 'disabled')
        folder = tmp_path_factory.mktemp('long')
        data = dataset(folder/'data', late(160, 0), late(40, 1))
        ways = dict(head={}, tail=dict(long='head-tail'), mean=dict(long='windows', overlap=4), max=dict(long='windows', overlap=4, pool='max'))
        return {name: tuned(folder, data, name, max_length=24, epochs=6, **way) for name, way in ways.items()}, late(40, 1)


def test_windows_find_a_late_signal(windows):
    "The first tokens cannot tell the label; the last ones, and windows, can."
    models, _ = windows
    top = {name: result.metrics['top_1'] for name, (result, _) in models.items()}
    assert top['head'] <= .75 and min(top['tail'], top['mean'], top['max']) >= .9, top
    share = {name: result.record['lost_token_share'] for name, (result, _) in models.items()}
    assert share['head'] > .5 and share['head'] == share['tail'] and share['mean'] == share['max'] == 0
    assert models['head'][0].record['truncated_share'] == 1 and models['mean'][0].record['truncated_share'] == 0


def test_loaded_model_reads_like_the_trained_one(windows):
    "Training, evaluation and `classify` give the same figures: the way of reading travels with the model."
    models, rows = windows
    for result, classifier in models.values():
        right = np.mean([p == r['label'] for p, r in zip(classifier.predict([r['text'] for r in rows]), rows)])
        assert right == result.metrics['top_1']


@pytest.mark.parametrize('name', ['head', 'tail', 'mean', 'max'])
def test_code_of_the_card_gives_the_scores_of_libdocs(windows, name):
    "The snippet for plain transformers in the card, run as it stands, agrees with `classify`."
    models, rows = windows
    result, classifier = models[name]
    card = (result.folder/'README.md').read_text()
    code = re.findall(r'```python\n(.*?)```', card, re.S)[1].replace('Please pay by the end of the month.', rows[0]['text'])
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd=result.folder)
    assert done.returncode == 0, done.stderr
    numbers = [float(x) for x in re.findall(r'\d\.\d+(?:e-\d+)?', done.stdout)]
    assert numbers[:2] == pytest.approx([score for _, score in classifier.classify(rows[0]['text'])[0]], abs=1e-5)


# Skewed labels

def test_losses_help_the_rare_label(quiet, tmp_path):
    "With 30:1 and a word that is rarer than its label's share, the plain loss is right never to answer the rare label; the weighted loss and the adjusted logits do."
    rng = np.random.default_rng(0)
    def rows(n, label, part):
        urgent = n * (.1 if label == 'common' else .95)
        return [dict(id=f'{label}{part}{i}', label=label, text=' '.join([*rng.choice(FILLER, 4), *['urgent' if i < urgent else 'usual'] * 3]) + f' no {part}{i}') for i in range(n)]
    data = dataset(tmp_path/'data', rows(1500, 'common', 'a') + rows(50, 'rare', 'a'), rows(100, 'common', 'b') + rows(100, 'rare', 'b'))
    test, recall = pd.read_csv(Path(data)/'test.csv', dtype=str), {}
    for balance in ('none', 'loss', 'logit', 'cap'):
        result, classifier = tuned(tmp_path, data, balance, epochs=2, balance=balance)
        recall[balance] = float(np.mean([p == 'rare' for p in classifier.predict(list(test.text[test.label == 'rare']))]))
        assert result.record['hyperparameters']['balance'] == balance
    assert result.record['rows']['train'] == 45 * 3, 'five of the rare rows are for validation; the cap is twice the rest'
    assert recall['none'] < .3 and recall['loss'] > recall['none'] + .2 and recall['logit'] > recall['none'] + .4, recall


# Validation and calibration

@pytest.fixture(scope='module')
def noisy(tmp_path_factory):
    "A model of a corpus in which one label in five is wrong, by the command, and all that it left."
    folder = tmp_path_factory.mktemp('noisy')
    rng = np.random.default_rng(0)
    def rows(n, seed): return [r | dict(label=str(rng.choice(['invoice', 'contract', 'minutes'])) if rng.random() < .3 else r['label']) for r in documents(n, seed=seed)]
    dataset(folder/'data', rows(600, 0), rows(150, 1), **{'label_frequencies.json': json.dumps(dict(labels=dict(contract=800, invoice=100, minutes=100), test='capped')).encode()})
    done = command('classifier_model', '--input-hf-dataset', './data', '--hf-model-name', './model', '-m', 'scratch', '--epochs', '4', '--max-length', '32', '--output-classify-file', 'res/results.jsonl', cwd=folder, env=environment(folder/'home'))
    return SimpleNamespace(folder=succeeds(done) and folder, done=done, metrics=json.loads((folder/'res'/'metrics.json').read_text()), record=json.loads((folder/'model'/'training.json').read_text()))


def test_the_test_split_chooses_nothing(noisy):
    "A validation split is held out of train; history and thresholds are its, and the figures called test are the test split's."
    assert noisy.record['rows'] == dict(train=500, validation=100, test=150)
    assert noisy.record['refit'] and noisy.record['trained_rows'] == 600, 'a small model is trained once more, on the rows too that were held out'
    assert noisy.metrics['rows'] == 150 and noisy.metrics['coverage']['chosen_on'] == 'validation'
    assert noisy.record['evaluation']['top_1'] == pytest.approx(noisy.metrics['top_1'])
    chosen = next(h for h in noisy.record['history'] if 'eval_macro_f1' in h and h['step'] == noisy.record['steps'])
    assert noisy.record['validation']['before']['macro_f1'] == pytest.approx(chosen['eval_macro_f1'])


def test_calibration_is_in_the_weights(noisy):
    "The temperature holds for transformers' own pipeline too."
    from transformers import pipeline
    from libdocs.classifiers.deberta import DebertaZeroShot
    checked = noisy.record['validation']
    assert checked['temperature'] != 1 and checked['after']['log_loss'] < checked['before']['log_loss'] + .01
    assert noisy.metrics['ece'] < .15
    text = read_jsonl(noisy.folder/'res'/'results.jsonl')[0]['text']
    theirs = pipeline('text-classification', model=str(noisy.folder/'model'), top_k=None, device='cpu')([text])[0]
    ours = DebertaZeroShot(str(noisy.folder/'model'), device='cpu').classify(text)[0]
    assert {d['label']: d['score'] for d in theirs} == pytest.approx(dict(ours), abs=1e-5)


def test_figures_with_intervals_at_both_frequencies(noisy):
    "Every headline figure has an interval that holds it, and stands a second time at the frequencies of the source."
    m = noisy.metrics
    for found in (m, m['natural'], *(v for v in m['baselines'].values() if v)):
        for figure, (low, high) in found['intervals'].items(): assert low <= found[figure] <= high or figure in ('log_loss', 'brier'), figure
        assert set(found['intervals']) >= {'top_1', 'top_2', 'top_3', 'macro_f1', 'weighted_f1', 'balanced_accuracy'}
    recall = {d['label']: d['recall'] for d in m['per_label']}
    assert m['natural']['top_1'] == pytest.approx(.8 * recall['contract'] + .1 * recall['invoice'] + .1 * recall['minutes'])
    assert m['natural']['tested_share'] == 1 and 'At the label frequencies of the source' in noisy.done.stdout
    results = read_jsonl(noisy.folder/'res'/'results.jsonl')
    assert m['log_loss'] == pytest.approx(-np.log([r['label_score'] for r in results]).mean(), rel=1e-4)
    assert m['brier'] == pytest.approx(np.mean([r['squared_error'] for r in results]), rel=1e-4)


def test_card_has_metrics_and_confusion_matrix(noisy):
    card = (noisy.folder/'model'/'README.md').read_text()
    for told in ('95% interval', 'At the frequencies of the source', 'Rows are the truth, columns the answers', 'Expected calibration error', 'From probability'): assert told in card, told
    counts = noisy.metrics['confusion']['counts']
    assert f'| contract | {counts[0][0]} | {counts[0][1]} | {counts[0][2]} |' in card


def test_abstains(noisy):
    from libdocs.classifiers.deberta import DebertaZeroShot
    classifier, results = DebertaZeroShot(str(noisy.folder/'model'), device='cpu'), read_jsonl(noisy.folder/'res'/'results.jsonl')
    middle = float(np.median([r['scores'][0] for r in results]))
    answers = classifier.classify([r['text'] for r in results], min_confidence=middle)
    assert [bool(a) for a in answers] == [r['scores'][0] >= middle for r in results] and 0 < sum(map(bool, answers)) < len(answers)
    assert [t['accuracy'] for t in classifier.thresholds] == [.95, .99]


def test_validation_split_of_the_dataset(quiet, tmp_path):
    "A dataset's own validation split is used, and checked; nothing is chosen by one of a dozen rows."
    from libdocs.records import InputError
    data = dataset(tmp_path/'data', documents(60), documents(15, seed=1), **{'validation.csv': csv_bytes(documents(60, seed=2))})
    assert tuned(tmp_path, data, epochs=1)[0].record['rows'] == dict(train=60, validation=60, test=15)
    (tmp_path/'data'/'validation.csv').write_bytes(csv_bytes(documents(12, seed=2)))
    result, classifier = tuned(tmp_path, data, epochs=1)
    assert result.record['rows'] == dict(train=60, test=15) and result.record['validation'] is None and classifier.thresholds is None
    (tmp_path/'data'/'validation.csv').write_bytes(csv_bytes([r | dict(label='memo') for r in documents(3)]))
    with pytest.raises(InputError, match='the validation split has labels that the train split lacks'): tuned(tmp_path, data)


# LoRA

def test_lora_publishes_an_ordinary_model(quiet, tmp_path):
    "Only the products and the head are trained; what is published has no trace of them."
    from safetensors.torch import load_file
    data = dataset(tmp_path/'data', documents(90), documents(15, seed=1))
    base = tiny_bert(tmp_path/'base', [r['text'] for r in documents(90)])
    result, classifier = tuned(tmp_path, data, base_model=str(base), epochs=1, lora=True, max_length=16)
    before, after = load_file(Path(base)/'model.safetensors'), load_file(result.folder/'model.safetensors')
    assert before.keys() == after.keys() and not any('lora' in name for name in after)
    name = 'bert.embeddings.word_embeddings.weight'
    assert (before[name] == after[name]).all() and (before['bert.encoder.layer.0.output.dense.weight'] != after['bert.encoder.layer.0.output.dense.weight']).any()
    assert len(classifier.classify('invoice1')[0]) == 3


def test_lora_without_peft_says_so(monkeypatch):
    from libdocs.finetune.trainer import with_lora
    from libdocs.records import InputError
    monkeypatch.setitem(sys.modules, 'peft', None)
    with pytest.raises(InputError, match=r'pip install "libdocs\[lora\]"'): with_lora(None)


# Phase 1 with a natural test split

def test_natural_test(tmp_path):
    rows = documents(300, labels=('invoice',)) + documents(60, labels=('contract',), seed=1)
    put(tmp_path, {'raw/rows.jsonl': jsonl([dict(text=r['text'], label=r['label']) for r in rows])})
    done = command('cleaner_finetune', '-i', 'raw', '-f', 'rows.jsonl', '-o', 'out/x', '--target-hf-dataset', './ds', '--natural-test', cwd=tmp_path, env=environment(tmp_path/'home'))
    succeeds(done)
    test, train = (pd.Series([r['label'] for r in read_jsonl(tmp_path/'out'/f'x_{split}.jsonl')]).value_counts() for split in ('test', 'train'))
    told = json.loads((tmp_path/'ds'/'label_frequencies.json').read_text())
    assert told['test'] == 'natural' and test['invoice'] / told['labels']['invoice'] == pytest.approx(.2, abs=.02)
    assert train['invoice'] == 2 * train['contract'] and 'as frequent as they were after cleaning' in (tmp_path/'ds'/'README.md').read_text()
    refused = command('cleaner_finetune', '-i', 'raw', '-f', 'rows.jsonl', '-o', 'out/y', '--balance', 'loss', cwd=tmp_path, env=environment(tmp_path/'home'))
    assert refused.returncode == 2 and 'balance' in refused.stderr and 'Traceback' not in refused.stderr


def test_broken_frequencies(tmp_path):
    "A frequencies file that was damaged is named, before anything is trained."
    dataset(tmp_path/'data', documents(60), documents(15, seed=1), **{'label_frequencies.json': b'{"labels": 3}'})
    done = command('classifier_model', '--input-hf-dataset', './data', '--hf-model-name', './model', '-m', 'scratch', cwd=tmp_path, env=environment(tmp_path/'home'))
    assert done.returncode == 2 and 'label_frequencies.json does not hold label frequencies' in done.stderr and 'Traceback' not in done.stderr
