"The search for the options of a training, --tune."
import json

import numpy as np
import pytest
from corpora import command, csv_bytes, documents, environment, one_error, put, succeeds, tiny_bert

from libdocs.evaluation.record import best_trial, Trial

ROWS = documents(330)
SMALL = {'ds/train.csv': csv_bytes(ROWS[:280]), 'ds/test.csv': csv_bytes(ROWS[280:])}
USUAL = ['--input-hf-dataset', './ds', '-o', './model', '-m', 'scratch', '--device', 'cpu',
         '--output-classify-file', 'res/results.jsonl']
TUNED = ['--downsample', '0.25', '--epochs', '3', '--refit', 'off', '--tune', '3']  # on a part of the demo corpus


def train(work, *argv):
    return command('classifier_model', *USUAL, *argv, cwd=work, env=environment(work.parent/'home'))


def record_of(work): return json.loads((work/'model'/'training.json').read_text())


def trials_of(work): return [Trial.from_json(values) for values in record_of(work)['trials']]


# The demo corpus, through both phases

@pytest.fixture(scope='module')
def demo(tmp_path_factory):
    "The demo corpus, cleaned; and a model that was tuned on a part of it."
    from libdocs.demo import make_corpus
    work = tmp_path_factory.mktemp('demo')/'work'
    (work/'raw').mkdir(parents=True)
    make_corpus(work/'raw'/'corpus.jsonl')
    clean = ['-i', 'raw', '-f', 'corpus.jsonl', '-t', 'body', '-s', 'topic', '-o', 'out/demo',
             '--target-hf-dataset', './ds', '--bad-rows', 'reject', '--label-issues', 'off']
    succeeds(command('cleaner_finetune', *clean, cwd=work, env=environment(work.parent/'home')))
    return work, train(work, *TUNED)


def test_the_demo_corpus(demo):
    "Three trials, the first with the default options; the model is trained with those of the best."
    work, done = demo
    succeeds(done)
    trials, record = trials_of(work), record_of(work)
    best = best_trial(trials)
    assert [trial.number for trial in trials] == [1, 2, 3]
    assert (trials[0].options['learning_rate'], trials[0].pruned) == (2e-3, False)
    assert best.loss <= trials[0].loss
    assert {name: record['hyperparameters'][name] for name in best.options} == best.options
    assert 'tune' not in record['hyperparameters']
    lines = [line for line in done.stderr.splitlines() if ' of 3, ' in line]
    assert [line.split(' of 3, ')[0] for line in lines] == ['INFO: trial 1', 'INFO: trial 2', 'INFO: trial 3']
    assert 'tuning: 1 of 3 trials done; the others take at most about' in done.stderr
    before = done.stderr.split('INFO: trial 1')[0]
    assert 'tuning: 3 trials, compared on validation rows' in before
    assert 'epoch 1' not in before, 'a trial has one line'
    assert 'optuna' not in done.stderr
    assert 'study' not in done.stderr


def test_the_demo_report(demo):
    "Report and card say what was tried and what it is worth."
    work, _ = demo
    page, card = (work/'res'/'report.html').read_text(), (work/'model'/'README.md').read_text()
    section = page.split('id="tuning"')[1].split('</section>')[0]
    assert section.count('<tr>') == 4
    assert section.count('taken') == 1
    assert 'no trial saw a test row' in section
    assert 'the best of 3 trials on these rows' in card


def test_nothing_is_tuned_twice(demo):
    "A finished search is found; another number of trials, or another seed, is another search."
    work, _ = demo
    before = trials_of(work)
    again = succeeds(train(work, *TUNED))
    assert 'INFO: tune: already done' in again.stderr
    assert 're-running' not in again.stderr
    assert trials_of(work) == before


# Seeds

@pytest.fixture(scope='module')
def seeds(tmp_path_factory):
    "A folder for each of two seeds, and one more for the first."
    folders = {name: tmp_path_factory.mktemp(name)/'work' for name in ('one', 'same', 'other')}
    for name, work in folders.items():
        put(work, SMALL)
        succeeds(train(work, '--refit', 'off', '--tune', '3', '--epochs', '2',
                       '--seed', '7' if name == 'other' else '42'))
    return {name: [trial.to_json() | dict(seconds=None) for trial in trials_of(work)] for name, work in folders.items()}


def test_same_seed_same_trials(seeds):
    assert seeds['one'] == seeds['same']
    assert [trial['options'] for trial in seeds['one'][1:]] != [trial['options'] for trial in seeds['other'][1:]]


# A base model that is better as it is

def test_the_frozen_base_model_may_be_better(tmp_path, monkeypatch):
    "Then its loss is that of the trial, also of one that ended before it could be written down."
    from libdocs.finetune import stages, tune
    from libdocs.finetune.batches import label_numbers
    from libdocs.finetune.finetune import finetune
    put(tmp_path, SMALL)
    tiny_bert(tmp_path/'base', [row['text'] for row in ROWS])
    begun = stages.fit_start
    def knows_everything(job, model, tokenizer, rows, *others):
        start, _ = begun(job, model, tokenizer, rows, *others)
        return start, 20 * np.eye(3)[label_numbers(rows['validation'])]
    monkeypatch.setattr(stages, 'fit_start', knows_everything)
    def trials(name):
        record = finetune(str(tmp_path/'ds'), str(tmp_path/name), base_model=str(tmp_path/'base'), tune=2, device='cpu',
                          epochs=1, refit='off', track='none').record
        assert record.frozen
        return [trial.to_json() | dict(seconds=None) for trial in record.trials]
    whole, usual, calls = trials('whole'), tune.outcome, []
    for trial in whole:
        assert trial['top_1'] is None
        assert trial['loss'] < min(loss for _, loss in trial['course'])
    def dies_once(trainer):
        calls.append(trainer)
        if len(calls) == 2: raise KeyboardInterrupt
        return usual(trainer)
    monkeypatch.setattr(tune, 'outcome', dies_once)
    with pytest.raises(KeyboardInterrupt): trials('parts')
    assert trials('parts') == whole
    assert len(calls) == 3


# Without it, and where it is not possible

def test_without_it_nothing_changes(tmp_path):
    "No stage depends on what is searched, and the record has no word of it."
    work = tmp_path/'work'
    put(work, SMALL)
    succeeds(train(work, '--epochs', '1', '--refit', 'off'))
    keys = {name: set(json.loads((work/'model_run'/f'{name}.json').read_text())['key'])
            for name in ('load', 'tokenize', 'train', 'save')}
    assert not (work/'model_run'/'tune').exists()
    assert keys['load'] == {'after', 'capped', 'dataset', 'rows', 'seed'}
    assert keys['tokenize'] == {'after', 'long', 'max_length', 'tokenizer'}
    assert keys['save'] == {'after', 'folder', 'repo'}
    assert keys['train'] == {
        'after', 'balance', 'base_model', 'config', 'device', 'dtype', 'epochs', 'label_smoothing', 'learning_rate',
        'long', 'lora', 'method', 'processes', 'seed', 'split_share', 'train_batch_size', 'versions', 'warmup',
        'weight_decay', 'weights'}
    assert 'trials' not in record_of(work)
    assert 'tune' not in record_of(work)['hyperparameters']
    assert 'id="tuning"' not in (work/'res'/'report.html').read_text()


@pytest.mark.parametrize('argv,said', [
    (['--tune', '1'], 'a whole number, at least 2'),
    (['--tune', '3', '-m', './base', '--method', 'linear-head'],
     '--method linear-head trains nothing that could be tuned: leave out --tune 3, or choose another'),
    (['--tune', '3', '--downsample', '.5'],
     '--tune 3 compares trainings on validation rows, and there are fewer than 50 of them'),
    (['--tune', '3', '--epochs', '2', '--learning-rate', '1e-3'], '--tune 3: nothing is left to tune')])
def test_what_is_not_possible(tmp_path, argv, said):
    "One line says what is wrong and the way out; no model is made."
    work = tmp_path/'work'
    put(work, SMALL)
    done = train(work, *argv)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr.strip().splitlines()[-1], done.stderr
    assert 'Traceback' not in done.stderr
    assert not (work/'model').exists()


def test_without_optuna(tmp_path):
    "The command that installs it."
    import warm
    work = tmp_path/'work'
    put(work, SMALL)
    done = warm.run("import sys; sys.modules['optuna'] = None\nsys.argv.pop(0)\n" + warm.MODULE,
                    ['-c', 'libdocs.classifier_model', *USUAL, '--tune', '3'], work, environment(tmp_path/'home'))
    assert one_error(done.returncode, done.stderr).endswith('pip install "libdocs[tune]"')
