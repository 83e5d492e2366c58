"""Files as other programs write them: read as they are meant, named in the log, and published so
that others can open them."""
import json, logging

import pandas as pd
import pytest
from corpora import documents, jsonl

from libdocs.core.errors import InputError
from libdocs.core.records import read_records

ROWS = documents(24, labels=('invoice', 'contract'))


def frame(): return pd.DataFrame(ROWS)[['text', 'label']]


def array(indent=None): return json.dumps(ROWS, indent=indent).encode()


WRITTEN = {  # name -> bytes
           'array.json': array(), 'pretty.json': array(2), 'array.jsonl': array(),
           'crlf.jsonl': jsonl(ROWS).replace(b'\n', b'\r\n'),
           'objects.jsonl': b'\n'.join(json.dumps(row, indent=2).encode() for row in ROWS),
           'commas.jsonl': jsonl(ROWS).replace(b'}\n', b'},\n'),
           'marks.jsonl': b'\xef\xbb\xbf' + jsonl(ROWS[:5]) + b'\xef\xbb\xbf' + jsonl(ROWS[5:]),
           'utf16.jsonl': jsonl(ROWS).decode().encode('utf-16'),
           'semicolons.csv': frame().to_csv(index=False, sep=';').encode('utf-8-sig'),
           'tabs.tsv': frame().to_csv(index=False, sep='\t').encode(),
           'bars.csv': frame().to_csv(index=False, sep='|').encode(),
           'excel.csv': b'sep=;\r\n' + frame().to_csv(index=False, sep=';', lineterminator='\r\n').encode(),
           'spaces.csv': b'label, text\n' + b''.join(f'{row["label"]}, "{row["text"]}"\n'.encode() for row in ROWS),
           'utf16.csv': frame().to_csv(sep='\t').encode('utf-16'),
           'named.csv': jsonl(ROWS), 'old_mac.csv': frame().to_csv(index=False, lineterminator='\r').encode()}


@pytest.mark.parametrize('name', WRITTEN)
def test_read_as_it_is_meant(tmp_path, name):
    "However the rows are written, the same texts and labels come out."
    (tmp_path/name).write_bytes(WRITTEN[name])
    assert read_records(tmp_path/name).df[['text', 'label']].values.tolist() == frame().values.tolist()


def test_what_is_not_plain_is_told(tmp_path, caplog):
    "The log names what was detected: encoding, delimiter, format, a column without a name."
    caplog.set_level(logging.INFO, 'libdocs')
    expected = {
        'array.json': 'one JSON text', 'utf16.jsonl': 'UTF-16', 'semicolons.csv': "separated by ';'",
        'named.csv': 'contains json and is read as such, whatever its ending says',
        'utf16.csv': "column 1 '' is now 'column_1'"}
    for name, says in expected.items():
        (tmp_path/name).write_bytes(WRITTEN[name])
        caplog.clear()
        read_records(tmp_path/name)
        assert [record.getMessage() for record in caplog.records if says in record.getMessage()] != [], name


def test_a_given_delimiter(tmp_path):
    "It is taken instead of the one that would be detected."
    (tmp_path/'a.csv').write_text('text,label;other\nof a,b;c\n')
    with pytest.raises(InputError, match='other'):
        read_records(tmp_path/'a.csv', text='text', label='missing', delimiter='semicolon')
    assert read_records(tmp_path/'a.csv', text='text', label='label;other',
                        delimiter=',').df['label'].tolist() == ['b;c']


@pytest.mark.parametrize('values', [[0, 1], [0., 1.], [False, True]])
def test_labels_of_any_type_are_the_same_in_every_format(tmp_path, values):
    "JSON and Parquet agree on the text of a number and a boolean, and datasets with them."
    from libdocs.core.fetch import load_splits, typed_split
    df = pd.DataFrame(dict(text=['a', 'b'], label=values))
    df.to_json(tmp_path/'train.jsonl', orient='records', lines=True)
    df.to_parquet(tmp_path/'a.parquet')
    (tmp_path/'ds').mkdir()
    (tmp_path/'ds'/'train.jsonl').write_bytes((tmp_path/'train.jsonl').read_bytes())
    wanted = ['false', 'true'] if values[0] is False else ['0', '1']
    assert [read_records(tmp_path/name).df['label'].tolist() for name in ('train.jsonl', 'a.parquet')] == [wanted] * 2
    assert typed_split(load_splits(str(tmp_path/'ds'))['train'], 'train')['label'].tolist() == wanted


def test_class_names_of_datasets(tmp_path):
    "Numbers of a ClassLabel column become their names; a missing one becomes empty."
    import datasets
    features = datasets.Features(text=datasets.Value('string'),
                                 label=datasets.ClassLabel(names=['complaint', 'invoice']))
    datasets.Dataset.from_dict(dict(text=['a', 'b', 'c'], label=[1, 0, None]),
                               features=features).to_parquet(tmp_path/'a.parquet')
    assert read_records(tmp_path/'a.parquet').df['label'].tolist() == ['invoice', 'complaint', '']


def test_a_nameless_column_can_be_published(tmp_path):
    """The index that pandas writes has a name in the dataset, which `datasets` opens; a column of ours takes
    none of the user's away."""
    import datasets
    from libdocs.phases.preparation import prepare
    pd.DataFrame(ROWS)[['text', 'label']].assign(score=7, text_original='mine').rename(
        columns=dict(text='body')).assign(text='old').to_csv(tmp_path/'raw.csv')
    prepare(tmp_path, 'raw.csv', tmp_path/'out', text='body', target_hf_dataset=str(tmp_path/'ds'), label_issues='off')
    opened = datasets.load_dataset(str(tmp_path/'ds'), cache_dir=str(tmp_path/'cache'))['train']
    assert set(opened.column_names) == {'id', 'text', 'label', 'column_1', 'score', 'text_original', 'text_original_2'}
    assert set(opened['text_original']) == {'mine'}
    assert set(opened['text_original_2']) == {'old'}


def test_numbers_of_two_files_are_one_label(tmp_path):
    "With merge_labels, 1 and 1.0 are one label."
    from libdocs.phases.preparation import prepare
    for name, labels in (('part1.csv', ['0', '1']), ('part2.csv', ['0.0', '1.0'])):
        part = ROWS[:12] if name == 'part1.csv' else ROWS[12:]
        pd.DataFrame(part).assign(label=[labels[row['label'] == 'invoice'] for row in part]).to_csv(
            tmp_path/name, index=False)
    prepare(tmp_path, 'part*.csv', tmp_path/'out', merge_labels=True, label_issues='off')
    assert {json.loads(line)['label'] for line in open(tmp_path/'out_train.jsonl')} == {'0', '1'}


def test_examples_that_lack_something(tmp_path):
    """The evaluation of a file leaves rows out that have no text or no label, and with bad_rows='reject' those
    that cannot be read."""
    from corpora import tiny_bert
    from libdocs.phases.training import evaluate_model
    model = tiny_bert(tmp_path/'bert', [row['text'] for row in ROWS], ['contract', 'invoice'])
    lacks = [dict(text=None, label='invoice'), dict(text='a b', label=None)]
    (tmp_path/'new.jsonl').write_bytes(jsonl(ROWS[:6] + lacks) + b'{"text": "cut\n')
    def rows(**given):
        return evaluate_model(str(model), tmp_path, 'new.jsonl',
                              output_classify_file=str(tmp_path/'res'/'results.jsonl'), **given).metrics.rows
    with pytest.raises(InputError, match="new.jsonl:9: broken JSON.*bad_rows='reject'"): rows()
    assert rows(bad_rows='reject') == 6
