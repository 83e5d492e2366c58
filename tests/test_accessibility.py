"""What axe-core finds on the pages that are files: nothing serious, in both schemes, on a desktop and on a phone; and
that all of them can be used by keyboard, and printed."""
import random

import pandas as pd
import pytest
from pages import SIZES, findings, opened
from test_report import CORPORA, corpus, HISTORY, neighbours

from libdocs.evaluation.audited import AuditedAnswers, AuditedRows, ConflictFigures, find_conflicts
from libdocs.evaluation.metrics import evaluate
from libdocs.evaluation.outcomes import group_numbers, outcomes, probability_facts
from libdocs.evaluation.paired import Candidate, Cost, pairs_of
from libdocs.evaluation.record import Clashes, CorpusRecord, LabelRows, TrainingRecord
from libdocs.report.audit import worth_section
from libdocs.report.comparison import Comparison
from libdocs.report.corpus import corpus_html
from libdocs.report.pages import report_html
from libdocs.utils.data_cleaner.clean_data_tfidf import clean
from libdocs.utils.data_cleaner.label_issues import label_issues
from libdocs.utils.data_cleaner.leakage import leakage
from libdocs.utils.data_cleaner.tfidf import cluster_texts

def report_page(name: str) -> str:
    "A report, with a section about the worth of its rows in front, as an audit has it."
    metrics, rows = corpus(*CORPORA[name])
    table = pd.DataFrame(dict(text=['pay the bill of june now', 'the board met'] * 2,
                              label=['bill', 'minutes', 'memo', 'minutes']))
    worth = worth_section(AuditedRows(test=4, train=4, test_conflicts=ConflictFigures(texts=1, rows=2),
                                      train_conflicts=ConflictFigures(), copies_relabelled=1),
                          dict(a=AuditedAnswers(unanswered=1, foreign={'Bill.': 2})), leakage(table, table),
                          dict(test=find_conflicts(table, cluster_texts(table['text'].tolist()))))
    return report_html(metrics, rows, TrainingRecord(history=HISTORY, seed=42), near=neighbours(rows),
                       more={'Data': worth}, versions={'libdocs': '1'})


def comparison_page() -> str:
    "Three classifiers on the same rows."
    labels, n, rng = list('abcd'), 200, random.Random(0)
    truth = [labels[i % 4] for i in range(n)]
    def candidate(name, right):
        answers = [sorted(labels, key=lambda x, t=t: (x != t) if rng.random() < right else (x == t)) for t in truth]
        scores = [[.7, .2, .06, .04]] * n
        o = outcomes(truth, answers, probability_facts(scores, [a.index(t) for a, t in zip(answers, truth)]))
        return Candidate(name, evaluate(o), o, o.chances[:, 0], Cost(12., 3., 10_000_000, 40.), f'results/{name}.jsonl')
    candidates = [candidate(f'model {k}', .6 + k/10) for k in range(3)]
    texts = ['a letter ' * (1 + i % 90) for i in range(n)]
    rows = pd.DataFrame(dict(id=[f'r{i}' for i in range(n)], text=texts, label=truth))
    return Comparison(rows, candidates, pairs_of(candidates, group_numbers(None, n))).page()


def corpus_page() -> str:
    "What cleaning did."
    texts = [f'please pay invoice number {i} to the account below before friday, total {i*7} with tax'
             for i in range(12)]
    texts += [f'minutes of the board meeting {i}: agenda, motion {i*3}, vote' for i in range(12)]
    texts += [texts[0].upper() + ' <script>', ' '.join(reversed(texts[20].split()))]
    labels = ['invoice']*12 + ['minutes']*11 + ['invoice']*3
    df = pd.DataFrame(dict(id=[f'r{i}' for i in range(26)], text=texts, label=labels))
    cleaned = clean(df, .75)
    kinds = ('near_duplicate', 'label_conflict', 'label_clash')
    pairs = pd.concat([cleaned.pairs(kind).head(10).assign(kind=kind) for kind in kinds])
    counts = [('read', 26), ('cleaned', len(cleaned.kept)), ('normalized', 20), ('train', 16), ('test', 4)]
    record = CorpusRecord(repo='example/corpus', counts=counts, seed=42, options=dict(threshold=.75),
                          clashes=Clashes(rows=1, labels=[['invoice', 'minutes', 1]]),
                          labels=[LabelRows(label='invoice', raw=15, train=9, test=2),
                                  LabelRows(label='minutes', raw=11, train=7, test=2)])
    return corpus_html(record, cleaned.removed, pairs, label_issues(df))


PAGES = {'report, 8 labels': lambda: report_page('8 labels'), 'report, 150 labels': lambda: report_page('150 labels'),
         'report, hostile': lambda: report_page('hostile'), 'comparison': comparison_page, 'corpus': corpus_page}


@pytest.fixture(scope='module', params=PAGES)
def path(request, tmp_path_factory):
    "The file of one page."
    path = tmp_path_factory.mktemp('page')/'page.html'
    path.write_text(PAGES[request.param](), encoding='utf-8')
    return path


@pytest.mark.parametrize('width, scheme', SIZES)
def test_axe_finds_nothing_serious(browser, path, width, scheme):
    "Neither with all parts closed nor with all of them open; and the page does not scroll sideways."
    page, faults = opened(browser, path.as_uri(), width, scheme)
    for opens in (False, True):
        page.evaluate('opens => document.querySelectorAll("details").forEach(part => { part.open = opens })', opens)
        assert not findings(page)
        assert page.evaluate('document.documentElement.scrollWidth') <= width
    assert not faults
    page.close()


FOCUSED = '''() => {
  const e = document.activeElement, style = getComputedStyle(e), box = e.getBoundingClientRect()
  const outlined = style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 1
  return [e === document.body, outlined, e.outerHTML.slice(0, 99),
          box.width > 0 && box.height > 0 && box.bottom > 0 && box.top < innerHeight]
}'''


def test_everything_is_reached_by_keyboard(browser, path):
    "Tab goes through all links, heads, fields, frames and details, and shows where it is."
    page, _ = opened(browser, path.as_uri(), 1280, 'light')
    wanted = page.locator('a, button, input, summary, [tabindex="0"]').evaluate_all(
        'all => all.filter(part => part.checkVisibility()).length')
    reached = 0
    for _ in range(wanted + 5):
        page.keyboard.press('Tab')
        nowhere, outlined, what, seen = page.evaluate(FOCUSED)
        if nowhere: break
        assert outlined and seen, what
        reached += 1
    assert reached == wanted
    page.close()


def test_on_paper(browser, path):
    "Printed in light colours without links, fields and frames that hide something, and with all groups open."
    page, _ = opened(browser, path.as_uri(), 1280, 'dark')
    page.emulate_media(media='print', color_scheme='dark')
    assert page.evaluate('getComputedStyle(document.body).backgroundColor') == 'rgb(255, 255, 255)'
    for hidden in ('nav', '.filter'):
        assert not any(part.is_visible() for part in page.locator(hidden).all())
    assert page.locator('.scroll').evaluate_all(
        'all => all.every(frame => getComputedStyle(frame).overflow === "visible")')
    assert page.locator('.group .matrix, .group li').evaluate_all('all => all.every(part => part.checkVisibility())')
    page.close()
