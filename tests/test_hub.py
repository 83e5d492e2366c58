"""libdocs.core.hub against a Hub on the loopback address, with the real clients: huggingface_hub,
datasets, transformers."""
import os, subprocess, sys, threading

import corpora
import pandas as pd
import pytest
from corpora import CARD, NOWHERE, documents, tiny_bert
from warm import HANG

from libdocs import cleaner_finetune
from libdocs.core import fetch
from libdocs.core.access import find_token
from libdocs.core.hub import preflight, push
from libdocs.core.fetch import fetch_model, load_splits
from libdocs.core.errors import InputError
from libdocs.core.options import flags_of

HARD = [['001', 'None', '001'], ['002', 'NA', '1e5'], ['003', '', '2'],
        ['004', ' a "b", c\nd\r\ne\rf ', '3'], ['005', '=1+1', '4'], ['006', '\U0001f4c4 \u00e9', 'nan'],
        ['007', 'null', '-0'], ['008', 'True', '2020-01-01'], ['009', '\\N', 'x']]
NAMES = ['id', 'text', 'label']


def csv_bytes(rows, names=NAMES): return corpora.csv_bytes([dict(zip(names, row)) for row in rows], names)


DATA = {'train.csv': csv_bytes(HARD), 'test.csv': csv_bytes(HARD[:3])}


@pytest.fixture
def naps(monkeypatch):
    "The pauses that were asked for; nobody waits for them."
    pauses = []
    monkeypatch.setattr('libdocs.core.access.sleep', pauses.append)
    return pauses


@pytest.fixture(scope='module')
def bert(tmp_path_factory):
    "A folder with a random sequence classifier of over 10 MB and its tokenizer."
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast
    folder = tmp_path_factory.mktemp('bert')
    words = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', 'please', 'pay',
             'invoice'] + [f'w{i}' for i in range(12_000)]
    (folder/'vocab.txt').write_text('\n'.join(words))
    BertTokenizerFast(str(folder/'vocab.txt')).save_pretrained(folder)
    config = BertConfig(vocab_size=len(words), hidden_size=256, num_hidden_layers=1,
                        num_attention_heads=4, intermediate_size=256, num_labels=3,
                        id2label={0: 'contract', 1: 'invoice', 2: 'minutes'},
                        label2id={'contract': 0, 'invoice': 1, 'minutes': 2})
    BertForSequenceClassification(config).save_pretrained(folder)
    assert (folder/'model.safetensors').stat().st_size > 10_000_000
    return folder


def model_files(folder): return {p.name: p for p in folder.iterdir()}


def fails(pattern, action, *args, **options):
    "The message of the InputError, which has to match, be one line and hold no token."
    with pytest.raises(InputError, match=pattern) as caught: action(*args, **options)
    message = str(caught.value)
    assert '\n' not in message, message
    assert len(message) < 500, message
    assert 'hf_' not in message, message
    assert 'Bearer' not in message, message
    return message


# Datasets up and back

def test_dataset_round_trip(hub):
    "Made private, in one commit, and read back exactly, also by the plain client."
    hub.login('alice')
    preflight('alice/contracts', 'dataset')
    assert not hub.repos, 'preflight made a repo'
    pushed = push(DATA, 'alice/contracts', 'dataset', 'first')
    assert pushed.url == f'{hub.url}/datasets/alice/contracts'
    assert pushed.commit == hub.repo('alice/contracts', 'dataset').commits[-1].oid
    assert hub.repo('alice/contracts', 'dataset').private
    assert hub.files('alice/contracts', 'dataset') == DATA
    splits = load_splits('alice/contracts')
    assert list(splits) == ['train', 'test']
    assert splits['train'].values.tolist() == HARD
    assert splits['test'].values.tolist() == HARD[:3]


def test_plain_load_dataset_with_card(hub):
    "Anyone's plain `load_dataset` gets the same strings, because the card declares them."
    import datasets
    hub.login('alice')
    push(DATA | {'README.md': CARD.encode()}, 'alice/carded', 'dataset', 'first')
    loaded = datasets.load_dataset('alice/carded')
    assert [list(r.values()) for r in loaded['train']] == HARD
    assert load_splits('alice/carded')['train'].values.tolist() == HARD


def test_folder_of_the_same_name_is_not_taken(hub, tmp_path, monkeypatch):
    "`alice/contracts` is on the Hub, `./alice/contracts` is a folder."
    monkeypatch.chdir(tmp_path)
    hub.login('alice')
    push(DATA, 'alice/contracts', 'dataset', 'first')
    push({'train.csv': csv_bytes([['x', 'y', 'z']])}, './alice/contracts', 'dataset', 'other')
    assert load_splits('alice/contracts')['train'].values.tolist() == HARD
    assert load_splits('./alice/contracts')['train'].values.tolist() == [['x', 'y', 'z']]


def test_changed_dataset_is_read_anew(hub):
    "The cache does not hide a newer commit."
    hub.login('alice')
    for text in ('old', 'new'):
        push({'train.csv': csv_bytes([['1', text, 'x']])}, 'alice/contracts', 'dataset', text)
        assert load_splits('alice/contracts')['train'].text.tolist() == [text]


@pytest.mark.parametrize('where', ['./data', 'alice/data'])
def test_other_layouts(hub, tmp_path, monkeypatch, where):
    "Parquet with ClassLabel, JSONL, packed CSV, a CSV whose card declares a ClassLabel, a split without rows."
    import datasets, gzip
    monkeypatch.chdir(tmp_path)
    hub.login('alice')
    features = datasets.Features({'text': datasets.Value('string'),
                                  'label': datasets.ClassLabel(names=['ham', 'spam']), 'n': datasets.Value('int64')})
    datasets.Dataset.from_dict({'text': ['a', 'b', None], 'label': [1, 0, -1], 'n': [1, None, 3]},
                               features=features).to_parquet(tmp_path/'p')
    push({'train.parquet': tmp_path/'p'}, where + '-parquet', 'dataset', 'x')
    assert load_splits(where + '-parquet')['train'].values.tolist() == [['a', 'spam', 1],
                                                                        ['b', 'ham', None], [None, None, 3]]
    push({'train.jsonl': b'{"text": "001", "label": "None"}\n', 'test.jsonl': b'{"text": "NA", "label": "b"}\n'},
         where + '-jsonl', 'dataset', 'x')
    assert load_splits(where + '-jsonl')['train'].values.tolist() == [['001', 'None']]
    push({'train.csv.gz': gzip.compress(DATA['train.csv'])}, where + '-gz', 'dataset', 'x')
    assert load_splits(where + '-gz')['train'].values.tolist() == HARD
    card = ('---\ndataset_info:\n  features:\n  - name: text\n    dtype: string\n  - name: label\n    '
            'dtype:\n      class_label:\n        names:\n          "0": ham\n          "1": spam\n---\n')
    push({'train.csv': b'text,label\nNA,1\n007,0\n', 'README.md': card.encode()}, where + '-classes', 'dataset', 'x')
    assert load_splits(where + '-classes')['train'].values.tolist() == [['NA', 'spam'], ['007', 'ham']]
    push({'train.csv': b'text,label\na,1\nb,eggs\n'}, where + '-classes', 'dataset', 'x')
    fails('train split: label: .*eggs', load_splits, where + '-classes')
    push({'train.csv': b'text,label\na,b\n', 'test.csv': b'text,label\n'}, where + '-bare', 'dataset', 'x')
    fails('the test split has no rows', load_splits, where + '-bare')


def test_nothing_is_printed(hub, tmp_path):
    """A subprocess with the stock settings: no progress bar, no warning, no log line, also when there is a
    fault on the way."""
    token = hub.add_user('alice')
    hub.fail('POST', '/commit/', 503)
    hub.fail('GET', '/tree/', 500)
    code = ("from libdocs.core.hub import push\nfrom libdocs.core.fetch import load_splits\n"
            "push({'train.csv': b'a,b\\n1,2\\n'}, 'alice/x', 'dataset', 'm'); "
            "print(load_splits('alice/x')['train'].values.tolist())")
    done = subprocess.run([sys.executable, '-c', code], env=os.environ | hub.env(token, tmp_path),
                          capture_output=True, text=True, timeout=HANG)
    assert (done.stdout, done.stderr) == ("[['1', '2']]\n", '')


# Models up and back

def test_model_round_trip_through_lfs(hub, bert, monkeypatch):
    "Weights go up in parts, come down complete, and load in plain transformers."
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer
    hub.login('alice')
    hub.part_size = 5_000_000  # in three parts
    preflight('alice/classifier', 'model')
    push(model_files(bert), 'alice/classifier', 'model', 'trained')
    assert len(hub.asked('PUT', '/lfs/')) == 3
    assert len(hub.commits('alice/classifier')) == 1
    for place in ('alice/classifier', fetch_model('alice/classifier')):
        model, tokenizer = (AutoModelForSequenceClassification.from_pretrained(place),
                            AutoTokenizer.from_pretrained(place))
        assert model.config.id2label == {0: 'contract', 1: 'invoice', 2: 'minutes'}
        assert tokenizer('please pay invoice')['input_ids'] == [2, 5, 6, 7, 3]
    ours = AutoModelForSequenceClassification.from_pretrained(bert)
    assert all(torch.equal(a, b) for a, b in zip(ours.state_dict().values(), model.state_dict().values()))


def test_a_push_between_two_calls_is_not_mixed_in(hub, monkeypatch):
    """Splits and frequencies come from one commit, whatever is pushed while they are fetched; so do the two
    fetches of a model with pickles."""
    from libdocs.finetune import data as finetune_data
    def data(label):
        return {f'{name}.csv': csv_bytes(
            [[f'{name}{i}', f'text {i}', f'{label}{i % 2}'] for i in range(4)]) for name in ('train', 'test')} | {
                'label_frequencies.json': f'{{"labels": {{"{label}0": 5, "{label}1": 5}}, "test": "capped"}}'.encode()}
    hub.login('alice')
    old = push(data('old'), 'alice/data', 'dataset', 'old').commit
    load = finetune_data.load_splits
    def interrupted(*args):
        splits = load(*args)
        push(data('new'), 'alice/data', 'dataset', 'new')
        return splits
    monkeypatch.setattr(finetune_data, 'load_splits', interrupted)
    task = finetune_data.load_task('alice/data')
    assert (task.revision, task.frequencies['labels'],
            set(task.train.label)) == (old, dict(old0=5, old1=5), {'old0', 'old1'})
    monkeypatch.setattr(finetune_data, 'load_splits', load)
    assert finetune_data.load_task('alice/data').frequencies['labels'] == dict(new0=5, new1=5)
    assert finetune_data.load_task('alice/data').revision != old
    first = push({'config.json': b'{"a": 1}', 'model.safetensors': b'one'}, 'alice/model', 'model', 'one').commit
    push({'config.json': b'{"a": 2}', 'model.safetensors': b'two'}, 'alice/model', 'model', 'two')
    folder = fetch_model('alice/model', revision=first)
    assert fetch.revision_of('alice/model', folder) == first
    assert (folder/'model.safetensors').read_bytes() == b'one'
    assert (fetch_model('alice/model')/'model.safetensors').read_bytes() == b'two'
    assert fetch.revision_of('./model', folder) is None


def test_the_base_model_is_of_one_commit(hub, tmp_path, monkeypatch):
    "The training names the commit of its base model, which a push in the middle does not change, and fetches it once."
    from libdocs.finetune import base, finetune
    hub.login('alice')
    made = {p.name: p for p in tiny_bert(tmp_path/'base', [row['text'] for row in documents(30)], ['a', 'b']).iterdir()}
    first = push(made, 'alice/base', 'model', 'one').commit
    rows = pd.DataFrame(documents(60))
    task = finetune.Task('letters', rows[:40], rows[40:], finetune.LabelSchema.from_labels(rows['label']))
    load = base.load_base
    def late(*given):
        push(made | {'README.md': b'two'}, 'alice/base', 'model', 'two')
        return load(*given)
    monkeypatch.setattr(base, 'load_base', late)
    monkeypatch.chdir(tmp_path)
    done = finetune.finetune(task, './model', base_model='alice/base', epochs=1, refit='off', device='cpu')
    assert hub.repo('alice/base').commits[-1].oid != first == done.record.base_revision
    assert len(hub.asked('HEAD', '^/$')) == 1, 'fetched once'


def test_fetched_dataset_is_used_offline(hub, monkeypatch):
    "With HF_HUB_OFFLINE, what was fetched before is read, pinned to its commit."
    from libdocs.finetune.data import load_task
    hub.login('alice')
    rows = csv_bytes([['1', 'a', 'x'], ['2', 'b', 'y']])
    commit = push({'train.csv': rows, 'test.csv': rows}, 'alice/data', 'dataset', 'one').commit
    assert load_task('alice/data').revision == commit
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_OFFLINE', True)
    monkeypatch.setattr('huggingface_hub.constants.ENDPOINT', NOWHERE)
    task = load_task('alice/data')
    assert task.revision == commit
    assert task.train.text.tolist() == ['a', 'b']


def test_fetched_model_is_used_when_the_hub_is_gone(hub, monkeypatch):
    "Without weights in other formats and without code, and from the cache."
    hub.push('bert-base-uncased', {'config.json': b'{}', 'model.safetensors': b'weights',
                                   'pytorch_model.bin': b'pickle', 'modeling.py': b'code'})
    folder = fetch_model('bert-base-uncased')  # a name without owner
    assert sorted(p.name for p in folder.iterdir()) == ['config.json', 'model.safetensors']
    monkeypatch.setattr('huggingface_hub.constants.ENDPOINT', NOWHERE)
    assert fetch_model('bert-base-uncased') == folder
    message = fails(f'{NOWHERE} cannot be reached', fetch_model, 'bert-base-cased')
    assert 'train from `minilm` or `scratch`' in message
    assert './bert-base-cased' in message


def test_pickles_are_refused(hub):
    "They are not even downloaded; a repo without a config is no model."
    hub.push('alice/old', {'config.json': b'{}', 'pytorch_model.bin': b'pickle'})
    fails('pytorch_model.bin.*pickle can run code', fetch_model, 'alice/old')
    assert not hub.asked('GET', 'pytorch_model.bin')
    hub.push('alice/words', {'README.md': b'nothing'})
    fails('no config.json', fetch_model, 'alice/words')


def test_corrupt_download_is_fetched_again(hub):
    "Once; a file that is damaged twice is an error."
    files = {'config.json': b'{"a": 1}', 'model.safetensors': b'weights' * 1000}
    commit = hub.push('alice/model', files)
    hub.corrupt(f'/lfs/|resolve/{commit.oid}/config.json', times=2)
    folder = fetch_model('alice/model')
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == files
    hub.push('alice/other', {'config.json': b'{"a": 2}', 'model.safetensors': b'WEIGHTS' * 1000})
    hub.corrupt('/lfs/', times=9)
    fails('model.safetensors failed its checksum twice', fetch_model, 'alice/other')
    hub.faults.clear()
    assert (fetch_model('alice/other')/'model.safetensors').read_bytes() == b'WEIGHTS' * 1000


# Who may do what

def test_a_file_is_checked_by_who_asks_for_it(hub, monkeypatch):
    "The note beside large splits costs no second look at them."
    hub.login('alice')
    push(DATA | {'note.json': b'{}'}, 'alice/noted', 'dataset', 'first')
    looked, same = [], fetch.same_content
    monkeypatch.setattr(fetch, 'same_content', lambda entry, path: looked.append(path.name) or same(entry, path))
    load_splits('alice/noted')
    fetch.load_note('alice/noted', 'note.json')
    assert sorted(looked) == ['note.json', 'note.json', 'test.csv', 'train.csv']  # *.json are among the splits' files


def test_private_repos(hub, monkeypatch):
    "Only who may read them can; others learn no more than that there may be none."
    token = hub.login('alice')
    push(DATA, 'alice/secret', 'dataset', 'first')
    assert load_splits('alice/secret')['test'].values.tolist() == HARD[:3]
    hub.login('mallory')
    fails('no such repo, or it is private', load_splits, 'alice/secret')
    monkeypatch.delenv('HF_TOKEN')
    fails('no such repo, or it is private', load_splits, 'alice/secret')
    assert load_splits('alice/secret', token=f' {token}\n')['test'].values.tolist() == HARD[:3]


def test_preflight_says_who_may_not(hub, monkeypatch):
    "No token, a wrong one, one that may only read, an organization without the right to write."
    fails('there is no token', preflight, 'alice/x', 'dataset')
    hub.login('alice', role='read')
    fails('may only read', preflight, 'alice/x', 'dataset')
    fails('log in|valid token', preflight, 'alice/x', 'dataset', token='hf_wrong')
    hub.login('alice', orgs={'acme': 'read', 'lab': 'write'})
    hub.create('acme/x', 'dataset', private=True)
    fails('may write under: alice, acme, lab', preflight, 'bob/x', 'dataset')
    fails('may only read in acme', preflight, 'acme/y', 'dataset')
    fails('this token may not do that.*acme', preflight, 'acme/x', 'dataset')
    preflight('lab/new', 'model')
    fails('not a legal repo name', preflight, 'alice/a b', 'dataset')
    hub.login('alice', role='fineGrained', scopes=[('alice/x', ['repo.write'])])
    fails('may not create repos under alice', preflight, 'alice/new', 'dataset')
    hub.create('alice/x', 'dataset', private=True)
    preflight('alice/x', 'dataset')
    assert set(hub.repos) == {('dataset', 'acme/x'), ('dataset', 'alice/x')}
    assert not hub.asked('POST')


def test_a_public_repo_is_not_taken_for_a_private_one(hub):
    "Nothing is published there unless it is asked for."
    hub.login('alice')
    hub.create('alice/open', 'dataset', private=False)
    fails('give private=False to publish there', preflight, 'alice/open', 'dataset')
    with flags_of(cleaner_finetune.parser()):
        fails('give --public to publish there', preflight, 'alice/open', 'dataset')
    fails('give private=False to publish there', push, DATA, 'alice/open', 'dataset', 'first')
    assert hub.files('alice/open', 'dataset') == {}
    preflight('alice/open', 'dataset', private=False)
    push(DATA, 'alice/open', 'dataset', 'first', private=False)
    push(DATA, 'alice/open2', 'dataset', 'first', private=False)
    assert not hub.repo('alice/open2', 'dataset').private


def test_reading_what_is_not_there(hub, monkeypatch, tmp_path):
    "The error distinguishes a repo, a folder and an illegal name."
    monkeypatch.chdir(tmp_path)
    for read in (load_splits, fetch_model):
        fails('no such repo', read, 'alice/nothing')
        fails('no such folder', read, './nothing')
        fails('Repo id must', read, 'a/b/c d')
        (tmp_path/'alice'/'here').mkdir(parents=True, exist_ok=True)
        fails('the folder of that name is written ./alice/here', read, 'alice/here')
    assert 'scratch' in fails('no such repo', fetch_model, 'alice/nothing')
    hub.push('alice/empty', {'README.md': b'# x'}, 'dataset')
    fails('no data files', load_splits, 'alice/empty')
    hub.push('alice/bare', {'x.bin': b'x'}, 'dataset')
    fails('no data files', load_splits, 'alice/bare')
    hub.push('alice/gated', {'train.csv': b'a,b\n1,2\n', 'config.json': b'{}'}, 'dataset', gated=True)
    fails('its owner grants access to each person; ask at', load_splits, 'alice/gated')
    hub.push('alice/broken', {'train.csv': b'a,b\n1,2\n3,4,5,6\n'}, 'dataset')
    fails('alice/broken', load_splits, 'alice/broken')


def test_unreachable_hub_is_told_in_time(hub, monkeypatch, tmp_path):
    "A server that does not answer is not waited for long, and a folder is offered instead."
    hub.login('alice')
    monkeypatch.setattr('huggingface_hub.constants.ENDPOINT', NOWHERE)
    for action in (lambda: preflight('alice/x', 'model'), lambda: load_splits('alice/x'),
                   lambda: fetch_model('alice/x')):
        assert './x' in fails(f'{NOWHERE} cannot be reached', action)
    answer = threading.Event()
    hub.hold('HEAD', '^/$', answer, times=9)
    monkeypatch.setattr('huggingface_hub.constants.ENDPOINT', hub.url)
    monkeypatch.setattr('libdocs.core.access._REACH', 0.5)
    fails('cannot be reached', preflight, 'alice/x', 'model')  # though it never answers
    answer.set()


# Faults on the way

@pytest.mark.parametrize('status, where', [(409, '/commit/'), (412, '/commit/'), (429, '/commit/'),
                                           (429, 'contracts$'), (429, '/repos/create'), (500, '/commit/'),
                                           (503, '/repos/create'), (502, 'contracts$')])
def test_passing_faults(hub, naps, status, where):
    "A server that is busy or broken for a moment is asked again, and nothing is done twice."
    hub.login('alice')
    hub.fail('GET|POST', where, status, headers={'Retry-After': '7'} if status == 429 else None)
    pushed = push(DATA, 'alice/contracts', 'dataset', 'first')
    assert hub.commits('alice/contracts', 'dataset') == ['first']
    assert hub.files('alice/contracts', 'dataset') == DATA
    assert pushed.commit == hub.repo('alice/contracts', 'dataset').commits[-1].oid
    assert naps == [7 if status == 429 else 1]


@pytest.mark.parametrize('where', ['/api/repos/create', '/commit/', '/api/datasets/alice/contracts$'])
def test_cut_connections(hub, naps, where):
    "The call is made once more, and makes one commit."
    hub.login('alice')
    hub.cut('GET|POST', where)
    push(DATA, 'alice/contracts', 'dataset', 'first')
    assert hub.commits('alice/contracts', 'dataset') == ['first']
    assert naps == [1]


def test_lost_replies(hub, naps):
    "What was done although the reply was lost is not done again."
    hub.login('alice')
    hub.lose_reply('POST', '/repos/create')
    hub.lose_reply('POST', '/commit/')
    pushed = push(DATA, 'alice/contracts', 'dataset', 'first')
    assert hub.commits('alice/contracts', 'dataset') == ['first']
    assert len(naps) == 2
    assert pushed.commit == hub.repo('alice/contracts', 'dataset').commits[-1].oid
    assert len(hub.asked('POST', '/commit/')) == 1


def test_large_files_are_sent_once(hub, bert, naps):
    "A lost commit does not send the weights again."
    hub.login('alice')
    hub.cut('POST', '/commit/')
    push(model_files(bert), 'alice/model', 'model', 'first')
    assert len(hub.asked('PUT', '/lfs/')) == 1
    assert hub.commits('alice/model') == ['first']


@pytest.mark.parametrize('interrupted,parts', [('PUT .*/1$', 1), ('PUT .*/2$', 1), ('POST /complete', 0),
                                               ('POST /commit/', 0), ('POST objects/batch', 0)])
def test_bytes_sent_again(hub, bert, naps, monkeypatch, record_property, interrupted, parts):
    "After an upload that was cut, at most one part of a file goes again."
    hub.login('alice')
    monkeypatch.setattr('time.sleep', naps.append)
    hub.part_size, size = 5_000_000, (bert/'model.safetensors').stat().st_size
    hub.cut(*interrupted.split())
    push(model_files(bert), 'alice/model', 'model', 'first')
    assert hub.files('alice/model')['model.safetensors'] == (bert/'model.safetensors').read_bytes()
    assert hub.commits('alice/model') == ['first']
    assert hub.received - size <= parts * hub.part_size
    record_property('bytes again', hub.received - size)
    record_property('bytes', size)


def test_unchanged_push_makes_no_commit(hub):
    "And sends nothing."
    hub.login('alice')
    first = push(DATA, 'alice/contracts', 'dataset', 'first')
    count = len(hub.asked('POST'))
    assert push(DATA, 'alice/contracts', 'dataset', 'again') == first
    assert hub.commits('alice/contracts', 'dataset') == ['first']
    assert len(hub.asked('POST')) == count
    push(DATA | {'test.csv': b'text\n'}, 'alice/contracts', 'dataset', 'second')
    assert hub.commits('alice/contracts', 'dataset') == ['first', 'second']


def test_two_at_once(hub, naps):
    "Both land, whoever comes second builds on the first."
    token = hub.login('alice')
    for call in ('/repos/create', '/commit/'): hub.hold('POST', call, threading.Barrier(2), times=2)
    jobs = [threading.Thread(target=push, args=({f'{n}.csv': b'a\n1\n'}, 'alice/both', 'dataset', n),
                             kwargs=dict(token=token)) for n in 'ab']
    for job in jobs: job.start()
    for job in jobs: job.join()
    assert sorted(hub.commits('alice/both', 'dataset')) == ['a', 'b']
    assert len(hub.files('alice/both', 'dataset')) == 2
    assert sorted(status for _, _, status in hub.asked('POST', '/repos/create')) == [200, 409]


@pytest.mark.parametrize('status, pattern', [(401, 'log in'), (403, 'may not do that.*loopback fault'),
                                             (404, 'no such repo'),
                                             (400, 'the Hub rejected the request .*loopback fault')])
def test_lasting_faults_are_told_at_once(hub, naps, status, pattern):
    "What waiting cannot cure is not tried again."
    hub.login('alice')
    hub.fail('POST', '/commit/', status)
    fails(pattern, push, DATA, 'alice/contracts', 'dataset', 'first')
    assert naps == []
    assert hub.commits('alice/contracts', 'dataset') == []


def test_a_hub_that_stays_down(hub, naps):
    "It is asked with longer and longer pauses, then the error is reported."
    hub.login('alice')
    hub.fail('POST', '/commit/', 500, times=99)
    fails('failed with status 500', push, DATA, 'alice/contracts', 'dataset', 'first')
    assert naps == [1, 2, 4, 8]
    naps.clear()
    hub.faults.clear()
    hub.fail('POST', '/commit/', 429, times=99, headers={'Retry-After': '86400'})
    fails('too many requests', push, DATA, 'alice/contracts', 'dataset', 'first')
    assert naps == [60] * 4


# Tokens

def test_tokens(hub, monkeypatch, tmp_path):
    "An argument goes before the environment, which goes before the stored login."
    monkeypatch.setattr('huggingface_hub.constants.HF_TOKEN_PATH', str(tmp_path/'token'))
    assert find_token() is None
    (tmp_path/'token').write_text('hf_stored\n')
    assert find_token() == 'hf_stored'
    monkeypatch.setenv('HF_TOKEN', 'hf_env\n')
    assert find_token() == 'hf_env'
    assert find_token('\thf_given ') == 'hf_given'


@pytest.mark.parametrize('token', ['plain-secret-word', 'hf_with gap', 'hf_\u00e9', 'hf_two\nlines'])
def test_no_token_in_messages(hub, monkeypatch, token):
    "Neither the server's words nor those of the client repeat it."
    hub.fail('GET', '/', 400, times=99, message=f'what is Bearer {token.split()[0]}?' if token.isascii() else 'what?')
    for action in (lambda: preflight('alice/x', 'dataset', token=token),
                   lambda: load_splits('alice/x', token=token), lambda: fetch_model('alice/x', token=token)):
        with pytest.raises(InputError) as caught: action()
        assert not any(part in str(caught.value) for part in token.split()), str(caught.value)
        assert caught.value.__cause__ is None


# Folders

def test_folder_repo_end_to_end(tmp_path, bert, monkeypatch):
    "A folder takes the place of a repo for datasets and models, with the same files."
    from transformers import AutoModelForSequenceClassification
    monkeypatch.chdir(tmp_path)
    preflight('./out/contracts', 'dataset')
    assert not (tmp_path/'out').exists()
    push(DATA, './out/contracts', 'dataset', 'first')
    assert load_splits('./out/contracts')['train'].values.tolist() == HARD
    push(model_files(bert), './out/model', 'model', 'first')
    push(model_files(tmp_path/'out'/'model'), './out/model', 'model', 'onto itself')
    assert AutoModelForSequenceClassification.from_pretrained(fetch_model('./out/model')).config.num_labels == 3
    assert fetch_model(str(bert)) == bert
    (tmp_path/'file').write_text('x')
    fails('is not a folder', preflight, './file', 'dataset')
    fails('is not a folder', push, DATA, './file/deep', 'dataset', 'no')
    fails('/proc', preflight, '/proc/nothing', 'dataset')
    fails('no such folder', load_splits, './file')
