"""Every kind of base model is fine-tuned, in this process."""
import os
from pathlib import Path

import pytest
from commands import FIGURES
from corpora import DEBERTA, DECODER, ROBERTA, csv_bytes, documents, put, tiny_bert, tokenizer

from libdocs.evaluation.record import SplitRows

DOCS = documents(60)
TEXTS = [r['text'] for r in DOCS]
STORIES = Path(os.environ.get('LIBDOCS_STORIES260K') or Path(__file__).parents[2]/'shared'/'weights'/'stories260K')


@pytest.fixture(scope='module')
def task(tmp_path_factory):
    "Dataset folders with two and with three labels."
    root = tmp_path_factory.mktemp('task')
    for n in (2, 3):
        rows = [r for r in DOCS if r['label'] in ('contract', 'invoice', 'minutes')[:n]]
        put(root, {f'{n}/train.csv': csv_bytes(rows[:-12]), f'{n}/test.csv': csv_bytes(rows[-12:])})
    return root


@pytest.fixture
def tune(task, tmp_path, one_thread):
    "Fine-tune a base model for an epoch: (result, DebertaZeroShot of what came of it)."
    from libdocs.classifiers.deberta import DebertaZeroShot
    from libdocs.finetune.finetune import finetune
    def run(base, labels=3, **options):
        result = finetune(str(task/str(labels)), str(tmp_path/'tuned'), base_model=str(base), epochs=1,
                          train_batch_size=16, device='cpu', track_output=tmp_path/'wb', **options)
        assert result.schema.labels == ('contract', 'invoice', 'minutes')[:labels]
        assert all(0 <= getattr(result.metrics, k) <= 1 for k in FIGURES)
        return result, DebertaZeroShot(str(tmp_path/'tuned'), device='cpu')
    return run


def weights(folder):
    from safetensors.torch import load_file
    return load_file(Path(folder)/'model.safetensors')


def check_tuned(model, labels=3):
    "It scores its own labels, in float32, and a text's scores do not depend on what it is classified with."
    import torch
    assert not model.is_nli
    assert model.labels == ('contract', 'invoice', 'minutes')[:labels]
    assert {w.dtype for w in weights(model.folder).values()} == {torch.float32}
    texts = [TEXTS[0], TEXTS[1] * 5, 'invoice1', TEXTS[2] * 2]
    together, alone = model.classify(texts), [model.classify(t)[0] for t in texts]
    for a, b in zip(together, alone):
        assert dict(a) == pytest.approx(dict(b), abs=1e-4)


def encoder(kind, folder):
    "A one-layer encoder without a head."
    import transformers as t
    roberta = kind == 'roberta'
    tok = tokenizer(TEXTS, ROBERTA) if roberta else tokenizer(TEXTS)
    tok.model_max_length = 64
    size = dict(vocab_size=len(tok), hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
                intermediate_size=32, pad_token_id=tok.pad_token_id)
    config = {'bert': lambda: t.BertConfig(**size),
              'roberta': lambda: t.RobertaConfig(**size, max_position_embeddings=66, bos_token_id=0, eos_token_id=2),
              'deberta-v2': lambda: t.DebertaV2Config(
                  **size, **DEBERTA, position_buckets=16, max_position_embeddings=64),
              'modernbert': lambda: t.ModernBertConfig(
                  **size, max_position_embeddings=64, cls_token_id=tok.cls_token_id,
                  sep_token_id=tok.sep_token_id, bos_token_id=tok.cls_token_id,
                  eos_token_id=tok.sep_token_id)}[kind]()
    t.set_seed(0)
    t.AutoModel.from_config(config).save_pretrained(folder)
    tok.save_pretrained(folder)
    return folder


@pytest.mark.parametrize('kind', ['bert', 'roberta', 'deberta-v2', 'modernbert'])
def test_plain_encoders(tune, tmp_path, kind):
    "Also with texts that are longer than the model can take."
    result, model = tune(encoder(kind, tmp_path/'base'))
    check_tuned(model)
    assert len(model.classify('invoice1 ' * 500)[0]) == 3
    assert result.record.max_length == 64


@pytest.mark.parametrize('kind', ['gpt2', 'llama'])
def test_decoders_without_a_pad_token(tune, tmp_path, kind):
    "They are given one, and learn."
    import transformers as t
    tok = tokenizer(TEXTS, DECODER)
    ids = dict(vocab_size=len(tok), bos_token_id=1, eos_token_id=2)
    config = t.GPT2Config(**ids, n_embd=32, n_layer=1, n_head=2, n_positions=64) if kind == 'gpt2' else t.LlamaConfig(
        **ids, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1,
        intermediate_size=32, max_position_embeddings=64)
    t.set_seed(0)
    t.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path/'base')
    tok.save_pretrained(tmp_path/'base')
    assert t.AutoTokenizer.from_pretrained(tmp_path/'base').pad_token is None
    _, model = tune(tmp_path/'base')
    check_tuned(model)
    assert model.model.config.pad_token_id == model.tokenizer.pad_token_id is not None


@pytest.mark.skipif(not (STORIES/'config.json').is_file(),
                    reason='the trained 260K-parameter Llama is not here (LIBDOCS_STORIES260K names its folder)')
def test_a_trained_decoder(tune):
    "A real, tiny, pre-trained one is fine-tuned as any other."
    _, model = tune(STORIES)
    check_tuned(model)


@pytest.mark.parametrize('names', [('entailment', 'not_entailment'), ('entailment', 'neutral', 'contradiction'),
                                   ('contract', 'invoice', 'minutes'), ('ham', 'spam', 'eggs', 'news')],
                         ids=['NLI of two', 'NLI of three', 'the same labels', 'other labels'])
def test_head_of_a_classifier_is_not_reused(tune, tmp_path, names):
    """With a learning rate of nearly nothing, the encoder stays what it was and the head is another, also
    where it would have fitted."""
    import torch
    n = min(len(names), 3)
    base = weights(tiny_bert(tmp_path/'base', TEXTS, labels=names))
    _, model = tune(tmp_path/'base', labels=n, learning_rate=1e-12)
    check_tuned(model, n)
    tuned = weights(model.folder)
    for name, tensor in base.items():
        if name.startswith('bert.'): assert torch.allclose(tensor, tuned[name], atol=1e-6), name
    assert tuned['classifier.weight'].shape[0] == n
    if len(names) == n:
        assert not torch.allclose(base['classifier.weight'], tuned['classifier.weight'], atol=1e-3)


@pytest.mark.parametrize('dtype', ['float16', 'bfloat16'])
def test_half_precision_is_trained_in_float32(tune, tmp_path, dtype):
    "Steps that are too small for half precision are kept."
    import torch
    half = getattr(torch, dtype)
    base = weights(tiny_bert(tmp_path/'base', TEXTS, labels=['a', 'b', 'c'], dtype=half))
    assert {w.dtype for w in base.values()} == {half}
    _, model = tune(tmp_path/'base', learning_rate=1e-5)
    check_tuned(model)
    name = 'bert.encoder.layer.0.output.dense.weight'
    after = weights(model.folder)[name]
    assert 0 < (after - base[name].float()).abs().max() < 1e-3
    assert (after != after.to(half).float()).any()


def test_downsample(tune, tmp_path):
    "A seeded, stratified share of both splits."
    result, _ = tune(tiny_bert(tmp_path/'base', TEXTS), downsample=0.5)
    assert result.record.rows == SplitRows(train=24, test=6)
    assert result.record.train_labels == {'contract': 8, 'invoice': 8, 'minutes': 8}
