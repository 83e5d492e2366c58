"""Models of the real shapes with random weights, and a corpus of mixed lengths: imported by
classify.py and train.py, not run."""
import json
from pathlib import Path

import numpy as np

LABELS = [f'label {i}' for i in range(10)]
WORDS = np.array([f'{a}{b}{c}' for a in 'bdfgklmnprst' for b in 'aeiou' for c in ('n', 'ra', 'sti', 'lo', 'm')])
_DEBERTA = dict(relative_attention=True, position_buckets=256, norm_rel_ebd='layer_norm',
                share_att_key=True, pos_att_type=['p2c', 'c2p'], max_relative_positions=-1,
                position_biased_input=False, type_vocab_size=0, max_position_embeddings=512, vocab_size=128100)
SHAPES = {  # width, layers, heads, inner width
    'xsmall': ('deberta', 384, 12, 6, 1536), 'small': ('deberta', 768, 6, 12, 3072),
    'base': ('deberta', 768, 12, 12, 3072), 'modernbert': ('modernbert', 768, 22, 12, 1152)}


def make_model(shape: str, folder: Path, names: list, texts: list) -> Path:
    """A checkpoint of the shape (DeBERTa-v3-xsmall, -small, -base, ModernBERT-base) with seeded random weights
    and a tokenizer made from `texts`; made once."""
    import torch
    import transformers
    from libdocs.finetune.base import scratch_tokenizer
    if (folder/'config.json').exists(): return folder
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


def mixed(rows: int, long: bool = False, seed: int = 0) -> list:
    "Texts of made-up words: lognormal lengths, median 90, a tenth over 512; or all of them longer than 512 (`long`)."
    rng = np.random.default_rng(seed)
    lengths = np.full(rows, 600) if long else np.exp(
        rng.normal(np.log(90), np.log(512 / 90) / 1.2816, rows)).astype(int).clip(3, 4000)
    return [' '.join(rng.choice(WORDS, n)) for n in lengths]


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
    length² a layer for attention (8 with position terms, as DeBERTa has)."""
    c, lengths = model.config, np.asarray(lengths, float)
    attention = (8 if c.model_type == 'deberta-v2' else 4) * c.hidden_size * c.num_hidden_layers
    return float(2 * layer_weights(model) * lengths.sum() + attention * (lengths**2).sum())


def peak_flops(device: str, dtype) -> float:
    "What this machine reaches in one large multiplication, operations a second: the best of ten."
    import time
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
