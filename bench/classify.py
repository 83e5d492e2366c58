"""Classifying beside transformers' pipelines: the same weights, the same texts, in turns, one
process for each run.

    python bench/classify.py [DATA] [--base xsmall] [--work short|mixed|long|zero-shot] [--rows 200] [--runs 5]
        [--device cpu] [--batch 1 128] [--faster] [--seconds 60] [--write]

The weights are random, of the real shape (bench/shapes.py); the texts are made up (mixed:
lognormal, median 90 tokens, a tenth over 512; long: 512 tokens each; zero-shot: mixed, ten labels,
an NLI model) or those of the JSONL files under DATA. The peer is pipeline("text-classification") or
pipeline("zero-shot-classification") at the batch size that is fastest on the first 60 texts (of 1,
4, 16 and 64, as long as a larger one is not twice as slow as the best), or at each one that --batch
names; --faster adds the largest of them with the attention of the packages flashdeberta and
disentangled-flash (DeBERTa on a GPU). Times are seconds of one call with all texts, after a call
with a few; the ratio is the median of the ratios of pairs of runs, with its range; memory is that
of the device. Tokens are real ones, padding not counted; utilisation is the operations needed for
them (`needed_flops`) through the time and the speed of one large multiplication. Same answers is
the share of texts with the same first label; the differences are the largest ones of two
probabilities, and of two logits of the first 40 texts. With --seconds a run that would last longer
is stopped, and its row says so."""
import argparse
import json
import math
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from main_job import machine, write
from shapes import (beside, FASTER, HEADS, LABELS, LENGTHS, SHAPES, folder_texts, in_turns, load_faster, make_model,
                    median, mixed, needed_flops, peak_flops, peak_mb, run_child, times_faster, warm_up, whole, words_of)

compared_logits = 40  # texts


def texts_of(args) -> list:
    if args.data: return folder_texts(args.data, args.rows)
    work = args.work if args.work in LENGTHS else 'mixed'
    return mixed(args.rows, work, words=words_of(args.shape, args.model))


def libdocs(folder: str, texts: list, args) -> tuple:
    from libdocs.classifiers.deberta import DebertaZeroShot
    classifier, labels = DebertaZeroShot(folder, device=args.device,
                                         dtype=args.dtype), LABELS if args.work == 'zero-shot' else None
    classifier.classify(warm_up(texts, args.device), labels)
    start = time.perf_counter()
    answers = classifier.classify(texts, labels)
    seconds = time.perf_counter() - start
    return seconds, [dict(a) for a in answers], [] if labels else [
        dict(zip(classifier.labels, map(float, row))) for row in classifier.logits(texts[:compared_logits])]


def pipeline(folder: str, texts: list, args) -> tuple:
    import torch
    import transformers
    _, size, *package = args.contender.split(':')
    size = int(size)
    if args.work == 'zero-shot':
        peer = transformers.pipeline('zero-shot-classification', model=folder, device=args.device,
                                     dtype=args.peer_dtype)
        def call(some):
            return [dict(zip(r['labels'], r['scores']))
                    for r in peer(some, LABELS, hypothesis_template='This text is about {}.', batch_size=size)]
    else:
        model = load_faster(*package, folder, args.device, getattr(torch, args.peer_dtype)) if package else folder
        peer = transformers.pipeline('text-classification', model=model, tokenizer=folder, device=args.device,
                                     dtype=args.peer_dtype, top_k=None)
        def call(some):
            return [{d['label']: d['score'] for d in r} for r in peer(some, truncation=True, batch_size=size)]
    call(warm_up(texts, args.device))
    start = time.perf_counter()
    answers = call(texts)
    seconds = time.perf_counter() - start
    if args.work == 'zero-shot': return seconds, answers, []
    return seconds, answers, [{d['label']: d['score'] for d in r}
                              for r in peer(texts[:compared_logits], truncation=True, function_to_apply='none')]


def child(args):
    "One run, in a process of its own."
    if args.contender == 'libdocs': import libdocs as _  # noqa: F401 - before torch, as in its commands
    seconds, answers, logits = (libdocs if args.contender == 'libdocs'
                                else pipeline)(str(args.model), texts_of(args), args)
    print(json.dumps(dict(seconds=seconds, mb=peak_mb(args.device), answers=answers, logits=logits)))


def one(contender: str, seconds: float, model: Path, args, rows: int = None) -> dict:
    "The figures of one run."
    again = [__file__, '--contender', contender, '--model', str(model), '--shape', args.shape, '--work', args.work,
             '--rows', str(rows or args.rows), '--device', args.device, '--dtype', args.dtype, '--peer-dtype',
             args.peer_dtype]
    return run_child([*again, *([str(args.data)] if args.data else [])], seconds)


def best_size(model: Path, args) -> str:
    "The pipeline at the batch size that is fastest on the first texts."
    sizes = {}
    for n in (1, 4, 16, 64):
        found = one(f'pipeline:{n}', args.seconds, model, args, min(60, args.rows))
        if 'failed' in found: sys.exit(f'pipeline:{n} {found["failed"]}')
        sizes[f'pipeline:{n}'] = found['seconds']
        if found['seconds'] > 2 * min(sizes.values()): break
    best = min(sizes, key=sizes.get)
    print({k: round(v, 1) for k, v in sizes.items()}, 'seconds for the first texts; the peer is', best, flush=True)
    return best


def peers_of(model: Path, args) -> list:
    "Names of the peers."
    if not args.batch: return [best_size(model, args)]
    return [*(f'pipeline:{n}' for n in args.batch),
            *(f'pipeline:{max(args.batch)}:{package}' for package in FASTER if args.faster)]


def compared(model: Path, args) -> list:
    "The rows of the table, and what is said below it."
    import torch
    import transformers
    def run(name, seconds): return one(name, seconds, model, args)
    runs = in_turns(run, ['libdocs', *peers_of(model, args)], args.runs, args.seconds)
    tokenizer, net = (transformers.AutoTokenizer.from_pretrained(model),
                      transformers.AutoModelForSequenceClassification.from_pretrained(model))
    lengths = np.minimum([len(ids) for ids in tokenizer(texts_of(args))['input_ids']], 512)
    if args.work == 'zero-shot': lengths = np.repeat(np.minimum(lengths + 12, 512), len(LABELS))
    peak = peak_flops(args.device, getattr(torch, args.dtype if args.dtype != 'auto' else 'float32'))
    needed = dict(texts=args.rows, tokens=lengths.sum(), share=needed_flops(net, lengths) / peak)
    said = [f'{shown(name)}: {agreement(runs["libdocs"], own)}.' for name, own in runs.items()
            if name != 'libdocs' and whole(own)]
    return [*HEADS, *(row(name, runs, **needed) for name in runs), '', *said,
            f'One large multiplication: {peak / 1e9:,.0f} GFLOP/s.']


def shown(contender: str) -> str:
    "As the table names it."
    kind, *size_and_package = contender.split(':')
    return ', '.join([kind, *(f'batch_size={part}' if part.isdecimal() else part for part in size_and_package)])


def row(name: str, runs: dict, texts: int, tokens: int, share: float) -> str:
    "The row of a contender."
    own = runs[name]
    if not whole(own): return f'| {shown(name)} | {own[-1]["failed"]} | | | | |'
    seconds, times = median(own, 'seconds'), '' if name == 'libdocs' else times_faster(runs['libdocs'], own)
    return (f'| {shown(name)} | {texts / seconds:.1f} | {tokens / seconds:,.0f} | {median(own, "mb"):,.0f} | '
            f'{share / seconds:.0%} | {times} |')


def agreement(ours: list, theirs: list) -> str:
    "How far the answers of libdocs and of a peer are the same."
    a, b = whole(ours)[0], whole(theirs)[0]
    def both(what): return list(zip(a[what], b[what]))
    same = np.mean([max(x, key=x.get) == max(y, key=y.get) for x, y in both('answers')])
    worst, off = (max((abs(x[k] - y[k]) for x, y in both(what) for k in x), default=None)
                  for what in ('answers', 'logits'))
    logits = '' if off is None else f', of two logits {off:.1e}'
    return f'same answers {same:.1%}, largest difference of two probabilities {worst:.1e}{logits}'


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('data', type=Path, nargs='?')
    p.add_argument('--base', '--shape', dest='shape', choices=list(SHAPES), default='xsmall')
    p.add_argument('--work', choices=[*LENGTHS, 'zero-shot'], default='mixed')
    p.add_argument('--busy', type=int, default=0, help='programs beside that each keep a core busy')
    p.add_argument('--rows', type=int, default=200)
    p.add_argument('--runs', type=int, default=5)
    p.add_argument('--device', default='cpu')
    p.add_argument('--dtype', default='auto', help='of libdocs: auto, float32 or bfloat16')
    p.add_argument('--peer-dtype', default='float32', help='of the pipeline')
    p.add_argument('--batch', type=int, nargs='+', help='batch sizes of the pipeline')
    p.add_argument('--faster', action='store_true', help='also beside faster packages')
    p.add_argument('--seconds', type=float, default=math.inf, help='for all runs together')
    p.add_argument('--write', action='store_true', help='put the table into bench/RESULTS.md')
    p.add_argument('--contender', help=argparse.SUPPRESS)
    p.add_argument('--model', type=Path, help=argparse.SUPPRESS)
    args = p.parse_args()
    if args.contender: return child(args)
    with tempfile.TemporaryDirectory() as folder, beside(args.busy):
        names = ['entailment', 'neutral', 'contradiction'] if args.work == 'zero-shot' else LABELS
        model = args.model = make_model(args.shape, Path(folder)/'model', names, mixed(500, seed=1))
        crowd = f'; beside {args.busy} busy programs' if args.busy else ''
        lines = [machine(f'{args.runs} runs in turns'), '',
                 f'{args.shape}, {args.data or args.work}, {args.rows} texts, {args.device}; libdocs '
                 f'{args.dtype}, the peer {args.peer_dtype}{crowd}.', '', *compared(model, args)]
    print('\n'.join(lines))
    if args.write:
        write('\n'.join(lines), f'classify.py --shape {args.shape} --work {args.work} --device '
              f'{args.device} --dtype {args.dtype}{f" --busy {args.busy}" if args.busy else ""}')


if __name__ == '__main__': main()
