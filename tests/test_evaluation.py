"What users of other toolkits ask for: honest figures, calibrated probabilities, skewed labels, long texts."
import json, re, subprocess, sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from corpora import command, csv_bytes, documents, environment, jsonl, put, read_jsonl, succeeds, tiny_bert
from warm import run

from libdocs.evaluation.record import SplitRows

FILLER = [f'filler{i}' for i in range(60)]


def late(n, seed, words=60, at=-6):
    "Rows whose label shows in a few words near the end, behind `words` words that say nothing."
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


def tuned(tmp_path, data, name='model', **options):
    from libdocs.classifiers.deberta import DebertaZeroShot
    from libdocs.finetune.finetune import finetune
    result = finetune(data, str(tmp_path/name),
                      **dict(base_model='scratch', refit='off', device='cpu', track_output=tmp_path/'wb') | options)
    return result, DebertaZeroShot(str(tmp_path/name), device='cpu')


# Long texts

@pytest.fixture(scope='module')
def windows(tmp_path_factory):
    "Models that read texts with a late signal in each way."
    folder = tmp_path_factory.mktemp('long')
    data = dataset(folder/'data', late(160, 0), late(40, 1))
    ways = dict(head={}, tail=dict(long='head-tail'), mean=dict(long='windows', overlap=4),
                max=dict(long='windows', overlap=4, pool='max'))
    return {name: tuned(folder, data, name, max_length=24, epochs=6, **way) for name, way in ways.items()}, late(40, 1)


def test_windows_find_a_late_signal(windows):
    "The first tokens do not show the label; the last ones, and windows, do."
    models, _ = windows
    top = {name: result.metrics.top_1 for name, (result, _) in models.items()}
    assert top['head'] <= .75, top
    assert min(top['tail'], top['mean'], top['max']) >= .9, top
    share = {name: result.record.lost_token_share for name, (result, _) in models.items()}
    assert share['head'] > .5
    assert share['head'] == share['tail']
    assert share['mean'] == share['max'] == 0
    assert models['head'][0].record.truncated_share == 1
    assert models['mean'][0].record.truncated_share == 0


def test_loaded_model_reads_like_the_trained_one(windows):
    "Training, evaluation and `classify` give the same figures: the way of reading travels with the model."
    models, rows = windows
    for result, classifier in models.values():
        right = np.mean([p == r['label'] for p, r in zip(classifier.predict([r['text'] for r in rows]), rows)])
        assert right == result.metrics.top_1


@pytest.mark.parametrize('name', ['head', 'tail', 'mean', 'max'])
def test_code_of_the_card_gives_the_scores_of_libdocs(windows, name):
    "The snippet for plain transformers in the card, run as it stands, agrees with `classify`."
    models, rows = windows
    result, classifier = models[name]
    card = (result.folder/'README.md').read_text()
    code = re.findall(r'```python\n(.*?)```', card,
                      re.S)[1].replace('Please pay by the end of the month.', rows[0]['text'])
    done = run(code, ['-c'], result.folder, environment(result.folder.parent/'home'))
    assert done.returncode == 0, done.stderr
    numbers = [float(x) for x in re.findall(r'\d\.\d+(?:e-\d+)?', done.stdout)]
    assert numbers[:2] == pytest.approx([score for _, score in classifier.classify(rows[0]['text'])[0]], abs=1e-5)


# Skewed labels

def test_losses_help_the_rare_label(one_thread, tmp_path):
    """With 30:1 and a word that is rarer than its label's share, the plain loss is right never to answer the
    rare label; the weighted loss and the adjusted logits do."""
    rng = np.random.default_rng(0)
    def rows(n, label, part):
        urgent = n * (.15 if label == 'common' else .95)
        return [dict(id=f'{label}{part}{i}', label=label, text=' '.join(
            [*rng.choice(FILLER, 4), *['urgent' if i < urgent else 'usual'] * 3]) + f' no {part}{i}') for i in range(n)]
    data = dataset(tmp_path/'data', rows(1500, 'common', 'a') + rows(50, 'rare', 'a'),
                   rows(100, 'common', 'b') + rows(100, 'rare', 'b'))
    test, recall = pd.read_csv(Path(data)/'test.csv', dtype=str), {}
    for balance in ('none', 'loss', 'logit', 'cap'):
        result, classifier = tuned(tmp_path, data, balance, epochs=2, method='finetune', balance=balance)
        recall[balance] = float(np.mean(
            [p == 'rare' for p in classifier.predict(list(test.text[test.label == 'rare']))]))
        assert result.record.balance == balance
    assert result.record.rows.train == 45 * 3, ('five of the rare rows are for validation; the cap '
                                                      'is twice the rest')
    assert recall['none'] < .3, recall
    assert recall['loss'] > recall['none'] + .2, recall
    assert recall['logit'] > recall['none'] + .4, recall


# A linear model of tokens

def test_a_linear_model_in_the_shape_of_a_transformer(tmp_path):
    "Published on demand, for texts in windows too, and what transformers loads scores like libdocs."
    from transformers import pipeline
    data = dataset(tmp_path/'data', late(160, 0), late(40, 1))
    result, classifier = tuned(tmp_path, data, method='linear-head', long='windows', overlap=4, max_length=24)
    assert (result.record.frozen, result.record.steps) == (True, 0)
    assert result.metrics.top_1 >= .9
    assert 'a linear model of tokens' in (tmp_path/'model'/'README.md').read_text()
    text = late(1, 2, words=6, at=0)[0]['text']
    said = pipeline('text-classification', str(tmp_path/'model'), device='cpu')(text)[0]
    assert said['label'] == classifier.predict([text])[0]


def test_the_better_of_two_beginnings(tmp_path):
    "One epoch teaches a transformer nothing; the refit is the linear model of all rows."
    data = dataset(tmp_path/'data', documents(300, seed=0), documents(60, seed=1))
    result, _ = tuned(tmp_path, data, epochs=1, refit='on')
    assert (result.record.frozen, result.record.steps) == (True, 0)
    alone, _ = tuned(tmp_path, data, 'alone', epochs=1, method='finetune')
    assert alone.record.frozen is False
    assert result.metrics.loss < alone.metrics.loss


# Validation and calibration

@pytest.fixture(scope='module')
def noisy(tmp_path_factory):
    "A model of a corpus in which one label in five is wrong, by the command, and all that it left."
    folder = tmp_path_factory.mktemp('noisy')
    rng = np.random.default_rng(0)
    def rows(n, seed):
        return [r | dict(label=str(rng.choice(['invoice', 'contract', 'minutes'])) if rng.random() < .3 else r['label'])
                for r in documents(n, seed=seed)]
    dataset(folder/'data', rows(600, 0), rows(150, 1), **{'label_frequencies.json': json.dumps(
        dict(labels=dict(contract=800, invoice=100, minutes=100), test='capped')).encode()})
    done = command('classifier_model', '--input-hf-dataset', './data', '--hf-model-name', './model',
                   '-m', 'scratch', '--method', 'finetune', '--epochs', '4', '--max-length', '32',
                   '--output-classify-file', 'res/results.jsonl', cwd=folder, env=environment(folder/'home'))
    return SimpleNamespace(folder=succeeds(done) and folder, done=done,
                           metrics=json.loads((folder/'res'/'metrics.json').read_text()),
                           record=json.loads((folder/'model'/'training.json').read_text()))


def test_the_test_split_chooses_nothing(noisy):
    """A validation split is held out of train; history and thresholds are its, and the figures called test are
    the test split's."""
    assert noisy.record['rows'] == dict(train=500, validation=100, test=150)
    assert noisy.record['refit'], 'a small model is trained once more'
    assert noisy.record['trained_rows'] == 600, 'the rows that were held out are trained on too'
    assert noisy.metrics['rows'] == 150
    assert noisy.metrics['coverage']['chosen_on'] == 'validation'
    assert noisy.record['evaluation']['top_1'] == pytest.approx(noisy.metrics['top_1'])
    chosen = next(h for h in noisy.record['history'] if 'eval_macro_f1' in h and h['step'] == noisy.record['steps'])
    assert noisy.record['validation']['before']['macro_f1'] == pytest.approx(chosen['eval_macro_f1'])


def test_calibration_is_in_the_weights(noisy):
    "The temperature holds for transformers' own pipeline too."
    from transformers import pipeline
    from libdocs.classifiers.deberta import DebertaZeroShot
    checked = noisy.record['validation']
    assert checked['temperature'] != 1
    assert checked['after']['log_loss'] < checked['before']['log_loss'] + .01
    assert noisy.metrics['ece'] < .15
    text = read_jsonl(noisy.folder/'res'/'results.jsonl')[0]['text']
    theirs = pipeline('text-classification', model=str(noisy.folder/'model'), top_k=None, device='cpu')([text])[0]
    ours = DebertaZeroShot(str(noisy.folder/'model'), device='cpu').classify(text)[0]
    assert {d['label']: d['score'] for d in theirs} == pytest.approx(dict(ours), abs=1e-5)


def test_figures_with_intervals_at_both_frequencies(noisy):
    "Every headline figure has an interval that holds it, and stands a second time at the frequencies of the source."
    m = noisy.metrics
    for figures in (m, m['natural'], *(v for v in m['baselines'].values() if v)):
        for figure, (low, high) in figures['intervals'].items():
            assert low <= figures[figure] <= high or figure in ('log_loss', 'brier'), figure
        assert set(figures['intervals']) >= {'top_1', 'top_2', 'top_3', 'macro_f1', 'weighted_f1', 'balanced_accuracy'}
    recall = {d['label']: d['recall'] for d in m['per_label']}
    assert m['natural']['top_1'] == pytest.approx(
        .8 * recall['contract'] + .1 * recall['invoice'] + .1 * recall['minutes'])
    assert m['natural']['tested_share'] == 1
    assert 'At the label frequencies of the source' in noisy.done.stdout
    results = read_jsonl(noisy.folder/'res'/'results.jsonl')
    assert m['log_loss'] == pytest.approx(-np.log([r['label_score'] for r in results]).mean(), rel=1e-4)
    assert m['brier'] == pytest.approx(np.mean([r['squared_error'] for r in results]), rel=1e-4)


def test_card_has_metrics_and_confusion_matrix(noisy):
    "Intervals, natural frequencies, calibration, thresholds, and the counts of the matrix."
    card = (noisy.folder/'model'/'README.md').read_text()
    for phrase in ('95% interval', 'At the frequencies of the source',
                   'Confusion matrix (rows are the truth, columns the answers)',
                   'Expected calibration error', 'Confidence threshold'):
        assert phrase in card, phrase
    counts = noisy.metrics['confusion']['counts']
    assert f'| contract | {counts[0][0]} | {counts[0][1]} | {counts[0][2]} |' in card


def test_abstains(noisy):
    "With a minimum confidence exactly the rows below it get no answer."
    from libdocs.classifiers.deberta import DebertaZeroShot
    classifier = DebertaZeroShot(str(noisy.folder/'model'), device='cpu')
    results = read_jsonl(noisy.folder/'res'/'results.jsonl')
    middle = float(np.median([r['scores'][0] for r in results]))
    answers = classifier.classify([r['text'] for r in results], min_confidence=middle)
    assert [bool(a) for a in answers] == [r['scores'][0] >= middle for r in results]
    assert 0 < sum(map(bool, answers)) < len(answers)
    assert [t['accuracy'] for t in classifier.thresholds] == [.95, .99]


def test_validation_split_of_the_dataset(one_thread, tmp_path):
    "A dataset's own validation split is used, and checked; nothing is chosen by one of a dozen rows."
    from libdocs.core.errors import InputError
    data = dataset(tmp_path/'data', documents(60), documents(15, seed=1),
                   **{'validation.csv': csv_bytes(documents(60, seed=2))})
    assert tuned(tmp_path, data, epochs=1)[0].record.rows == SplitRows(train=60, validation=60, test=15)
    (tmp_path/'data'/'validation.csv').write_bytes(csv_bytes(documents(12, seed=2)))
    result, classifier = tuned(tmp_path, data, epochs=1)
    assert result.record.rows == SplitRows(train=60, test=15)
    assert result.record.validation is None
    assert classifier.thresholds is None
    (tmp_path/'data'/'validation.csv').write_bytes(csv_bytes([r | dict(label='memo') for r in documents(3)]))
    with pytest.raises(InputError, match='the validation split has labels that the train split lacks'):
        tuned(tmp_path, data)


# A file of your own

def examples(folder, rows, *argv):
    put(folder, {'own.jsonl': ''.join(json.dumps(row) + '\n' for row in rows).encode()})
    return command('classifier_model', '--examples', '--filename', 'own.jsonl', '--hf-model-name', './model',
                   '--output-classify-file', 'own/results.jsonl', *argv, cwd=folder, env=environment(folder/'home'))


def test_labels_that_the_model_does_not_know(noisy):
    "They are evaluated, wrong by definition, counted and named; the figures stand with and without them."
    rows = documents(60, seed=3)
    rows[5]['label'], rows[9]['label'], rows[11]['label'] = 'memo', 'memo', 'receipt'
    done = succeeds(examples(noisy.folder, rows, '--input-hf-dataset', './data'))
    m = json.loads((noisy.folder/'own'/'metrics.json').read_text())
    without = m['unknown_labels']['without']
    assert (m['rows'], without['rows'], m['unknown_labels']['rows'],
            m['unknown_labels']['labels']) == (60, 57, 3, dict(memo=2, receipt=1))
    assert m['top_1'] == pytest.approx(without['top_1'] * 57 / 60)
    assert m['macro_f1'] < without['macro_f1'] - .2
    assert m['log_loss'] is None
    assert without['log_loss'] > 0
    assert m['brier'] > without['brier']
    assert {d['label']: d['f1'] for d in m['per_label']}.items() >= dict(memo=0, receipt=0).items()
    warning = ("3 of 60 test rows (5.0%) have labels that the model does not know, so that every answer to "
               "them is wrong: 'memo' (2), 'receipt' (1).")
    assert warning in done.stdout
    assert '3 of 60 rows have a label that the model does not know' in done.stderr
    page = (noisy.folder/'own'/'report.html').read_text()
    assert 'have labels that the model does not know' in page
    assert 'instead of' in page
    assert m['trained_on'] == dict(model=600, baselines=600)
    assert 'learned from as many rows as the model, 600' in done.stdout
    assert 'as many rows as the model, 600' in page


def test_a_file_of_other_labels_is_refused(noisy):
    "If no label is known there is nothing to measure, and that is said."
    done = examples(noisy.folder, [r | dict(label='memo') for r in documents(6)])
    assert done.returncode == 2
    assert "the model knows none of the labels of the test data: no label 'memo'" in done.stderr
    assert 'Traceback' not in done.stderr


def test_the_baselines_learn_from_the_rows_of_the_model(noisy):
    "The baselines too are trained on the rows that were held out for validation."
    from libdocs.evaluation.baselines import linear_predictions
    train, test = (pd.read_csv(noisy.folder/'data'/f'{name}.csv', dtype=str) for name in ('train', 'test'))
    answers = linear_predictions(train, test.text)  # it was trained once more on all rows
    assert noisy.metrics['trained_on'] == dict(model=600, baselines=600)
    assert noisy.metrics['baselines']['tfidf_linear']['top_1'] == pytest.approx(
        np.mean([a[0] == t for a, t in zip(answers, test.label)]))


def test_two_evaluations_at_once(noisy):
    "The second names the process that holds the folder, and changes nothing; when the first is done, it may."
    code = '''if True:
        import sys, pandas as pd
        from libdocs.finetune.run import run
        class Slow:
            labels, name = ('a', 'b'), 'slow'
            def classify(self, texts, labels=None):
                print('classifying', flush=True)
                sys.stdin.readline()
                return [[('a', .9), ('b', .1)]] * len(texts)
        run(Slow(), pd.DataFrame(dict(text=['x', 'y'], label=['a', 'b'])), 'own/results.jsonl')'''
    first = subprocess.Popen([sys.executable, '-c', code], cwd=noisy.folder, env=environment(noisy.folder/'home'),
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert first.stdout.readline() == 'classifying\n'
    rows = documents(6, seed=3)
    second = examples(noisy.folder, rows)
    assert second.returncode == 2
    assert second.stderr.count('error:') == 1
    assert 'Traceback' not in second.stderr
    assert (f'the results folder own is in use by process {first.pid}; wait until it has ended, or name a '
            'results file in another folder (--output-classify-file)' in second.stderr)
    first.communicate('\n')
    assert first.returncode == 0
    assert [r['label'] for r in read_jsonl(noisy.folder/'own'/'results.jsonl')] == ['a', 'b']
    succeeds(examples(noisy.folder, rows))
    assert len(read_jsonl(noisy.folder/'own'/'results.jsonl')) == 6
    assert not list((noisy.folder/'own').glob('.*'))


def test_a_promise_needs_rows(noisy):
    "Sixty validation rows with wrong labels among them promise neither 95 % nor 99 %, and it is said why."
    at = noisy.metrics['coverage']['at']
    assert [(t['min_confidence'], t['needed']) for t in at] == [(None, 59), (None, 299)]
    assert 'cannot be promised from so few rows: it takes 299 independent ones' in noisy.done.stdout
    assert 'No threshold for 95.0%: the most confident answers are not right often enough' in noisy.done.stdout
    assert at == [t | dict(answered=0, rows=0, right=None) for t in noisy.record['validation']['thresholds']]
    card = (noisy.folder/'model'/'README.md').read_text()
    assert 'cannot be promised from so few rows' in card


# LoRA

def test_lora_publishes_an_ordinary_model(one_thread, tmp_path):
    "Only the products and the head are trained; what is published has no trace of them."
    from safetensors.torch import load_file
    data = dataset(tmp_path/'data', documents(90), documents(15, seed=1))
    base = tiny_bert(tmp_path/'base', [r['text'] for r in documents(90)])
    result, classifier = tuned(tmp_path, data, base_model=str(base), epochs=1, lora=True, max_length=16)
    before, after = load_file(Path(base)/'model.safetensors'), load_file(result.folder/'model.safetensors')
    assert before.keys() == after.keys()
    assert not any('lora' in name for name in after)
    name = 'bert.embeddings.word_embeddings.weight'
    assert (before[name] == after[name]).all()
    name = 'bert.encoder.layer.0.output.dense.weight'
    assert (before[name] != after[name]).any()
    assert len(classifier.classify('invoice1')[0]) == 3


def test_lora_refit_after_an_interruption(tmp_path, monkeypatch):
    "The products begin alike whether the refit follows the training at once or in another process."
    import libdocs.finetune.finetune as module
    data = dataset(tmp_path/'data', documents(300), documents(15, seed=1))
    options = dict(base_model=str(tiny_bert(tmp_path/'base', [r['text'] for r in documents(90)])),
                   epochs=1, lora=True, max_length=16, refit='on')
    tuned(tmp_path, data, 'whole', **options)
    def interrupted(*given): raise KeyboardInterrupt
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module, 'refit_stage', interrupted)
        tuned(tmp_path, data, 'parts', **options)
    tuned(tmp_path, data, 'parts', **options)
    whole, parts = ((tmp_path/f'{name}_run'/'refit'/'model.safetensors').read_bytes() for name in ('whole', 'parts'))
    assert whole == parts


def test_lora_without_peft_says_so(monkeypatch):
    "With the command that installs it."
    from libdocs.finetune.lora import with_lora
    from libdocs.core.errors import InputError
    monkeypatch.setitem(sys.modules, 'peft', None)
    with pytest.raises(InputError, match=r'pip install "libdocs\[lora\]"'): with_lora(None)


# Phase 1 with a natural test split

def test_natural_test(tmp_path):
    "The test split keeps the frequencies of the source; only the train split is capped."
    rows = documents(300, labels=('invoice',)) + documents(60, labels=('contract',), seed=1)
    put(tmp_path, {'raw/rows.jsonl': jsonl([dict(text=r['text'], label=r['label']) for r in rows])})
    done = command('cleaner_finetune', '-i', 'raw', '-f', 'rows.jsonl', '-o', 'out/x', '--target-hf-dataset', './ds',
                   '--reduce-majority-to', '1', '--natural-test', cwd=tmp_path, env=environment(tmp_path/'home'))
    succeeds(done)
    test, train = (pd.Series([r['label'] for r in read_jsonl(tmp_path/'out'/f'x_{split}.jsonl')]).value_counts()
                   for split in ('test', 'train'))
    frequencies = json.loads((tmp_path/'ds'/'label_frequencies.json').read_text())
    assert frequencies['test'] == 'natural'
    assert test['invoice'] / frequencies['labels']['invoice'] == pytest.approx(.2, abs=.02)
    assert train['invoice'] == 2 * train['contract']
    assert 'as frequent as they were after cleaning' in (tmp_path/'ds'/'README.md').read_text()


def test_broken_frequencies(tmp_path):
    "A frequencies file that was damaged is named, before anything is trained."
    dataset(tmp_path/'data', documents(60), documents(15, seed=1), **{'label_frequencies.json': b'{"labels": 3}'})
    done = command('classifier_model', '--input-hf-dataset', './data', '--hf-model-name', './model',
                   '-m', 'scratch', cwd=tmp_path, env=environment(tmp_path/'home'))
    assert done.returncode == 2
    assert 'label_frequencies.json does not hold label frequencies' in done.stderr
    assert 'Traceback' not in done.stderr
