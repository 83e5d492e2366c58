"""The main job on real corpora: both commands as a user runs them; rows, figures, seconds and peak
memory of each.

    python bench/main_job.py DATA [--only sms_spam] [--out bench/out] [--write]

DATA is a folder with one folder a corpus (sms_spam, clinc150, banking77, cuad_contracts), each with
JSONL files of `text` and `label`; DATA/../weights/stories260K, where it is there, is a tiny
pre-trained decoder. What is missing is skipped, and said. `--write` puts the tables into
bench/RESULTS.md between the markers of this program. Everything runs on the CPU, one command after
another.

Baselines: each classifier on the same test rows, with its 95 % interval; p is of the model against
TF-IDF + linear, by the sign-flip test of groups of copies (McNemar's exact test where there are no
copies). Calibration: log-loss and expected calibration error on the test rows with the temperature
taken out again (before) and as published (after); then what the model answers when it has to be
right so often, the thresholds being those of the validation rows. Out of scope: area under the ROC
curve by which the clinc150 test rows are distinguished from those of clinc150_oos_test.jsonl, by
the largest probability and by the energy (logsumexp of the logits, Liu et al. 2020)."""
import argparse
import json
import os
import platform
import re
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
PHASE_1, PHASE_2 = 'libdocs.cleaner_finetune', 'libdocs.classifier_model'


def jobs(data: Path) -> list:
    "(name, input file, phase 1 options, base model, phase 2 options, extra test file)."
    weights = data.parent/'weights'/'stories260K'
    clinc, imbalanced = data/'clinc150'/'clinc150_train.jsonl', data/'clinc150'/'clinc150_imbalanced_train.jsonl'
    test = data/'clinc150'/'clinc150_test.jsonl'
    return [
        ('sms_spam', data/'sms_spam'/'sms_spam.jsonl', [], 'scratch', ['--epochs', '4'], None),
        ('sms_spam, stories260K', data/'sms_spam'/'sms_spam.jsonl', [], str(weights), ['--epochs', '4'], None),
        ('clinc150', clinc, [], 'scratch', ['--epochs', '5'], test),
        ('clinc150 imbalanced, capped', imbalanced, ['--reduce-majority-to', '1'], 'scratch', ['--epochs', '6'], test),
        ('clinc150 imbalanced', imbalanced, [], 'scratch', ['--epochs', '6'], test),
        ('banking77', data/'banking77'/'banking77_train.jsonl', [], 'scratch', ['--epochs', '6'],
         data/'banking77'/'banking77_test.jsonl'),
        ('cuad_contracts, capped', data/'cuad_contracts'/'cuad_contracts.jsonl',
         ['--min-label-count', '9', '--reduce-majority-to', '1'], 'scratch', ['--epochs', '12'], None),
        ('cuad_contracts', data/'cuad_contracts'/'cuad_contracts.jsonl', ['--min-label-count', '9'],
         'scratch', ['--epochs', '12'], None),
]


def command(module: str, args: list, log: Path) -> tuple:
    "(seconds, peak MB) of one command; stops if it fails."
    env = dict(os.environ, WANDB_MODE='disabled', HF_HUB_OFFLINE='1')
    start = time.perf_counter()
    with open(log, 'w') as out:
        child = subprocess.Popen([sys.executable, '-m', module, *map(str, args)], stdout=out,
                                 stderr=subprocess.STDOUT, env=env)
        _, status, usage = os.wait4(child.pid, 0)
    if status: sys.exit(f'{module} failed; see {log}\n{log.read_text()[-2000:]}')
    return time.perf_counter() - start, usage.ru_maxrss / 1024


def measure(name: str, source: Path, prepare: list, base: str, train: list, extra: Path | None, out: Path) -> dict:
    "Both commands on one corpus."
    folder = out/re.sub(r'\W+', '-', name)
    folder.mkdir(parents=True, exist_ok=True)
    dataset, model, results = f'./{folder/"dataset"}', f'./{folder/"model"}', folder/'results'/'results.jsonl'
    results.unlink(missing_ok=True)
    one = command(PHASE_1, ['-i', source.parent, '-f', source.name, '-o', folder/'prepared',
                            '--target-hf-dataset', dataset, *prepare], folder/'phase1.log')
    two = command(PHASE_2, ['--input-hf-dataset', dataset, '-o', model, '-m', base, '--output-classify-file',
                            results, '--track-output', folder/'wandb', *train], folder/'phase2.log')
    row = dict(name=name, options=' '.join([*prepare, *train]), phase_1=one + seconds(folder/'phase1.log'),
               phase_2=two + seconds(folder/'phase2.log'), steps=steps(folder/'phase1.log'),
               metrics=json.loads(results.with_name('metrics.json').read_text()),
               training=json.loads((folder/'model'/'training.json').read_text()))
    if extra and extra.exists():
        other = folder/'extra'/'results.jsonl'
        other.unlink(missing_ok=True)
        args = ['--examples', '--input-dir', extra.parent, '--filename', extra.name, '-o', model,
                '--input-hf-dataset', dataset, '--output-classify-file', other]
        row['extra'] = dict(name=extra.name, run=command(PHASE_2, args, folder/'extra.log'),
                            metrics=json.loads(other.with_name('metrics.json').read_text()))
    row['calibration'] = calibration(folder/'model', results, row['training'])
    if source.name == 'clinc150_train.jsonl': row['scope'] = out_of_scope(folder/'model', source.parent)
    return row


def calibration(model: Path, results: Path, training: dict) -> dict:
    "Log-loss and calibration error on the test rows, before and after the temperature."
    from libdocs.classifiers.deberta import DebertaZeroShot
    from libdocs.evaluation.outcomes import figures
    from libdocs.evaluation.metrics import trainer_outcomes
    rows, degrees = ([json.loads(line) for line in open(results, encoding='utf-8')],
                     (training['validation'] or {}).get('temperature', 1.))
    classifier = DebertaZeroShot(f'./{model}', device='cpu')
    logits, truth = classifier.logits([r['text'] for r in rows]), [classifier.labels.index(r['label']) for r in rows]
    return dict(temperature=degrees, before=figures(trainer_outcomes(logits * degrees, truth)),
                after=figures(trainer_outcomes(logits, truth)))


def out_of_scope(model: Path, data: Path) -> dict:
    "Area under the ROC curve of telling the test rows from rows of no label."
    import numpy as np
    import pandas as pd
    from scipy.special import logsumexp
    from sklearn.metrics import roc_auc_score
    from scipy.special import softmax
    from libdocs.classifiers.deberta import DebertaZeroShot
    classifier = DebertaZeroShot(f'./{model}', device='cpu')
    inside, outside = (classifier.logits(list(
        pd.read_json(data/f'clinc150_{name}.jsonl', lines=True, dtype=str)['text'])) for name in ('test', 'oos_test'))
    known, logits = np.repeat([1, 0], [len(inside), len(outside)]), np.concatenate([inside, outside])
    return dict(rows=(len(inside), len(outside)), probability=roc_auc_score(known, softmax(logits, axis=1).max(axis=1)),
                energy=roc_auc_score(known, logsumexp(logits, axis=1)))


def steps(log: Path) -> dict:
    "The counts that cleaner_finetune prints."
    return {name: int(n.replace(',', '')) for n, name in re.findall(r'^ +([\d,]+)  (.+)$', log.read_text(), flags=re.M)}


def seconds(log: Path) -> tuple:
    "What the command says about the time of its stages, as a tuple of one string."
    return tuple(re.findall(r'^INFO: seconds: (.+)$', log.read_text(), flags=re.M)[-1:])


def table(rows: list) -> str:
    "The results as Markdown."
    def f(x): return f'{x:.4f}'
    def base(m, which):
        return f(m['baselines'][which]['top_1']) + ' / ' + f(m['baselines'][which]['macro_f1'])
    lines = ['| corpus | rows in | removed | train / test | options | phase 1: seconds (of stages), peak '
             'memory | phase 2: seconds (of stages), peak memory |', '|---|---|---|---|---|---|---|']
    for r in rows:
        gone = ', '.join(f'{k.removeprefix("removed: ")} {n:,}'
                         for k, n in r['steps'].items() if k.startswith('removed'))
        lines.append(f"| {r['name']} | {r['steps']['read']:,} | {gone} | {r['steps']['train']:,} / "
                     f"{r['steps']['test']:,} | `{r['options'] or '–'}` | "
                     + ' | '.join(f'{s:.0f} s ({stages}), {mb:,.0f} MB'
                                  for s, mb, stages in (r['phase_1'], r['phase_2'])) + ' |')
    lines += ['', '| corpus, test rows | top-1 | top-2 | top-3 | macro-F1 | majority top-1 / macro-F1 | '
              'TF-IDF + linear top-1 / macro-F1 | truncated | seconds of training |',
              '|---|---|---|---|---|---|---|---|---|']
    for r in rows:
        for name, m in [(f"{r['name']}, its own split", r['metrics'])] + (
            [(f"{r['name']}, {r['extra']['name']}", r['extra']['metrics'])] if 'extra' in r else []):
            lines.append(f"| {name}, {m['rows']:,} | {f(m['top_1'])} | {f(m['top_2'])} | {f(m['top_3'])} | "
                         f"{f(m['macro_f1'])} | {base(m, 'majority')} | {base(m, 'tfidf_linear')} | "
                         f"{r['training']['truncated_share']:.0%} | {r['training']['seconds']:.0f} |")
    return '\n'.join([*lines, '', *baselines(rows), '', *trust(rows)])


def baselines(rows: list) -> list:
    "The model and each baseline, with their intervals."
    def cell(m, key):
        return f'{m[key]:.4f} ({m["intervals"][key][0]:.3f} – {m["intervals"][key][1]:.3f})'
    lines = ['| corpus, test rows | classifier | top-1 | macro-F1 | top-1 at natural frequencies | p |',
             '|---|---|---|---|---|---|']
    for r in rows:
        for name, m in [(f"{r['name']}, {r['metrics']['rows']:,}", r['metrics'])] + (
            [(f"{r['name']}, {r['extra']['name']}, {r['extra']['metrics']['rows']:,}",
              r['extra']['metrics'])] if 'extra' in r else []):
            classifiers = [(k, v) for k, v in m['baselines'].items() if v] + [('fine-tuned', m)]
            for k, v in classifiers:
                lines.append(
                    f"| {name if v is classifiers[0][1] else ''} | {k.replace('_', '-')} | {cell(v, 'top_1')} | "
                    f"{cell(v, 'macro_f1')} | {cell(v['natural'], 'top_1') if v.get('natural') else '–'} | "
                    + (f"{m['baselines']['tfidf_linear']['mcnemar']['p']:.2g}" if k == 'fine-tuned' else '') + ' |')
    return lines


def trust(rows: list) -> list:
    "Calibration, coverage and out-of-scope rows."
    lines = ['| corpus, its own test split | temperature | log-loss before → after | calibration error '
             'before → after | to be right 95 %: answered, right | 99 %: answered, right |',
             '|---|---|---|---|---|---|']
    for r in rows:
        c = r['calibration']
        sure = [f"{a['answered']:.1%}, " + ('–' if a['right'] is None else f"{a['right']:.1%}")
                for a in r['metrics']['coverage']['at']]
        lines.append(f"| {r['name']} | {c['temperature']:.2f} | {c['before']['log_loss']:.3f} → "
                     f"{c['after']['log_loss']:.3f} | {c['before']['ece']:.3f} → {c['after']['ece']:.3f} | "
                     f"{sure[0]} | {sure[1]} |")
    for r in rows:
        if 'scope' in r:
            lines += ['', 'Out of scope ({:,} rows inside, {:,} outside): area under the ROC curve '
                      '{probability:.3f} by the largest probability, {energy:.3f} by the energy.'.format(
                          *r['scope']['rows'], **r['scope'])]
    return lines


def machine(runs: str = 'one run each') -> str:
    "What it ran on, and how often."
    cpu = next((line.split(':')[1].strip() for line in Path('/proc/cpuinfo').read_text().splitlines()
                if line.startswith('model name')), platform.processor())
    import torch
    import transformers
    return (f'{os.cpu_count()} cores of {cpu}, Python {platform.python_version()}, torch '
            f'{torch.__version__}, transformers {transformers.__version__}; {runs}, '
            f'{time.strftime("%Y-%m-%d")}')


def write(text: str, program: str):
    "Put `text` between the markers of `program` in RESULTS.md; at the end of it if there are none."
    path, (start, end) = HERE/'RESULTS.md', (f'<!-- {program} -->', f'<!-- end {program} -->')
    old = path.read_text()
    if start not in old: old += f'\n{start}\n{end}\n'
    before, rest = old.split(start)
    path.write_text(f'{before}{start}\n{text}\n{end}{rest.split(end)[1]}')


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('data', type=Path)
    p.add_argument('--only', help='names that contain this')
    p.add_argument('--out', type=Path, default=HERE/'out')
    p.add_argument('--write', action='store_true', help='put the table into bench/RESULTS.md')
    args = p.parse_args()
    out, rows = Path(os.path.relpath(args.out)), []
    for name, source, prepare, base, train, extra in jobs(args.data.resolve()):
        if args.only and args.only not in name: continue
        missing = next((path for path in (source, Path(base) if base != 'scratch' else source) if not path.exists()),
                       None)
        if missing: print(f'skipped {name}: {missing.name} is not there'); continue
        rows.append(measure(name, source, prepare, base, train, extra, out))
        print(f"{name}: top-1 {rows[-1]['metrics']['top_1']:.4f}",
              *(f"{x['name']} {x['metrics']['top_1']:.4f}" for x in [rows[-1].get('extra')] if x), flush=True)
    if not rows: sys.exit('nothing to measure')
    text = f'{machine()}\n\n{table(rows)}'
    print(text)
    if args.write: write(text, 'main_job.py')


if __name__ == '__main__': main()
