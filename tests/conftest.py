"""What every test may use. One loopback Hub serves the whole session, because the Hub's clients
read HF_ENDPOINT when they are imported; the fixture `hub` hands it out empty. So no test can reach
the real Hub, and no test sees the login or the cache of who runs it."""
import atexit, functools, logging, os, shutil, signal, sys, tempfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
pytest.register_assert_rewrite('commands', 'corpora')
from commands import clean, RECIPES, slow, train
from corpora import Jobs
from loopback_hub import LoopbackHub, forget_cache

signal.signal(signal.SIGINT, signal.default_int_handler)  # which processes in the background ignore, and their children

HUB = LoopbackHub()
HOME = tempfile.mkdtemp(prefix='hf-home-')
atexit.register(shutil.rmtree, HOME, ignore_errors=True)
assert 'huggingface_hub' not in sys.modules, 'conftest.py must come before huggingface_hub'
os.environ |= HUB.env(home=HOME) | {'TOKENIZERS_PARALLELISM': 'false', 'WANDB_MODE': 'disabled'}
THEIRS = ('HF_HUB_CACHE', 'HF_DATASETS_CACHE', 'HF_TOKEN', 'HF_TOKEN_PATH', 'HF_HUB_OFFLINE',
          'TRANSFORMERS_OFFLINE', 'HUGGING_FACE_HUB_TOKEN')
for name in [name for name in os.environ if name in THEIRS or name.startswith('WANDB_') and name != 'WANDB_MODE']:
    del os.environ[name]


def pytest_configure(config):
    "No GPU, unless the tests for one are asked for: the same figures everywhere."
    if config.option.markexpr != 'gpu': os.environ['CUDA_VISIBLE_DEVICES'] = ''


LONG = 'tracking', 'tune', 'site', 'faults', 'processes', 'memory', 'evaluation', 'accessibility', 'export', 'doctor'


def pytest_collection_modifyitems(items):
    "The files that take minutes come first, so that none of them is left for the end when several run side by side."
    items.sort(key=lambda item: item.path.stem.removeprefix('test_') not in LONG)


@pytest.fixture(autouse=True)
def nothing_is_left():
    """What a command takes for itself in this process (environment, log, SIGTERM) is as it was when the test
    ends, so that no test depends on those before it."""
    log, environment, ended = logging.getLogger('libdocs'), dict(os.environ), signal.getsignal(signal.SIGTERM)
    handlers, propagate, level = log.handlers, log.propagate, log.level
    yield
    for name in set(os.environ) - set(environment): del os.environ[name]
    os.environ.update(environment)
    log.handlers, log.propagate = handlers, propagate
    log.setLevel(level)
    if signal.getsignal(signal.SIGTERM) != ended: signal.signal(signal.SIGTERM, ended)


@pytest.fixture
def one_thread():
    "Commands run at the same time."
    import torch
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def hub(monkeypatch):
    """An empty loopback Hub, with nobody logged in and nothing cached; `hub.login(name)` adds a user and logs
    in as them."""
    HUB.reset()
    forget_cache(HOME)
    monkeypatch.delenv('HF_TOKEN', raising=False)
    def login(name, **options):
        token = HUB.add_user(name, **options)
        monkeypatch.setenv('HF_TOKEN', token)
        return token
    monkeypatch.setattr(HUB, 'login', login, raising=False)
    yield HUB
    HUB.reset()


# Slow commands, for the tests that look at what came of them

@pytest.fixture(scope='session')
def all_jobs(tmp_path_factory):
    "The results of slow commands: each runs once in a process of pytest, when it is first asked for."
    jobs = Jobs({})
    jobs.recipes |= {name: functools.partial(recipe, tmp_path_factory.mktemp(name), jobs)
                     for name, recipe in RECIPES.items()}
    yield jobs
    jobs.close()


@pytest.fixture(scope='module')
def jobs(request, all_jobs):
    "The same; those that the tests of this file need are started together."
    used = {name for item in request.session.items if item.path == request.path for name in item.fixturenames}
    return all_jobs.start(name for name in RECIPES if name in used)


@slow
def prepared(root, jobs):
    "cleaner_finetune into folders, undisturbed."
    return clean(root, env={'PYTHONHASHSEED': '1'})


@slow
def trained(root, jobs):
    "classifier_model on what it made, undisturbed."
    return train(root, jobs['prepared'].folder/'ds', env={'PYTHONHASHSEED': '1'})


# A browser

BROWSER = next((path for name in ('chromium', 'chromium-browser', 'google-chrome',
                                  'google-chrome-stable') if (path := shutil.which(name))), None)
FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
         '--disable-background-networking', '--disable-component-update', '--disable-sync']


@pytest.fixture(scope='module')
def browser():
    "A headless Chromium, for the tests that look at pages."
    if BROWSER is None: pytest.skip('no Chromium or Chrome on this machine')
    playwright = pytest.importorskip('playwright.sync_api')
    with playwright.sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=BROWSER, args=FLAGS)
        yield chromium
        chromium.close()
