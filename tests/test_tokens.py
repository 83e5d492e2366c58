"""Tokens are found nowhere: not in what is printed, not in files, not on the Hub."""
import json
from types import SimpleNamespace

import pytest
from commands import CANARY, CLEAN, HF, LOCAL, RAW, TRAIN, WB, check_results, clean, no_canary, slow, train
from corpora import NOWHERE, environment, put, snapshot
from loopback_hub import LoopbackHub
from warm import run

@slow
def with_tokens(root, jobs):
    "Both commands with tokens on the command line, to public repos, W&B on but out of reach."
    hub = LoopbackHub()
    hub.add_user('alice', token=HF)
    env = hub.env(None, root/'home'/'hf') | {'WANDB_MODE': None, 'WANDB_BASE_URL': NOWHERE}
    cleaned = clean(root, '--target-hf-dataset', 'alice/open', '--public', f'--hf-access-token={HF}', env=env)
    options = ['--downsample', '0.5', '--learning-rate', '0.003', '--train-batch-size', '8',
               '--max-length', '64', '--epochs', '2', '--seed', '7', '--log-level', 'debug']
    trained = train(root, None, '--input-hf-dataset', 'alice/open', '-o', 'alice/open-model', '--public',
                    '--hf-access-token', HF, '--wandb-access-token', WB, *options, env=env, script=True)
    hub.close()
    return SimpleNamespace(root=root, folder=root/'work', hub=hub, runs=[cleaned.done, trained.done])


def test_tokens_are_found_nowhere(with_tokens):
    "Not in output, files or repos; that a command line can be read by others is said."
    for done in with_tokens.runs:
        assert done.returncode == 0, done.stderr
    for done in with_tokens.runs:
        assert 'WARNING: a token on the command line can be read by everyone' in done.stderr
    no_canary(with_tokens.root, *with_tokens.runs)
    pushed = [data for name, kind in (('alice/open', 'dataset'), ('alice/open-model', 'model'))
              for data in with_tokens.hub.files(name, kind).values()]
    assert pushed
    assert not any(CANARY.search(data) for data in pushed)


def test_phase_2_options(with_tokens):
    "The record states the options of the training, which had their effect."
    record = json.loads(with_tokens.hub.files('alice/open-model')['training.json'])
    assert record['hyperparameters'].items() >= {'epochs': 2, 'learning_rate': 0.003,
                                                 'train_batch_size': 8, 'downsample': 0.5}.items()
    assert record['seed'] == 7
    assert record['max_length'] == 64
    assert record['rows'] == {'train': 49, 'test': 12}
    assert sum('loss' in step for step in record['history']) >= 2
    check_results(with_tokens.folder/'res', ['001', 'None', 'contract', 'invoice'], 12)


def test_public(with_tokens):
    "With --public both repos are public, and the report, which quotes documents, stays here."
    hub = with_tokens.hub
    assert not hub.repo('alice/open', 'dataset').private
    assert not hub.repo('alice/open-model').private
    assert {'metrics.json', 'README.md'} <= hub.files('alice/open-model').keys()
    assert 'report.html' not in hub.files('alice/open-model'), 'the report quotes documents'


def test_wandb_out_of_reach(with_tokens):
    "A warning says so, tracking continues in files, and the report is there."
    assert 'WARNING: W&B at http://127.0.0.1' in with_tokens.runs[1].stderr
    assert 'does not answer' in with_tokens.runs[1].stderr
    names = snapshot(with_tokens.folder/'wb')
    assert 'report.html' in names, sorted(names)
    assert any(name.endswith('.wandb') for name in names), sorted(names)


@slow
def failed_pushes(root, jobs):
    """The Hub takes no commit, and its answer repeats the token: phase 1 by HF_TOKEN, by a stored login and by
    option, phase 2 by option."""
    hub = LoopbackHub()
    hub.add_user('alice', token=HF)
    hub.fail('POST', '/commit/', 403, times=99, message=f'the token {HF} (Bearer {HF}) may not')
    home = root/'stored'/'home'/'hf'
    put(home, {'token': HF.encode()})
    runs = {'HF_TOKEN': clean(root/'env', '--target-hf-dataset', 'alice/x', env=hub.env(HF, root/'env'/'home'/'hf')),
            'stored': clean(root/'stored', '--target-hf-dataset', 'alice/x', env=hub.env(None, home)),
            'model': train(root/'model', jobs['prepared'].folder/'ds', '-o', 'alice/m',
                           '--hf-access-token', HF, env=hub.env(None, root/'model'/'home'/'hf'))}
    hub.close()
    return SimpleNamespace(root=root, hub=hub, runs=runs)


@pytest.mark.parametrize('how', ['HF_TOKEN', 'stored', 'model'])
def test_failed_push(failed_pushes, how):
    "One line, exit code 2, the token nowhere."
    run = failed_pushes.runs[how]
    name = 'classifier_model' if how == 'model' else 'cleaner_finetune'
    assert run.done.returncode == 2, run.done.stderr
    assert run.done.stderr.splitlines()[-1].startswith(f'{name}: error: cannot publish to alice/'), run.done.stderr
    assert run.done.stderr.count('error:') == 1
    assert 'Traceback' not in run.done.stderr
    no_canary(run.folder.parent, run.done)


def test_failed_push_loses_nothing(failed_pushes, prepared, trained):
    "What was made is here: the splits after phase 1, the model after phase 2."
    for how in ('HF_TOKEN', 'stored'):
        for name in LOCAL:
            assert (failed_pushes.runs[how].folder/name).read_bytes() == (prepared.folder/name).read_bytes()
    model = failed_pushes.runs['model'].folder/'models'/'alice'/'m'
    assert (model/'model.safetensors').read_bytes() == (trained.folder/'model'/'model.safetensors').read_bytes()


CRASH = '''
import os, sys, libdocs.core.hub
def crash(*args, **kwargs): raise RuntimeError('broke with ' + os.environ['SECRET_FOR_TEST'])
libdocs.core.hub.preflight = crash
from libdocs.%s import main
sys.exit(main())
'''


@pytest.mark.parametrize('name, argv, how', [
    ('cleaner_finetune', [*CLEAN, '--target-hf-dataset', 'alice/x'], 'option'), ('classifier_model', TRAIN, 'HF_TOKEN'),
    ('classifier_model', [*TRAIN, '--log-level', 'debug'], 'HF_TOKEN'),
    ('classifier_model', [*TRAIN, '--log-level', 'debug'], 'option')],
                         ids=['cleaner', 'classifier', 'debug', 'debug, option'])
def test_crash(tmp_path, name, argv, how):
    """A defect whose message has the token in it: exit code 1, one line, and a traceback only where it was
    asked for; the token in none of them."""
    put(tmp_path, {'work/data/raw.jsonl': RAW})
    more = ['--hf-access-token', HF] if how == 'option' else []
    env = environment(tmp_path/'home', SECRET_FOR_TEST=HF, HF_TOKEN=HF if how == 'HF_TOKEN' else None)
    done = run(CRASH % name, ['-c', *argv, *more], tmp_path/'work', env)
    assert done.returncode == 1, done.stderr
    assert done.stderr.splitlines()[-1].startswith(f'{name}: unexpected RuntimeError: broke with ***'), done.stderr
    assert ('Traceback' in done.stderr) == ('debug' in argv)
    done.args = name
    no_canary(tmp_path, done)
