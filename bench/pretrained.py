"""A pretrained base model beside simpler classifiers and beside a plain Trainer, on corpora as they
were published: trained on their train file, tested on their test file.

    python bench/pretrained.py DATA [--base minilm] [--corpora clinc150 banking77] [--seeds 5]
        [--only libdocs] [--keep FILE] [--write]

libdocs trains with its default options. The plain Trainer is transformers' own, with the class that
AutoModelForSequenceClassification gives, at the same rate, epochs, batch size and precision, texts
padded to the longest of a batch, on all rows in a random order; its last epoch is tested. The others
do not train the base model: they classify what it makes of a text before any training (`frozen`),
its TF-IDF weights, or both. A training takes minutes; with --keep, what was measured is kept in FILE
as JSON lines, and not measured again."""
import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from imbalance import read_parts
from main_job import machine, write

CONTENDERS = {'majority': 'the most frequent label', 'words': 'TF-IDF of words + linear',
              'characters': 'TF-IDF of words and characters + linear', 'frozen': 'frozen + linear',
              'frozen-words': 'frozen and TF-IDF of words + linear', 'trainer': 'plain Trainer', 'libdocs': 'libdocs'}
ALWAYS_THE_SAME = 'majority', 'words', 'characters', 'frozen', 'frozen-words'


def trained_record(train, test, base: str, seed: int, **options):
    "The record of a training by libdocs, with what it says of the test rows."
    from libdocs.core.labels import LabelSchema
    from libdocs.finetune.data import Task
    from libdocs.finetune.finetune import finetune
    with tempfile.TemporaryDirectory() as folder:
        task = Task('bench', train, test, LabelSchema.from_labels(train['label']))
        return finetune(task, f'{folder}/model', base_model=base, seed=seed, track='none', device='cpu',
                        **options).record


def trained(train, test, base: str, seed: int, **options) -> dict:
    "What libdocs says of the test rows, after a training."
    record = trained_record(train, test, base, seed, **options)
    tested = record.evaluation
    return dict(top_1=tested.top_1, macro_f1=tested.macro_f1, ece=tested.ece, refit=record.refit)


def by_libdocs(train, test, args, seed: int) -> dict: return trained(train, test, args.base, seed)


def by_trainer(train, test, args, seed: int) -> dict:
    "What transformers' Trainer says of them, at the options that libdocs takes by default."
    import torch
    import transformers
    from datasets import Dataset
    from sklearn.metrics import f1_score
    from libdocs.classifiers.batches import pick_dtype
    from libdocs.core.base_models import fetch_base
    from libdocs.finetune.base import default_learning_rate
    from libdocs.finetune.plan import default_epochs, warmup, weight_decay
    folder, names = fetch_base(args.base), sorted(set(train['label']))
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, model_max_length=512)
    transformers.set_seed(seed)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        folder, num_labels=len(names), dtype=torch.float32)
    def rows(df):
        ids = tokenizer(list(df['text']), truncation=True, padding=False)['input_ids']
        return Dataset.from_dict(dict(input_ids=ids, labels=[names.index(label) for label in df['label']]))
    rate = default_learning_rate(model.num_parameters(exclude_embeddings=True), False)
    epochs = default_epochs(len(train), 32)
    warming = int(warmup * epochs * -(-len(train) // 32))
    with tempfile.TemporaryDirectory() as place:
        options = transformers.TrainingArguments(
            place, num_train_epochs=epochs, learning_rate=rate, weight_decay=weight_decay, warmup_steps=warming,
            per_device_train_batch_size=32, per_device_eval_batch_size=64, seed=seed, save_strategy='no',
            report_to=[], disable_tqdm=True, use_cpu=True, bf16=pick_dtype('auto', 'cpu', model) == 'bfloat16')
        trainer = transformers.Trainer(model, options, transformers.DataCollatorWithPadding(tokenizer), rows(train))
        trainer.train()
        said = trainer.predict(rows(test))  # in an order of its own
    answers = said.predictions.argmax(axis=1)
    return dict(top_1=float((answers == said.label_ids).mean()), epochs=epochs,
                macro_f1=float(f1_score(said.label_ids, answers, average='macro')))


def frozen_features(train, test, base: str) -> tuple:
    "What the frozen base model makes of all rows of both files, and how many seconds that took, loading not counted."
    from libdocs.core.labels import LabelSchema
    from libdocs.finetune.base import load_base
    from libdocs.finetune.head import Frozen
    frozen = Frozen(*load_base(base, LabelSchema.from_labels(train['label']), []))
    start = time.perf_counter()
    return [frozen(list(df['text'])) for df in (train, test)], time.perf_counter() - start


def by_baseline(train, test, args, name: str) -> dict:
    "What a classifier says of them that does not train the base model."
    from libdocs.evaluation.baselines import frozen_predictions, linear_predictions, majority_predictions
    from libdocs.evaluation.outcomes import figures, outcomes
    texts, more = list(test['text']), {}
    if name == 'majority': answers = majority_predictions(train['label'], len(test))
    elif name in ('words', 'characters'): answers = linear_predictions(train, texts, chars=name == 'characters')
    else:
        features, seconds = frozen_features(train, test, args.base)
        more = dict(embedding_seconds=seconds)
        answers = frozen_predictions(train, texts, *features, words=name == 'frozen-words')
    found = figures(outcomes(list(test['label']), answers))
    return dict(top_1=found['top_1'], macro_f1=found['macro_f1']) | more


def measured(args, corpus: str, contender: str, seed: int) -> dict:
    "The figures of one contender, and how long it took."
    import torch
    torch.set_num_threads(os.cpu_count())
    train, test = read_parts(args.data, corpus)
    start = time.perf_counter()
    if contender in ALWAYS_THE_SAME: figures = by_baseline(train, test, args, contender)
    else: figures = dict(libdocs=by_libdocs, trainer=by_trainer)[contender](train, test, args, seed)
    return figures | dict(seconds=time.perf_counter() - start)


def all_measured(path: Path | None, alike: dict, runs: list, figures: Callable) -> list:
    """What was measured under the conditions that are `alike`: the results that are kept in the file, and those of
    other `runs`, dictionaries of conditions, which are kept then."""
    results = map(json.loads, path.read_text().splitlines()) if path and path.exists() else []
    results = [result for result in results if alike.items() <= result.items()]
    for run in runs:
        if any(run.items() <= result.items() for result in results): continue
        results.append(alike | run | figures(**run))
        print(json.dumps(results[-1]), flush=True)
        if path:
            with open(path, 'a') as file: file.write(json.dumps(results[-1]) + '\n')
    return results


def usual_options(about: str) -> argparse.ArgumentParser:
    "Those that the programs have in common which measure a base model."
    p = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('data', type=Path)
    p.add_argument('--base', default='minilm')
    p.add_argument('--corpora', nargs='+', default=['clinc150', 'banking77'])
    p.add_argument('--seeds', type=int, default=5)
    p.add_argument('--keep', type=Path, help='JSON lines of what was measured')
    p.add_argument('--write', action='store_true', help='put the table into bench/RESULTS.md')
    os.environ |= dict(WANDB_MODE='disabled', TOKENIZERS_PARALLELISM='false', TRANSFORMERS_VERBOSITY='error')
    return p


def cell(values: list, form: str) -> str:
    "Mean, and range where there are several."
    if not values: return ''
    mean = f'{np.mean(values):{form}}'
    return mean if len(values) == 1 else f'{mean} ({min(values):{form}} – {max(values):{form}})'


def table(results: list, args) -> list:
    lines = ['| corpus | classifier | runs | top-1 | macro-F1 | calibration error | seconds |',
             '|---|---|---|---|---|---|---|']
    for corpus in args.corpora:
        for contender, name in CONTENDERS.items():
            own = [r for r in results if (r['corpus'], r['contender']) == (corpus, contender)]
            if not own: continue
            def column(key, form): return cell([r[key] for r in own if r.get(key) is not None], form)
            lines.append(f'| {corpus} | {name} | {len(own)} | {column("top_1", ".4f")} | {column("macro_f1", ".4f")} | '
                         f'{column("ece", ".4f")} | {column("seconds", ".0f")} |')
    return lines


def main():
    p = usual_options(__doc__)
    p.add_argument('--only', nargs='+', choices=list(CONTENDERS), default=list(CONTENDERS))
    args = p.parse_args()
    runs = [dict(corpus=corpus, contender=contender, seed=seed) for seed in range(args.seeds) for corpus in args.corpora
            for contender in args.only if not (seed and contender in ALWAYS_THE_SAME)]
    results = all_measured(args.keep, dict(base=args.base), runs, partial(measured, args))
    lines = [machine(f'base {args.base}'), '', *table(results, args)]
    print('\n'.join(lines))
    if args.write: write('\n'.join(lines), f'pretrained.py --base {args.base}')


if __name__ == '__main__': main()
