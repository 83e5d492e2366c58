"Predictions of models made elsewhere: forms of files, figures against formulas written out here, bad input, schemas."
import importlib, io, json, re, subprocess, sys
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from corpora import command, csv_bytes, documents, environment, jsonl, one_error, put, read_jsonl, snapshot, succeeds
from jsonschema import Draft202012Validator
from warm import HANG

from libdocs.audit import main

ROOT = Path(__file__).resolve().parent.parent
LABELS = ('invoice', 'contract', 'minutes')
TRAIN, TEST = documents(90, seed=1), [row | {'id': f't{i}'} for i, row in enumerate(documents(120, seed=2))]
TEST[0]['text'], TEST[1]['text'] = TRAIN[0]['text'].upper(), TRAIN[1]['text']  # copies, the first but for its case
TEST[0]['label'] = 'minutes'  # which is 'invoice' there
TEST[4]['text'], TEST[5]['text'] = TEST[2]['text'], TEST[2]['text']  # one text, three labels


def parquet(rows):
    "Rows as a Parquet file."
    data = io.BytesIO()
    pd.DataFrame(rows).to_parquet(data, index=False)
    return data.getvalue()


def answers(right, seed):
    "For each test row its label, or in some rows the next one."
    draw = np.random.default_rng(seed)
    return [row['label'] if draw.random() < right else LABELS[(LABELS.index(row['label']) + 1) % 3] for row in TEST]


def shares(answer, sure):
    "A probability for each label."
    return {label: sure if label == answer else (1 - sure) / 2 for label in LABELS}


GIVEN, SURE = answers(.8, 3), np.random.default_rng(4).uniform(.5, .95, 120).round(4).tolist()
RANKED = [sorted(LABELS, key=lambda label: -shares(answer, sure)[label]) for answer, sure in zip(GIVEN, SURE)]
FORMS = {
    'labels.jsonl': jsonl([dict(id=row['id'], prediction=answer) for row, answer in zip(TEST, GIVEN)]),
    'sure.csv': csv_bytes([dict(id=row['id'], prediction=answer, confidence=sure)
                           for row, answer, sure in zip(TEST, GIVEN, SURE)][::-1]),
    'ranked.jsonl': jsonl([dict(predictions=order, scores=sorted(shares(order[0], sure).values(), reverse=True))
                           for order, sure in zip(RANKED, SURE)]),
    'lists.csv': csv_bytes([dict(predictions=json.dumps(order), text=row['text']) for order, row in zip(RANKED, TEST)]),
    'columns.csv': csv_bytes([shares(answer, sure) for answer, sure in zip(GIVEN, SURE)]),
    'prefixed.tsv': csv_bytes([{f'p_{label}': share for label, share in shares(answer, sure).items()}
                               for answer, sure in zip(GIVEN, SURE)]).replace(b',', b'\t'),
    'lists.parquet': parquet([dict(id=row['id'], predictions=order,
                                   scores=sorted(shares(order[0], sure).values(), reverse=True))
                              for row, order, sure in zip(TEST, RANKED, SURE)]),
    'other.jsonl': jsonl([dict(id=row['id'], prediction=answer) for row, answer in zip(TEST, answers(.7, 5))])}
FILES = {'train.csv': csv_bytes(TRAIN), 'test.jsonl': jsonl(TEST)} | FORMS
ROWS = ['--train', 'train.csv', '--test', 'test.jsonl']


@pytest.fixture
def here(tmp_path, monkeypatch):
    "A folder with all files, in which commands run."
    put(tmp_path, FILES)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def audited(folder, *argv):
    "The audit as a real process, and its metrics.json."
    done = succeeds(command('libdocs', 'audit', *argv, cwd=folder, env=environment(folder/'home')))
    return done.stdout, json.loads((folder/'audit'/'metrics.json').read_text())


def figures(folder, capfd, *argv):
    "The metrics.json of an audit in this process."
    assert main([*argv, '-o', 'out']) == 0, capfd.readouterr().err
    return json.loads((folder/'out'/'metrics.json').read_text())


# Figures

@pytest.mark.parametrize('name', FORMS)
def test_every_form_gives_the_same_figures(here, capfd, name):
    "Labels alone, with confidences, ranked, or as probabilities: as much as the file says, and it agrees."
    prefix = ['--label-prefix', 'p_'] if name == 'prefixed.tsv' else []
    made = figures(here, capfd, *ROWS, '--predictions', name, *prefix)
    metrics, = (one['metrics'] for one in made['answers'].values())
    truth, given = [row['label'] for row in TEST], GIVEN if name != 'other.jsonl' else answers(.7, 5)
    assert metrics['top_1'] == pytest.approx(np.mean([t == g for t, g in zip(truth, given)]))
    ranked = name not in ('labels.jsonl', 'sure.csv', 'other.jsonl')
    probable = name not in ('labels.jsonl', 'lists.csv', 'other.jsonl')
    assert metrics['top_2'] == (pytest.approx(np.mean([t in order[:2] for t, order in zip(truth, RANKED)]))
                                if ranked else None)
    assert (metrics['ece'] is not None) == (metrics['calibration'] is not None) == probable
    if not probable: return
    right = np.array([t == g for t, g in zip(truth, GIVEN)])
    bins = np.minimum((np.array(SURE) * 15).astype(int), 14)
    ece = sum(abs((right - np.array(SURE))[bins == b].sum()) for b in range(15)) / 120
    assert metrics['ece'] == pytest.approx(ece, abs=1e-6)
    losses = [-np.log(shares(g, s)[t]) for t, g, s in zip(truth, GIVEN, SURE)]
    assert metrics['log_loss'] == (pytest.approx(np.mean(losses), abs=1e-6) if ranked else None)


def test_what_the_rows_are_worth(here):
    "Copies, one of them with another label, a text with several labels; and the baselines are those of scikit-learn."
    said, made = audited(here, *ROWS, '--predictions', 'columns.csv')
    rows, metrics = made['rows'], made['answers']['columns']['metrics']
    assert (rows['test'], rows['train'], rows['copies_relabelled']) == (120, 90, 1)
    assert rows['test_conflicts'] == dict(texts=1, rows=3)
    assert rows['train_conflicts'] == dict(texts=0, rows=0)
    assert (metrics['leakage']['exact'], metrics['leakage']['without']['rows']) == (2, 118)
    assert {row['test_id'] for row in read_jsonl(here/'audit'/'leakage.jsonl')} == {'t0', 't1'}
    commonest = max(sorted(LABELS), key=[row['label'] for row in TRAIN].count)
    assert metrics['baselines']['majority']['top_1'] == pytest.approx(
        np.mean([row['label'] == commonest for row in TEST]))
    assert metrics['baselines']['tfidf_linear']['top_1'] > .9
    assert 'In the test rows, 1 text stands under several labels (3 rows).' in said
    assert '2 of 120 test rows (1.7%) have a copy in the train split' in said
    assert (here/'audit'/'report.html').exists()


def test_several_files_are_compared(here):
    "With the interval and the test of a paired comparison, and a page for each."
    said, made = audited(here, *ROWS, '--predictions', 'labels.jsonl', 'other.jsonl')
    pair, truth = made['pairs'][0], [row['label'] for row in TEST]
    one, two = (np.array([t == g for t, g in zip(truth, given)]) for given in (GIVEN, answers(.7, 5)))
    assert (pair['before'], pair['after']) == ('labels', 'other')
    assert pair['differences']['top_1'][0] == pytest.approx(two.mean() - one.mean())
    assert (pair['mcnemar']['only_this'], pair['mcnemar']['only_other']) == ((two & ~one).sum(), (one & ~two).sum())
    alone = np.setdiff1d(np.arange(120), [2, 4, 5])  # but for the copies, every row is a group of its own
    groups = [*(int(two[i]) - int(one[i]) for i in alone), sum(int(two[i]) - int(one[i]) for i in (2, 4, 5))]
    sums = Counter({0: 1})  # of all ways to draw the signs
    for size in filter(None, map(abs, groups)):
        sums = Counter({s: sums[s - size] + sums[s + size] for s in {t + d for t in sums for d in (size, -size)}})
    as_far = sum(n for value, n in sums.items() if abs(value) >= abs(sum(groups)))
    assert pair['p'] == pytest.approx(as_far / sum(sums.values()))
    assert f'{(two & ~one).sum()} rows turned right, {(one & ~two).sum()} wrong' in said
    names = {path.name for path in (here/'audit').iterdir()}
    assert names == {'report.html', 'report-1-labels.html', 'report-2-other.html', 'metrics.json', 'leakage.jsonl'}
    for name in re.findall('href="(report-[^"]+)"', (here/'audit'/'report.html').read_text()): assert name in names


def test_answers_that_are_none(here, capfd):
    "Rows without an answer and answers that are no label count as wrong, and are named."
    given = [answer if i > 4 else [None, '', 'I think it is an invoice.', 'Invoice', 'invoice'][i]
             for i, answer in enumerate(GIVEN)]
    put(here, {'llm.jsonl': jsonl([dict(prediction=answer) for answer in given])})
    made = figures(here, capfd, *ROWS, '--predictions', 'llm.jsonl')['answers']['llm']
    said = capfd.readouterr().err
    assert made['unanswered'] == 2
    assert made['foreign'] == {'I think it is an invoice.': 1, 'Invoice': 1}
    assert made['metrics']['top_1'] == pytest.approx(np.mean([row['label'] == g for row, g in zip(TEST, given)]))
    assert 'rows without an answer, counted as wrong: 2' in said
    assert "'Invoice' (1)" in said


def test_own_results_file(trained, here, capfd):
    "The results file of an evaluation is a prediction file; its figures are those of the evaluation."
    folder = trained.folder
    test, results = (str(folder/name) for name in ('ds/test.csv', 'res/results.jsonl'))
    made = figures(here, capfd, '--test', test, '--predictions', results)
    ours, theirs = made['answers']['results']['metrics'], json.loads((folder/'res'/'metrics.json').read_text())
    for key in ('rows', 'groups', 'top_1', 'top_2', 'macro_f1', 'weighted_f1', 'intervals', 'confusion'):
        if key == 'intervals': assert ours[key]['top_1'] == pytest.approx(theirs[key]['top_1'])
        else: assert ours[key] == theirs[key], key
    assert ours['log_loss'] == pytest.approx(theirs['log_loss'], abs=1e-4)
    assert made['rows']['train'] is None


def test_own_names_of_columns_and_labels_that_are_not_tested(here, capfd):
    "The columns of text, label, id, answer and confidence are named; a label that only train rows have is no error."
    rows = [dict(nr=i, body=row['text'], topic=row['label']) for i, row in enumerate(TEST)]
    given = [dict(nr=i, guess=answer, sure=sure) for i, (answer, sure) in enumerate(zip(GIVEN, SURE))]
    put(here, {'own.csv': csv_bytes(rows), 'guesses.csv': csv_bytes(given[::-1]),
               'more.csv': csv_bytes([*TRAIN, dict(id='x', text='something else', label='other')]),
               'wide.csv': csv_bytes([{label: .9 * share for label, share in shares(answer, .6).items()} | {'other': .1}
                                      for answer in GIVEN])})
    own = ['--text', 'body', '--subject', 'topic', '--id', 'nr', '--answer', 'guess', '--confidence', 'sure']
    named = figures(here, capfd, '--test', 'own.csv', '--predictions', 'guesses.csv', *own)['answers']['guesses']
    plain = figures(here, capfd, '--test', 'test.jsonl', '--predictions', 'sure.csv')['answers']['sure']
    assert {k: named['metrics'][k] for k in ('top_1', 'ece')} == {k: plain['metrics'][k] for k in ('top_1', 'ece')}
    wide = figures(here, capfd, '--test', 'test.jsonl', '--train', 'more.csv', '--predictions', 'wide.csv')
    assert wide['answers']['wide']['metrics']['top_1'] == named['metrics']['top_1']
    assert wide['answers']['wide']['metrics']['log_loss'] is not None, 'the probability of the other label was not read'
    assert wide['answers']['wide']['foreign'] == {}


# Bad input

def lines(name, n, change=lambda row: row): return jsonl([change(json.loads(x)) for x in FORMS[name].splitlines()[:n]])


BAD = {
    'no file': ({}, ['--predictions', 'nothing.csv'], 'nothing.csv: cannot be read: No such file'),
    'no test file': ({}, ['--test', 'tst.jsonl', '--predictions', 'sure.csv'], 'tst.jsonl: cannot be read'),
    'no column of the text': ({}, ['--predictions', 'sure.csv', '--text', 'body'], "no column 'body'"),
    'no column of the answers': ({'p.csv': b'id,guess\nt0,invoice\n'}, ['--predictions', 'p.csv'],
                                 r'p.csv: no column of predictions: .* id, guess; name the one .*--answer'),
    'a column that is not there': ({}, ['--predictions', 'sure.csv', '--answer', 'guess'], "--answer: no column 'gue"),
    'a prefix of no column': ({}, ['--predictions', 'columns.csv', '--label-prefix', 'q_'], "no column is called 'q_'"),
    'fewer rows': ({'p.jsonl': b''.join(FORMS['ranked.jsonl'].splitlines(True)[:9])}, ['--predictions', 'p.jsonl'],
                   '9 predictions for 120 test rows.*--id'),
    'a row without prediction': ({'p.jsonl': lines('labels.jsonl', 119)}, ['--predictions', 'p.jsonl'],
                                 "no prediction for 1 test row, the first: 't119'"),
    'a row twice': ({'p.jsonl': lines('labels.jsonl', 120) + lines('labels.jsonl', 1)}, ['--predictions', 'p.jsonl'],
                    "p.jsonl:121: a second prediction for the row 't0'"),
    'ids of another file': ({'p.jsonl': lines('labels.jsonl', 120, lambda row: row | {'id': 'x' + row['id']})},
                            ['--predictions', 'p.jsonl'], 'none of its ids is that of a test row.*--match order'),
    'an id that is not there': ({}, ['--predictions', 'sure.csv', '--id', 'nr'], "no column 'nr'"),
    'texts of other rows': ({'p.csv': FORMS['lists.csv'].replace(b' number 7"', b' number 700"')},
                            ['--predictions', 'p.csv'], r'p.csv:9: the text is not that of the test row'),
    'no label at all': ({}, ['--predictions', 'sure.csv', '--answer', 'id'], "none of its answers is a label"),
    'no answer at all': ({'p.jsonl': lines('labels.jsonl', 120, lambda row: row | {'prediction': None})},
                         ['--predictions', 'p.jsonl'], 'not one row has an answer'),
    'no number': ({'p.csv': FORMS['sure.csv'].replace(b'"t7","', b'"t7","invoice","high"\n#"').split(b'#')[0]},
                  ['--predictions', 'p.csv'], "confidence is 'high', not a number"),
    'more scores than labels': ({'p.jsonl': b'{"predictions": ["invoice"], "scores": [0.5, 0.5]}\n'},
                                ['--predictions', 'p.jsonl'], 'p.jsonl:1: 1 labels in predictions, but 2 numbers'),
    'broken': ({'p.jsonl': lines('labels.jsonl', 9) + b'{"id": '}, ['--predictions', 'p.jsonl'], 'p.jsonl:10: broken'),
    'twice': ({}, ['--predictions', 'sure.csv', 'sure.csv'], 'sure.csv: is given twice'),
    'bad test rows and no ids': ({'test.jsonl': b'[1]\n' + jsonl(TEST)},
                                 ['--predictions', 'ranked.jsonl', '--bad-rows', 'reject'],
                                 '1 bad rows of the test file were left out'),
    'output over input': ({'out/metrics.json': FORMS['labels.jsonl']},
                          ['--predictions', 'out/metrics.json', '-o', 'out'], 'out/metrics.json: is an input file'),
}


@pytest.mark.parametrize('name', BAD)
def test_bad_input(here, capfd, name):
    "One line, exit code 2, and nothing is written."
    files, argv, says = BAD[name]
    put(here, files)
    before = snapshot(here)
    code = main([*(ROWS if '--test' not in argv else []), *argv, *([] if '-o' in argv else ['-o', 'out'])])
    out, said = capfd.readouterr()
    assert re.search(says, one_error(code, said)), said
    assert not out
    assert snapshot(here) == before


# Schemas

def schema(name): return json.loads((ROOT/'docs'/'static'/f'{name}.schema.json').read_text(encoding='utf-8'))


def test_schemas_are_up_to_date(monkeypatch):
    "They are what docs/schemas.py writes."
    monkeypatch.syspath_prepend(ROOT/'docs')
    for name, text in importlib.import_module('schemas').schemas().items():
        assert (ROOT/'docs'/'static'/name).read_text(encoding='utf-8') == text, name
    done = subprocess.run([sys.executable, ROOT/'docs'/'schemas.py', '--check'], capture_output=True, text=True,
                          timeout=HANG)
    assert done.returncode == 0, done.stderr


def test_files_fit_their_schemas(trained, here, capfd):
    "Real ones do; ones with a figure that is missing, misspelt or no number do not."
    metrics = json.loads((trained.folder/'res'/'metrics.json').read_text())
    audit = figures(here, capfd, *ROWS, '--predictions', 'columns.csv', 'labels.jsonl')
    for values, name in ((metrics, 'metrics'), (audit, 'audit')):
        validator = Draft202012Validator(schema(name))
        validator.check_schema(validator.schema)
        assert not list(validator.iter_errors(values))
        assert list(validator.iter_errors({k: v for k, v in values.items() if k != 'version'}))
        assert list(validator.iter_errors(values | {'version': 2}))
        assert list(validator.iter_errors(values | {'top_4': 1.}))
    validator = Draft202012Validator(schema('metrics'))
    for wrong in (dict(top_1='high'), dict(rows=1.5), dict(intervals=dict(top_1=[.1])), dict(per_label=None)):
        assert list(validator.iter_errors(metrics | wrong)), wrong


# The page

EVIL = '</style></title><script>window.hit = 1</script><img src=x onerror="window.hit = 1">\x1b[31m\u202e'


@pytest.mark.parametrize('files', [['sure.csv'], ['sure.csv', 'labels.jsonl', 'evil.jsonl']])
def test_pages_in_a_browser(browser, here, capfd, files):
    "They fit, load nothing and run nothing; links within and to the other pages lead somewhere."
    rows = pd.DataFrame(TEST).assign(text=lambda df: df.text + EVIL).to_dict('records')
    put(here, {'test.jsonl': jsonl(rows), 'train.csv': csv_bytes([*TRAIN, *rows[:9]]),
               'evil.jsonl': jsonl([dict(prediction=[row['label'], EVIL][i % 9 == 0]) for i, row in enumerate(TEST)])})
    figures(here, capfd, *ROWS, '--predictions', *files)
    pages = sorted((here/'out').glob('*.html'))
    assert len(pages) == (1 if len(files) == 1 else 4)
    for path in pages:
        for width in (1280, 390):
            page, faults = browser.new_page(viewport=dict(width=width, height=900)), []
            page.set_default_timeout(1000 * HANG)
            page.on('console', lambda message, faults=faults: faults.append(message.text))
            page.on('pageerror', lambda error, faults=faults: faults.append(str(error)))
            page.goto(path.as_uri(), wait_until='load')
            assert page.evaluate('window.hit') is None
            assert page.evaluate('document.documentElement.scrollWidth') <= width, path.name
            assert page.locator('img').count() == 0
            for target in page.locator('nav a').evaluate_all('all => all.map(a => a.getAttribute("href"))'):
                assert page.locator(target).count() == 1, target
            for target in page.locator('#reports a').evaluate_all('all => all.map(a => a.getAttribute("href"))'):
                assert (path.parent/target).is_file()
            assert not faults
            page.close()
    assert 'Copies of train rows' in (here/'out'/'report.html').read_text()
