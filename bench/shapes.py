"""Models of the real shapes with random weights, and one with real ones; texts of several lengths;
and runs in turns, each in a process of its own: imported by classify.py and train.py, not run."""
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np

LABELS = [f'label {i}' for i in range(10)]
WORDS = np.array([f'{a}{b}{c}' for a in 'bdfgklmnprst' for b in 'aeiou' for c in ('n', 'ra', 'sti', 'lo', 'm')])
_DEBERTA = dict(relative_attention=True, position_buckets=256, norm_rel_ebd='layer_norm',
                share_att_key=True, pos_att_type=['p2c', 'c2p'], max_relative_positions=-1,
                position_biased_input=False, type_vocab_size=0, max_position_embeddings=512, vocab_size=128100)
SHAPES = {  # width, layers, heads, inner width
    'xsmall': ('deberta', 384, 12, 6, 1536), 'small': ('deberta', 768, 6, 12, 3072),
    'base': ('deberta', 768, 12, 12, 3072), 'modernbert': ('modernbert', 768, 22, 12, 1152),
    'tiny': ('deberta', 64, 2, 2, 128), 'tiny-modernbert': ('modernbert', 64, 3, 2, 96),
    'minilm': None}  # the weights that libdocs knows as minilm
LENGTHS = {'short': (11, .4), 'mixed': (90, math.log(512 / 90) / 1.2816), 'long': (600, 0)}  # words: median, spread
HEADS = ['| contender | texts/s | tokens/s | peak MB | utilisation | libdocs is faster |', '|---|---|---|---|---|---|']
FASTER = ('flashdeberta', 'disentangled-flash')  # packages with another attention for DeBERTa, for GPUs


def make_model(shape: str, folder: Path, names: list, texts: list) -> Path:
    """A checkpoint of the shape (DeBERTa-v3-xsmall, -small, -base, ModernBERT-base, or a tiny one) with seeded random
    weights and a tokenizer made from `texts`; made once."""
    import torch
    import transformers
    from libdocs.finetune.base import scratch_tokenizer
    if (folder/'config.json').exists(): return folder
    if shape == 'minilm': return real_model(folder, names)
    kind, width, layers, heads, inner = SHAPES[shape]
    common = dict(hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads, intermediate_size=inner,
                  id2label=dict(enumerate(names)), label2id={n: i for i, n in enumerate(names)})
    torch.manual_seed(0)
    tokenizer = scratch_tokenizer(texts, 8000, 512)
    if kind == 'deberta':
        model = transformers.DebertaV2ForSequenceClassification(transformers.DebertaV2Config(
            **common, **_DEBERTA, pooler_hidden_size=width, pad_token_id=tokenizer.pad_token_id))
    else:
        model = transformers.ModernBertForSequenceClassification(transformers.ModernBertConfig(
            **common, vocab_size=50368, max_position_embeddings=8192, pad_token_id=tokenizer.pad_token_id))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() == 2 and 'embed' not in name:
                weight.mul_(2)  # so that the answers differ from text to text
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def real_model(folder: Path, names: list) -> Path:
    "MiniLM with a seeded random head."
    import torch
    import transformers
    from libdocs.core.base_models import fetch_base
    base = fetch_base('minilm')
    torch.manual_seed(0)
    transformers.AutoModelForSequenceClassification.from_pretrained(
        base, dtype=torch.float32, id2label=dict(enumerate(names)), label2id={n: i for i, n in enumerate(names)},
        num_labels=len(names)).save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(base, model_max_length=512).save_pretrained(folder)
    return folder


def mixed(rows: int, work: str = 'mixed', seed: int = 0, words=WORDS) -> list:
    """Texts of random words, with lognormal lengths: short (median 11 words), mixed (90, a tenth over 512) or long
    (600 each)."""
    (median_length, spread), rng = LENGTHS[work], np.random.default_rng(seed)
    lengths = np.exp(rng.normal(np.log(median_length), spread, rows)).round().astype(int).clip(3, 4000)
    return [' '.join(rng.choice(words, n)) for n in lengths]


def words_of(shape: str, model: Path):
    "Words that are one token each, or about one."
    if shape != 'minilm': return WORDS
    import transformers
    known = transformers.AutoTokenizer.from_pretrained(model).get_vocab()
    return np.array(sorted(word for word in known if word.isascii() and word.isalpha() and len(word) > 1))


@contextmanager
def beside(programs: int):
    "Within `with`, so many other programs each keep a core busy."
    spinning = [subprocess.Popen([sys.executable, '-c', 'while True: pass']) for _ in range(programs)]
    try: yield
    finally:
        for program in spinning: program.kill()


def folder_texts(data: Path, rows: int) -> list:
    "The first texts of the JSONL files under a folder."
    out = []
    for path in sorted(data.rglob('*.jsonl')):
        for line in open(path, encoding='utf-8'):
            out.append(json.loads(line)['text'])
            if len(out) == rows: return out
    return out


def layer_weights(model) -> int:
    "Weights that every token is multiplied with: all matrices but those of embeddings, pooler and head."
    return sum(w.numel() for name, w in model.named_parameters() if w.dim() == 2
               and 'embed' not in name and not name.startswith(('classifier', 'pooler', 'head')))


def needed_flops(model, lengths: list) -> float:
    """Floating-point operations that a forward pass needs without padding: 2 a weight and token, 4 · width ·
    length² a layer for attention (8 with position terms, as DeBERTa has), or length · window where a layer has one."""
    c, lengths = model.config, np.asarray(lengths, float)
    kinds = getattr(c, 'layer_types', None) or ['full_attention'] * c.num_hidden_layers
    pairs = sum((lengths * np.minimum(lengths, c.local_attention if kind == 'sliding_attention' else math.inf)).sum()
                for kind in kinds)
    attention = (8 if c.model_type == 'deberta-v2' else 4) * c.hidden_size
    return float(2 * layer_weights(model) * lengths.sum() + attention * pairs)


def peak_flops(device: str, dtype) -> float:
    "What this machine reaches in one large multiplication, operations a second: the best of ten."
    import torch
    n = 2048 if device == 'cpu' else 8192
    a, best = torch.randn(n, n, dtype=dtype, device=device), 0.
    for _ in range(12):
        if device != 'cpu': torch.cuda.synchronize()
        start = time.perf_counter()
        a @ a
        if device != 'cpu': torch.cuda.synchronize()
        best = max(best, 2 * n**3 / (time.perf_counter() - start))
    return best


def warm_up(texts: list, device: str) -> list:
    "Texts to begin with, untimed; on a GPU, which loads a kernel when it is first used, some of all lengths."
    return texts[:4 if device == 'cpu' else 128]


def peak_mb(device: str) -> float:
    "The most memory that this process has taken so far: of the GPU if it computes there, else resident."
    import torch
    if device != 'cpu': return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def load_faster(package: str, folder: str, device: str, dtype, training: bool = False):
    "The checkpoint with the attention of one of `FASTER`."
    import torch
    import transformers
    if not torch.cuda.is_available(): sys.exit(f'{package} needs a GPU')
    if package == 'flashdeberta':
        from flashdeberta import FlashDebertaV2ForSequenceClassification as Model
        return Model.from_pretrained(folder, dtype=dtype).to(device)
    import disentangled_flash
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder, dtype=dtype).to(device)
    enable = disentangled_flash.optimize_deberta_training if training else disentangled_flash.optimize_deberta
    enable((model if training else model.eval()).deberta)
    replaced = any(type(part).__module__.startswith('disentangled_flash') for part in model.modules())
    if not replaced: sys.exit(f'{package} left this model as it was')
    return model


def run_child(command: list, seconds: float) -> dict:
    "The JSON object that a program prints last, or `failed`: why there is none."
    env = dict(os.environ, HF_HUB_OFFLINE='1', TRANSFORMERS_VERBOSITY='error', WANDB_MODE='disabled')
    if seconds <= 0: return dict(failed='not run: no time was left')
    limit = None if seconds == math.inf else seconds
    try: done = subprocess.run([sys.executable, *command], capture_output=True, text=True, env=env, timeout=limit)
    except subprocess.TimeoutExpired: return dict(failed=f'stopped after {seconds:.0f} s')
    if done.returncode == 0: return json.loads(done.stdout.splitlines()[-1])
    print(done.stderr[-3000:], file=sys.stderr)
    reason = (done.stderr.strip() or f'exit code {done.returncode}').splitlines()[-1]
    return dict(failed=f'failed: {reason[:300]}'.replace('|', '/'))


def in_turns(run, names: list, rounds: int, seconds: float) -> dict:
    """Name → what `run(name, seconds that are left)` gave in each round. One that failed is not run again, the first
    one has to succeed, and no round begins that would not end in time."""
    start, found = time.monotonic(), {name: [] for name in names}
    for number in range(rounds):
        spent = time.monotonic() - start
        if number and spent + spent / number > seconds: break
        for name in names:
            if any('failed' in figures for figures in found[name]): continue
            found[name].append(run(name, seconds - (time.monotonic() - start)))
            if not whole(found[names[0]]): sys.exit(f'{name} {found[name][-1]["failed"]}')
    return found


def whole(runs: list) -> list:
    "The runs that did not fail."
    return [figures for figures in runs if 'failed' not in figures]


def times_faster(ours: list, theirs: list) -> str:
    "How many times as fast the first runs were as the others, which took turns with them: median and range."
    ratios = [b['seconds'] / a['seconds'] for a, b in zip(whole(ours), whole(theirs))]
    return f'{statistics.median(ratios):.2f} times ({min(ratios):.2f} to {max(ratios):.2f})'


def median(runs: list, name: str) -> float:
    "Of a figure of the runs that did not fail."
    return statistics.median(figures[name] for figures in whole(runs))
