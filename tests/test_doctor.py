"""`libdocs doctor`: it ends whatever the network does, works where packages and folders are missing, and shows no
token."""
import os, subprocess, sys

import pytest
import warm
from commands import CANARY, HF, WB
from corpora import NOWHERE, environment, put
from loopback_hub import LoopbackHub
from loopback_wandb import LoopbackWandb

SECTIONS = ['versions', 'devices', 'access', 'disk']


@pytest.fixture
def servers():
    "A Hub on which alice has a token, and a W&B."
    hub, wandb = LoopbackHub(), LoopbackWandb()
    hub.add_user('alice', token=HF)
    yield hub, wandb
    hub.close(), wandb.close()


@pytest.fixture
def silent():
    "A server that takes every request and never answers."
    server = LoopbackWandb('hang')
    yield server
    server.close()


def doctor(folder, *argv, cold=None, **env):
    """The command in a process of its own, with its home in a folder, warm or by `cold` arguments of Python:
    (exit code, name -> text, problems)."""
    work, home = folder/'work', folder/'home'
    work.mkdir(exist_ok=True), home.mkdir(exist_ok=True)
    env = environment(home, **{'TMPDIR': str(folder), 'WANDB_MODE': None} | env)
    if not cold: return page(warm.run(warm.MODULE, ['libdocs.doctor', *argv], work, env, hub=True), folder)
    return page(subprocess.run([sys.executable, *cold, *argv], cwd=work, env=env, capture_output=True, text=True,
                               encoding='utf-8', timeout=warm.HANG, stdin=subprocess.DEVNULL), folder)


def page(done, folder):
    "What a page says, after what every page has to be like."
    said = done.stdout + done.stderr
    assert not CANARY.search(said.encode()), said
    assert 'Traceback' not in said, said
    assert '\x1b' not in said, said
    assert str(folder/'home') not in said, said
    lines = done.stdout.splitlines()
    assert [line for line in lines if not line.startswith(' ')][:4] == SECTIONS, said
    rows = {line[2:20].strip(): line[20:] for line in lines if line.startswith('  ') and line[2] not in ' -'}
    assert all(rows.values()), said
    problems = [line for line in lines if line.startswith('  - ')]
    assert bool(problems) == ('problems' in lines) != ('no problem found' in lines), said
    assert done.stderr == ('' if done.returncode == 0 else
                           'libdocs doctor: error: libdocs cannot work here; the problems say why\n'), done.stderr
    return done.returncode, rows, '\n'.join(problems)


def ways_in(hub, wandb, home, token='HF_TOKEN'):
    "The environment for two servers, with a token in a variable or in a stored login."
    if token == 'stored': put(home, {'hf/token': HF.encode()})
    return {'HF_ENDPOINT': hub.url, 'HF_TOKEN': HF if token == 'HF_TOKEN' else None, 'HF_HUB_OFFLINE': None,
            'WANDB_BASE_URL': wandb.url, 'WANDB_API_KEY': WB,
            'NO_PROXY': '127.0.0.1,localhost', 'no_proxy': '127.0.0.1,localhost'}


@pytest.mark.parametrize('token', ['HF_TOKEN', 'stored'])
def test_who_has_access(tmp_path, servers, token):
    "The account is named, and where the token comes from."
    hub, wandb = servers
    code, rows, problems = doctor(tmp_path, **ways_in(hub, wandb, tmp_path/'home', token))
    source = {'HF_TOKEN': 'HF_TOKEN', 'stored': 'the stored login'}[token]
    assert code == 0
    assert rows['Hub'] == f'{hub.url} answers (status 200)'
    assert rows['account'] == f'alice, token from {source}, role write'
    assert rows['W&B'] == f'online, key from WANDB_API_KEY; {wandb.url} answers'
    assert rows['cache of the Hub'].endswith(' GB free in ~/hf/hub'), 'which is not there yet'
    assert hub.url not in problems
    assert 'token' not in problems


@pytest.mark.parametrize('token', ['HF_TOKEN', 'stored'])
def test_wrong_token(tmp_path, servers, token):
    "A token that the Hub does not know is a problem, and no reason to fail."
    hub, wandb = servers
    hub.users.clear()
    code, rows, problems = doctor(tmp_path, **ways_in(hub, wandb, tmp_path/'home', token))
    assert code == 0
    assert rows['account'].endswith(', refused')
    assert 'the Hub refuses the token from ' in problems


def test_servers_that_never_answer(tmp_path, silent):
    "Nothing else ends the questions: the client of the Hub has no limit of its own for one of them."
    code, rows, problems = doctor(tmp_path, **ways_in(silent, silent, tmp_path/'home'))
    assert code == 0
    assert rows['Hub'].startswith(f'{silent.url} does not answer (')
    assert rows['account'] == 'token from HF_TOKEN, whose owner is not known'
    assert rows['W&B'] == f'offline, key from WANDB_API_KEY; {silent.url} does not answer'
    assert 'HF_ENDPOINT' in problems
    assert 'WANDB_BASE_URL' in problems


@pytest.mark.parametrize('argv, more', [(['--offline'], {}), ([], {'HF_HUB_OFFLINE': '1', 'WANDB_MODE': 'offline'})],
                         ids=['option', 'environment'])
def test_offline(tmp_path, servers, argv, more):
    "No server is asked anything."
    hub, wandb = servers
    code, rows, _ = doctor(tmp_path, *argv, **ways_in(hub, wandb, tmp_path/'home') | more)
    assert code == 0
    assert hub.requests == []
    assert wandb.requests == []
    assert rows['Hub'].startswith(f'{hub.url} was not asked' if argv else f'{hub.url} is not used: HF_HUB_OFFLINE')
    assert rows['account'] == 'token from HF_TOKEN, whose owner is not known'


def test_addresses_with_passwords(tmp_path):
    "The password of a mirror is not shown, not even by the error of a client."
    mirror = NOWHERE.replace('//', '//alice:canary@')
    code, rows, problems = doctor(tmp_path, HF_ENDPOINT=mirror, WANDB_BASE_URL=mirror, WANDB_API_KEY=WB)
    assert code == 0
    assert rows['Hub'].startswith(f'{NOWHERE} does not answer (')
    assert problems.count(NOWHERE) == 2


def test_no_home(tmp_path):
    "A home that is not there and cannot be made."
    home = '/dev/null/home'
    code, rows, problems = doctor(tmp_path, '--offline', HOME=home, HF_HOME=None)
    assert code == 0
    assert rows['cache of the Hub'].endswith('~/.cache/huggingface/hub, not writable')
    assert '~/.cache/huggingface/hub cannot be written: set HF_HOME to another folder' in problems


@pytest.mark.parametrize('package', ['torch', 'huggingface_hub', 'numba', 'packaging', 'psutil'])
def test_missing_package(tmp_path, package):
    "Without a package the page is whole, and the exit code says whether the commands can work."
    program = f'import sys; sys.modules[{package!r}] = None; from libdocs.doctor import main; sys.exit(main())'
    code, rows, problems = doctor(tmp_path, '--offline', cold=['-c', program])
    assert code == (0 if package == 'psutil' else 2)
    assert rows['commands'].startswith('can be started' if code == 0 else 'fails (')
    assert ('no command starts: install libdocs' in problems) == (code == 2)


def test_unmet_requirement(tmp_path):
    "A package in another version than libdocs needs is named, with the command that mends it."
    metadata = b'Metadata-Version: 2.1\nName: wandb\nVersion: 0.1\n'
    put(tmp_path, {'packages/wandb-0.1.dist-info/METADATA': metadata})
    path = os.pathsep.join([str(tmp_path/'packages'), os.environ.get('PYTHONPATH', '')])
    code, rows, problems = doctor(tmp_path, '--offline', cold=['-m', 'libdocs.doctor'], PYTHONPATH=path)
    assert code == 2
    assert rows['wandb'] == '0.1'
    assert rows['requirements'].startswith('not met: wandb>=')
    assert "pip install 'wandb>=" in problems
