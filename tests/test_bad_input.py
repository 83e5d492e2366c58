"""What the user gets wrong: one clear line, exit code 2, nothing lost."""
import functools, gzip, importlib, re, shutil, subprocess
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest
from corpora import (MODULES, NOWHERE, Jobs, command, csv_bytes, documents, environment, jsonl, put,
                     read_jsonl, snapshot, succeeds, tiny_bert)
from loopback_hub import LoopbackHub

ROWS = documents(60)
GOOD = jsonl(ROWS)
BROKEN = GOOD + b'{"text": "cut off'  # noticed only when read to the end
SPLITS = {'ds/train.csv': csv_bytes(ROWS[:45]), 'ds/test.csv': csv_bytes(ROWS[45:])}
LATIN = (
    '{"text": "Sehr geehrte Damen und Herren, für die Prüfung der Größe fehlt noch das Maß", "label": "Brief"}'.encode(
        'latin-1'))

CLEAN = ['-i', 'data', '-f', 'raw.jsonl', '-o', 'out/x']
TRAIN = ['--input-hf-dataset', './ds', '-o', './model', '-m', 'scratch', '--epochs', '1',
         '--output-classify-file', 'res/results.jsonl', '--track-output', 'wb']
EXAMPLES = ['--examples', '--input-dir', 'data', '--filename', 'raw.jsonl', '-o', './bert',
            '--output-classify-file', 'res/results.jsonl']


@dataclass
class Case:
    name: str        # command
    argv: list
    says: str        # pattern in the line
    files: dict      # path -> bytes, beside a good corpus, dataset and model
    env: dict        # more environment
    user: dict|None  # the command has a token of alice with this role
    setup: object    # function of the folder, for what is not a file
    # run in a process of its own; the others differ only in what the files or options hold, and take the
    # command's `main` in this process
    own: bool


def case(id, name, start, argv, says, files=None, env=None, user=None, setup=None, own=False, marks=()):
    return pytest.param(Case(name, [*start, *argv], says, files or {}, env or {}, user, setup,
                             own or bool(env or user)), id=f'{name.split("_")[0]}: {id}', marks=marks)


def cleaner(id, argv, says, raw=None, **more):
    "A case of cleaner_finetune; `raw` are the bytes of data/raw.jsonl."
    if raw is not None: more['files'] = {'data/raw.jsonl': raw} | more.get('files', {})
    return case(id, 'cleaner_finetune', CLEAN, argv, says, **more)


def row(*lines):
    "A good corpus with `lines` in the middle, from line 31."
    return jsonl(ROWS[:30]) + b''.join(line + b'\n' for line in lines) + jsonl(ROWS[30:])


def train(id, argv, says, ds=None, **more):
    "A case of classifier_model that is to train; `ds` are files of the dataset, None for one that is not there."
    if ds: more['files'] = {f'ds/{name}': data for name, data in ds.items()} | more.get('files', {})
    return case(id, 'classifier_model', TRAIN, argv, says, **more)


def examples(id, argv, says, **more): return case(id, 'classifier_model', EXAMPLES, argv, says, **more)


linux = pytest.mark.skipif(not Path('/proc/self').exists(), reason='needs /proc, where even root cannot write')
same_text = [{'text': 'Dear sir, please pay', 'label': 'invoice'}] * 20
parquet_head = b'PAR1' + b'\0' * 40

CLEANER = [
    # the input files
    cleaner('missing file', ['-f', 'rav.jsonl'], "data: no file 'rav.jsonl'; did you mean 'raw.jsonl'", own=True),
    cleaner('missing folder', ['-i', 'nowhere'], 'nowhere: no such folder'),
    cleaner('a file where a folder is expected', ['-i', 'data/raw.jsonl'],
            'data/raw.jsonl: no such folder|data/raw.jsonl: is not a folder'),
    cleaner('a folder where a file is expected', ['-i', '.', '-f', 'data'], "no file 'data'|data: is a folder"),
    cleaner('a glob that finds nothing', ['-f', 'part-*.jsonl'], r"no file 'part-\*.jsonl'.*raw.jsonl"),
    cleaner('unknown ending', ['-f', 'raw.xlsx'], 'raw.xlsx: cannot tell the format', files={'data/raw.xlsx': b'PK'}),
    cleaner('only blank lines', [], 'raw.jsonl: no rows', raw=b'\n \n\n'),
    cleaner('empty gz', ['-f', 'raw.jsonl.gz'], 'raw.jsonl.gz.*(no rows|damaged)',
            files={'data/raw.jsonl.gz': gzip.compress(b'')}),
    cleaner('gz of no bytes', ['-f', 'raw.jsonl.gz'], 'raw.jsonl.gz.*(no rows|damaged)',
            files={'data/raw.jsonl.gz': b''}),
    cleaner('empty CSV', ['-f', 'raw.csv'], 'raw.csv: no rows', files={'data/raw.csv': b''}),
    cleaner('CSV with only a header', ['-f', 'raw.csv'], 'raw.csv: no rows', files={'data/raw.csv': b'text,label\n'}),
    cleaner('empty Parquet', ['-f', 'raw.parquet'], 'raw.parquet.*(no rows|damaged|broken Parquet)',
            files={'data/raw.parquet': b''}),
    cleaner('gz cut short, bad rows rejected', ['-f', 'raw.jsonl.gz', '--bad-rows', 'reject'],
            'damaged or cut short', files={'data/raw.jsonl.gz': gzip.compress(GOOD)[:-30]}),
    cleaner('gz that is none', ['-f', 'raw.jsonl.gz'], 'raw.jsonl.gz.*damaged', files={'data/raw.jsonl.gz': GOOD}),
    cleaner('zst that is none', ['-f', 'raw.jsonl.zst'], 'raw.jsonl.zst.*damaged', files={'data/raw.jsonl.zst': GOOD}),
    cleaner('broken Parquet', ['-f', 'raw.parquet'], 'raw.parquet.*(broken Parquet|damaged)',
            files={'data/raw.parquet': parquet_head}),
    cleaner('empty file', [], 'raw.jsonl: no rows: the file is empty', raw=b'', own=True),
    cleaner('gz cut short', ['-f', 'raw.jsonl.gz'], r'raw.jsonl.gz:\d+: .*damaged or cut short',
            files={'data/raw.jsonl.gz': gzip.compress(GOOD)[:-30]}, own=True),
    cleaner('one bad file of two', ['-f', '*.jsonl'], r'two.jsonl:61: broken JSON', files={'data/two.jsonl': BROKEN}),
    # columns
    cleaner('no such text column', ['-t', 'txt'], "no column 'txt'; did you mean 'text'?.*id, text, label", own=True),
    cleaner('no such label column', ['-s', 'lable'], "no column 'lable'; did you mean 'label'?.*id, text, label"),
    cleaner('no such column, bad rows rejected', ['-t', 'txt', '--bad-rows', 'reject'],
            "no column 'txt'; did you mean 'text'?.*id, text, label"),
    cleaner('no such column in CSV', ['-f', 'raw.csv', '-s', 'topic'],
            "no column 'topic'.*text, label", files={'data/raw.csv': SPLITS['ds/train.csv']}),
    cleaner('one column for both', ['-s', 'text'], "text and label are both the column 'text'"),
    # rows: file, line, reason
    cleaner('broken JSON', [], r'raw.jsonl:31: broken JSON.*--bad-rows reject',
            raw=row(b'{"text": "a", "label"'), own=True),
    cleaner('not an object', [], r'raw.jsonl:31: not a JSON object', raw=row(b'["text", "label"]')),
    cleaner('no labels', [], r"raw.jsonl:1: no column 'label'.*Name the column that is meant",
            raw=b'{"text": "a b c"}\n' * 30),
    cleaner('label is a list', [], r'raw.jsonl:31: label is a list: several labels for one text are not supported',
            raw=row(b'{"text": "a", "label": ["invoice"]}')),
    cleaner('a key twice', [], r"raw.jsonl:31: the key 'label' stands twice in one object",
            raw=row(b'{"text": "a", "label": "invoice", "label": "memo"}')),
    cleaner('a key twice inside', [], r"raw.jsonl:31: the key 'n' stands twice",
            raw=row(b'{"text": "a", "label": "invoice", "more": {"n": 1, "n": 2}}')),
    cleaner('a column within another', [], r"raw.jsonl:1: no column 'text'.*'doc' holds a 'text'",
            raw=b'{"doc": {"text": "a"}, "label": "invoice"}\n' * 30),
    # files that are something else
    cleaner('UTF-16 without a mark', [], r'raw.jsonl: looks like UTF-16LE; convert it to UTF-8: iconv -f '
            r'UTF-16LE -t UTF-8 \S*raw.jsonl > \S*raw_utf8.jsonl', raw=GOOD.decode().encode('utf-16-le')),
    cleaner('UTF-16 cut short', [], r'raw.jsonl:\d+: the file is damaged or cut short',
            raw=GOOD.decode().encode('utf-16')[:-1]),
    cleaner('another encoding', [], r'raw.jsonl:31: invalid UTF-8 at byte.*iconv -f \S+ -t UTF-8 \S*raw.jsonl',
            raw=row(*[LATIN]*30)),
    cleaner('JSON array cut short', [], r'raw.jsonl:\d+: the file is damaged or cut short: its array is not closed',
            raw=b'[' + b','.join(GOOD.splitlines())),
    cleaner('broken JSON array', [], r'raw.jsonl:2: broken JSON', raw=b'[{"text": "a", "label": "b"},\n{"text" "c"}]'),
    cleaner('an Excel workbook', ['-f', 'raw.csv'], r'raw.csv: .* Excel workbook; save it as CSV',
            files={'data/raw.csv': b'PK\x03\x04' + b'\0' * 40}),
    cleaner('CSV without a header', ['-f', 'raw.csv'], r'raw.csv:1: there seems to be no header.*such as text,label',
            files={'data/raw.csv': SPLITS['ds/train.csv'].split(b'\n', 1)[1]}),
    cleaner('two columns called label', ['-f', 'raw.csv'], r"raw.csv:1: 2 columns are called 'label'",
            files={'data/raw.csv': b'text,label,label\na,b,c\n'}),
    cleaner('two columns called label, bad rows rejected', ['-f', 'raw.csv', '--bad-rows', 'reject'],
            r"raw.csv:1: 2 columns are called 'label'", files={'data/raw.csv': b'text,label,label\na,b,c\n'}),
    cleaner('a quote that is not closed', ['-f', 'raw.csv'], r'raw.csv:4: broken CSV: a quote that opens '
            r'here is not closed.*--bad-rows reject', files={'data/raw.csv': b'text,label\na,b\nc,b\nd,"b\ne,b\n'}),
    cleaner('a quote that takes up rows', ['-f', 'raw.csv'], r'raw.csv:3: broken CSV: a quote that opens '
            r'here takes up 3 lines', files={'data/raw.csv': b'text,label\na,b\n"4 in,b\nc,b\nd 4",b\ne,b\n'}),
    cleaner('backslashes of both kinds', ['-f', 'raw.csv'], r'raw.csv:3: a backslash before a quote.*not in line 2',
            files={'data/raw.csv': b'text,label\n"C:\\",b\n"a \\"b\\" c",b\n'}),
    cleaner('a header in the middle', ['-f', 'raw.csv'], r'raw.csv:3: the header again: files were put together',
            files={'data/raw.csv': b'text,label\na,b\ntext,label\nc,b\n'}),
    cleaner('a delimiter of two characters', ['--delimiter', ';;'], r"';;' is no delimiter.*comma, tab", raw=BROKEN),
    cleaner('text is a number', [], r'raw.jsonl:31: text is not a string but an int',
            raw=row(b'{"text": 12, "label": "invoice"}')),
    cleaner('text is a list', [], r'raw.jsonl:31: text is not a string but a list',
            raw=row(b'{"text": ["a"], "label": "invoice"}')),
    cleaner('invalid UTF-8', [], r'raw.jsonl:31: invalid UTF-8 at byte 13',
            raw=row(b'{"text": "ab\xff", "label": "invoice"}')),
    cleaner('invalid UTF-8 in CSV', ['-f', 'raw.csv'], r'raw.csv:3: invalid UTF-8',
            files={'data/raw.csv': b'text,label\na,b\n\xff,c\n'}),
    cleaner('lone surrogate', [], r'raw.jsonl:31: invalid Unicode',
            raw=row(b'{"text": "half \\ud83d of it", "label": "invoice"}')),
    cleaner('lone surrogate in another column', [], r'raw.jsonl:31: invalid Unicode',
            raw=row(b'{"text": "a", "label": "invoice", "note": "\\udfff"}')),
    cleaner('NUL in text', [], r'raw.jsonl:31: text holds a NUL byte',
            raw=row(b'{"text": "a\\u0000b", "label": "invoice"}')),
    cleaner('NUL in label', [], r'raw.jsonl:31: label holds a NUL byte',
            raw=row(b'{"text": "a", "label": "in\\u0000voice"}')),
    cleaner('raw NUL byte', [], r'raw.jsonl:31: broken JSON', raw=row(b'{"text": "a\0b", "label": "invoice"}')),
    cleaner('a file of NUL bytes', [], r'raw.jsonl:1: broken JSON', raw=b'\0' * 4096),
    cleaner('NUL in CSV', ['-f', 'raw.csv'], r'raw.csv:3: .*NUL', files={'data/raw.csv': b'text,label\na,b\nx\0y,c\n'}),
    cleaner('too few values in CSV', ['-f', 'raw.csv'], r'raw.csv:3: 1 values where the header has 2',
            files={'data/raw.csv': b'text,label\na,b\nc\n'}),
    cleaner('every row rejected', ['--bad-rows', 'reject'],
            'no good rows: all 3 were rejected; the first is line 1: broken JSON', raw=b'x\ny\nz\n'),
    # what is left
    cleaner('no rows after cleaning', [], 'no rows are left after cleaning 8',
            raw=jsonl([{'text': '\u200b' * (i + 1), 'label': 'ab'[i % 2]} for i in range(8)]), own=True),
    cleaner('no rows after a tie', [], 'no rows are left after cleaning 20',
            raw=jsonl([{'text': 'the same', 'label': 'ab'[i % 2]} for i in range(20)])),
    cleaner('no rows after filtering', ['--labels-to-filter', 'invoice', 'contract', 'minutes'],
            'no rows are left after cleaning .*filtered_label'),
    cleaner('no rows with so many of a label', ['--min-label-count', '1000'],
            'no label has 1000 rows after cleaning; lower --min-label-count'),
    cleaner('one label only', [], 'only (1|one) label',
            raw=jsonl([r for r in ROWS if r['label'] == 'invoice']), own=True),
    cleaner('one label left', ['--labels-to-filter', 'invoice', 'contract'], 'only (1|one) label'),
    cleaner('all rows identical', [], 'no label has 2 rows after cleaning; lower --min-label-count',
            raw=jsonl(same_text)),
    cleaner('two rows', [], 'too few|no rows are left|label', raw=jsonl(ROWS[:2])),
    cleaner('too few for a test split', ['--min-label-count', '1'], 
            '3 rows are too few for a test split; more rows, or a larger --test-size, are needed', raw=jsonl(ROWS[:3])),
    cleaner('unknown label to filter', ['--labels-to-filter', 'minuets'],
            "no label 'minuets'; did you mean 'minutes'?.*contract, invoice, minutes"),
    # where to write; the corpus is broken at its end, so whoever reads first says something else
    cleaner('a file in the way of the output folder', ['-o', 'data/raw.jsonl/x'],
            'data/raw.jsonl.*(cannot be made|cannot be written|not a folder)', raw=BROKEN),
    cleaner('output folder that cannot be made', ['-o', '/proc/out/x'], '/proc/out', raw=BROKEN, marks=linux),
    cleaner('output folder that cannot be written', ['-o', '/proc/x'],
            r'/proc\b.*cannot be written|cannot write to .*/proc\b', raw=BROKEN, marks=linux, own=True),
    cleaner('no name for the output', ['-o', '.'], 'name the output', raw=BROKEN),
    cleaner('a folder in the way of an output file', [], 'x_test.jsonl', raw=BROKEN,
            setup=lambda folder: (folder/'out'/'x_test.jsonl').mkdir(parents=True), own=True),
    cleaner('the input is the output', ['-f', 'raw_train.jsonl', '-o', 'data/raw'],
            'raw_train.jsonl: is an input file', files={'data/raw_train.jsonl': BROKEN}, own=True),
    cleaner('the input is the output, by its full name', ['-o', 'data/raw.jsonl'],
            'raw.jsonl: is an input file', raw=BROKEN),
    cleaner('the input is the output, through a link', ['-o', 'link/raw', '-f', 'raw_test.jsonl'],
            'raw_test.jsonl: is an input file', files={'data/raw_test.jsonl': BROKEN},
            setup=lambda folder: (folder/'link').symlink_to('data')),
    cleaner('the input is in the dataset folder', ['-f', 'train.csv', '--target-hf-dataset', './data'],
            'train.csv.*input', files={'data/train.csv': SPLITS['ds/train.csv'] + b'"broken\n'}, own=True),
    cleaner('a file in the way of the dataset folder', ['--target-hf-dataset', './data/raw.jsonl'],
            'raw.jsonl is not a folder', raw=BROKEN),
    cleaner('dataset folder that cannot be written', ['--target-hf-dataset', '/proc/ds'], '/proc',
            raw=BROKEN, marks=linux, own=True),
    # the Hub, before anything is read
    cleaner('illegal repo name', ['--target-hf-dataset', 'alice/a b'],
            "'alice/a b' is not a legal repo name.*owner/name", raw=BROKEN, user=dict(role='write')),
    *[cleaner(f'illegal repo name {name}', ['--target-hf-dataset', name],
              f'{name}.*is not a legal repo name', raw=BROKEN)
      for name in ('contracts', 'alice/b/c', 'alice/-x', 'alice/x--y', 'alice/x.git', 'alice/', 'ali ce/x')],
    cleaner('no token', ['--target-hf-dataset', 'alice/x'], 'alice/x.*there is no token.*HF_TOKEN', raw=BROKEN),
    cleaner('a token of nobody', ['--target-hf-dataset', 'alice/x'], 'alice/x.*no valid token',
            raw=BROKEN, env={'HF_TOKEN': 'hf_nobody'}),
    cleaner('a token without the right to write', ['--target-hf-dataset', 'alice/x'],
            'alice/x.*this token may only read', raw=BROKEN, user=dict(role='read')),
    cleaner("somebody else's name", ['--target-hf-dataset', 'bob/x'],
            'bob/x.*may write under: alice', raw=BROKEN, user=dict(role='write')),
    cleaner('Hub out of reach', ['--target-hf-dataset', 'alice/x'], f'{NOWHERE} cannot be reached',
            raw=BROKEN, user=dict(role='write'), env={'HF_ENDPOINT': NOWHERE}),
    # options; nothing is read
    cleaner('unknown option', ['--threshhold', '0.8'],
            'no option --threshhold; did you mean --threshold', raw=BROKEN, own=True),
    cleaner('abbreviated option', ['--thres', '0.8'], 'no option --thres', raw=BROKEN),
    case('nothing given', 'cleaner_finetune', [], [], '--input-dir', own=True),
    *[cleaner(f'{option} {value}', [option, value], f'{option}.*{re.escape(value)}', raw=BROKEN) for option, values in {
        '--reduce-majority-to': ['-1', '0', 'nan', 'inf', 'x'], '--threshold': ['0', '1.5', '-0.1', 'nan'],
        '--test-size': ['0', '1', '1.5', '-1'], '--min-label-count': ['0', '1.5'],
        '--seed': ['x', '-1'], '--conflicts': ['vote'], '--bad-rows': ['skip']}.items() for value in values],
]

bad_label = csv_bytes(ROWS[45:-1] + [ROWS[-1] | {'label': 'memo'}])
one_label = csv_bytes([r for r in ROWS if r['label'] == 'invoice'])

def typed(*rows):
    "Files of a dataset whose columns have types."
    return {f'typed/{name}.jsonl': jsonl(rows) for name in ('train', 'test')}


CLASSIFIER = [
    # the dataset, before any training
    train('missing dataset folder', ['--input-hf-dataset', './dss'], r'./dss: there is no such folder'),
    train('dataset without a test split', ['--input-hf-dataset', './part'],
          "./part: no split 'test'.*train", files={'part/train.csv': SPLITS['ds/train.csv']}, own=True),
    train('dataset without a train split', ['--input-hf-dataset', './part'],
          "./part: no split 'train'.*test", files={'part/test.csv': SPLITS['ds/test.csv']}),
    train('dataset without files', ['--input-hf-dataset', './part'], './part.*no data files',
          files={'part/README.md': b'# x\n'}),
    train('a test label that train lacks', [], r"./ds: the test split has labels that the train split "
          r"lacks: 'memo' \(1 row\)\. Add training rows for them, or filter them out",
          ds={'test.csv': bad_label}, own=True),
    train('one label only in train', [], "only one label \\('invoice'\\)",
          ds={'train.csv': one_label, 'test.csv': one_label}),
    train('no text column', [], "./ds: the train split has no column 'text'",
          ds={f'{name}.csv': SPLITS[f'ds/{name}.csv'].replace(b'"text"', b'"body"', 1) for name in ('train', 'test')}),
    train('null label', ['--input-hf-dataset', './typed'], './typed: the train split: row 2: label is missing',
          files=typed(dict(text='a', label='b'), dict(text='c', label=None))),
    train('empty label', [], './ds: the test split: row 1: label is missing',
          ds={'test.csv': csv_bytes([dict(id='1', text='a', label='')])}),
    train('a quote that takes up rows of a dataset', [], r'./ds: train.csv:3: broken CSV: a quote that '
          r'opens here takes up 3 lines', ds={'train.csv': b'text,label\na,b\n"4 in,b\nc,b\nd 4",b\ne,b\n'}),
    train('list label', ['--input-hf-dataset', './typed'], './typed: the train split: row 1: label is a '
          'list: several labels', files=typed(dict(text='a', label=['b']), dict(text='c', label=['d']))),
    train('null text', ['--input-hf-dataset', './typed'], './typed: the train split: row 2: text is missing',
          files=typed(dict(text='a', label='b'), dict(text=None, label='c'))),
    train('number for a text', ['--input-hf-dataset', './typed'], './typed: the train split: row 1: text '
          'is not a string but an int', files=typed(dict(text=1, label='b'), dict(text=2, label='c'))),
    train('no rows in the test split', [], './ds.*no rows', ds={'test.csv': b'"id","text","label"\n'}),
    train('empty CSV', [], './ds', ds={'test.csv': b''}),
    train('dataset not on the Hub', ['--input-hf-dataset', 'alice/nothing'],
          'alice/nothing.*no such repo', user=dict(role='write')),
    train('illegal name of the dataset', ['--input-hf-dataset', 'alice/a b'], 'alice/a b'),
    # the base model
    train('a model folder that does not exist', ['-m', './none'], './none: there is no such folder'),
    train('a model name that does not exist', ['-m', 'alice/none'],
          'alice/none.*no such repo.*scratch', user=dict(role='write')),
    train('a folder that holds no model', ['-m', './ds'], './ds.*no config.json'),
    train('the default model out of reach', ['-m', 'MoritzLaurer/deberta-v3-base-zeroshot-v1.1-all-33'],
          f'{NOWHERE} cannot be reached.*scratch', env={'HF_ENDPOINT': NOWHERE}),
    # where to publish, before the dataset is read (there is none)
    *[train(f'illegal repo name {name!r}', ['--input-hf-dataset', './dss', '-o', name],
            'is not a legal repo name') for name in ('model', 'alice/a b')],
    train('no token', ['--input-hf-dataset', './dss', '-o', 'alice/m'], 'alice/m.*there is no token'),
    train('a token without the right to write', ['--input-hf-dataset', './dss', '-o', 'alice/m'],
          'alice/m.*this token may only read', user=dict(role='read')),
    train('Hub out of reach', ['--input-hf-dataset', './dss', '-o', 'alice/m'],
          f'{NOWHERE} cannot be reached', user=dict(role='write'), env={'HF_ENDPOINT': NOWHERE}),
    train('a file in the way of the model folder',
          ['--input-hf-dataset', './dss', '-o', './data/raw.jsonl'], 'raw.jsonl is not a folder'),
    train('a file in the way of the results folder',
          ['--input-hf-dataset', './dss', '--output-classify-file', 'data/raw.jsonl/results.jsonl'],
          'data/raw.jsonl.*cannot be|not a folder'),
    train('a folder in the way of the results',
          ['--input-hf-dataset', './dss', '--output-classify-file', 'data'], 'data.*is a folder', own=True),
    train('results folder that cannot be written',
          ['--input-hf-dataset', './dss', '--output-classify-file', '/proc/results.jsonl'],
          r'/proc\b.*cannot be written|cannot write to .*/proc\b', marks=linux, own=True),
    train('a file in the way of the W&B folder', ['--input-hf-dataset', './dss', '--track-output', 'data/raw.jsonl'],
          'data/raw.jsonl', env=dict(WANDB_MODE='offline')),
    train('the dataset is the output', ['-o', './ds'], './ds', own=True),
    train('the base model is the output', ['-m', './bert', '-o', './bert'], './bert'),
    # options
    train('unknown option', ['--eval-batchsize', '3'],
          'no option --eval-batchsize; did you mean --eval-batch-size', own=True),
    train('no such text column for the evaluation', ['--text', 'body'], "no column 'body'", own=True),
    train('no such label column for the evaluation', ['--subject-column', 'topic'], "no column 'topic'"),
    train('train and examples', ['--train', '--examples', '--filename', 'raw.jsonl'],
          '--train and --examples exclude each other'),
    train('options for a file, and no file', ['--bad-rows', 'reject', '--delimiter', ';'],
          '--bad-rows, --delimiter: without --examples there is no file'),
    case('no dataset', 'classifier_model', [], ['-o', './model'], '--input-hf-dataset'),
    case('no model', 'classifier_model', [], ['--input-hf-dataset', './ds'], '--hf-model-name'),
    train('wrong log level', ['--log-level', 'loud'], "--log-level.*'loud'.*debug", own=True),
    train('a GPU that is not there', ['--device', 'cuda'], "device 'cuda' is not there"),
    train('unknown device', ['--device', 'tpu'], "no device 'tpu'.*cpu"),
    *[train(f'{option} {value}', ['--input-hf-dataset', './dss', option, value],
            f'{option}.*{re.escape(value)}') for option, values in {
                '--eval-batch-size': ['0', '-1', '1.5', 'x'], '--train-batch-size': ['0'],
                '--epochs': ['0', 'nan', 'inf'], '--learning-rate': ['0', '-1'], '--max-length': ['0'],
                '--downsample': ['0', '1.5'], '--seed': ['-1', '4294967296']}.items() for value in values],
    # examples
    case('examples without a file', 'classifier_model', [], ['--examples', '-o', './bert'],
         '--examples needs --filename'),
    examples('options of the training', ['--fresh', '--epochs', '3', '--seed', '3'],
             '--epochs, --fresh: --examples evaluates a model as it is'),
    examples('missing examples', ['--filename', 'rav.jsonl'],
             "no file 'rav.jsonl'; did you mean 'raw.jsonl'", own=True),
    examples('empty examples', [], 'raw.jsonl: no rows', files={'data/raw.jsonl': b''}),
    examples('bad row in the examples', [], 'raw.jsonl:61: broken JSON', files={'data/raw.jsonl': BROKEN}),
    examples('no such column', ['--text', 'txt'], "no column 'txt'; did you mean 'text'"),
    examples('missing model', ['-o', './none'], './none: there is no such folder'),
    examples('a model without a trained head', ['-o', './headless'], './headless: has no trained classification head',
             setup=lambda folder: shutil.copytree(folder/'bert', folder/'headless')
             and drop_head(folder/'headless'), own=True),
    examples('only labels that the model lacks', [], "knows none of the labels of the test data: no label 'memo'",
             files={'data/raw.jsonl': jsonl([r | {'label': 'memo'} for r in ROWS[:20]])}, own=True),
    examples('the input is the output', ['--output-classify-file', 'data/raw.jsonl'], 'raw.jsonl', own=True),
    examples('a folder in the way of the results', ['--output-classify-file', 'data'], 'data.*is a folder', own=True),
    examples('broken weights', ['-o', './bad'], './bad', setup=lambda folder: shutil.copytree(
        folder/'bert', folder/'bad') and (folder/'bad'/'model.safetensors').write_bytes(b'no')),
    # a token in a mistyped option is not repeated
    train('mistyped token option', ['--hf-acess-token=hf_CANARYcanaryCANARY0123'],
          'no option --hf-acess-token; did you mean --hf-access-token', own=True),
]


def drop_head(folder):
    "Leave the encoder only."
    from safetensors.torch import load_file, save_file
    weights = load_file(folder/'model.safetensors')
    save_file({name: tensor for name, tensor in weights.items() if not name.startswith('classifier')},
              folder/'model.safetensors', metadata={'format': 'pt'})


# Running them: two at a time, ahead of the tests that look at them

@pytest.fixture(scope='module')
def bert(tmp_path_factory):
    "A folder with a classifier of the labels of `ROWS`."
    return tiny_bert(tmp_path_factory.mktemp('model')/'bert', [r['text'] for r in ROWS],
                     labels=sorted({r['label'] for r in ROWS}))


@pytest.fixture(scope='module', autouse=True)
def outcomes(request, tmp_path_factory, bert):
    "For the id of a case that has a process of its own: (CompletedProcess, files before, files after)."
    hub = LoopbackHub()
    tokens = {role: hub.add_user('alice', role=role) for role in ('read', 'write')}
    def outcome(bad, root):
        folder, token = prepared(bad, root, bert), tokens[bad.user['role']] if bad.user else None
        env = environment(root, **hub.env(token, root/'hf')) | bad.env
        before = snapshot(folder)
        return command(bad.name, *bad.argv, cwd=folder, env=env), before, snapshot(folder)
    cases = {item.callspec.id: item.callspec.params['bad']
             for item in request.session.items if getattr(item, 'originalname', '') == 'test_one_line'}
    jobs = Jobs({id: functools.partial(outcome, bad, tmp_path_factory.mktemp('case')) for id, bad in cases.items()})
    yield jobs.start(id for id, bad in cases.items() if bad.own)
    jobs.close()
    hub.close()


def prepared(bad, root, bert):
    "A folder with a good corpus, dataset and model and the case's own files."
    folder = root/'work'
    put(folder, {'data/raw.jsonl': GOOD} | SPLITS | bad.files)
    shutil.copytree(bert, folder/'bert')
    if bad.setup: bad.setup(folder)
    return folder


@pytest.fixture
def main_here(monkeypatch, capsys):
    "Run a command in this process: a CompletedProcess."
    def run(name, argv, folder):
        monkeypatch.chdir(folder)
        try: code = importlib.import_module(MODULES[name]).main(argv)
        except SystemExit as stop: code = stop.code
        said = capsys.readouterr()
        return subprocess.CompletedProcess(argv, code, said.out, said.err)
    return run


@pytest.fixture
def run_inside(tmp_path, bert, main_here):
    "Run a case in this process; the same three."
    def run(bad):
        folder = prepared(bad, tmp_path, bert)
        before = snapshot(folder)
        return main_here(bad.name, bad.argv, folder), before, snapshot(folder)
    return run


def one_line(done, name, says):
    "`done` failed as it should: exit code 2, and one line that says so, with nothing before it but log lines."
    assert 'Traceback' not in done.stderr, done.stderr
    *before, line = done.stderr.splitlines() or ['']
    assert line.startswith(f'{name}: error: '), done.stderr
    assert all(other.startswith(('INFO: ', 'WARNING: ')) for other in before), done.stderr
    assert re.search(says, line), line
    assert done.returncode == 2, (done.returncode, line)
    assert done.stdout == ''
    assert len(line) < 700
    assert 'hf_' not in done.stderr, 'a token was printed'


# What looks bad and works

@pytest.fixture
def clean(tmp_path, main_here):
    "Run cleaner_finetune on `rows` with more options: (CompletedProcess, kind -> rows written)."
    def run(rows, *argv):
        put(tmp_path, {'data/raw.jsonl': rows})
        done = succeeds(main_here('cleaner_finetune', [*CLEAN, *argv], tmp_path))
        assert (tmp_path/'data'/'raw.jsonl').read_bytes() == rows
        return done, {p.stem.removeprefix('x_'): read_jsonl(p) for p in (tmp_path/'out').glob('*.jsonl')}
    return run


def test_label_with_one_row(clean):
    "It is dropped, or kept in train where the user says so; both are logged."
    rows = jsonl([*ROWS, {'id': 'lone', 'text': 'a single memo', 'label': 'memo'}])
    done, out = clean(rows)
    assert "WARNING: dropped 1 label with fewer than 2 rows: 'memo'" in done.stderr
    assert [(r['id'], r['reason']) for r in out['removed'] if r['label'] == 'memo'] == [('lone', 'rare_label')]
    assert {r['label'] for r in out['train']} == {'invoice', 'contract', 'minutes'}
    done, out = clean(rows, '--min-label-count', '1')
    assert "WARNING: 1 label is too small for the test split, all its rows are in train: 'memo'" in done.stderr
    assert 'memo' in {r['label'] for r in out['train']} - {r['label'] for r in out['test']}


def test_cap_only_if_asked_for(clean):
    """A tiny label costs nothing by default; with the cap its price is logged, and the option that
    keeps the most rows, which keeps as many as it promises."""
    rng = Random(0)
    rows = jsonl([{'id': f'{label}{i}', 'text': ' '.join(f'{label}{rng.randrange(10**6)}' for _ in range(4)),
                   'label': label}
                  for label, n in (('invoice', 400), ('contract', 60), ('minutes', 50), ('memo', 3)) for i in range(n)])
    done, out = clean(rows)
    assert out['removed'] == []
    assert len(out['train'] + out['test']) == 513
    done, out = clean(rows, '--reduce-majority-to', '1')
    assert {r['reason'] for r in out['removed']} == {'label_cap'}
    assert len(out['train'] + out['test']) == 21
    assert ("WARNING: the cap of 6 rows per label removes 492 of 513 rows; it is set by the smallest label, "
            "'memo' with 3 rows" in done.stderr)
    said = re.search('without --reduce-majority-to all 513 rows stay; with it, --min-label-count (\\d+) '
                     'keeps the most, (\\d+) rows of 3 labels', done.stderr)
    _, out = clean(rows, '--reduce-majority-to', '1', '--min-label-count', said[1])
    assert (said[1], len(out['train'] + out['test'])) == ('50', int(said[2])) == ('50', 210)
    done, out = clean(rows, '--reduce-majority-to', '1', '--natural-test')
    said = re.search('--min-label-count (\\d+) keeps the most, about (\\d+) rows', done.stderr)
    _, out = clean(rows, '--reduce-majority-to', '1', '--natural-test', '--min-label-count', said[1])
    assert abs(len(out['train'] + out['test']) - int(said[2])) <= 3


def test_all_rows_unique(clean):
    "Of a corpus without copies, every row is kept."
    _, out = clean(GOOD)
    assert out['removed'] == []
    assert len(out['train']) + len(out['test']) == len(ROWS)


def test_texts_that_differ_in_a_symbol(clean):
    "Emoji, emoticons and signs make texts of their own, which are no copies, no conflicts and not empty."
    moods = [('😀', 'good'), ('😡', 'bad'), (':)', 'good'), (':(', 'bad')]
    texts = [(f'{said} {face}', mood) for said in ('my neighbours', 'rain again', 'the new phone')
             for face, mood in moods]
    texts += [('👍👍👍', 'good'), ('💔', 'bad'), ('C', 'bad'), ('C++', 'good'), ('5 degrees', 'good'),
              ('-5 degrees', 'bad')]
    _, out = clean(jsonl(ROWS + [dict(id=f's{i}', text=text, label=label) for i, (text, label) in enumerate(texts)]))
    assert out['removed'] == []


def test_commands_that_differ_in_one_word(clean):
    """Near copies with different labels stay, which is logged with the way out; so do texts that differ in the
    order of their words."""
    order, transfer = ('please could you be so kind and turn {} the big light in the {} for me now',
                       'move the money from my {} account to my {} account')
    texts = [(order.format(way, room), f'switch_{way}') for room in ('hall', 'cellar', 'attic')
             for way in ('on', 'off')]
    texts += [(transfer.format(*way), f'to_{way[1]}') for way in (('savings', 'checking'), ('checking', 'savings'))]
    rows = jsonl(ROWS + [dict(id=f'c{i}', text=text, label=label) for i, (text, label) in enumerate(texts)])
    done, out = clean(rows, '--reduce-majority-to', '100', '--min-label-count', '1')
    assert {r['reason'] for r in out['removed']} <= {'near_duplicate'}
    assert all(r['score'] >= .9 for r in out['removed'])
    assert {'to_checking', 'to_savings'} <= {r['label'] for r in out['train']}, 'both stay'
    stays = {r['id']: r['label'] for r in out['train'] + out['test']}
    assert all(stays[r['matched_id']] == r['label'] for r in out['removed'])
    assert re.search("WARNING: rows that stay beside a near copy with another label: .*'switch_off' and "
                     "'switch_on'.* raise --threshold", done.stderr)


def test_long_text(clean):
    "200,000 characters, as one word and as many."
    long = [{'id': 'words', 'text': 'invoice1 ' * 22_222 + 'ß', 'label': 'invoice'},
            {'id': 'word', 'text': 'x' * 200_000, 'label': 'contract'}]
    _, out = clean(jsonl(ROWS + long))
    written = {r['id']: r['text'] for r in out['train'] + out['test']}
    assert all(written[r['id']] == r['text'] for r in long)


def test_bad_rows_are_set_aside(clean):
    "Each bad row goes to the rejected file with its place, its reason and itself; the good ones are all there."
    bad = [b'{"text": "cut', b'{"text": "ab\xff", "label": "invoice"}',
           b'{"text": [1], "label": "invoice"}', b'{"text": "half \\ud83d", "label": "invoice"}',
           b'{"text": "a\\u0000b", "label": "invoice"}', b'{"text": "a", "label": ["memo"]}', b'17']
    done, out = clean(row(*bad), '--bad-rows', 'reject')
    assert 'WARNING: 7 bad rows skipped; the first: raw.jsonl line 31: broken JSON' in done.stderr
    assert [(r['file'], r['line']) for r in out['rejected']] == [('raw.jsonl', 31 + i) for i in range(7)]
    assert [r['raw'] for r in out['rejected']] == [line.decode('utf-8', 'backslashreplace') for line in bad]
    for rejected, reason in zip(out['rejected'],
                                ['broken JSON', 'invalid UTF-8', 'text is not a string',
                                 'invalid Unicode', 'NUL byte', 'label is a list', 'not a JSON object']):
        assert reason in rejected['reason']
    assert len(out['train']) + len(out['test']) + len(out['removed']) == len(ROWS)
    assert f'{len(ROWS) + 7:>9,}  read' in done.stdout
    assert f'{7:>9,}  removed: rejected when read' in done.stdout


def test_rows_that_lack_something(clean):
    "Empty texts and rows without a label are removed, counted and logged; they stop nothing, and nothing is lost."
    lacks = [b'{"text": null, "label": "invoice"}', b'{"text": " \\n", "label": "invoice"}',
             b'{"text": NaN, "label": "invoice"}', b'{"text": "a b", "label": ""}', b'{"text": "a c", "label": NaN}',
             b'{"text": "a d", "label": null}', b'{"text": "a e", "label": "\xe2\x80\x8b"}',
             b'{"text": "", "label": null}', b'{"label": "invoice"}', b'{"text": "a f"}']
    done, out = clean(row(*lacks))
    assert sorted(r['reason'] for r in out['removed']) == ['empty'] * 5 + ['unlabelled'] * 5
    assert len(out['train']) + len(out['test']) + len(out['removed']) == len(ROWS) + 10
    assert f'{len(ROWS) + 10:>9,}  read' in done.stdout
    assert f'{5:>9,}  removed: empty' in done.stdout
    assert f'{5:>9,}  removed: unlabelled' in done.stdout
    assert 'WARNING: 5 of 70 rows have no text' in done.stderr
    assert 'WARNING: 5 of 70 rows have no label' in done.stderr


def test_nothing_to_reject(clean):
    "The file of rejected rows is there, and empty."
    _, out = clean(GOOD, '--bad-rows', 'reject')
    assert out['rejected'] == []


def test_earlier_output_outlives_a_failure(tmp_path):
    "A run that fails leaves what an earlier one wrote as it was."
    env = environment(tmp_path/'home')
    put(tmp_path, {'data/raw.jsonl': GOOD})
    argv = [*CLEAN, '--target-hf-dataset', './ds']
    succeeds(command('cleaner_finetune', *argv, cwd=tmp_path, env=env, script=True))
    put(tmp_path, {'data/raw.jsonl': BROKEN})
    before = snapshot(tmp_path)
    one_line(command('cleaner_finetune', *argv, cwd=tmp_path, env=env, script=True),
             'cleaner_finetune', 'raw.jsonl:61: broken JSON')
    assert snapshot(tmp_path) == before


def test_dry_run_writes_nothing(tmp_path):
    "The numbers are printed; no file and no folder appears."
    put(tmp_path, {'data/raw.jsonl': GOOD})
    before = sorted(tmp_path.rglob('*'))
    done = succeeds(command('cleaner_finetune', *CLEAN, '--target-hf-dataset', './ds', '--dry-run',
                            cwd=tmp_path, env=environment(tmp_path.with_name('home'))))
    assert f'{len(ROWS):>9,}  read' in done.stdout
    assert 'wrote' not in done.stdout
    assert 'published' not in done.stdout
    assert sorted(tmp_path.rglob('*')) == before


# What is bad, after what works, so that these have run by now

@pytest.mark.parametrize('bad', CLEANER + CLASSIFIER)
def test_one_line(outcomes, run_inside, request, bad):
    "One line of error that says what is wrong, exit code 2, and every file as it was."
    done, before, after = outcomes[request.node.callspec.id] if bad.own else run_inside(bad)
    one_line(done, bad.name, bad.says)
    assert after == before, ('files changed or appeared: '
                             f'{sorted(k for k in before.keys() | after.keys() if before.get(k) != after.get(k))}')
