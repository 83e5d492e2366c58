"""classifier_model into folders: the model, its figures, its card and report; and on a file with
--examples."""
import gzip, json, re, shutil
from types import SimpleNamespace

import pytest
from commands import FIGURES, check_card, check_results, slow, train
from corpora import command, csv_bytes, documents, environment, jsonl, put, read_jsonl, snapshot, succeeds, tiny_bert

@slow
def trained_again(root, jobs):
    return train(root, jobs['prepared'].folder/'ds', env={'PYTHONHASHSEED': '2'}, script=True)


def test_phase_2_files(trained):
    "The files that the help promises are there, the dataset stays as it was, and the log says what is done."
    succeeds(trained.done)
    there = set(snapshot(trained.folder))
    assert {'res/results.jsonl', 'res/metrics.json', 'res/report.html'} <= there
    assert not (trained.folder/'wb').exists(), 'W&B is off'
    assert {f'model/{name}' for name in ('config.json', 'model.safetensors', 'tokenizer.json',
                                         'labels.json', 'README.md', 'metrics.json', 'report.html')} <= there
    assert snapshot(trained.folder/'ds').keys() == {'README.md', 'label_frequencies.json', 'test.csv', 'train.csv'}
    assert not [name for name in there if name.endswith('.part')]
    assert 'INFO: evaluating DebertaZeroShot' in trained.done.stderr, (
        'run as a module, the command has to log what the console script logs')
    for name in ('results.jsonl', 'metrics.json', 'report.html'):
        assert f'wrote res/{name}' in trained.done.stdout
    assert trained.done.stdout.splitlines()[-1] == 'published ./model'


def test_phase_2_results(trained, prepared):
    "Predictions, metrics, baselines and the printed table agree with each other and with the test split."
    test = read_jsonl(prepared.folder/'out'/'letters_test.jsonl')
    metrics, results = check_results(trained.folder/'res', ['001', 'None', 'contract', 'invoice'], len(test))
    assert [(r['id'], r['text'], r['label']) for r in results] == [(r['id'], r['text'], r['label']) for r in test]
    baselines = metrics['baselines']
    assert baselines['majority']['label'] == 'contract', 'there are as many invoices; the first by name is taken'
    assert baselines['majority']['top_1'] == pytest.approx(sum(r['label'] == 'contract' for r in test)/len(test))
    for name in ('majority', 'tfidf_linear', 'tfidf_chars_linear'):
        assert all(0 <= baselines[name][k] <= 1 for k in FIGURES)
        assert baselines[name]['rows'] == len(test)
    assert baselines['zero_shot'] is None, 'the base model has no answer of its own'
    for name, figures in [('model', metrics), *((k, v) for k, v in baselines.items() if v)]:
        assert re.search(rf'^{name} +' + ' +'.join(f'{figures[k]:.4f}' for k in FIGURES), trained.done.stdout, re.M)
    log = [line for line in trained.done.stderr.splitlines() if 'top-1' in line and 'rows' in line]
    assert all(f'top-{k} {metrics[f"top_{k}"]:.4f}' in log[-1]
               for k in (1, 2, 3)), 'accuracy is logged at the end'
    assert len(log) > 2, 'accuracy is logged as it goes'


def test_phase_2_model(trained):
    "The folder is a model for plain transformers, knows the labels, and its card has the figures."
    from transformers import AutoConfig
    folder = trained.folder/'model'
    config, metrics = AutoConfig.from_pretrained(folder), json.loads((folder/'metrics.json').read_text())
    assert config.id2label == {0: '001', 1: 'None', 2: 'contract', 3: 'invoice'}
    assert config.label2id == {'001': 0, 'None': 1, 'contract': 2, 'invoice': 3}
    assert json.loads((folder/'labels.json').read_text())['labels'] == ['001', 'None', 'contract', 'invoice']
    assert (folder/'metrics.json').read_bytes() == (trained.folder/'res'/'metrics.json').read_bytes()
    check_card((folder/'README.md').read_text(), metrics)
    record = json.loads((folder/'training.json').read_text())
    cut = record['truncated_share'], record['test_truncated_share']
    assert cut[0] == pytest.approx(1/98) or cut[1] == pytest.approx(1/24), 'one text has 200,000 characters'


def test_phase_2_report(trained):
    "One page that needs no network, with the figures and the labels."
    page = (trained.folder/'res'/'report.html').read_text()
    assert page == (trained.folder/'model'/'report.html').read_text()
    assert not re.search(r'(?:src|href)=["\']?(?:https?:)?//|@import|url\((?!["\']?data:)', page)
    assert page.count('<html') == 1
    assert all(label in page for label in ('001', 'None', 'contract', 'invoice'))


def test_phase_2_twice(trained, trained_again):
    "Another process with another hash seed makes the same figures, output and weights."
    succeeds(trained_again.done)
    for name in ('metrics.json', 'results.jsonl'):
        assert (trained.folder/'res'/name).read_bytes() == (trained_again.folder/'res'/name).read_bytes()
    assert trained.done.stdout == trained_again.done.stdout
    assert (trained.folder/'model'/'model.safetensors').read_bytes() == (
        trained_again.folder/'model'/'model.safetensors').read_bytes()


# Examples

@slow
def examples_finetuned(root, jobs):
    "The trained model on other rows, in two packed files, of which half are used."
    rows = [{'body': r['text'], 'topic': {'word': 'invoice', 'clause': 'contract'}[r['label']],
             'id': f'new-{i}'} for i, r in enumerate(documents(80, ['word', 'clause'], 9))]
    put(root, {'new/part-1.jsonl.gz': gzip.compress(jsonl(rows[:50])), 'new/part-2.csv': csv_bytes(rows[50:])})
    for name in ('ds', 'model'): shutil.copytree(jobs['trained'].folder/name, root/name)
    before = snapshot(root)
    done = command('classifier_model', '--examples', '--input-dir', 'new', '--filename', 'part-*', '--text',
                   'body', '--subject-column', 'topic', '--hf-model-name', './model', '--input-hf-dataset', './ds',
                   '--eval-batch-size', '7', '--downsample', '0.5', cwd=root, env=environment(root/'home'))
    return SimpleNamespace(folder=root, done=done, rows=rows, before=before)


def test_examples_with_a_finetuned_model(examples_finetuned):
    "A sample of the rows of two packed files is classified; nothing that was there is changed."
    run = examples_finetuned
    succeeds(run.done)
    metrics, results = check_results(run.folder/'results'/'model'/'part-_', ['001', 'None', 'contract', 'invoice'], 40)
    given = {r['id']: r for r in run.rows}
    assert all(r['text'] == given[r['id']]['body'] and r['label'] == given[r['id']]['topic'] for r in results)
    assert sum(r['label'] == 'invoice' for r in results) == 20, 'the sample is stratified'
    assert metrics['baselines']['majority']['rows'] == 40
    assert (run.folder/'results'/'model'/'part-_'/'report.html').is_file()
    after = snapshot(run.folder)
    assert {k: after[k] for k in run.before} == run.before, 'neither model, dataset nor input is changed'


@pytest.fixture
def examples_nli(jobs, tmp_path):
    rows = documents(20)
    tiny_bert(tmp_path/'nli', [r['text'] for r in rows], labels=['entailment', 'not_entailment'])
    put(tmp_path, {'new/rows.jsonl': jsonl(rows)})
    argv = ['--examples', '--input-dir', 'new', '--filename', 'rows.jsonl', '--hf-model-name',
            './nli', '--eval-batch-size', '4', '--output-classify-file', 'res/results.jsonl']
    return SimpleNamespace(folder=tmp_path,
                           done=command('classifier_model', *argv, cwd=tmp_path, env=environment(tmp_path/'home')))


def test_examples_with_a_zero_shot_model(examples_nli):
    "The labels are those of the file; without a dataset there are no baselines, and that is said."
    succeeds(examples_nli.done)
    metrics, results = check_results(examples_nli.folder/'res', ['contract', 'invoice', 'minutes'], 20)
    assert metrics['baselines'] == {'majority': None, 'tfidf_linear': None, 'zero_shot': None}
    assert 'no training split' in metrics['baselines_note']
    assert re.search('^model ', examples_nli.done.stdout, re.M)
    assert 'majority' not in examples_nli.done.stdout
    assert (examples_nli.folder/'res'/'report.html').is_file()
