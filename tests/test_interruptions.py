"""Killed half-way, and given again: an evaluation, and cleaner_finetune."""
import json, signal, subprocess, sys
from types import SimpleNamespace

from commands import CLEAN, RAW, slow
from corpora import command, environment, put, snapshot, succeeds
from warm import HANG

MORTAL_EVALUATION = '''
import os, signal, sys
from pathlib import Path
import pandas as pd
from libdocs.finetune.run import run

results, lines = Path('res/results.jsonl'), int(sys.argv[1])
class Mortal:
    name, labels = 'mortal', ('a', 'b', 'c', 'd')
    def classify(self, texts):
        with open('asked.txt', 'a') as file: file.write(''.join(t + '\\n' for t in texts))
        if lines and results.exists() and results.read_bytes().count(b'\\n') >= lines:
            os.kill(os.getpid(), signal.SIGKILL)
        return [[(self.labels[(len(t) + k) % 4], 0.4 - k / 10) for k in range(4)] for t in texts]

rows = [{'id': f'r{i % 45}', 'text': 'x' * (i % 7) + f' {i}', 'label': 'abcd'[i % 4]} for i in range(60)]
run(Mortal(), pd.DataFrame(rows), results, batch_size=4)
'''


def evaluation(folder, lines=0):
    """The results of the evaluation in `folder`, left alone, or killed at the first batch when there are
    `lines` lines of them."""
    folder.mkdir(exist_ok=True)
    done = subprocess.run([sys.executable, '-c', MORTAL_EVALUATION, str(lines)], cwd=folder,
                          env=environment(folder), capture_output=True, timeout=HANG)
    assert done.returncode == (-signal.SIGKILL if lines else 0), done.stderr.decode()
    return folder/'res'/'results.jsonl'


@slow
def evaluations(root, jobs):
    "An evaluation that was killed twice, and torn in the middle of a row, beside one that was left alone."
    whole, killed = root/'whole', root/'killed'
    evaluation(whole)
    steps = [evaluation(killed, lines).read_bytes() for lines in (12, 28)]
    with open(killed/'res'/'results.jsonl', 'ab') as file: file.write(steps[1].splitlines()[0][:40])
    early = (killed/'res'/'metrics.json').exists()
    evaluation(killed)
    again = snapshot(killed)
    evaluation(killed)
    return SimpleNamespace(whole=snapshot(whole), steps=steps, killed=again, again=snapshot(killed), early=early)


def test_interrupted_evaluation_goes_on(evaluations):
    """The end is the same as without interruption; what was written stays; no row is there twice, and none was
    classified again but for the batch that was lost."""
    e = evaluations
    assert e.killed['res/results.jsonl'] == e.whole['res/results.jsonl']
    assert e.killed['res/metrics.json'] == e.whole['res/metrics.json']
    first, second = e.steps
    assert len(first) < len(second) < len(e.killed['res/results.jsonl'])
    assert second.startswith(first)
    assert e.killed['res/results.jsonl'].startswith(second)
    rows = [json.loads(line) for line in e.killed['res/results.jsonl'].splitlines()]
    assert len(rows) == 60
    assert len({r['id'] for r in rows}) == 60
    assert 60 <= e.killed['asked.txt'].count(b'\n') <= 60 + 2 * 4
    assert not e.early, 'metrics.json stands only beside a whole evaluation'


def test_finished_evaluation_is_not_done_again(evaluations):
    "Given again, it changes no file."
    assert evaluations.again == evaluations.killed


KILLED = '''
import os, signal, sys, libdocs.core.records as records
where, count = sys.argv.pop(1), int(sys.argv.pop(1))
owner = records if where == 'to_json_line' else os
kept, calls = getattr(owner, where), []
def counted(*args, **kwargs):
    calls.append(1)
    if len(calls) == count: os.kill(os.getpid(), signal.SIGKILL)
    return kept(*args, **kwargs)
setattr(owner, where, counted)
from libdocs.cleaner_finetune import main
sys.exit(main())
'''
# the last two are in the dataset folder
POINTS = [('to_json_line', 20), ('replace', 1), ('to_json_line', 130), ('fsync', 6), ('replace', 7)]


@slow
def killed_cleaner(root, jobs):
    "For each point, in one folder, the files after a kill there; then after a run that was left alone."
    put(root, {'data/raw.jsonl': RAW})
    kills = []
    for where, count in POINTS:
        process = subprocess.run([sys.executable, '-c', KILLED, where, str(count), *CLEAN], cwd=root,
                                 env=environment(root.with_name('home')), capture_output=True, timeout=HANG)
        kills.append((process.returncode, snapshot(root)))
    done = command('cleaner_finetune', *CLEAN, cwd=root, env=environment(root.with_name('home')))
    return SimpleNamespace(kills=kills, done=done, end=snapshot(root))


def test_killed_cleaner_leaves_no_half_file(killed_cleaner, prepared):
    "Whatever is there under its final name is complete, wherever the kill came."
    reference = snapshot(prepared.folder)
    for (where, count), (code, files) in zip(POINTS, killed_cleaner.kills):
        assert code == -signal.SIGKILL, (where, count)
        final = {name: data for name, data in files.items() if not name.endswith('.part')}
        assert final.items() <= reference.items(), (
            f'{where} {count}: {[name for name in final if final[name] != reference.get(name)]}')
    assert [len([n for n in files if not n.endswith('.part')])
            for _, files in killed_cleaner.kills[:2]] == [1, 1], 'nothing was finished at the first points'


def test_killed_cleaner_can_be_run_again(killed_cleaner, prepared):
    "In the end there are the files of a run that was left alone."
    succeeds(killed_cleaner.done)
    assert killed_cleaner.end == snapshot(prepared.folder)
