"""Both commands with repos on a Hub: what is pushed, fetched, and named."""
import json, re
from types import SimpleNamespace

from commands import HARD, check_card, clean, slow, train
from corpora import environment, read_jsonl, snapshot, succeeds
from loopback_hub import LoopbackHub
from warm import run

from libdocs.classifiers.deberta import pick_device
from libdocs.core.versions import versions

@slow
def published(root, jobs):
    "Both commands with a token, and what a plain client reads with it; `asked` has the requests of the second command."
    hub = LoopbackHub()
    token = hub.add_user('alice')
    env = hub.env(token, root/'home'/'hf')
    cleaned = clean(root, '--target-hf-dataset', 'alice/letters', env=env)
    plain = ("import datasets, json, sys; print(json.dumps({name: split.to_list() for name, split in "
             "datasets.load_dataset('alice/letters').items()}))")
    read = run(plain, ['-c'], root, environment(root/'reader', **hub.env(token, root/'reader'/'hf')))
    after_cleaning = len(hub.requests)
    trained = train(root, None, '--input-hf-dataset', 'alice/letters', '--hf-model-name', 'alice/classifier', env=env)
    hub.close()
    return SimpleNamespace(folder=root/'work', hub=hub, cleaned=cleaned.done, read=read,
                           trained=trained.done, asked=hub.requests[after_cleaning:])


def test_hub_dataset(published, prepared):
    "Private, one commit, the same files as in a folder but for the names in the card."
    succeeds(published.cleaned)
    hub = published.hub
    assert hub.repo('alice/letters', 'dataset').private
    assert len(hub.commits('alice/letters', 'dataset')) == 1
    assert hub.files('alice/letters', 'dataset').keys() == {'train.csv', 'test.csv',
                                                            'label_frequencies.json', 'README.md'}
    for name in ('train.csv', 'test.csv'):
        assert hub.files('alice/letters', 'dataset')[name] == (prepared.folder/'ds'/name).read_bytes()
    assert f'published {hub.url}/datasets/alice/letters' in published.cleaned.stdout
    assert not (published.folder/'ds').exists()


def test_hub_dataset_reads_back(published):
    "Plain `datasets.load_dataset` gives every string back as it was, and only strings."
    assert published.read.returncode == 0, published.read.stderr
    splits = json.loads(published.read.stdout)
    for name in ('train', 'test'):
        rows = read_jsonl(published.folder/'out'/f'letters_{name}.jsonl')
        assert splits[name] == [{k: str(v) for k, v in r.items()} for r in rows]
    texts = {r['text'] for split in splits.values() for r in split}
    assert set(HARD) <= texts
    assert {r['label'] for r in splits['train']} == {'001', 'None', 'contract', 'invoice'}


def test_hub_model(published):
    "Private, with the figures in a second commit, and the same files here."
    succeeds(published.trained)
    hub, metrics = published.hub, json.loads((published.folder/'res'/'metrics.json').read_text())
    assert hub.repo('alice/classifier').private
    files = hub.files('alice/classifier')
    assert {'config.json', 'model.safetensors', 'tokenizer.json', 'labels.json', 'README.md',
            'metrics.json', 'report.html'} <= files.keys()
    check_card(files['README.md'].decode(), metrics)
    assert json.loads(files['metrics.json']) == metrics
    assert files['report.html'] == (published.folder/'res'/'report.html').read_bytes()
    assert snapshot(published.folder/'models'/'alice'/'classifier') == files, 'what was pushed is also here'
    assert len(hub.commits('alice/classifier')) == 2


def test_hub_evaluates_what_was_pushed(published):
    """The weights are fetched from the Hub after they were pushed and before the second commit, which brings
    the figures."""
    asked = [(method, path) for method, path, status in published.asked if status < 400]
    pushes = [i for i, (method, path) in enumerate(asked) if method == 'POST'
              and path == '/api/models/alice/classifier/commit/main']
    fetched = [i for i, (method, path) in enumerate(asked) if method == 'GET' and re.search('^/lfs/', path)]
    assert len(pushes) == 2
    assert fetched
    assert pushes[0] < fetched[0] < pushes[1]


def test_hub_gives_the_same_figures(published, trained):
    """Whether repos are folders or on a Hub is nothing to the result, but for the names and commits of what
    was evaluated."""
    def metrics(run): return json.loads((run.folder/'res'/'metrics.json').read_text())
    assert metrics(published) | dict(evaluated=None) == metrics(trained) | dict(evaluated=None)
    assert (published.folder/'res'/'results.jsonl').read_bytes() == (trained.folder/'res'/'results.jsonl').read_bytes()


def test_commits_are_named(published):
    """Figures and record name the commits of the dataset and of the model that was evaluated, which is the one
    that was published."""
    hub, metrics = published.hub, json.loads((published.folder/'res'/'metrics.json').read_text())
    first, (data,) = hub.repo('alice/classifier').commits[1], hub.repo('alice/letters', 'dataset').commits[1:]
    assert metrics['evaluated'].pop('dtype') in ('float32', 'bfloat16')  # as the processor likes
    assert metrics['evaluated'] == dict(model='alice/classifier', model_revision=first.oid, dataset='alice/letters',
                                        dataset_revision=data.oid, device=pick_device(), versions=versions())
    assert json.loads(hub.files('alice/classifier')['training.json'])['dataset_revision'] == data.oid
    assert data.oid in hub.files('alice/classifier')['README.md'].decode()
    assert data.oid in (published.folder/'res'/'report.html').read_text()
