"""Training beside transformers' Trainer: the same weights, the same texts, in turns, one process
for each run.

    python bench/train.py [DATA] [--base xsmall] [--work mixed] [--rows 96] [--batch 8] [--runs 3]
        [--device cpu] [--dtype auto] [--busy 0] [--only padded] [--seconds 90] [--write]
    python bench/train.py DATA --curve [--write]

The weights are random, of the real shape, or real ones (--base minilm); the texts are made up (both
from bench/shapes.py; --work: short, 13 tokens, mixed or long, 512) or those of the JSONL files under
DATA; batches of --batch, at most 512 tokens a text, one epoch; with --busy beside so many programs
that each keep a core busy. The
peers are transformers' Trainer as its text-classification example uses it (every text padded to 512
tokens, 32 bits) and a well-tuned one (padded to the longest of a batch, batches of like lengths),
in 32 bits and, where the device multiplies bf16 by instructions of its own, in bf16; and, if they
are asked for by --only, the latter with the attention of the packages flashdeberta and
disentangled-flash (DeBERTa on a GPU). On a GPU the padded peer computes in bf16 too. Tokens are
real ones, padding not counted; seconds are those of the epoch after a few steps for warming up;
memory is that of the device; utilisation is the operations needed for the real tokens through the
time and the speed of one large multiplication; the ratio is the median of the ratios of pairs of
runs, with its range. With --seconds a run that would last longer is stopped, and its row says so.

--curve: the losses of 200 steps of `scratch` on clinc150_train.jsonl under DATA, by libdocs and by
a plain Trainer on the same batches, three seeds: what is fast must also learn the same. The mean
loss of each 50 steps, mean and standard deviation over the seeds."""
import argparse
import json
import math
import tempfile
import time
from pathlib import Path

import numpy as np

from main_job import machine, write
from shapes import (beside, FASTER, HEADS, LABELS, LENGTHS, SHAPES, folder_texts, in_turns, load_faster, make_model,
                    median, mixed, needed_flops, peak_flops, peak_mb, run_child, times_faster, warm_up, whole, words_of)

PEERS = {'padded': 'Trainer, every text padded to 512', 'tuned': 'Trainer, dynamic padding, like lengths',
         'tuned-bf16': 'Trainer, dynamic padding, like lengths, bf16'}
PEERS |= {package: f'{PEERS["tuned-bf16"]}, {package}' for package in FASTER}


def texts_of(args) -> list:
    if args.data: return folder_texts(args.data, args.rows)
    return mixed(args.rows, args.work, words=words_of(args.shape, args.model))


def arguments(folder: str, args, **more):
    import transformers
    return transformers.TrainingArguments(
        **dict(output_dir=folder, num_train_epochs=1, per_device_train_batch_size=args.batch,
               learning_rate=2e-5, save_strategy='no', report_to=[], disable_tqdm=True,
               logging_strategy='no', use_cpu=args.device == 'cpu', seed=0, data_seed=0) | more)


def libdocs(model, tokenizer, texts: list, labels: list, args):
    "A trainer as `finetune` makes it."
    from libdocs.classifiers.attention import speed_up
    from libdocs.core.memory import keep_memory
    from libdocs.classifiers.batches import pick_dtype
    from libdocs.classifiers.reading import read_tokens, Reading
    from libdocs.finetune.losses import loss_function
    from libdocs.finetune.batches import as_rows, collate, Drawn
    from libdocs.finetune.trainer import ClassifierTrainer
    keep_memory()
    rows = as_rows(read_tokens(tokenizer, texts, Reading())[0], labels)
    options = arguments(args.folder, args, remove_unused_columns=False,
                        bf16=pick_dtype(args.dtype, args.device, model) == 'bfloat16')
    return ClassifierTrainer(loss_function('none', np.ones(model.config.num_labels)), 'mean', tokenizer.pad_token_id,
                              model=speed_up(model), args=options, train_dataset=Drawn(rows), data_collator=collate)


def trainer(model, tokenizer, texts: list, labels: list, args):
    "transformers' own, in the way of the peer."
    import transformers
    from datasets import Dataset
    padded = args.contender == 'padded'
    rows = Dataset.from_dict(dict(tokenizer(texts, truncation=True, max_length=512,
                                            padding='max_length' if padded else False)) | dict(labels=labels))
    more = dict(bf16=args.contender in ('tuned-bf16', *FASTER) or padded
                and args.device != 'cpu') | ({} if padded else dict(train_sampling_strategy='group_by_length'))
    return transformers.Trainer(model=model, args=arguments(args.folder, args, **more), train_dataset=rows,
                                data_collator=transformers.DataCollatorWithPadding(tokenizer))


def child(args):
    "One run, in a process of its own."
    if args.contender == 'libdocs': import libdocs as _  # noqa: F401 - before torch, as in its commands
    import torch
    import transformers
    make = libdocs if args.contender == 'libdocs' else trainer
    tokenizer, texts = transformers.AutoTokenizer.from_pretrained(args.model), texts_of(args)
    labels = [i % len(LABELS) for i in range(len(texts))]
    transformers.set_seed(0)
    if args.contender in FASTER:
        model = load_faster(args.contender, args.model, args.device, torch.float32, training=True)
    else: model = transformers.AutoModelForSequenceClassification.from_pretrained(args.model, dtype=torch.float32)
    few = warm_up(texts, args.device)
    with tempfile.TemporaryDirectory() as args.folder:
        make(model, tokenizer, few, labels[:len(few)], args).train()
        work = make(model, tokenizer, texts, labels, args)
        start = time.perf_counter()
        work.train()
        if args.device != 'cpu': torch.cuda.synchronize()
        seconds, mb = time.perf_counter() - start, peak_mb(args.device)
    lengths = np.minimum([len(ids) for ids in tokenizer(texts)['input_ids']], 512)
    peak = peak_flops(args.device, torch.bfloat16 if args.device != 'cpu' else torch.float32)
    print(json.dumps(dict(seconds=seconds, mb=mb, tokens=int(lengths.sum()),
                          share=3 * needed_flops(model, lengths) / peak)))


def one(contender: str, seconds: float, model: Path, args) -> dict:
    "The figures of one run."
    return run_child([__file__, '--contender', contender, '--model', str(model), '--rows', str(args.rows), '--batch',
                      str(args.batch), '--device', args.device, '--shape', args.shape, '--work', args.work,
                      '--dtype', args.dtype, *([str(args.data)] if args.data else [])], seconds)


def has_bfloat16(device: str) -> bool:
    "Whether the device multiplies bf16 by instructions of its own."
    import torch
    if device != 'cpu': return torch.cuda.is_bf16_supported()
    able = torch.cpu.get_capabilities()
    return able.get('amx_bf16', False) or able.get('avx512_bf16', False)


def compared(model: Path, args) -> list:
    "The rows of the table."
    usual = [name for name in PEERS if name not in FASTER and (name != 'tuned-bf16' or has_bfloat16(args.device))]
    def run(name, seconds): return one(name, seconds, model, args)
    runs = in_turns(run, ['libdocs', *(args.only or usual)], args.runs, args.seconds)
    return [*HEADS, *(row(name, runs, args.rows) for name in runs)]


def row(name: str, runs: dict, texts: int) -> str:
    "The row of a contender."
    own = runs[name]
    if not whole(own): return f'| {PEERS.get(name, name)} | {own[-1]["failed"]} | | | | |'
    seconds = median(own, 'seconds')
    times = '' if name == 'libdocs' else times_faster(runs['libdocs'], own)
    return (f'| {PEERS.get(name, name)} | {texts / seconds:.2f} | {median(own, "tokens") / seconds:,.0f} | '
            f'{median(own, "mb"):,.0f} | {median(own, "share") / seconds:.0%} | {times} |')


def losses(data: Path, contender: str, seed: int) -> list:
    "The loss of each of 200 steps."
    import transformers
    from libdocs.classifiers.reading import read_tokens, Reading
    from libdocs.finetune.base import scratch_model, scratch_tokenizer
    from libdocs.finetune.losses import loss_function
    from libdocs.finetune.batches import as_rows, collate, Drawn, SimilarLengths
    from libdocs.finetune.trainer import ClassifierTrainer
    from libdocs.core.labels import encode, LabelSchema
    from libdocs.core.records import read_records
    df = read_records(data/'clinc150'/'clinc150_train.jsonl').df
    schema = LabelSchema.from_labels(df['label'])
    tokenizer = scratch_tokenizer(list(df['text']), max_length=64)
    inputs, labels = read_tokens(tokenizer, list(df['text']), Reading())[0], encode(schema, df['label'])
    transformers.set_seed(seed)
    model = scratch_model(schema, tokenizer)
    curve, drawn = [], Drawn(as_rows(inputs, labels), seed)
    class Keep(transformers.TrainerCallback):
        def on_log(self, args, state, control, logs=None, **kwargs):
            if 'loss' in logs: curve.append(float(logs['loss']))
    with tempfile.TemporaryDirectory() as folder:
        args = argparse.Namespace(device='cpu', batch=32)
        options = arguments(folder, args, max_steps=200, learning_rate=1e-3, logging_strategy='steps',
                            logging_steps=1, seed=seed, data_seed=seed, remove_unused_columns=False)
        if contender == 'libdocs':
            made = ClassifierTrainer(loss_function('none', np.ones(len(schema))), 'mean',
                                      tokenizer.pad_token_id, 512, model=model, args=options,
                                      train_dataset=drawn, data_collator=collate)
        else:
            from datasets import Dataset
            rows = Dataset.from_dict(dict(input_ids=[text[0] for text in inputs], labels=list(labels)))
            made = transformers.Trainer(model=model, args=options, train_dataset=rows,
                                        data_collator=transformers.DataCollatorWithPadding(tokenizer))
            made._get_train_sampler = lambda _=None: SimilarLengths(drawn, 32)
        made.remove_callback(transformers.PrinterCallback)
        made.add_callback(Keep())
        made.train()
    return curve


def curves(data: Path) -> list:
    "The rows of the table of losses."
    curves = {name: np.array([losses(data, name, seed) for seed in range(3)]) for name in ('libdocs', 'Trainer')}
    lines = ['| steps | libdocs | Trainer |', '|---|---|---|']
    for at in range(0, 200, 50):
        means = [f[:, at:at + 50].mean(axis=1) for f in curves.values()]
        lines.append(f'| {at + 1} to {at + 50} | '
                     + ' | '.join(f'{m.mean():.4f} ± {m.std(ddof=1):.4f}' for m in means) + ' |')
    return lines


def named(args) -> str:
    "The name of a table."
    parts = [f'train.py --shape {args.shape} --device {args.device}']
    usual = args.shape != 'minilm' and (args.work, args.dtype) == ('mixed', 'auto')
    if not usual: parts.append(f'--work {args.work} --dtype {args.dtype}')
    return ' '.join([*parts, *([f'--busy {args.busy}'] if args.busy else [])])


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('data', type=Path, nargs='?')
    p.add_argument('--base', '--shape', dest='shape', choices=list(SHAPES), default='xsmall')
    p.add_argument('--work', choices=list(LENGTHS), default='mixed')
    p.add_argument('--rows', type=int, default=96)
    p.add_argument('--batch', type=int, default=8, help='texts a step; 8 is the default of transformers, '
                   'and with 32 the padded peer needs more than 24 GB')
    p.add_argument('--runs', type=int, default=3)
    p.add_argument('--device', default='cpu')
    p.add_argument('--dtype', default='auto', help='of libdocs: auto, float32 or bfloat16')
    p.add_argument('--busy', type=int, default=0, help='programs beside that each keep a core busy')
    p.add_argument('--only', nargs='+', choices=list(PEERS), help='these peers, in this order')
    p.add_argument('--seconds', type=float, default=math.inf, help='for all runs together')
    p.add_argument('--curve', action='store_true')
    p.add_argument('--write', action='store_true', help='put the table into bench/RESULTS.md')
    p.add_argument('--contender', help=argparse.SUPPRESS)
    p.add_argument('--model', type=Path, help=argparse.SUPPRESS)
    args = p.parse_args()
    if args.contender: return child(args)
    if args.curve: about, lines, name = '3 seeds', curves(args.data), 'train.py --curve'
    else:
        with tempfile.TemporaryDirectory() as folder, beside(args.busy):
            model = make_model(args.shape, Path(folder)/'model', LABELS, mixed(500, seed=1))
            about, lines, name = f'{args.runs} runs in turns', compared(model, args), named(args)
        lines = [f'{args.shape}, {args.data or args.work}, {args.rows} texts, batches of {args.batch}, {args.device}, '
                 f'libdocs {args.dtype}{f", beside {args.busy} busy programs" if args.busy else ""}.', '', *lines]
    lines = [machine(about), '', *lines]
    print('\n'.join(lines))
    if args.write: write('\n'.join(lines), name)


if __name__ == '__main__': main()
