"""Memory that runs out at any operation of an evaluation or of a training step: batches become
smaller and the result is what it would have been, or the text that does not fit is named. In
float32 every operation of DeBERTa's evaluation and step is tried, elsewhere some, or with SOAK in
the environment all."""
import copy, logging, os, random
from types import SimpleNamespace

import numpy as np
import pytest
from corpora import DEBERTA, documents, tokenizer
from shortage import ERRORS, Shortage, at, beyond

from libdocs.classifiers.attention import speed_up
from libdocs.core.memory import is_out_of_memory
from libdocs.classifiers.forward import Forward, naming
from libdocs.finetune.losses import loss_function
from libdocs.finetune.batches import as_rows, collate, Drawn
from libdocs.finetune.trainer import ClassifierTrainer
from libdocs.core.errors import InputError

TEXTS = [' '.join([row['text']] * times) for row, times in zip(documents(7), (4, 1, 2, 3, 1, 2, 4))]
SIZES = dict(hidden_size=16, num_attention_heads=2, intermediate_size=24, max_position_embeddings=64, num_labels=3)
DROPOUT = dict(hidden_dropout_prob=.2, attention_probs_dropout_prob=.2, pooler_dropout=.2)


def some(numbers, most):
    "Those of the numbers that are tried: with SOAK all, else `most` of them, drawn, but the same ones every time."
    if 'SOAK' in os.environ or len(numbers) <= most: return numbers
    return sorted(random.Random(len(numbers)).sample(numbers, most))


def each(count): return range(1, count + 1)


@pytest.fixture(autouse=True)
def heard(caplog): caplog.set_level(logging.INFO, 'libdocs')


@pytest.fixture(scope='module')
def words(): return tokenizer(TEXTS)


def classifier(kind, words, layers=1):
    "A classifier with random weights and one embedding: DeBERTa with libdocs' kernels, or ModernBERT without."
    import transformers as t
    t.set_seed(0)
    size = dict(vocab_size=len(words), pad_token_id=words.pad_token_id, num_hidden_layers=layers) | SIZES
    if kind == 'deberta':
        places = DEBERTA | dict(position_buckets=8, pooler_hidden_size=16)
        return speed_up(t.DebertaV2ForSequenceClassification(t.DebertaV2Config(**size, **places, **DROPOUT)))
    first, last = words.cls_token_id, words.sep_token_id
    size |= dict(cls_token_id=first, sep_token_id=last, bos_token_id=first, eos_token_id=last,
                 attn_implementation='sdpa')
    return t.ModernBertForSequenceClassification(t.ModernBertConfig(**size, mlp_dropout=.2, classifier_dropout=.2))


def undisturbed(run):
    """(What is counted when nothing fails, what comes of it, how many operations the longest text takes
    alone); the second time, when all is in place that is kept."""
    run(Shortage())
    whole, alone = Shortage(), Shortage()
    run(alone, room=1)
    return whole, run(whole), min(step for tokens, step in alone.batches if tokens == LONGEST)


ROOM = 120  # tokens of a batch, or of a part of a step
LONGEST = max(len(text.split()) for text in TEXTS) + 2  # tokens of a text, with those around it
NAMED = rf"^a text of {LONGEST} tokens does not fit into the memory of cpu: use a smaller .*\. It begins: '\w+\d"
KINDS = ('deberta', 'modernbert')


# Evaluation

@pytest.fixture(params=[(kind, dtype) for kind in KINDS for dtype in ('float32', 'bfloat16')], ids='-'.join)
def evaluation(request, words):
    """A classifier at work: `run` evaluates with a `Shortage`, `same` checks that the logits are those of the work
    undisturbed, which took the operations that are counted in `whole`."""
    kind, dtype = request.param
    model, inputs = classifier(kind, words, layers=2), words(TEXTS)['input_ids']
    close, most = 1e-5 if dtype == 'float32' else .02, 10**6 if request.param == ('deberta', 'float32') else 40
    def run(short, room=ROOM):
        forward = Forward(copy.deepcopy(model), words.pad_token_id, dtype=dtype)
        forward.tokens = room
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Forward, 'batch_logits', short.during(Forward.batch_logits))
            return forward(inputs)
    whole, scores, steps = undisturbed(run)
    assert len(whole.batches) > 3
    assert whole.count > 100
    def same(answers, place):
        np.testing.assert_allclose(answers, scores, atol=close, err_msg=f'operation {place}')
    return SimpleNamespace(run=run, same=same, whole=whole, steps=steps, most=most)


def test_evaluation_with_any_operation_failing(evaluation, caplog, record_property):
    "Memory that runs out at any operation changes no answer."
    tried = some(each(evaluation.whole.count), evaluation.most)
    record_property('faults', len(tried))
    for n in tried:
        caplog.clear()
        short = Shortage(at(n), ERRORS[n % len(ERRORS):])
        evaluation.same(evaluation.run(short), n)
        assert short.failed == 1, n
        assert len(short.batches) > len(evaluation.whole.batches), n
        assert caplog.text.count('the memory of cpu ran out; batches have at most') == 1, n


def test_evaluation_with_room_for_one_text(evaluation):
    "Wherever in a batch it is that memory does not suffice: smaller ones do, and soon none is as large again."
    for step in some(each(evaluation.steps), 20):
        short = Shortage(beyond(LONGEST, step))
        evaluation.same(evaluation.run(short), step)
        too_large = [tokens for tokens, _ in short.batches if tokens > LONGEST]
        assert 1 <= short.failed <= 3, step
        assert len(too_large) == short.failed, step


def test_evaluation_on_two_cores(evaluation, monkeypatch):
    "What fails in one thread while another computes."
    import torch
    monkeypatch.setattr(torch, 'get_num_threads', lambda: 2)
    monkeypatch.setattr(torch, 'set_num_threads', lambda threads: None)
    for n in some(each(evaluation.whole.count), 20): evaluation.same(evaluation.run(Shortage(at(n))), n)


def test_evaluation_names_the_text_that_does_not_fit(evaluation, words):
    "If one text alone does not fit, the error names it."
    for step in some(each(evaluation.steps), 20):
        with pytest.raises(InputError, match=NAMED), naming(words):
            evaluation.run(Shortage(beyond(LONGEST - 1, step)))


OTHERS = pytest.mark.parametrize('error', [RuntimeError('tensor sizes must match'),
                                           ValueError('no'), KeyboardInterrupt()], ids=repr)


@OTHERS
def test_evaluation_lets_other_errors_pass(evaluation, error):
    "Only a lack of memory is caught; other errors come through as they are."
    short = Shortage(at(evaluation.whole.count // 2), [error])
    with pytest.raises(type(error)) as caught: evaluation.run(short)
    assert caught.value is error
    assert short.failed == 1


# A step of training

class Training:
    "A trainer, and a step of it: `whole` counts the operations of one that is not disturbed."
    def __init__(self, kind, words, folder, room=ROOM):
        inputs = words(TEXTS)['input_ids']
        self.kind, self.words, self.folder, self.room = kind, words, folder, room
        self.rows = as_rows([[ids] for ids in inputs], [i % 3 for i in range(len(inputs))])
        self.begin()
        self.whole, self.numbers, self.steps = undisturbed(self.step)

    def begin(self):
        "A new trainer."
        import transformers
        args = transformers.TrainingArguments(
            output_dir=str(self.folder), max_steps=2, per_device_train_batch_size=len(self.rows), save_strategy='no',
            report_to=[], disable_tqdm=True, remove_unused_columns=False, use_cpu=True, learning_rate=.01,
            adam_epsilon=.001)  # with less, rounding would be made large where there is hardly a gradient
        loss, model = loss_function('loss', [4, 5, 3]), classifier(self.kind, self.words)
        self.trainer = ClassifierTrainer(loss, 'mean', self.words.pad_token_id, self.room, args=args, model=model,
                                       train_dataset=Drawn(self.rows), data_collator=collate)
        self.trainer.remove_callback(transformers.PrinterCallback)
        return self.trainer

    def step(self, short, room=None):
        "Loss and gradients of a step in which operations fail as `short` says."
        trainer = self.begin() if self.trainer.args.gradient_checkpointing else self.trainer
        trainer.tokens = room or self.room
        trainer.model.zero_grad()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(trainer, 'step_in_parts', short.during(trainer.step_in_parts))
            loss = trainer.training_step(trainer.model, collate([self.rows[i] for i in range(len(self.rows))]))
        return np.concatenate([[loss.item()], *(p.grad.flatten().numpy() for p in trainer.model.parameters())])

    def same(self, numbers, place):
        np.testing.assert_allclose(numbers, self.numbers, atol=1e-5, err_msg=f'operation {place}')


@pytest.fixture(params=KINDS, scope='module')
def training(request, words, tmp_path_factory):
    return Training(request.param, words, tmp_path_factory.mktemp('training'))


def test_step_with_any_operation_failing(training, caplog, record_property):
    "Memory that runs out at any operation of a step changes no gradient."
    assert len(training.whole.batches) > 3
    assert training.whole.count > 300
    tried = some(each(training.whole.count), 10**6 if training.kind == 'deberta' else 40)
    record_property('faults', len(tried))
    for n in tried:
        caplog.clear()
        short = Shortage(at(n), ERRORS[n % len(ERRORS):])
        training.same(training.step(short), n)
        assert short.failed == 1, n
        assert training.trainer.tokens <= ROOM // 2, n
        assert caplog.text.count('the memory of cpu ran out: a step is now taken in parts of at most') == 1, n


def test_step_with_room_for_one_text(training):
    "However much was allowed: after as many tries as it takes to halve what a part really had."
    for step in some(each(training.steps), 20):
        short = Shortage(beyond(LONGEST, step))
        training.same(training.step(short), step)
        assert 1 <= short.failed <= 3, step
        assert short.tokens <= LONGEST, step


def test_step_with_more_allowed_than_there_is(words, tmp_path, caplog):
    "What is halved are the parts, not what they are allowed to have: no try is lost."
    training = Training('deberta', words, tmp_path, room=1 << 20)
    assert len([tokens for tokens, _ in training.whole.batches if tokens]) == 1
    short = Shortage(beyond(training.whole.tokens // 2, 1))
    training.same(training.step(short), 1)
    assert short.failed == caplog.text.count('the memory of cpu ran out') == 1


def test_step_that_computes_twice(training, caplog):
    "A part that is one text is too much with all that layers keep for the way back, and is not when they keep nothing."
    for step in some(each(training.steps), 8):
        caplog.clear()
        fails = beyond(LONGEST - 1, step)
        short = Shortage(lambda short: not training.trainer.args.gradient_checkpointing and fails(short))
        training.same(training.step(short), step)
        assert training.trainer.args.gradient_checkpointing, step
        assert short.failed <= 5, step
        assert 'layers recompute their activations on the way back' in caplog.text, step


def test_step_names_the_text_that_does_not_fit(training, words):
    "If one text alone does not fit, the error names it."
    for step in some(each(training.steps), 8):
        with pytest.raises(InputError, match=NAMED), naming(words):
            training.step(Shortage(beyond(LONGEST - 1, step)))


@OTHERS
def test_step_lets_other_errors_pass(training, error):
    "Only a lack of memory is caught; other errors come through as they are."
    for n in some(each(training.whole.count), 5):
        short = Shortage(at(n), [error])
        with pytest.raises(type(error)) as caught: training.step(short)
        assert caught.value is error
        assert short.failed == 1


# An evaluation while training

def validation(training, short):
    "The logits of the rows, in the trainer, where operations fail as `short` says."
    trainer = training.begin()
    trainer.prediction_step = short.during(trainer.prediction_step)
    return trainer.predict(as_rows(training.rows['inputs'], training.rows['labels'])).predictions


def test_validation_with_any_operation_failing(training):
    "Memory that runs out at any operation of a batch changes no figure."
    whole = Shortage()
    expected = validation(training, whole)
    # of a batch: what is outside of its parts (the loss, the order of the rows) has nothing that could be made smaller
    within = [n for n in each(whole.batches[0][1] + 2 * whole.steps) if n > whole.batches[0][1]]
    for n in some(within, 20):
        figures = validation(training, Shortage(at(n)))
        np.testing.assert_allclose(figures, expected, atol=1e-5, err_msg=f'operation {n}')


def test_validation_names_the_text_that_does_not_fit(training, words):
    "If one text alone does not fit, the error names it."
    with pytest.raises(InputError, match=NAMED), naming(words):
        validation(training, Shortage(beyond(LONGEST - 1, 1)))


# A complete training

def trained(training, short):
    """(The weights after two steps in which operations fail as `short` says, the numbers of the operations
    that belong to a step's forward and backward)."""
    trainer, inside = training.begin(), set()
    usual = trainer.training_step
    def step(*args):
        before = short.count
        try: return usual(*args)
        finally: inside.update(range(before + 1, short.count + 1))
    trainer.training_step = step
    short.during(trainer.train)()
    return torch_weights(trainer.model), inside


def torch_weights(model):
    return np.concatenate([w.detach().flatten().numpy() for w in model.parameters()])


def test_training_with_any_operation_failing(training):
    """In a step: the weights in the end are those of a training undisturbed. Outside, where nothing can be
    made smaller: the error is that memory ran out, and nothing else."""
    whole = Shortage()
    weights, inside = trained(training, whole)
    outside = sorted({*each(whole.count)} - inside)
    assert len(inside) > 300
    assert len(outside) > 20
    for n in some(sorted(inside), 8):
        changed, _ = trained(training, Shortage(at(n)))
        np.testing.assert_allclose(changed, weights, atol=1e-5, err_msg=f'operation {n}')
    for n in some(outside, 8):
        with pytest.raises((MemoryError, RuntimeError)) as caught: trained(training, Shortage(at(n)))
        assert is_out_of_memory(caught.value), caught.value
