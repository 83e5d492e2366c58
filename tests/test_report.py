"The report as a reader meets it: written to a file and opened in a real browser."
import random
from dataclasses import replace

import pytest
from pages import opened

from libdocs.core.markup import visible
from libdocs.evaluation.outcomes import outcomes, probability_facts
from libdocs.evaluation.thresholds import confidence_thresholds, coverage
from libdocs.evaluation.metrics import Baseline, Baselines, Coverage, Evaluated, evaluate, in_words, length_figures
from libdocs.evaluation.metrics import McNemar
from libdocs.evaluation.neighbours import mistakes, TrainRow
from libdocs.evaluation.record import TrainingRecord
from libdocs.report.sentences import percent
from libdocs.report.pages import report_html

HOSTILE = ['</style></title><script>window.hit = 1</script>',
           '<img src=x onerror="window.hit = 1">', '\u202eleft to right', '\x1b[31mred\x07', 'x'*400,
           '" onmouseover="window.hit = 1', 'שלום', 'a & b', "javascript:window.hit=1", '合同'*40]
HISTORY = [dict(loss=2/k, epoch=k/4) for k in range(1, 9)] + [
    dict(eval_loss=1/k, eval_top_1=.5 + k/5, epoch=float(k)) for k in (1, 2)] + [dict(train_runtime=1., epoch=2.)]


def corpus(labels:list, rows:int, right:float=.85):
    "Figures and rows of a made-up evaluation."
    rng, out = random.Random(0), []
    for i in range(rows):
        truth = labels[i % len(labels)]
        others = rng.sample([name for name in labels if name != truth], min(3, len(labels) - 1))
        ranking = [truth, *others] if rng.random() < right else [*others, truth]
        scores = sorted((rng.random() for _ in ranking), reverse=True)
        scores = [s/sum(scores) for s in scores]
        out.append(dict(id=f'doc-{i}', text=f'{truth} & document {i} '*rng.choice([1, 30, 600]),
                        label=truth, predictions=ranking, scores=scores))
    truth, answers = [r['label'] for r in out], [r['predictions'] for r in out]
    chances = probability_facts([r['scores'] for r in out], [r['predictions'].index(r['label']) for r in out])
    o = outcomes(truth, answers, chances)
    metrics = evaluate(o, natural={label: 10*(i + 1) for i, label in enumerate(labels)},
                       coverage=Coverage(chosen_on='test', at=coverage(o, confidence_thresholds(o))),
                       lengths=length_figures(o, in_words([r['text'] for r in out])),
                       evaluated=Evaluated(model=labels[0], dataset='./data'))
    weaker = {k: getattr(metrics, k)*.9 for k in ('top_1', 'top_2', 'top_3', 'macro_f1')}
    linear = Baseline(**weaker, mcnemar=McNemar(p=.01))
    majority = Baseline(**{k: 1/len(labels) for k in weaker}, label=labels[0], mcnemar=McNemar(p=0.))
    natural, baselines = replace(metrics.natural, test='capped'), Baselines(majority=majority, tfidf_linear=linear)
    return replace(metrics, natural=natural, baselines=baselines), out


def neighbours(rows):
    "Two train rows beside each of the most confident mistakes."
    return {row['id']: [TrainRow(row['predictions'][0], row['text'], .9), TrainRow(row['label'], row['label'], .5)]
            for row in mistakes(rows)}


CORPORA = {'2 labels': (['ham', 'spam'], 200), '8 labels': ([f'kind {k}' for k in 'abcdefgh'], 400),
           '150 labels': ([f'some_topic_{k}' for k in range(150)], 4500), 'hostile': (HOSTILE, 300)}


@pytest.fixture(scope='module', params=CORPORA)
def report(request, tmp_path_factory):
    "(metrics, rows, file) of one corpus."
    labels, rows = CORPORA[request.param]
    metrics, rows = corpus(labels, rows)
    path = tmp_path_factory.mktemp('report')/'report.html'
    record, versions = TrainingRecord(history=HISTORY, seed=42), {'a': '1', labels[-1]: labels}
    path.write_text(report_html(metrics, rows, record, near=neighbours(rows), versions=versions), encoding='utf-8')
    return metrics, rows, path


@pytest.mark.parametrize('width, scheme', [(1280, 'light'), (390, 'dark')])
def test_opens_cleanly_and_fits(browser, report, width, scheme):
    "The figures are there, nothing that documents hold is run, and a phone needs not scroll sideways."
    metrics, rows, path = report
    page, faults = opened(browser, path.as_uri(), width, scheme)
    shown = page.inner_text('body')
    for key in ('top_1', 'top_2', 'top_3', 'macro_f1'):
        assert percent(getattr(metrics, key)) in shown, key
    assert f'{percent(metrics.top_1)} of {len(rows):,} test rows' in shown
    assert page.evaluate('window.hit') is None
    assert page.evaluate('document.documentElement.scrollWidth') <= width
    assert page.locator('main section').count() in (9, 10)
    assert page.locator('#learning svg').count() == 2
    assert page.locator('script').count() == 1
    assert page.locator('img').count() == 0
    assert all(page.locator('svg').evaluate_all('all => all.map(svg => svg.getAttribute("role") === "img" '
                                                '&& Boolean(svg.getAttribute("aria-label")))'))
    page.locator('details').first.click()
    assert not faults
    page.close()


def test_every_label_is_shown_as_it_is(browser, report):
    "Markup in a label is text."
    metrics, _, path = report
    page, _ = opened(browser, path.as_uri(), 1280, 'light')
    shown = page.locator('#each-label tbody th').all_text_contents()
    assert len(shown) == len(metrics.per_label)
    for d in metrics.per_label:
        assert d.label.replace('\x1b', '␛').replace('\x07', '␇')[:40] in [s[:40] for s in shown]
    page.close()


def test_the_table_sorts(browser, report):
    "A click on the head of a column sorts by it."
    metrics, _, path = report
    page, faults = opened(browser, path.as_uri(), 1280, 'light')
    def column(n):
        return [float(v) for v in page.locator(f'#each-label tbody td:nth-child({n})').evaluate_all(
            'cells => cells.map(cell => cell.dataset.v)')]
    assert column(2) == sorted(column(2)), 'the worst label does not stand first'
    button = page.get_by_role('button', name='Rows')
    button.click()
    assert column(3) == sorted(column(3))
    button.press('Enter')
    assert column(3) == sorted(column(3), reverse=True)
    assert page.locator('th[aria-sort]').count() == 1
    assert page.locator('th[aria-sort=descending]').count() == 1
    assert sum(column(3)) == metrics.rows
    assert not faults
    page.close()


def test_the_table_filters(browser, report):
    "What is typed leaves the labels that have it, whatever its case; it is said how many; nothing typed leaves all."
    metrics, _, path = report
    page, faults = opened(browser, path.as_uri(), 1280, 'light')
    names, rows = [visible(d.label) for d in metrics.per_label], page.locator('#each-label tbody tr:visible')
    field = page.get_by_role('searchbox', name='Show labels with')
    if len(names) <= 7:
        assert field.count() == 0
        return
    for typed in (names[0][:9], names[-1][-5:].upper(), '  '.join(names[3].split(' ')), 'no such label', '<', ''):
        field.fill(typed)
        words = typed.lower().replace('_', ' ').split()
        wanted = sum(all(word in name.lower().replace('_', ' ') for word in words) for name in names)
        assert rows.count() == wanted, typed
        assert f'{wanted} of {len(names)} shown' in page.locator('.filter output').inner_text()
    field.press_sequentially('no such')
    assert rows.count() == 0
    for _ in 'no such': field.press('Backspace')
    assert rows.count() == len(names)
    assert page.evaluate('window.hit') is None
    assert not faults
    page.close()


def test_without_a_script(browser, report):
    "The table is complete, and there is no field that does nothing."
    metrics, _, path = report
    page = browser.new_page(java_script_enabled=False)
    page.goto(path.as_uri())
    assert page.locator('#each-label tbody tr:visible').count() == len(metrics.per_label)
    assert page.locator('input:visible').count() == 0
    assert page.locator('#confusion table:visible').count() >= 1
    page.close()


def test_many_labels_are_grouped(browser, report):
    "Small tables of labels that are confused with one another, with all their rows."
    metrics, _, path = report
    page, _ = opened(browser, path.as_uri(), 1280, 'light')
    groups, of = page.locator('.groups table'), {d.label: d.support for d in metrics.per_label}
    assert bool(groups.count()) == (len(of) > 24)
    for table in groups.all():
        for row in table.locator('tbody tr').all():
            name = row.locator('bdi').get_attribute('title') or row.locator('bdi').text_content()
            assert sum(int(cell) for cell in row.locator('td').all_text_contents() if cell) == of[name]
    page.close()


def test_size(report):
    "A report can be sent by mail."
    assert report[2].stat().st_size < 1_500_000


CONTRAST = '''() => {
  const parse = c => c.match(/[\\d.]+/g).map(Number)
  const linear = v => v <= .03928 ? v/12.92 : ((v + .055)/1.055)**2.4
  const light = c => {
    const [r, g, b] = c.map(v => linear(v/255))
    return .2126*r + .7152*g + .0722*b
  }
  const behind = e => {
    let layers = []
    for (; e; e = e.parentElement) {
      const c = parse(getComputedStyle(e).backgroundColor)
      if (c.length === 3 || c[3] > 0) layers.push(c)
      if (c.length === 3) break
    }
    const over = (under, c) => {
      const a = c.length === 3 ? 1 : c[3]
      return under.map((v, i) => v*(1 - a) + c[i]*a)
    }
    return layers.reverse().reduce(over, [255, 255, 255])
  }
  let worst = [99, '']
  for (const e of document.querySelectorAll('main *, footer')) {
    if (e.closest('svg') || ![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())) continue
    const [a, b] = [light(parse(getComputedStyle(e).color)), light(behind(e))].sort((x, y) => y - x)
    const ratio = (a + .05)/(b + .05)
    if (ratio < worst[0]) worst = [ratio, e.outerHTML.slice(0, 200)]
  }
  return worst
}'''


@pytest.mark.parametrize('scheme', ['light', 'dark'])
def test_text_can_be_read(browser, report, scheme):
    "The weakest contrast of text and background is at least 4.5, in both schemes."
    page, _ = opened(browser, report[2].as_uri(), 1280, scheme)
    ratio, where = page.evaluate(CONTRAST)
    assert ratio >= 4.5, where  # WCAG 2.2, level AA
    page.close()
