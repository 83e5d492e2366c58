"""Classifying beside transformers' pipelines: the same weights, the same texts, in turns, one
process for each run.

    python bench/classify.py [DATA] [--shape xsmall] [--work mixed|long|zero-shot] [--rows 200] [--runs 5]
        [--device cpu] [--write]

The weights are random, of the real shape (bench/shapes.py); the texts are made up (mixed:
lognormal, median 90 tokens, a tenth over 512; long: 512 tokens each; zero-shot: mixed, ten labels,
an NLI model) or those of the JSONL files under DATA. The peer is pipeline("text-classification") or
pipeline("zero-shot-classification") at the batch size that is fastest on the first 60 texts (of 1,
4, 16 and 64, as long as a larger one is not twice as slow as the best). Times are seconds of one
call with all texts, after a call with a few; the ratio is the median of the ratios of pairs of
runs, with its range. Tokens are real ones, padding not counted; utilisation is the operations
needed for them (`needed_flops`) through the time and the speed of one large multiplication. Same
answers is the share of texts with the same first label; the differences are the largest ones of two
probabilities, and of two logits of the first 40 texts."""
import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from main_job import machine, write
from shapes import LABELS, SHAPES, folder_texts, make_model, mixed, needed_flops, peak_flops

compared_logits = 40  # texts


def texts_of(args) -> list:
    return folder_texts(args.data, args.rows) if args.data else mixed(args.rows, args.work == 'long')


def libdocs(folder: str, texts: list, args) -> tuple:
    from libdocs.classifiers.deberta import DebertaZeroShot
    classifier, labels = DebertaZeroShot(folder, device=args.device,
                                         dtype=args.dtype), LABELS if args.work == 'zero-shot' else None
    classifier.classify(texts[:4], labels)
    start = time.perf_counter()
    answers = classifier.classify(texts, labels)
    seconds = time.perf_counter() - start
    return seconds, [dict(a) for a in answers], [] if labels else [
        dict(zip(classifier.labels, map(float, row))) for row in classifier.logits(texts[:compared_logits])]


def pipeline(folder: str, texts: list, args) -> tuple:
    import transformers
    size = int(args.contender.split(':')[1])
    if args.work == 'zero-shot':
        peer = transformers.pipeline('zero-shot-classification', model=folder, device=args.device,
                                     dtype=args.peer_dtype)
        def call(some):
            return [dict(zip(r['labels'], r['scores']))
                    for r in peer(some, LABELS, hypothesis_template='This text is about {}.', batch_size=size)]
    else:
        peer = transformers.pipeline('text-classification', model=folder, device=args.device,
                                     dtype=args.peer_dtype, top_k=None)
        def call(some):
            return [{d['label']: d['score'] for d in r} for r in peer(some, truncation=True, batch_size=size)]
    call(texts[:4])
    start = time.perf_counter()
    answers = call(texts)
    seconds = time.perf_counter() - start
    if args.work == 'zero-shot': return seconds, answers, []
    return seconds, answers, [{d['label']: d['score'] for d in r}
                              for r in peer(texts[:compared_logits], truncation=True, function_to_apply='none')]


def child(args):
    "One run, in a process of its own."
    seconds, answers, logits = (libdocs if args.contender == 'libdocs'
                                else pipeline)(str(args.model), texts_of(args), args)
    print(json.dumps(dict(seconds=seconds, mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                          answers=answers, logits=logits)))


def one(contender: str, model: Path, args, rows: int = None) -> dict:
    "The figures of one run."
    again = [sys.executable, __file__, '--contender', contender, '--model', str(model), '--work', args.work, '--rows',
             str(rows or args.rows), '--device', args.device, '--dtype', args.dtype, '--peer-dtype', args.peer_dtype]
    done = subprocess.run([*again, *([str(args.data)] if args.data else [])], capture_output=True, text=True,
                          env=dict(os.environ, HF_HUB_OFFLINE='1', TRANSFORMERS_VERBOSITY='error'))
    if done.returncode: sys.exit(f'{contender} failed\n{done.stderr[-3000:]}')
    return json.loads(done.stdout.splitlines()[-1])


def compared(model: Path, args) -> list:
    "The rows of the table."
    import torch
    import transformers
    sizes = {}
    for n in (1, 4, 16, 64):
        sizes[f'pipeline:{n}'] = one(f'pipeline:{n}', model, args, min(60, args.rows))['seconds']
        if sizes[f'pipeline:{n}'] > 2 * min(sizes.values()): break
    best = min(sizes, key=sizes.get)
    print({k: round(v, 1) for k, v in sizes.items()}, 'seconds for the first texts; the peer is', best, flush=True)
    runs = [(one('libdocs', model, args), one(best, model, args)) for _ in range(args.runs)]
    tokenizer, net = (transformers.AutoTokenizer.from_pretrained(model),
                      transformers.AutoModelForSequenceClassification.from_pretrained(model))
    lengths = np.minimum([len(ids) for ids in tokenizer(texts_of(args))['input_ids']], 512)
    if args.work == 'zero-shot': lengths = np.repeat(np.minimum(lengths + 12, 512), len(LABELS))
    peak = peak_flops(args.device, getattr(torch, args.dtype if args.dtype != 'auto' else 'float32'))
    rows = []
    for i, name in ((0, 'libdocs'), (1, f'{best.replace(":", ", batch_size=")}')):
        seconds = statistics.median(r[i]['seconds'] for r in runs)
        rows.append(f'| {name} | {args.rows / seconds:.1f} | {lengths.sum() / seconds:,.0f} | '
                    f'{statistics.median(r[i]["mb"] for r in runs):,.0f} | '
                    f'{needed_flops(net, lengths) / seconds / peak:.0%} |')
    ratios = [b['seconds'] / a['seconds'] for a, b in runs]
    def both(what): return list(zip(runs[0][0][what], runs[0][1][what]))
    same = np.mean([max(a, key=a.get) == max(b, key=b.get) for a, b in both('answers')])
    worst, off = (max((abs(a[k] - b[k]) for a, b in both(what) for k in a), default=None)
                  for what in ('answers', 'logits'))
    logits = '' if off is None else f', of two logits {off:.1e}'
    summary = (f'libdocs is {statistics.median(ratios):.2f} times as fast ({min(ratios):.2f} to '
               f'{max(ratios):.2f}); same answers {same:.1%}, largest difference of two probabilities '
               f'{worst:.1e}{logits}. One large multiplication: {peak / 1e9:,.0f} GFLOP/s.')
    return ['| contender | texts/s | tokens/s | peak MB | utilisation |', '|---|---|---|---|---|', *rows, '', summary]


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('data', type=Path, nargs='?')
    p.add_argument('--shape', choices=list(SHAPES), default='xsmall')
    p.add_argument('--work', choices=['mixed', 'long', 'zero-shot'], default='mixed')
    p.add_argument('--rows', type=int, default=200)
    p.add_argument('--runs', type=int, default=5)
    p.add_argument('--device', default='cpu')
    p.add_argument('--dtype', default='auto', help='of libdocs: auto, float32 or bfloat16')
    p.add_argument('--peer-dtype', default='float32', help='of the pipeline')
    p.add_argument('--write', action='store_true', help='put the table into bench/RESULTS.md')
    p.add_argument('--contender', help=argparse.SUPPRESS)
    p.add_argument('--model', type=Path, help=argparse.SUPPRESS)
    args = p.parse_args()
    if args.contender: return child(args)
    with tempfile.TemporaryDirectory() as folder:
        names = ['entailment', 'neutral', 'contradiction'] if args.work == 'zero-shot' else LABELS
        model = make_model(args.shape, Path(folder)/'model', names, mixed(500, seed=1))
        lines = [machine(f'{args.runs} runs in turns'), '',
                 f'{args.shape}, {args.data or args.work}, {args.rows} texts, {args.device}; libdocs '
                 f'{args.dtype}, the peer {args.peer_dtype}.', '', *compared(model, args)]
    print('\n'.join(lines))
    if args.write:
        write('\n'.join(lines), f'classify.py --shape {args.shape} --work {args.work} --device '
              f'{args.device} --dtype {args.dtype}')


if __name__ == '__main__': main()
