"`libdocs classify` as a user runs it: formats, bad rows, interruptions, models of both kinds."
import datetime, gzip, json, signal, time
from decimal import Decimal
from types import SimpleNamespace

import pandas as pd
import pytest
from corpora import command, csv_bytes, documents, environment, jsonl, put, read_jsonl, succeeds, tiny_bert
from warm import MODULE, Job, run

WORDS = ['word', 'clause', 'zero']
ADDED = ['prediction', 'confidence', 'abstained', 'predictions', 'scores']


@pytest.fixture(scope='module')
def work(tmp_path_factory):
    "A folder with a tiny model, a zero-shot model, and rows in several formats."
    root = tmp_path_factory.mktemp('classify')
    folder, rows = root/'work', [r | dict(page=i) for i, r in enumerate(documents(50, WORDS, 1))]
    put(folder, {
        'rows.jsonl': jsonl(rows), 'rows.jsonl.gz': gzip.compress(jsonl(rows)), 'rows.csv': csv_bytes(rows),
        'y.jsonl.partial': jsonl(rows),
        'ds/train.csv': csv_bytes(rows[:30]), 'ds/test.csv': csv_bytes(rows[30:])})
    pd.DataFrame(rows).to_parquet(folder/'rows.parquet')
    texts = [row['text'] for row in rows]
    tiny_bert(folder/'model', texts, WORDS)
    tiny_bert(folder/'nli', texts, ['entailment', 'neutral', 'contradiction'])
    return SimpleNamespace(folder=folder, rows=rows, env=environment(root/'home'))


def classify(work, *words, **options):
    return command('libdocs', 'classify', *words, '--device', 'cpu', cwd=work.folder, env=work.env, **options)


def test_every_format_says_the_same(work):
    "The rows come back in order with their columns, whatever the format; the figure is that of the file."
    answers = {}
    for kind in ('rows.jsonl', 'rows.jsonl.gz', 'rows.csv', 'rows.parquet', "ro*.parquet"):
        done = classify(work, './model', kind, '-o', 'out.jsonl')
        succeeds(done)
        out = read_jsonl(work.folder/'out.jsonl')
        assert [row['text'] for row in out] == [row['text'] for row in work.rows]
        assert [int(row['page']) for row in out] == [row['page'] for row in work.rows]
        assert list(out[0])[-5:] == ADDED
        answers[kind] = [[row[name] for name in ADDED] for row in out]
        right = sum(row['prediction'] == row['label'] for row in out) / len(out)
        assert f'is right for {right:.2%} of them' in done.stdout
    assert len({json.dumps(rows) for rows in answers.values()}) == 1
    for kind, read in (('csv', pd.read_csv), ('tsv', lambda path: pd.read_csv(path, sep='\t')),
                       ('parquet', pd.read_parquet)):
        succeeds(classify(work, './model', 'rows.jsonl', '-o', f'out.{kind}'))
        table = read(work.folder/f'out.{kind}')
        assert list(table.columns[-5:]) == ADDED
        assert table['prediction'].tolist() == [row['prediction'] for row in out]
        assert table['confidence'].tolist() == pytest.approx([row['confidence'] for row in out])


def test_values_that_json_does_not_know(work):
    "Dates, decimals and bytes are written as text, which is told."
    day, rows = datetime.date(2020, 1, 2), pd.DataFrame(work.rows[:4])
    rows.assign(day=[day, None, day, day], sum=Decimal('1.50'), hash=b'ab').to_parquet(work.folder/'dates.parquet')
    told = succeeds(classify(work, './model', 'dates.parquet', '-o', 'dates_out.parquet')).stderr
    for name in ('day', 'sum', 'hash'): assert told.count(f'the column {name!r} has values of type') == 1, told
    assert "'page'" not in told
    days = pd.read_parquet(work.folder/'dates_out.parquet')['day']
    assert days.fillna('').tolist() == ['2020-01-02', '', '2020-01-02', '2020-01-02']


def test_the_answers_are_those_of_the_class(work):
    from libdocs import DebertaZeroShot
    succeeds(classify(work, './model', 'rows.jsonl', '-o', 'out.jsonl', '--top', '2', '--min-confidence', '.34'))
    model = DebertaZeroShot(str(work.folder/'model'), device='cpu')
    for row, answer in zip(read_jsonl(work.folder/'out.jsonl'), model.classify([r['text'] for r in work.rows])):
        assert row['predictions'] == [name for name, _ in answer[:2]]
        assert row['scores'] == pytest.approx([score for _, score in answer[:2]], abs=1e-5)
        assert row['abstained'] == (row['prediction'] is None) == (answer[0][1] < .34)


def test_a_dataset_and_a_zero_shot_model(work):
    succeeds(classify(work, './model', './ds', '-o', 'test.jsonl'))
    assert [row['text'] for row in read_jsonl(work.folder/'test.jsonl')] == [row['text'] for row in work.rows[30:]]
    succeeds(classify(work, './model', './ds', '--split', 'train', '-o', 'train.jsonl'))
    assert len(read_jsonl(work.folder/'train.jsonl')) == 30
    succeeds(classify(work, './nli', 'rows.jsonl', '--labels', 'letter', 'memo', '-o', 'nli.jsonl'))
    assert {name for row in read_jsonl(work.folder/'nli.jsonl') for name in row['predictions']} == {'letter', 'memo'}


@pytest.mark.parametrize('words, message', [
    (['./nothing', 'rows.jsonl', '-o', 'x.jsonl'], 'no such folder'),
    (['./ds', 'rows.jsonl', '-o', 'x.jsonl'], 'ds'),
    (['./model', 'rows.jsonl', '-o', 'x.jsonl', '--text', 'txt'], "no column 'txt'; did you mean 'text'?"),
    (['./model', 'rows.jsonl', '-o', 'x.jsonl', '--subject', 'lable'], "no column 'lable'; did you mean 'label'?"),
    (['./model', 'missing.jsonl', '-o', 'x.jsonl'], 'missing.jsonl: no such file'),
    (['./model', '*.xml', '-o', 'x.jsonl'], r'\*.xml: no file fits'),
    (['./model', 'rows.jsonl', '-o', 'x.xlsx'], 'x.xlsx: the ending says in which format'),
    (['./model', 'rows.jsonl', '-o', 'rows.jsonl'], 'rows.jsonl: is an input file'),
    (['./model', './ds', '-o', 'x.jsonl', '--split', 'tset'], "no split 'tset'; did you mean 'test'?"),
    (['./model', 'rows.jsonl', '-o', 'x.jsonl', '--labels', 'a'], 'scores its own labels'),
    (['./nli', 'rows.jsonl', '-o', 'x.jsonl'], 'give it the labels to choose from'),
    (['./model', 'rows.jsonl', '-o', 'x.jsonl', '--top', '0'], 'at least 1'),
    (['./model', 'rows.jsonl', '-o', 'x.jsonl', '--min-confidence', '80'], r'a share in \(0, 1\]'),
    (['./model', 'rows.jsonl', 'nothing', '-o', 'x.jsonl'], 'nothing: no such file; give files, or one dataset'),
    (['./model', 'rows.jsonl', './ds', '-o', 'x.jsonl'], './ds: is a folder; give files, or one dataset'),
    (['./model', 'rows.jsonl', '--split', 'test', '-o', 'x.jsonl'], '--split is of a dataset'),
    (['./nli', 'rows.jsonl', '--labels', 'a', 'b', 'a', '-o', 'x.jsonl'], '--labels: each label once'),
    (['./model', 'y.jsonl.partial', '-o', 'y.jsonl'], 'y.jsonl.partial: is an input file'),
    (['./model', 'rows.jsonl'], 'required: -o/--output')])
def test_bad_input_is_one_line(work, words, message):
    import re
    done = classify(work, *words)
    errors = [line for line in done.stderr.splitlines() if not line.startswith(('INFO: ', 'WARNING: '))]
    assert (done.returncode, len(errors)) == (2, 1), done.stderr
    assert re.search(message, errors[0]), errors[0]
    assert not (work.folder/'x.jsonl').exists()
    assert not list(work.folder.glob('x.jsonl*'))


def test_bad_rows(work):
    "Found before any row is classified, or listed with file and line; a row without a text is kept."
    bad = jsonl(work.rows[:2]) + b'{"text": 7, "label": "word"}\n{"text": "\\u200b", "label": "word"}\nnothing\n'
    put(work.folder, {'bad.jsonl': bad})
    done = classify(work, './model', 'bad.jsonl', '-o', 'bad_out.jsonl')
    assert done.returncode == 2
    assert 'bad.jsonl:3: text is not a string but an int. Fix the row, or skip such rows with --bad-rows' in done.stderr
    done = classify(work, './model', 'bad.jsonl', '-o', 'bad_out.jsonl', '--bad-rows', 'reject')
    succeeds(done)
    out = read_jsonl(work.folder/'bad_out.jsonl')
    assert [row['prediction'] is None for row in out] == [False, False, True]
    assert [row['line'] for row in read_jsonl(work.folder/'bad_out_rejected.jsonl')] == [3, 5]
    assert '3 rows classified, 1 of them without a text' in done.stdout
    assert '2 bad rows not in the output, but in bad_out_rejected.jsonl' in done.stdout


def test_stopped_and_resumed(work):
    "A job that is stopped says how to go on, and what it then writes is what it would have written."
    many = [dict(text=f'{row["text"]} {i}') for i, row in enumerate(work.rows * 400)]
    put(work.folder, {'many.jsonl': jsonl(many)})
    words = ['classify', './model', 'many.jsonl', '--device', 'cpu', '-o', 'stopped.jsonl']
    partial = work.folder/'stopped.jsonl.partial'
    job = Job(MODULE, ['libdocs.command', *words], work.folder, work.env)
    while not (partial.exists() and partial.stat().st_size): time.sleep(.02)
    job.send_signal(signal.SIGTERM)
    code, _, said = job.wait()
    assert (code, 'To resume: libdocs classify ./model many.jsonl' in said) == (143, True), said
    assert not (work.folder/'stopped.jsonl').exists()
    kept = partial.stat().st_size
    again = command('libdocs', *words, cwd=work.folder, env=work.env)
    succeeds(again)
    succeeds(classify(work, './model', 'many.jsonl', '-o', 'whole.jsonl'))
    assert kept
    assert (work.folder/'stopped.jsonl').read_bytes() == (work.folder/'whole.jsonl').read_bytes()
    assert not list(work.folder.glob('stopped*.partial*'))


def test_two_at_once(work):
    "The second process that wants to write the same file is turned away."
    from libdocs.classifiers.files import Journal
    journal = Journal(work.folder/'both.jsonl', {})
    done = classify(work, './model', 'rows.jsonl', '-o', 'both.jsonl')
    journal.close()
    journal.remove()
    assert done.returncode == 2
    assert 'both.jsonl is being written by another process' in done.stderr


def test_each_file_once_and_files_of_others(work):
    "A file that is named in several ways is read once; a file that the job has not written stays."
    others = b'{"reason": "of somebody else"}\n'
    put(work.folder, {'once_rejected.jsonl': others, 'once.jsonl.partial.json': b''})
    done = classify(work, './model', 'rows.jsonl', './rows.jsonl', '[r]ows.jsonl', '-o', 'once.jsonl')
    succeeds(done)
    assert f'{len(work.rows)} rows classified' in done.stdout
    assert (work.folder/'once_rejected.jsonl').read_bytes() == others


def test_no_space_left(work):
    "A full disk is one line, and what was done is kept."
    done = run(MODULE, ['libdocs.command', 'classify', './model', 'rows.jsonl', '--device', 'cpu', '-o', 'full.jsonl'],
               work.folder, work.env, file_size=2000)
    assert done.returncode == 2, done.stderr
    assert 'cannot be written' in done.stderr
    assert 'bug' not in done.stderr
