"""Exports beside torch: the answers, the size, and the speed of one model by torch, by onnxruntime in
float32, and by onnxruntime in int8.

    python bench/export.py DATA [--corpora banking77 clinc150] [--base minilm] [--rows 500] [--runs 5]
        [--keep FOLDER] [--write]

A linear output layer is trained on what the frozen base model makes of the train file of a corpus
(--method linear-head), the model is exported twice, and all three answer the test file. Agreement
is the share of its rows with the same first label as torch, with Wilson's interval; so is the
accuracy. Speed is measured in turns, in one process: documents per second of one call with the
first rows of a shuffled test file, the median of the runs with their range. `torch` is
DebertaZeroShot as it is used otherwise, with its faster kernels, in float32. With --keep the
trained models stay in FOLDER, and are not trained again."""
import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from imbalance import read_parts
from main_job import machine, write

HEADS = ['| corpus, test rows | runtime | MB | same label as torch | largest difference of two probabilities | '
         'accuracy | documents/s (range) | times torch (range) |', '|---|---|---|---|---|---|---|---|']


def trained(folder: Path, train, test, base: str) -> Path:
    "A model of the train file, made unless it is there."
    from libdocs.core.labels import LabelSchema
    from libdocs.finetune.data import Task
    from libdocs.finetune.finetune import finetune
    if not (folder/'config.json').is_file():
        task = Task(folder.name, train, test, LabelSchema.from_labels(train['label']))
        finetune(task, str(folder), base_model=base, method='linear-head', device='cpu', track='none')
    return folder


def classifiers(folder: Path, exports: Path) -> dict:
    "name → (a classifier, MB of what it computes)."
    from libdocs.classifiers.deberta import DebertaZeroShot
    from libdocs.classifiers.onnx import export_model
    weights = sum(path.stat().st_size for path in folder.glob('*.safetensors')) / 1e6
    made = {'torch': (DebertaZeroShot(str(folder), device='cpu', dtype='float32'), weights)}
    for name, quantize in (('onnx', 'none'), ('onnx, int8', 'int8')):
        done = export_model(str(folder), quantize=quantize, output=str(exports/quantize))
        made[name] = DebertaZeroShot(str(exports/quantize), runtime='onnx'), done.megabytes
    return made


def speeds(models: dict, texts: list, runs: int) -> dict:
    "name → documents per second of each run, in turns."
    found = {name: [] for name in models}
    for model, _ in models.values(): model.predict_proba(texts[:50])
    for _ in range(runs):
        for name, (model, _) in models.items():
            start = time.perf_counter()
            model.predict_proba(texts)
            found[name].append(len(texts) / (time.perf_counter() - start))
    return found


def interval(right: np.ndarray) -> str:
    "A share with Wilson's interval."
    from libdocs.evaluation.intervals import wilson
    low, high = wilson(right.mean(), len(right))
    return f'{right.mean():.4f} ({low:.4f} – {high:.4f})'


def spread(values: list) -> str:
    "Median and range."
    return f'{statistics.median(values):.3g} ({min(values):.3g} – {max(values):.3g})'


def rows(corpus: str, args, place: Path) -> list:
    "The rows of the table for a corpus."
    train, test = read_parts(args.data, corpus)
    models = classifiers(trained((args.keep or place)/corpus, train, test, args.base), place/f'{corpus}-exports')
    texts, truth = list(test['text']), test['label'].to_numpy(str)
    labels = np.array(models['torch'][0].labels)
    said = {name: model.predict_proba(texts) for name, (model, _) in models.items()}
    some = [texts[i] for i in np.random.default_rng(0).permutation(len(texts))[:args.rows]]
    found, result = speeds(models, some, args.runs), []
    for name, (_, size) in models.items():
        best, own = said['torch'].argmax(axis=1), said[name].argmax(axis=1)
        same, most = ('', '') if name == 'torch' else (
            interval(best == own), f'{np.abs(said[name] - said["torch"]).max():.1e}')
        times = '' if name == 'torch' else spread([a / b for a, b in zip(found[name], found['torch'])])
        result.append(f'| {corpus}, {len(texts):,} | {name} | {size:.1f} | {same} | {most} | '
                      f'{interval(labels[own] == truth)} | {spread(found[name])} | {times} |')
        print(result[-1], flush=True)
    return result


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('data', type=Path)
    p.add_argument('--corpora', nargs='+', default=['banking77', 'clinc150'])
    p.add_argument('--base', default='minilm')
    p.add_argument('--rows', type=int, default=500, help='documents of a timed call')
    p.add_argument('--runs', type=int, default=5)
    p.add_argument('--keep', type=Path, help='folder of the trained models')
    p.add_argument('--write', action='store_true', help='put the table into bench/RESULTS.md')
    args = p.parse_args()
    lines = [machine(f'{args.runs} runs in turns'), '',
             f'{args.base}, {args.rows} documents a call; load of the machine before it began (1 and 5 minutes): '
             f'{os.getloadavg()[0]:.1f} and {os.getloadavg()[1]:.1f}.', '', *HEADS]
    with tempfile.TemporaryDirectory() as place:
        for corpus in args.corpora: lines += rows(corpus, args, Path(place))
    if args.write: write('\n'.join(lines), 'export.py')


if __name__ == '__main__': main()
