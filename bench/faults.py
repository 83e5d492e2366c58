"""Faults made on purpose: how many were tried, how many were survived, and what going on costs.

    python bench/faults.py [--soak] [--write]

Runs those of the tests that make faults and counts them by kind; a test that spoils every call to
the Hub counts once for each call and way of spoiling it. Survived means what the test says it must:
the same files in the end, nothing twice, nothing half, one line that says what to do. With --soak
each command is killed at twenty places and every call is spoilt in every way (half an hour, two
tests at a time). Seconds are those of the same command without a fault, and of the command that
resumes after it was killed, start-up included."""
import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from main_job import machine, write

HERE = Path(__file__).parent
KINDS = {  # fault: the tests that make it
    'killed (SIGKILL) at a change of a file': ['test_killed_and_given_again'],
    'asked to end in training: Ctrl-C, SIGTERM, SIGTERM to torchrun': ['test_asked_to_end'],
    'given again when all is done': ['test_given_again'],
    'damaged checkpoint, manifest, output, torn results': ['test_damaged_checkpoints', 'test_what_was_damaged'],
    'two jobs on one run folder': ['test_one_at_a_time'],
    'disk full, at five of the sizes of files': ['test_full_disk'],
    'memory short at an operation: smaller batches, or the text is named': [
        'test_smaller_batches', 'test_one_text_that_does_not_fit', 'test_memory'],
    'addresses limited, with --soak': ['soak_memory'],
    'outputs that cannot be written': ['test_outputs_that_cannot'],
    'at once: a clock that runs backwards, inputs that are read-only, a plain locale, a path of 300 '
    'characters with emoji, another filesystem': ['test_strange'],
    'Hub: a call spoilt (401, 403, 404, 409, 412, 429, 500, 503, cut, lost reply, slow drip, corrupt '
    'download, gone)': ['test_every_call_spoilt'],
    'Hub: an upload interrupted': ['test_bytes_sent_again'],
    'Hub: not reachable from the start': ['test_unreachable'],
    'W&B: no key, unknown key, not there, hanging, gone in the middle': ['test_tracking'],
    'decompression bombs, endless lines, bottomless values': [
        'test_decompression_bombs', 'test_limits', 'test_lines_without_end'],
    'paths that lead out, code in cards, pickles and models, hostile labels, tokens in children and checkpoints': [
        'test_paths_in', 'test_links', 'test_cards', 'test_pickles', 'test_code_in',
        'test_hostile_labels', 'test_tokens_in'],
}


def cases(soak: bool) -> list:
    "(name, survived, properties) of each test that ran."
    names = [name for tests in KINDS.values() for name in tests]
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder)/'found.xml'
        env = dict(os.environ, OMP_NUM_THREADS='1') | (dict(SOAK='20') if soak else {})
        subprocess.run([sys.executable, '-m', 'pytest', '-q', *(['-n', '2'] if soak else []), '-p',
                        'no:cacheprovider', '--timeout', '14400', '-k', ' or '.join(names), f'--junitxml={results}',
                        'tests', *(['tests/soak_memory.py'] if soak else [])], cwd=HERE.parent, env=env)
        tests = list(ElementTree.parse(results).iter('testcase'))
    def numbers(test): return {p.get('name'): float(p.get('value')) for p in test.iter('property')}
    return [(f'{test.get("classname")}.{test.get("name")}', not list(test.iter('failure'))
             and not list(test.iter('error')), numbers(test)) for test in tests if not list(test.iter('skipped'))]


def table(outcomes: list) -> str:
    lines = ['| fault | tried | survived |', '|---|---|---|']
    total = np.zeros(2, int)
    for fault, names in KINDS.items():
        mine = [(ok, int(more.get('faults', 1))) for name, ok, more in outcomes if any(part in name for part in names)]
        counts = np.array([sum(n for _, n in mine), sum(n for ok, n in mine if ok)])
        total += counts
        lines.append(f'| {fault} | {counts[0]:,} | {counts[1]:,} |')
    return '\n'.join([*lines, f'| all | {total[0]:,} | {total[1]:,} |'])


def costs(outcomes: list) -> str:
    "What resuming takes."
    lines = ['| to go on | cost |', '|---|---|']
    for kind, job in (('clean', 'preparation'), ('train', 'training and evaluation')):
        whole = [more['seconds whole'] for name, _, more in outcomes if f'nothing_is_done[{kind}]' in name
                 and 'seconds whole' in more]
        mine = [more for name, _, more in outcomes if 'test_killed' in name and f'{kind}]' in name
                and 'seconds again' in more]
        if not mine: continue
        again, both = (np.array([m['seconds again'] for m in mine]),
                       np.array([m['seconds again'] + m['seconds before'] for m in mine]))
        lines.append(f'| {job}, killed at {len(mine)} places | {np.median(again):.1f} s '
                     f'({again.min():.1f} – {again.max():.1f}) after the kill; {np.median(both):.1f} s '
                     'with what came before it' + (f'; {whole[0]:.1f} s undisturbed' if whole else '') + ' |')
    sent = [more for _, _, more in outcomes if 'bytes again' in more]
    again = ', '.join(f'{more["bytes again"] / 1e6:.1f}' for more in sent)
    if sent:
        lines.append(f'| an upload of {sent[0]["bytes"] / 1e6:.1f} MB in parts of 5 MB, interrupted at '
                     f'{len(sent)} calls | {again} MB sent again |')
    return '\n'.join(lines)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--soak', action='store_true', help='many more places and ways')
    p.add_argument('--write', action='store_true', help='put the tables into bench/RESULTS.md')
    args = p.parse_args()
    outcomes = cases(args.soak)
    text = f'{machine()}{", soak" if args.soak else ""}\n\n{table(outcomes)}\n\n{costs(outcomes)}'
    print(text)
    if args.write: write(text, 'faults.py')


if __name__ == '__main__': main()
