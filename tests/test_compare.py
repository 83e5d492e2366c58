"Evaluations side by side: figures against formulas written out here, bad input, a real evaluation, and the page."
import json, re, shutil
from math import sqrt

import pandas as pd
import pytest
from corpora import command, documents, environment, one_error, read_jsonl, snapshot, succeeds
from pages import opened
from scipy.stats import binomtest

from libdocs.compare import main
from libdocs.finetune.run import run
from libdocs.phases.comparison import compare_runs

LABELS = ('invoice', 'contract', 'minutes')
ROWS = pd.DataFrame(documents(120))


class Scripted:
    "Right in every row but those whose number is given; the label is the first word of the text."
    labels = LABELS

    def __init__(self, name, wrong, sure=.8): self.name, self.wrong, self.sure = name, set(wrong), sure

    def ranked(self, text):
        label, number = re.match('[a-z]+', text)[0], int(text.split()[-1])
        at = LABELS.index(label) + (number in self.wrong)
        return [(LABELS[(at + k) % 3], share) for k, share in enumerate((self.sure, .9 - self.sure, .1))]

    def classify(self, texts, labels=None): return [self.ranked(text) for text in texts]


def evaluated(folder, name, wrong, rows=ROWS, **options):
    "The folder with the results of a scripted classifier."
    run(Scripted(f'./{name}', wrong, **options), rows, folder/'results'/name/'results.jsonl', batch_size=50)
    return folder/'results'/name


@pytest.fixture(scope='module')
def results(tmp_path_factory):
    "A folder with two runs: 30 rows only `small` has wrong, 12 only `large`, 8 both."
    folder = tmp_path_factory.mktemp('compare')
    evaluated(folder, 'small', range(38))
    evaluated(folder, 'large', [*range(30, 50)], sure=.7)
    return folder


def compared(folder, *argv): return command('libdocs', 'compare', *argv, cwd=folder, env=environment(folder/'home'))


# Figures

def bonett_price(only_one, only_other, rows):
    "The adjusted Wald interval of a paired difference, as their paper gives it."
    p, q, n = (only_one + 1) / (rows + 2), (only_other + 1) / (rows + 2), rows + 2
    half = 1.959964 * sqrt((p + q - (p - q)**2) / n)
    return p - q - half, p - q + half


def test_figures_are_those_of_the_formulas(results):
    "Difference, interval and p-value; the terminal says the same."
    pair, = compare_runs(results/'results'/'small', results/'results'/'large').pairs
    top = pair.differences['top_1']
    assert top.value == pytest.approx((30 - 12) / 120)
    assert (top.low, top.high) == pytest.approx(bonett_price(30, 12, 120), abs=1e-6)
    assert pair.p == pair.mcnemar.p == pytest.approx(binomtest(30, 42).pvalue)
    assert (pair.mcnemar.only_this, pair.mcnemar.only_other) == (30, 12)
    done = succeeds(compared(results, 'results/small', 'results/large'))
    low, high = (f'{100 * bound:+.1f}' for bound in bonett_price(30, 12, 120))
    assert f'+15.0 points (95% interval {low} to {high}), more than chance would explain' in done.stdout
    assert f'(p = {binomtest(30, 42).pvalue:.3f}). 30 rows turned right, 12 wrong.' in done.stdout
    assert 'small has 68.3% right and large 83.3%' in done.stdout
    assert not list(results.glob('*.html')), 'a page was written that nobody asked for'


def test_macro_f1_is_that_of_scikit_learn(results):
    "Its difference too."
    from sklearn.metrics import f1_score
    pair, = compare_runs(results/'results'/'small', results/'results'/'large').pairs
    rows = [read_jsonl(results/'results'/name/'results.jsonl') for name in ('small', 'large')]
    small, large = (f1_score([r['label'] for r in of], [r['predictions'][0] for r in of], average='macro')
                    for of in rows)
    difference = pair.differences['macro_f1']
    assert difference.value == pytest.approx(large - small)
    assert difference.low < large - small < difference.high


def test_copies_count_once(tmp_path):
    "Rows that all stand three times say no more than once, in the interval and in the p-value."
    wrong = dict(a=range(38), b=range(30, 50))
    once = [evaluated(tmp_path, name, wrong[name]) for name in 'ab']
    copies = pd.concat([ROWS.assign(id=ROWS.id + f'.{k}') for k in range(3)], ignore_index=True)
    thrice = [evaluated(tmp_path, f'{name}3', wrong[name], copies) for name in 'ab']
    (one,), (three,) = (compare_runs(*runs).pairs for runs in (once, thrice))
    assert three.mcnemar.only_this == 3 * one.mcnemar.only_this
    assert three.p == pytest.approx(one.p)
    assert three.differences['top_1'] == pytest.approx(one.differences['top_1'])


def test_order_does_not_matter(results, tmp_path):
    "Nor does the order of the rows in the files, nor how a run is named."
    shuffled = evaluated(tmp_path, 'large', range(30, 50), ROWS.sample(frac=1, random_state=1), sure=.7)
    small, large = results/'results'/'small', results/'results'/'large'/'results.jsonl'
    one, other = (compare_runs(small, run).pairs[0] for run in (large, shuffled))
    assert one.differences == other.differences
    assert one.gained.tolist() == other.gained.tolist()


def test_more_than_three_are_compared_with_the_first(results, tmp_path):
    "And the p-values are raised for it, as Holm has it."
    runs = [results/'results'/'small', results/'results'/'large', evaluated(tmp_path, 'third', range(20)),
            evaluated(tmp_path, 'fourth', range(36))]
    pairs = compare_runs(*runs).pairs
    assert [(pair.before.name, pair.after.name) for pair in pairs] == [
        ('small', 'large'), ('small', 'third'), ('small', 'fourth')]
    raw = sorted(pair.mcnemar.p for pair in pairs)
    raised = [min(1, 3 * raw[0]), min(1, max(3 * raw[0], 2 * raw[1])), min(1, max(3 * raw[0], 2 * raw[1], raw[2]))]
    assert sorted(pair.p for pair in pairs) == pytest.approx(raised)
    assert len(compare_runs(*runs[:3]).pairs) == 3


# Bad input

def cut(path, rows=None, bytes=None):
    "The results file without its last rows or bytes."
    data = path.read_bytes()
    path.write_bytes(b''.join(data.splitlines(True)[:rows]) if rows else data[:bytes])


def spoil(path, line, old, new):
    "The results file with something replaced in one line."
    lines = path.read_bytes().splitlines(True)
    lines[line - 1] = lines[line - 1].replace(old, new)
    path.write_bytes(b''.join(lines))


def changed(folder, **columns):
    "A run on rows of which the first is another one."
    return evaluated(folder, 'bad', range(9), pd.concat([ROWS[:1].assign(**columns), ROWS[1:]]))


BAD = {
    'one run': (lambda f: None, ['results/small'], 'name two runs, or more'),
    'nothing there': (lambda f: None, ['results/small', 'results/lrge'], 'results/lrge: no such file or folder'),
    'no run': (lambda f: (f/'empty').mkdir(), ['results/small', 'empty'], 'empty: has no results.jsonl; name the fol'),
    'twice': (lambda f: None, ['results/small', 'results/small/results.jsonl'], 'are the same run'),
    'not finished': (lambda f: (f/'results/bad/metrics.json').unlink(), [], 'not finished: there is no metrics.json'),
    'cut short': (lambda f: cut(f/'results/bad/results.jsonl', bytes=-30), [], 'results.jsonl:120: cut short'),
    'fewer rows': (lambda f: cut(f/'results/bad/results.jsonl', rows=70), [], 'has 70 rows, but metrics.json'),
    'empty': (lambda f: (f/'results/bad/results.jsonl').write_bytes(b''), [], 'not finished: it has no rows'),
    'damaged line': (lambda f: spoil(f/'results/bad/results.jsonl', 3, b'"scores"', b'"scars"'), [],
                     'results.jsonl:3: predictions and scores'),
    'no JSON': (lambda f: spoil(f/'results/bad/results.jsonl', 7, b'{', b'\0'), [], 'results.jsonl:7: broken JSON'),
    'damaged metrics': (lambda f: (f/'results/bad/metrics.json').write_text('[1]'), [], 'metrics.json: damaged'),
    'other metrics': (lambda f: shutil.copy(f/'results/small/metrics.json', f/'results/bad/metrics.json'), [],
                      'metrics.json beside it is that of other predictions'),
    'not a results file': (lambda f: None, ['results/small', 'results/bad/metrics.json'], 'metrics.json:1: '),
    'another row': (lambda f: changed(f, id='other'), [],
                    r"1 row \(the first: id 'd0'\) only in small and 1 row \(the first: id 'other'\) only in bad"),
    'another text': (lambda f: changed(f, text='invoice once more 0'), [],
                     r"1 row \(the first: id 'd0'\) with another text"),
    'another label': (lambda f: changed(f, label='minutes'), [], r"1 row \(the first: id 'd0'\) with another label"),
    'page over results': (lambda f: None, ['results/small', 'results/bad', '-o', 'results/bad/results.jsonl'],
                          'would be overwritten'),
    'page is a folder': (lambda f: None, ['results/small', 'results/bad', '-o', 'results'], 'is a folder; name a file'),
}


@pytest.mark.parametrize('name', BAD)
def test_bad_input(results, tmp_path, monkeypatch, capfd, name):
    "One line, exit code 2, and nothing is written."
    damage, argv, says = BAD[name]
    shutil.copytree(results/'results'/'small', tmp_path/'results'/'small')
    evaluated(tmp_path, 'bad', range(9))
    damage(tmp_path)
    monkeypatch.chdir(tmp_path)
    before = snapshot(tmp_path)
    code = main(argv or ['results/small', 'results/bad', '-o', 'page.html'])
    out, said = capfd.readouterr()
    assert re.search(says, one_error(code, said)), said
    assert not out
    assert snapshot(tmp_path) == before


def test_help_and_options(results):
    "As a real process: help, an unknown option, no run at all."
    assert 'What the files do not say is "unknown"' in succeeds(compared(results, '--help')).stdout
    assert 'did you mean --output?' in one_error(*failed(compared(results, 'a', 'b', '--outptu', 'x')))
    assert 'RUN' in one_error(*failed(compared(results)))


def failed(done): return done.returncode, done.stderr


# A real evaluation

def test_a_training_and_an_evaluation_of_its_model(trained, tmp_path):
    """The run folder stands for its results; the same model on the same rows changes nothing, and its cost is
    known: all of it where it was trained, all but the time where it was only evaluated."""
    folder = tmp_path/'work'
    shutil.copytree(trained.folder, folder)
    succeeds(command('classifier_model', '--examples', '--input-dir', 'ds', '--filename', 'test.csv', '-o', './model',
                     '--device', 'cpu', '--output-classify-file', 'again/results.jsonl', cwd=folder,
                     env=environment(tmp_path/'home')))
    done = succeeds(compared(folder, './model_run', 'again', '-o', 'new/page.html'))
    assert '0.0 points' in done.stdout
    assert '0 rows turned right, 0 wrong' in done.stdout
    cost = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines() if line.endswith(' MB')}
    record = json.loads((folder/'model'/'training.json').read_text())
    seconds = json.loads((folder/'model_run'/'evaluate.json').read_text())['facts']['evaluation_seconds']
    known = [f'{record["seconds"]:,.0f}', f'{seconds:,.1f}', f'{record["parameters"]:,}']
    assert cost['res'][:3] == known
    assert cost['again'] == [cost['res'][0], 'unknown', *cost['res'][2:]]
    page = (folder/'new'/'page.html').read_text(encoding='utf-8')
    assert 'No row changed sides.' in page
    assert f'{record["parameters"]:,}' in page


# The page

EVIL = '</style></title><script>window.hit = 1</script><img src=x onerror="window.hit = 1">\x1b[31m\u202e'


@pytest.mark.parametrize('width, scheme', [(1280, 'light'), (390, 'dark')])
def test_page_in_a_browser(browser, tmp_path, width, scheme):
    "It fits, loads nothing, runs nothing that documents hold, and shows the rows that changed sides."
    rows = ROWS.assign(text=[text.replace(' number', f' {EVIL} number') for text in ROWS.text])
    runs = [evaluated(tmp_path, name, wrong, rows) for name, wrong in (('small', range(38)), ('large', range(30, 50)))]
    path = compare_runs(*runs).save(tmp_path/'page.html')
    page, faults = opened(browser, path.as_uri(), width, scheme)
    for summary in ('12 rows turned wrong', '30 rows turned right; these 25 have the surest wrong answers'):
        page.get_by_text(summary, exact=True).click()
    shown = page.locator('#rows').inner_text()
    assert '<script>window.hit = 1</script>' in shown
    assert page.locator('#rows li').count() == 12 + 25
    assert page.locator('#labels tbody tr').count() == 3
    assert page.evaluate('window.hit') is None
    assert page.evaluate('document.documentElement.scrollWidth') <= width
    assert page.locator('script').count() == 1
    assert page.locator('img').count() == 0
    assert not faults
    page.close()
