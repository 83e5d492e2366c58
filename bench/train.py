"""Training beside transformers' Trainer: the same weights, the same texts, in turns, one process
for each run.

    python bench/train.py [DATA] [--shape xsmall] [--rows 96] [--batch 8] [--runs 3] [--device cpu]
        [--only padded] [--write]
    python bench/train.py DATA --curve [--write]

The weights are random, of the real shape, the texts are made up (both from bench/shapes.py) or
those of the JSONL files under DATA; batches of --batch, at most 512 tokens a text, one epoch. The
peers are transformers' Trainer as its text-classification example uses it (every text padded to 512
tokens, 32 bits) and a well-tuned one (padded to the longest of a batch, batches of like lengths),
in 32 bits and, where the device multiplies bf16 by instructions of its own, in bf16. On a GPU the
padded peer computes in bf16 too. Tokens are real ones, padding not counted; seconds are those of
the epoch after a step for warming up; the ratio is the median of the ratios of pairs of runs, with
its range.

--curve: the losses of 200 steps of `scratch` on clinc150_train.jsonl under DATA, by libdocs and by
a plain Trainer on the same batches, three seeds: what is fast must also learn the same. The mean
loss of each 50 steps, mean and standard deviation over the seeds."""
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

PEERS = {'padded': 'Trainer, every text padded to 512', 'tuned': 'Trainer, dynamic padding, like lengths',
         'tuned-bf16': 'Trainer, dynamic padding, like lengths, bf16'}


def texts_of(args) -> list: return folder_texts(args.data, args.rows) if args.data else mixed(args.rows)


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
                        bf16=pick_dtype('auto', args.device, model) == 'bfloat16')
    return ClassifierTrainer(loss_function('none', np.ones(model.config.num_labels)), 'mean', tokenizer.pad_token_id,
                              model=speed_up(model), args=options, train_dataset=Drawn(rows), data_collator=collate)


def trainer(model, tokenizer, texts: list, labels: list, args):
    "transformers' own, in the way of the peer."
    import transformers
    from datasets import Dataset
    padded = args.contender == 'padded'
    rows = Dataset.from_dict(dict(tokenizer(texts, truncation=True, max_length=512,
                                            padding='max_length' if padded else False)) | dict(labels=labels))
    more = dict(bf16=args.contender == 'tuned-bf16' or padded
                and args.device != 'cpu') | ({} if padded else dict(train_sampling_strategy='group_by_length'))
    return transformers.Trainer(model=model, args=arguments(args.folder, args, **more), train_dataset=rows,
                                data_collator=transformers.DataCollatorWithPadding(tokenizer))


def child(args):
    "One run, in a process of its own."
    import torch
    import transformers
    make = libdocs if args.contender == 'libdocs' else trainer
    tokenizer, texts = transformers.AutoTokenizer.from_pretrained(args.model), texts_of(args)
    labels = [i % len(LABELS) for i in range(len(texts))]
    transformers.set_seed(0)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(args.model, dtype=torch.float32)
    with tempfile.TemporaryDirectory() as args.folder:
        make(model, tokenizer, texts[:4], labels[:4], args).train()
        start = time.perf_counter()
        make(model, tokenizer, texts, labels, args).train()
        if args.device != 'cpu': torch.cuda.synchronize()
    lengths = np.minimum([len(ids) for ids in tokenizer(texts)['input_ids']], 512)
    peak = peak_flops(args.device, torch.bfloat16 if args.device != 'cpu' else torch.float32)
    print(json.dumps(dict(seconds=time.perf_counter() - start,
                          mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                          tokens=int(lengths.sum()), share=3 * needed_flops(model, lengths) / peak)))


def one(contender: str, model: Path, args) -> dict:
    "The figures of one run."
    again = [sys.executable, __file__, '--contender', contender, '--model', str(model), '--rows', str(args.rows),
             '--batch', str(args.batch), '--device', args.device, *([str(args.data)] if args.data else [])]
    done = subprocess.run(again, capture_output=True, text=True, env=dict(
        os.environ, HF_HUB_OFFLINE='1', TRANSFORMERS_VERBOSITY='error', WANDB_MODE='disabled'))
    if done.returncode: sys.exit(f'{contender} failed\n{done.stderr[-3000:]}')
    return json.loads(done.stdout.splitlines()[-1])


def has_bfloat16(device: str) -> bool:
    "Whether the device multiplies bf16 by instructions of its own."
    import torch
    if device != 'cpu': return torch.cuda.is_bf16_supported()
    able = torch.cpu.get_capabilities()
    return able.get('amx_bf16', False) or able.get('avx512_bf16', False)


def compared(model: Path, args) -> list:
    "The rows of the table."
    names = [args.only] if args.only else [name for name in PEERS if name != 'tuned-bf16' or has_bfloat16(args.device)]
    runs = [{name: one(name, model, args) for name in ('libdocs', *names)} for _ in range(args.runs)]
    rows = ['| contender | texts/s | tokens/s | peak MB | utilisation | libdocs is faster |',
            '|---|---|---|---|---|---|']
    for name in ('libdocs', *names):
        s, tokens, share, mb = (statistics.median(r[name][k] for r in runs)
                                for k in ('seconds', 'tokens', 'share', 'mb'))
        ratios = [r[name]['seconds'] / r['libdocs']['seconds'] for r in runs]
        times = ('' if name == 'libdocs' else f'{statistics.median(ratios):.2f} times ({min(ratios):.2f} '
                 f'to {max(ratios):.2f})')
        rows.append(f'| {PEERS.get(name, name)} | {args.rows / s:.2f} | {tokens / s:,.0f} | {mb:,.0f} | '
                    f'{share / s:.0%} | {times} |')
    return rows


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


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('data', type=Path, nargs='?')
    p.add_argument('--shape', choices=list(SHAPES), default='xsmall')
    p.add_argument('--rows', type=int, default=96)
    p.add_argument('--batch', type=int, default=8, help='texts a step; 8 is the default of transformers, '
                   'and with 32 the padded peer needs more than 24 GB')
    p.add_argument('--runs', type=int, default=3)
    p.add_argument('--device', default='cpu')
    p.add_argument('--only', choices=list(PEERS))
    p.add_argument('--curve', action='store_true')
    p.add_argument('--write', action='store_true', help='put the table into bench/RESULTS.md')
    p.add_argument('--contender', help=argparse.SUPPRESS)
    p.add_argument('--model', type=Path, help=argparse.SUPPRESS)
    args = p.parse_args()
    if args.contender: return child(args)
    if args.curve: about, lines, name = '3 seeds', curves(args.data), 'train.py --curve'
    else:
        with tempfile.TemporaryDirectory() as folder:
            model = make_model(args.shape, Path(folder)/'model', LABELS, mixed(500, seed=1))
            about, lines, name = (f'{args.runs} runs in turns', compared(model, args),
                                  f'train.py --shape {args.shape} --device {args.device}')
        lines = [f'{args.shape}, {args.data or "mixed"}, {args.rows} texts, batches of {args.batch}, {args.device}.',
                 '', *lines]
    lines = [machine(about), '', *lines]
    print('\n'.join(lines))
    if args.write: write('\n'.join(lines), name)


if __name__ == '__main__': main()
