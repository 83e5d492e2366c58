"""cleaner_finetune into folders: its files, its account of every row, its options, its formats."""
import gzip, re

import pandas as pd
import pytest
from commands import BAD, BESIDE, CLEAN, HARD, LOCAL, RAW, ROWS, clean, slow
from corpora import command, csv_bytes, documents, environment, jsonl, put, read_jsonl, snapshot, succeeds

@slow
def prepared_again(root, jobs): return clean(root, env={'PYTHONHASHSEED': '2'}, script=True)


def test_phase_1_files(prepared):
    "The files that the help promises are there, each is named in the output, and bad rows are counted."
    succeeds(prepared.done)
    assert sorted(snapshot(prepared.folder)) == ['data/raw.jsonl', 'ds/README.md', 'ds/label_frequencies.json',
                                                 'ds/test.csv', 'ds/train.csv', *sorted(LOCAL + BESIDE)]
    assert (prepared.folder/'data'/'raw.jsonl').read_bytes() == RAW
    for name in LOCAL + BESIDE:
        assert f'wrote {name}' in prepared.done.stdout
    assert 'published ./ds' in prepared.done.stdout
    assert 'WARNING: 3 bad rows skipped; the first: raw.jsonl line 51: broken JSON' in prepared.done.stderr


def test_phase_1_accounts_for_every_row(prepared):
    "Each row is in exactly one file, with its columns, and the printed counts agree."
    rejected, removed, test, kept = (read_jsonl(prepared.folder/name) for name in LOCAL)
    ids = [r['id'] for part in (kept, test, removed) for r in part]
    assert sorted(ids) == sorted(r['id'] for r in ROWS), 'a row is missing, or in two files'
    assert [(r['line'], r['raw']) for r in rejected] == [
        (51 + i, line.decode('utf-8', 'backslashreplace')) for i, line in enumerate(BAD)]
    given = {r['id']: r for r in ROWS}
    for r in kept + test:
        assert r == {'id': r['id'], 'text': given[r['id']]['body'], 'label': given[r['id']]['topic'],
                     'page': given[r['id']]['page'], 'source': given[r['id']]['source']}
    counts = {step: int(n.replace(',', ''))
              for n, step in re.findall(r'^ *([\d,]+)  (.+)$', prepared.done.stdout, re.M)}
    assert counts['read'] == len(ROWS) + len(BAD)
    assert counts['train'] == len(kept)
    assert counts['test'] == len(test)
    assert sum(n for step, n in counts.items() if step.startswith('removed: ')) == len(removed) + len(rejected)


def test_phase_1_reasons(prepared):
    "Each planted row is removed for the right reason, with the row that it matched."
    removed = {r['id']: r for r in read_jsonl(prepared.folder/'out'/'letters_removed.jsonl')}
    def fate(id): return removed[id]['reason'], removed[id].get('matched_id')
    assert fate('exact') == fate('spaced') == ('exact_duplicate', 'w0')
    assert fate('near') == ('near_duplicate', 'c0')
    assert 0.9 <= removed['near']['score'] < 1
    assert fate('tie1') == ('label_conflict', 'tie2')
    assert fate('tie2') == ('label_conflict', 'tie1')
    assert fate('blank') == ('empty', None)
    assert {id for id, r in removed.items()
            if r['reason'] == 'label_cap'} < {r['id'] for r in ROWS if r['topic'] == 'invoice'}
    assert {r['reason'] for r in removed.values()} == {'exact_duplicate', 'near_duplicate',
                                                       'label_conflict', 'empty', 'label_cap'}


def test_phase_1_split(prepared):
    "Stratified, 80/20, no label over twice the smallest, every label on both sides."
    train, test = (pd.DataFrame(read_jsonl(prepared.folder/'out'/f'letters_{name}.jsonl'))['label'].value_counts()
                   for name in ('train', 'test'))
    assert (train + test).to_dict() == {'invoice': 40, 'contract': 40, 'None': 22, '001': 20}
    assert test.to_dict() == {'invoice': 8, 'contract': 8, 'None': 4, '001': 4}


def test_phase_1_csv_is_the_same_rows(prepared):
    "pandas, reading everything as strings, gives back what is in the local files; the card names their sha256."
    import hashlib
    card = (prepared.folder/'ds'/'README.md').read_text()
    for name in ('train', 'test'):
        rows = read_jsonl(prepared.folder/'out'/f'letters_{name}.jsonl')
        back = pd.read_csv(prepared.folder/'ds'/f'{name}.csv', dtype=str, keep_default_na=False)
        assert back.to_dict('records') == [{k: str(v) for k, v in r.items()} for r in rows]
        assert hashlib.sha256((prepared.folder/'ds'/f'{name}.csv').read_bytes()).hexdigest() in card
    assert 'cleaner_finetune ' + ' '.join(CLEAN) in card
    assert 'seed' in card


def test_phase_1_same_seed_same_bytes(prepared, prepared_again):
    "Another process with another hash seed writes and prints the same."
    succeeds(prepared_again.done)
    assert snapshot(prepared.folder) == snapshot(prepared_again.folder)
    def but_times(stderr):
        return [line for line in stderr.splitlines() if not line.startswith('INFO: seconds:')]
    assert prepared.done.stdout == prepared_again.done.stdout
    assert but_times(prepared.done.stderr) == but_times(prepared_again.done.stderr)


@slow
def optioned(root, jobs):
    "Every option of cleaning and splitting, with labels in other spellings."
    other = [r | {'id': f'v{i}', 'topic': ('Contract', ' contract ', 'ＣＯＮＴＲＡＣＴ')[i]}
             for i, r in enumerate({'body': r['text']} for r in documents(3, ['variant'], 5))]
    return clean(root, '--labels-to-filter', '001', '--reduce-majority-to', '0.75', '--test-size', '0.25',
                 '--seed', '7', '--threshold', '1', '--conflicts', 'keep', '--merge-labels', '--min-label-count', '3',
                 raw=RAW + jsonl([*other, {'id': 'rare', 'body': 'the first of two', 'topic': 'rare'},
                                  {'id': 'rarer', 'body': 'another one', 'topic': 'rare'}]))


def test_phase_1_options(optioned):
    "Every option of cleaning and splitting does what it says, all at once."
    succeeds(optioned.done)
    removed, test, train = ({r['id']: r for r in read_jsonl(optioned.folder/name)} for name in LOCAL[1:])
    kept, both = train | test, pd.Series({id: r['label'] for id, r in (train | test).items()}).value_counts().to_dict()
    assert {r['label'] for r in removed.values() if r['reason'] == 'filtered_label'} == {'001'}
    assert '001' not in both
    assert {id for id, r in removed.items() if r['reason'] == 'rare_label'} == {'rare', 'rarer'}
    assert "'rare'" in optioned.done.stderr
    assert 'near' not in removed or removed['near']['reason'] == 'label_cap', 'at the threshold 1 only copies go'
    assert not {r['reason'] for id, r in removed.items() if id in ('tie1', 'tie2')} & {
        'label_conflict', 'near_duplicate', 'exact_duplicate'}, 'conflicts are kept'
    assert all(r['label'] == 'contract' for id, r in (kept | removed).items() if id in ('v0', 'v1', 'v2'))
    assert 'merged into the first' in optioned.done.stderr
    assert both == {'None': 22, 'contract': 32, 'invoice': 32}, 'the cap is 2 * floor(22 * 0.75)'
    assert abs(len(test) - len(kept)/4) <= 1
    assert ('tie1' in train) == ('tie2' in train) or not {'tie1', 'tie2'} <= kept.keys(), 'copies are on one side'


# Every format of input comes to the same


def packed(form):
    "(pattern, files) of the same 60 rows in one format, or in all of them."
    import pyarrow, pyarrow.parquet, zstandard
    rows = [{'id': r['id'], 'body': r['text'], 'topic': r['label']} for r in documents(48)] + [
        {'id': f'h{i}', 'body': text, 'topic': 'minutes'} for i, text in enumerate(HARD[:12])]
    def parquet(part):
        out = pyarrow.BufferOutputStream()
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(part), out)
        return out.getvalue().to_pybytes()
    pack = {'jsonl': jsonl, 'jsonl.gz': lambda part: gzip.compress(jsonl(part)),
            'jsonl.zst': lambda part: zstandard.compress(jsonl(part)),
            'csv': csv_bytes, 'csv.gz': lambda part: gzip.compress(csv_bytes(part)), 'parquet': parquet}
    if form != 'glob': return f'rows.{form}', {f'rows.{form}': pack[form](rows)}
    return 'part-*', {f'part-{i}.{kind}': pack[kind](rows[10 * i:10 * i + 10]) for i, kind in enumerate(pack)}


@slow
def formats(root, jobs):
    "form -> the local files made of it."
    outputs = {}
    for form in ('jsonl', 'parquet', 'glob'):
        pattern, files = packed(form)
        put(root/form, files)
        argv = ['-i', '.', '-f', pattern, '-t', 'body', '-s', 'topic', '-o', 'out/x']
        succeeds(command('cleaner_finetune', *argv, cwd=root/form, env=environment(root/'home')))
        outputs[form] = snapshot(root/form/'out')
    return outputs


@pytest.mark.parametrize('form', ['parquet', 'glob'])
def test_formats(formats, form):
    "The same rows in other formats, or spread over several files, come to the same files."
    names = ['x_removed.jsonl', 'x_test.jsonl', 'x_train.jsonl']
    assert sorted(formats[form]) == sorted([*names, 'x_label_issues.jsonl', 'x_outliers.jsonl', 'x_report.html'])
    # the page names the input
    assert all(formats[form][name] == formats['jsonl'][name] for name in formats[form] if name != 'x_report.html')
    assert sum(formats[form][name].count(b'\n') for name in names) == 60
