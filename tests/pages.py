"A page in a browser, for the tests that look at one."
import os

import pytest
from warm import HANG

SIZES = [(1280, 'light'), (390, 'dark')]  # each size and each scheme; all pairs of them in `make soak`
if 'SOAK' in os.environ: SIZES += [(1280, 'dark'), (390, 'light')]


def opened(browser, address, width, scheme, own=None):
    """The page, and everything that went wrong on it or was asked of another place; `own` says of an address whether
    the page may ask it: by default only itself."""
    page, faults = browser.new_page(viewport=dict(width=width, height=900), color_scheme=scheme), []
    own = own or (lambda url: url in (address, 'data:,'))
    page.set_default_timeout(1000 * HANG)
    page.on('console', lambda message: faults.append(message.text))
    page.on('pageerror', lambda error: faults.append(str(error)))
    page.on('request', lambda request: None if own(request.url) else faults.append(request.url))
    page.goto(address, wait_until='load')
    return page, faults


def findings(page):
    "What axe-core finds on a page that is serious or critical, as lines."
    axe = pytest.importorskip('axe_playwright_python.sync_playwright').Axe()
    found = [one for one in axe.run(page).response['violations'] if one['impact'] in ('serious', 'critical')]
    return [f'{one["id"]}: {one["help"]}: {node["html"][:200]}' for one in found for node in one['nodes'][:5]]
