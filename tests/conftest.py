"""What every test may use. One loopback Hub serves the whole session, because the Hub's clients read HF_ENDPOINT when they are imported; the fixture
`hub` hands it out empty. So no test can reach the real Hub, and no test sees the login or the cache of who runs it."""
import atexit, os, shutil, sys, tempfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from loopback_hub import LoopbackHub

HUB = LoopbackHub()
HOME = tempfile.mkdtemp(prefix='hf-home-')
atexit.register(shutil.rmtree, HOME, ignore_errors=True)
assert 'huggingface_hub' not in sys.modules, 'conftest.py must come before huggingface_hub'
os.environ |= HUB.env(home=HOME) | {'TOKENIZERS_PARALLELISM': 'false', 'WANDB_MODE': 'disabled', 'CUDA_VISIBLE_DEVICES': ''}  # no GPU: the same figures everywhere
del os.environ['HF_TOKEN']
for name in ('HF_HUB_CACHE', 'HF_DATASETS_CACHE', 'HF_TOKEN_PATH', 'HF_HUB_OFFLINE', 'TRANSFORMERS_OFFLINE', 'HUGGING_FACE_HUB_TOKEN'): os.environ.pop(name, None)


@pytest.fixture
def hub(monkeypatch):
    "An empty loopback Hub, with nobody logged in and nothing cached; `hub.login(name)` adds a user and logs in as them."
    HUB.reset()
    for folder in ('hub', 'datasets', 'modules'): shutil.rmtree(Path(HOME)/folder, ignore_errors=True)
    monkeypatch.delenv('HF_TOKEN', raising=False)
    def login(name, **options):
        token = HUB.add_user(name, **options)
        monkeypatch.setenv('HF_TOKEN', token)
        return token
    monkeypatch.setattr(HUB, 'login', login, raising=False)
    yield HUB
    HUB.reset()


BROWSER = next((path for name in ('chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable') if (path := shutil.which(name))), None)
FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync']


@pytest.fixture(scope='module')
def browser():
    "A headless Chromium, for the tests that look at pages."
    if BROWSER is None: pytest.skip('no Chromium or Chrome on this machine')
    playwright = pytest.importorskip('playwright.sync_api')
    with playwright.sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=BROWSER, args=FLAGS)
        yield chromium
        chromium.close()
