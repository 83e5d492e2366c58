"""Both commands on a dirty corpus, as real processes, for the tests that look at what came of it:
the corpus, the usual options, `clean` and `train` to run them, `slow` to run them once, and checks
that several tests make."""
import json, re, shutil
from types import SimpleNamespace

import pytest
from libdocs.report.sentences import baseline_heads
from corpora import command, documents, environment, jsonl, put, read_jsonl

# A dirty corpus: four labels, two of them named like missing values and numbers, skewed 3:2:1:1, with planted rows

HARD = ['None', 'NA', '001', '1e5', 'null', 'nan', 'True', '1.50', '2020-01-01', 'comma, separated',
        'a "quoted" word', 'first line\nsecond row', 'carriage\r\nfeed\rreturned', '=2+3',
        '\U0001f4c4 emoji \U0001f9fe', ' space before and after ', '\ttabulator',
        'a next\x85line separator\u2028here', "it's\\escaped", '#hash']
PLANTED = [
    {'id': 'exact', 'body': None, 'topic': 'invoice'},
    {'id': 'spaced', 'body': None, 'topic': 'invoice'},  # of w0, filled in below
    {'id': 'near', 'body': None, 'topic': 'contract'},  # of c0
    {'id': 'tie1', 'body': 'both of these labels cannot be right', 'topic': 'invoice'},
    {'id': 'tie2', 'body': 'Both of these labels cannot be right', 'topic': 'contract'},
    {'id': 'blank', 'body': ' \u200b', 'topic': 'contract'},
    {'id': 'long', 'body': ' '.join(f'long{i % 997}' for i in range(30_000))[:200_000], 'topic': 'contract'}]
BAD = [b'{"id": "cut", "body": "never', b'{"id": "number", "body": 12, "topic": "invoice"}',
       b'{"id": "bytes", "body": "\xff", "topic": "invoice"}']


def dirty():
    "Rows with id, body, topic and a carried column."
    def some(label, topic, n, seed):
        return [{'id': f'{label[0]}{i}', 'body': r['text'], 'topic': topic}
                for i, r in enumerate(documents(n, [label], seed))]
    words, clauses = some('word', 'invoice', 60, 1), some('clause', 'contract', 39, 2)
    hard = [{'id': f'h{i}', 'body': text, 'topic': ('None', '001')[i % 2]} for i, text in enumerate(HARD)]
    planted = [dict(r) for r in PLANTED]
    planted[0]['body'] = words[0]['body']
    planted[1]['body'] = words[0]['body'].upper().replace(' ', '  ')
    planted[2]['body'] = clauses[0]['body'] + ' number'
    rows = words + clauses + some('nothing', 'None', 12, 3) + some('zero', '001', 10, 4) + hard + planted
    return [r | {'page': i, 'source': f'scan "{i}"'} for i, r in enumerate(rows)]


ROWS = dirty()
RAW = jsonl(ROWS[:50]) + b''.join(line + b'\n' for line in BAD) + jsonl(ROWS[50:])
CLEAN = ['-i', 'data', '-f', 'raw.jsonl', '-t', 'body', '-s', 'topic', '-o', 'out/letters',
         '--target-hf-dataset', './ds', '--bad-rows', 'reject', '--reduce-majority-to', '1']
TRAIN = ['--input-hf-dataset', './ds', '--hf-model-name', './model', '-m', 'scratch', '--epochs', '1', '--device',
         'cpu', '--eval-batch-size', '8', '--output-classify-file', 'res/results.jsonl', '--track-output', 'wb']
LOCAL = ['out/letters_rejected.jsonl', 'out/letters_removed.jsonl', 'out/letters_test.jsonl', 'out/letters_train.jsonl']
BESIDE = ['out/letters_label_issues.jsonl', 'out/letters_outliers.jsonl', 'out/letters_report.html']
ROW_KEYS = ['id', 'text', 'label', 'predictions', 'scores', 'label_score', 'squared_error', 'top_1', 'top_2', 'top_3']
FIGURES = ('top_1', 'top_2', 'top_3', 'macro_f1')


# Slow commands, each run once for all tests of a process

RECIPES = {}


def slow(recipe):
    """A fixture with what `recipe(root, jobs)` returns: `root` is an empty folder, `jobs` gives the results of
    others. The recipes of the selected tests start together."""
    RECIPES[recipe.__name__] = recipe
    @pytest.fixture(scope='module', name=recipe.__name__)
    def result(jobs): return jobs[recipe.__name__]
    return result


def clean(root, *argv, raw=RAW, env=None, **options):
    "cleaner_finetune in root/work, which has the corpus in data/."
    work = root/'work'
    put(work, {'data/raw.jsonl': raw})
    return SimpleNamespace(folder=work, done=command('cleaner_finetune', *CLEAN, *argv, cwd=work,
                                                     env=environment(root/'home', **(env or {})), **options))


def train(root, dataset, *argv, env=None, **options):
    "classifier_model in root/work, with a copy of the folder `dataset` as ds/ if there is one."
    work = root/'work'
    if dataset: shutil.copytree(dataset, work/'ds')
    work.mkdir(exist_ok=True)
    return SimpleNamespace(folder=work, done=command('classifier_model', *TRAIN, *argv, cwd=work,
                                                     env=environment(root/'home', **(env or {})), **options))


# Checks

def check_results(folder, labels, rows):
    "metrics.json and results.jsonl are as they should be and agree; returns both."
    metrics, results = json.loads((folder/'metrics.json').read_text()), read_jsonl(folder/'results.jsonl')
    assert set(FIGURES) | {'rows', 'baselines'} <= metrics.keys()
    assert metrics['rows'] == len(results) == rows
    for r in results:
        assert list(r) == ROW_KEYS
        assert sorted(r['predictions']) == sorted(labels)
        assert r['scores'] == sorted(r['scores'], reverse=True)
        assert abs(sum(r['scores']) - 1) < 1e-4
        assert [r[f'top_{k}'] for k in (1, 2, 3)] == [r['label'] in r['predictions'][:k] for k in (1, 2, 3)]
    for k in (1, 2, 3):
        assert metrics[f'top_{k}'] == pytest.approx(sum(r[f'top_{k}'] for r in results)/rows)
    assert len({r['id'] for r in results}) == rows
    return metrics, results


def check_card(card, metrics):
    "The model card has the figures of the evaluation beside both baselines."
    table = {cells[0]: cells[1:] for line in card.split('The baselines, on the same rows')[1].splitlines()
             if line.startswith('| ') for cells in [[c.strip() for c in line.strip('|').split('|')]]}
    heads = table['Figure']
    assert heads[0] == 'This model'
    names = {head: name for name, head in baseline_heads.items()}
    assert any('TF-IDF' in h for h in heads)
    assert 'Majority' in heads
    for name, key in (('Top-1', 'top_1'), ('Top-2', 'top_2'), ('Top-3', 'top_3'), ('Macro-F1', 'macro_f1')):
        shown = [float(cell.rstrip('%')) for cell in table[name]]
        there = [100 * figures[key] for figures in (
            metrics, *(metrics['baselines'][names[head.replace('\\', '')]] for head in heads[1:]))]
        assert shown == pytest.approx(there, abs=0.06)


# Tokens: found nowhere

HF, WB = 'hf_CANARYcanaryCANARYcanary012345', 'wandbCANARY0123456789abcdef0123456789abcdef'
CANARY = re.compile(rb'canary', re.I)


def no_canary(root, *runs):
    """Neither in what was printed nor in any file under `root`, but for the login that the Hub's client keeps,
    and what the test put there itself."""
    for done in runs:
        assert not CANARY.search((done.stdout + done.stderr).encode()), done.args
    files = [p for p in root.rglob('*') if p.is_file() and p.name not in ('token', 'stored_tokens')]
    assert files
    assert not [p for p in files if CANARY.search(p.read_bytes()) or CANARY.search(str(p).encode())]
