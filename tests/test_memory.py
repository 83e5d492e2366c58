"""Memory that runs out at any operation of an evaluation or of a training step: batches become smaller and the result is what it would have been, or the text that
does not fit is named. With SOAK in the environment every operation of each model is tried, else a sixth of them."""
import copy, os, random
from types import SimpleNamespace

import numpy as np
import pytest
from corpora import documents, tokenizer
from shortage import ERRORS, Shortage, at, beyond

from libdocs.classifiers.attention import speed_up
from libdocs.classifiers.forward import Forward, TooLarge, is_out_of_memory, naming
from libdocs.finetune.trainer import _Step, as_rows, classifier_trainer, collate, loss_function
from libdocs.records import InputError

DRAW = random.Random(0)
TEXTS = [' '.join([row['text']] * DRAW.randint(1, 4)) for row in documents(12)]
SIZES = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24, max_position_embeddings=64, num_labels=3)
DROPOUT = dict(hidden_dropout_prob=.2, attention_probs_dropout_prob=.2, pooler_dropout=.2)


def some(numbers):
    "Those of the numbers that are tried: a sixth of them, at places drawn once and for all, or with SOAK all."
    numbers = list(numbers)
    return numbers if 'SOAK' in os.environ else sorted(random.Random(len(numbers)).sample(numbers, -(-len(numbers) // 6)))


@pytest.fixture(scope='module')
def words(): return tokenizer(TEXTS)


def classifier(kind, words):
    "A classifier with random weights and one embedding: DeBERTa, which computes by libdocs' own kernels, and ModernBERT, which does not."
    import transformers
    transformers.set_seed(0)
    size = dict(vocab_size=len(words), pad_token_id=words.pad_token_id) | SIZES
    if kind == 'deberta':
        places = dict(relative_attention=True, position_buckets=8, pos_att_type=['p2c', 'c2p'], share_att_key=True, norm_rel_ebd='layer_norm', position_biased_input=False, type_vocab_size=0)
        return speed_up(transformers.DebertaV2ForSequenceClassification(transformers.DebertaV2Config(**size, **places, **DROPOUT, pooler_hidden_size=16)))
    tokens = dict(cls_token_id=words.cls_token_id, sep_token_id=words.sep_token_id, bos_token_id=words.cls_token_id, eos_token_id=words.sep_token_id)
    return transformers.ModernBertForSequenceClassification(transformers.ModernBertConfig(**size, **tokens, attn_implementation='sdpa', mlp_dropout=.2, classifier_dropout=.2))


def undisturbed(run, monkeypatch):
    "(what was counted when nothing fails, what came of it); the second time, when all is in place that is kept."
    run(Shortage(), monkeypatch)
    whole = Shortage()
    return whole, run(whole, monkeypatch)


KINDS = ('deberta', 'modernbert')


# Evaluation

@pytest.fixture(params=[(kind, dtype) for kind in KINDS for dtype in ('float32', 'bfloat16')], ids='-'.join)
def evaluation(request, words):
    "A classifier at work: `scores` are its logits when nothing fails, `count` the operations that they take; `run` evaluates with a `Shortage`."
    kind, dtype = request.param
    model, inputs = classifier(kind, words), words(TEXTS)['input_ids']
    def run(short, monkeypatch):
        forward = Forward(copy.deepcopy(model), words.pad_token_id, dtype=dtype)
        forward.tokens = 120
        with monkeypatch.context() as patch:
            patch.setattr(Forward, '_logits', short.during(Forward._logits))
            return forward(inputs)
    with pytest.MonkeyPatch.context() as patch: whole, scores = undisturbed(run, patch)
    return SimpleNamespace(run=run, scores=scores, count=whole.count, batches=whole.batches, close=1e-5 if dtype == 'float32' else .02, inputs=inputs)


def test_evaluation_with_any_operation_failing(evaluation, monkeypatch, caplog):
    assert len(evaluation.batches) > 2 and evaluation.count > 100
    for n in some(range(1, evaluation.count + 1)):
        caplog.clear()
        short = Shortage(at(n), ERRORS[n % len(ERRORS):])
        np.testing.assert_allclose(evaluation.run(short, monkeypatch), evaluation.scores, atol=evaluation.close, err_msg=f'operation {n}')
        assert short.failed == 1 and len(short.batches) > len(evaluation.batches) and 'the memory of cpu ran out; batches have at most' in caplog.text, n


def test_evaluation_with_room_for_few_tokens(evaluation, monkeypatch, caplog):
    "Each batch of more than 50 tokens fails, wherever in it: those that succeed are as small as they must be, and soon none fails."
    longest = max(map(len, evaluation.inputs))
    for step in some(range(1, evaluation.count // len(evaluation.batches) - 2)):
        short = Shortage(beyond(max(50, longest), step))
        np.testing.assert_allclose(evaluation.run(short, monkeypatch), evaluation.scores, atol=evaluation.close, err_msg=f'operation {step} of a batch')
        assert 0 < short.failed <= 3, step


def test_evaluation_on_two_cores(evaluation, monkeypatch):
    "What fails while another thread computes."
    import torch
    monkeypatch.setattr(torch, 'get_num_threads', lambda: 2)
    monkeypatch.setattr(torch, 'set_num_threads', lambda threads: None)
    for n in some(range(1, evaluation.count + 1))[::4]:
        np.testing.assert_allclose(evaluation.run(Shortage(at(n)), monkeypatch), evaluation.scores, atol=evaluation.close, err_msg=f'operation {n}')


def test_evaluation_names_the_text_that_does_not_fit(evaluation, monkeypatch, words):
    for step in some(range(1, evaluation.count // len(evaluation.batches) - 2)):
        short = Shortage(beyond(30, step))
        with pytest.raises(InputError, match=r"^a text of \d+ tokens does not fit into the memory of cpu: use a smaller --max-length or a smaller model\. It begins: '\w+\d"), naming(words): evaluation.run(short, monkeypatch)


@pytest.mark.parametrize('error', [RuntimeError('The size of tensor a (3) must match the size of tensor b (4)'), ValueError('no'), KeyboardInterrupt()], ids=repr)
def test_evaluation_lets_other_errors_pass(evaluation, monkeypatch, error):
    with pytest.raises(type(error)) as caught: evaluation.run(Shortage(at(evaluation.count // 2), [error]), monkeypatch)
    assert caught.value is error


# A step of training

@pytest.fixture(params=KINDS)
def training(request, words, tmp_path):
    "A trainer: `run` takes a step with a `Shortage` and gives its loss and gradients; `slopes` are those when nothing fails, `count` the operations that they take."
    import transformers
    inputs = words(TEXTS)['input_ids']
    rows = as_rows([[ids] for ids in inputs], [i % 3 for i in range(len(inputs))])
    args = transformers.TrainingArguments(output_dir=str(tmp_path), max_steps=2, per_device_train_batch_size=len(rows), save_strategy='no', report_to=[], disable_tqdm=True, remove_unused_columns=False, use_cpu=True, learning_rate=.01)
    def make():
        trainer = classifier_trainer(loss_function('loss', [4, 5, 3]), 'mean', words.pad_token_id, 120, model=classifier(request.param, words), args=args, train_dataset=rows, data_collator=collate)
        trainer.remove_callback(transformers.PrinterCallback)
        return trainer
    def run(short, monkeypatch):
        trainer = make()
        with monkeypatch.context() as patch:
            patch.setattr(_Step, '_step', short.during(_Step._step))
            loss = trainer.training_step(trainer.model, collate([rows[i] for i in range(len(rows))]))
        return np.concatenate([[loss.item()], *(p.grad.flatten().numpy() for p in trainer.model.parameters() if p.grad is not None)])
    with pytest.MonkeyPatch.context() as patch: whole, slopes = undisturbed(run, patch)
    return SimpleNamespace(run=run, slopes=slopes, count=whole.count, batches=whole.batches, make=make)


def test_training_step_with_any_operation_failing(training, monkeypatch, caplog):
    assert len(training.batches) > 2 and training.count > 100
    for n in some(range(1, training.count + 1)):
        caplog.clear()
        short = Shortage(at(n), ERRORS[n % len(ERRORS):])
        np.testing.assert_allclose(training.run(short, monkeypatch), training.slopes, atol=1e-5, err_msg=f'operation {n}')
        assert short.failed == 1 and 'the memory of cpu ran out: a step is now taken in parts of at most' in caplog.text, n
