"""Readers of what comes from outside, given damaged and hostile bytes: each answers with what it
could read or with one `InputError`, never with another exception. FUZZ=600 in the environment
fuzzes each for so many seconds (`make fuzz`); otherwise each gets some dozens of tries, the same
ones every time."""
import csv, gzip, io, json, os, time
from itertools import count

import pytest
from corpora import CARD, csv_bytes, documents, jsonl, tiny_bert
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from libdocs.core.errors import InputError

SECONDS, TRIES = float(os.environ.get('FUZZ', 0)), 60
ROWS = documents(6)
NASTY = [b'', b'\x00', b'\xff', b'"', b'\n', b'\r', b'{', b'[' * 200, b']', b'null', b'NaN', b'-1', b'1e999',
         b'9' * 5000, b'true', b'\\ud800', b'{}', b'""', b'\\"', b',"', b'",', b'\xef\xbb\xbf', b"'",
         b',', b':', b'---', b'!!python/object/apply:os.system [x]', b'../', b'&a [*a]', '\u202e\U0001f4c4'.encode()]


@st.composite
def damaged(draw, originals):
    "One of `originals` with some cuts, insertions and repeats, or any bytes at all."
    data = draw(st.sampled_from(originals))
    if draw(st.integers(0, 9)) == 0: return draw(st.binary(max_size=200))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.sampled_from([0, 0, 1, 3, 20, 200])))
        data = data[:start] + draw(st.one_of(st.sampled_from(NASTY), st.binary(max_size=4),
                                             st.just(data[start:end] * 2))) + data[end:]
    return data


def fuzz(target, data, known=()):
    "Give `target` what was `known` to break it once, and what `data` draws."
    for value in known: target(value)
    def tried(value): target(value)
    begun = time.monotonic()
    for n in count():
        run = given(data)(tried)
        seed(n)(settings(max_examples=TRIES, deadline=None, database=None,
                         suppress_health_check=list(HealthCheck))(run))()
        if time.monotonic() - begun >= SECONDS: return


def parquet(rows):
    import pandas as pd
    out = io.BytesIO()
    pd.DataFrame(rows).to_parquet(out)
    return out.getvalue()


def packed(data, ending):
    import zstandard
    return {'.gz': gzip.compress, '.zst': zstandard.ZstdCompressor().compress}.get(ending, bytes)(data)


CORPORA = {'.jsonl': jsonl(ROWS + [{'text': 'a\u2028b', 'label': 7, 'more': {'x': [1, None, {'y': 2.5}]}}]),
           '.csv': csv_bytes(ROWS), '.parquet': parquet(ROWS), '.json': json.dumps(ROWS, indent=1).encode(),
           '.tsv': 'text\tlabel\n"two\nlines"\ta\n"say ""so"""\ta\n"back \\"slash\\""\tb\nmore\tb\n'.encode('utf-16')}
FILES = {ending + how: packed(data, how) for ending, data in CORPORA.items()
         for how in ('', '.gz', '.zst') if ending != '.parquet' or not how}


@pytest.mark.parametrize('ending', FILES)
def test_records(tmp_path, ending):
    "Whatever the bytes, rows come out as they can be written and read again, or one line of error."
    from libdocs.core.records import read_records, write_jsonl
    path = tmp_path/f'corpus{ending}'
    def read(data):
        path.write_bytes(data)
        try: records = read_records(path, bad_rows='reject')
        except InputError as error: return one_line(error)
        back = read_records(write_jsonl(tmp_path/'back.jsonl', records.df))
        assert back.df[['id', 'text', 'label']].values.tolist() == records.df[['id', 'text', 'label']].values.tolist()
        write_jsonl(tmp_path/'rejected.jsonl', records.rejected)
    hostile, (form, dot, packing) = damaged([FILES[ending]]), ending[1:].partition('.')
    if dot:
        hostile = st.one_of(hostile, damaged([CORPORA[f'.{form}']]).map(lambda data: packed(data, f'.{packing}')))
    fuzz(read, hostile)


CELLS = st.lists(st.sampled_from(['pay', 'the "bill"', 'now,', 'Springfield, IL', '\n', '\r\n', '"',
                                  "it's", 'a;b', '\\', 'C:\\new', '']), max_size=8).map(' '.join)
KINDS = st.sampled_from(['invoice', 'memo', 'letter'])


def csv_of(rows, **how):
    out = io.StringIO(newline='')
    csv.writer(out, **how).writerows([['text', 'label', 'note'], *rows])
    return out.getvalue()


def test_csv_as_it_was_written(tmp_path):
    "Texts of many lines, with quotes and commas, are never taken for damage, however they are written."
    from libdocs.core.records import iter_rows
    def read(given):
        rows, delimiter, quoting = given
        (tmp_path/'a.csv').write_text(csv_of(rows, delimiter=delimiter, quoting=quoting), newline='')
        given_back = list(iter_rows(tmp_path/'a.csv', columns=('text', 'label')))
        assert [list(row.values()) for _, _, row, _ in given_back] == rows
    fuzz(read, st.tuples(st.lists(st.tuples(CELLS, KINDS, CELLS).map(list), min_size=1, max_size=12),
                         st.sampled_from(',;\t|'), st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])))


ROWLIKE = st.lists(st.sampled_from(['pay', ',invoice', 'd1,a,memo\n', '"d1","a","memo"\n', '\n', '\r\n',
                                    '\r', '"', '"\n"', '\\"', '\\N', ',', ' ']), max_size=8).map(''.join)


def test_a_split_of_ours_comes_back(tmp_path):
    "What is written for a dataset is read as it was, also texts that look like rows."
    from libdocs.core.records import iter_rows
    from libdocs.utils.training.training import csv_writer
    def read(rows):
        with open(tmp_path/'a.csv', 'w', newline='', encoding='utf-8') as file:
            write = csv_writer(file, ['id', 'text', 'label'])
            for row in rows: write(dict(zip(('id', 'text', 'label'), row)))
        assert [list(row.values()) if row else reason
                for _, _, row, reason in iter_rows(tmp_path/'a.csv', columns=('text', 'label'))] == rows
    fuzz(read, st.lists(st.tuples(st.sampled_from(['d0', 'd1']), ROWLIKE, KINDS).map(list), min_size=1, max_size=12))


def test_a_stray_quote_takes_no_row_away(tmp_path):
    "Wherever quotes are put into a CSV file: each line is a row or is reported, and no row holds several."
    from libdocs.core.records import iter_rows
    rows = [[f'row {i}', ['invoice', 'memo'][i % 2], f'n{i}'] for i in range(12)]
    lines = csv_of(rows).splitlines(True)
    def read(strays):
        damaged = list(lines)
        for line, cell, end in strays:
            cells = damaged[line].rstrip('\r\n').split(',')
            cells[cell] = cells[cell] + '"' if end else '"' + cells[cell]
            damaged[line] = ','.join(cells) + '\r\n'
        (tmp_path/'a.csv').write_text(''.join(damaged), newline='')
        given_back = list(iter_rows(tmp_path/'a.csv', columns=('text', 'label')))
        assert b''.join(raw for _, raw, *_ in given_back) == ''.join(damaged[1:]).encode(), given_back
        assert {row['text'].strip('"') for _, _, row, _ in given_back if row} <= {text for text, *_ in rows}
    fuzz(read, st.lists(st.tuples(st.integers(1, 12), st.integers(0, 2), st.booleans()), min_size=1, max_size=3))


def one_line(error):
    assert str(error).strip(), repr(error)
    assert 'Traceback' not in str(error), repr(error)


def test_manifests(tmp_path):
    """A damaged manifest is known as one: the stage is done again, with the same result; a damaged plan to
    push is refused."""
    from libdocs.core.hub import push_run
    from libdocs.core.runs import RunFolder
    def work(folder):
        (folder/'out.txt').write_text('made')
        return dict(n=1)
    with RunFolder(tmp_path/'run') as run: run.stage('first', dict(a=1), work)
    whole = (tmp_path/'run'/'first.json').read_bytes()
    def read(data):
        (tmp_path/'run'/'first.json').write_bytes(data)
        with RunFolder(tmp_path/'run') as run: stage = run.stage('first', dict(a=1), work)
        assert (stage.folder/'out.txt').read_text() == 'made'
        assert stage.facts == dict(n=1)
        (tmp_path/'run'/'first.push').write_bytes(data)
        try: push_run(tmp_path/'run')
        except InputError as error: one_line(error)
        (tmp_path/'run'/'first.push').unlink()
    fuzz(read, damaged([whole]))


class Clerk:
    "A classifier that reads the answer off the text."
    labels = ('contract', 'invoice', 'minutes')
    def classify(self, texts):
        return [sorted(((label, .8 if label in text else .1) for label in self.labels),
                       key=lambda pair: -pair[1]) for text in texts]


def test_results(tmp_path):
    "Whatever an interrupted run left, the results are in the end those of an undisturbed one."
    import pandas as pd
    from libdocs.finetune.run import classified
    rows, path = pd.DataFrame(ROWS)[['id', 'text', 'label']], tmp_path/'results.jsonl'
    classified(Clerk(), rows, path)
    whole = path.read_bytes()
    def read(data):
        path.write_bytes(data)
        outcome = classified(Clerk(), rows, path)
        assert outcome.right.all()
        assert [json.loads(line)['id'] for line in path.read_bytes().split(b'\n')[:-1]] == list(rows['id'])
    fuzz(read, damaged([whole]), [b'\xef\xbb\xbf' + whole])


def test_dataset_cards(tmp_path):
    "Whatever a card or a file of frequencies holds, a dataset is read or refused with one line."
    from libdocs.finetune.data import load_task
    folder = tmp_path/'data'
    folder.mkdir()
    frequencies = json.dumps(dict(labels=dict(contract=5, invoice=4, minutes=3), test='capped')).encode()
    files = {'train.csv': csv_bytes(ROWS), 'test.csv': csv_bytes(ROWS[:3]),
             'README.md': CARD.encode(), 'label_frequencies.json': frequencies}
    def read(hostile):
        name, data = hostile
        for other, whole in files.items(): (folder/other).write_bytes(data if other == name else whole)
        try: load_task(str(folder))
        except InputError as error: one_line(error)
    fuzz(read, st.one_of(*(st.tuples(st.just(name), damaged([data])) for name, data in files.items())))


def test_model_configs(tmp_path):
    "Whatever a config holds, a model is loaded or refused with one line."
    from libdocs.classifiers.deberta import DebertaZeroShot
    whole = tiny_bert(tmp_path/'model', [row['text'] for row in ROWS], ['contract', 'invoice', 'minutes'])
    names = ['config.json', 'tokenizer_config.json']
    files = {name: (whole/name).read_bytes() for name in names}
    def read(hostile):
        name, data = hostile
        for other in names: (whole/other).write_bytes(data if other == name else files[other])
        try: DebertaZeroShot(str(whole), device='cpu').classify(['invoice3 invoice4'])
        except InputError as error: one_line(error)
    fuzz(read, st.one_of(*(st.tuples(st.just(name), damaged([data])) for name, data in files.items())),
         [('config.json', files['config.json'].replace(b'"label2id"', b'"labels"')),
          ('tokenizer_config.json', files['tokenizer_config.json'].replace(b'"[CLS]"', b'"[[CLS]"'))])
