"`libdocs review` as a user meets it: the page, the keys, the file of answers, and what the next preparation does."
import signal, subprocess, sys, threading
from types import SimpleNamespace

import pytest
from corpora import command, documents, environment, jsonl, put, read_jsonl, succeeds
from pages import findings

fastapi = pytest.importorskip('fastapi')
HOSTILE = '<img src=x onerror="document.title=1"><script>document.title=2</script> \u202e word0 word1'
KEY = 'a-key-of-the-test-0123456789'


@pytest.fixture(scope='module')
def prepared(tmp_path_factory):
    "A corpus with wrong labels, prepared."
    root = tmp_path_factory.mktemp('review')
    rows = documents(240, ['word', 'clause', 'zero'], 3)
    wrong = [row | dict(label='zero' if row['label'] == 'word' else 'word') for row in rows[:12]]
    wrong[0]['text'] += HOSTILE
    put(root/'work', {'data/raw.jsonl': jsonl(wrong + rows[12:])})
    right = {row['id']: row['label'] for row in rows}
    work = SimpleNamespace(folder=root/'work', env=environment(root/'home'), right=right)
    succeeds(prepare(work))
    return work


def prepare(work, *words):
    return command('libdocs', 'prepare', '-i', 'data', '-f', 'raw.jsonl', '-o', 'out/rows', '--test-size', '.1', *words,
                   cwd=work.folder, env=work.env)


def reviewed(work, answers, who='ann'):
    from libdocs.report.doubts import doubts_of
    from libdocs.review import Review, review_app
    from libdocs.web import serve_in_thread
    review = Review(doubts_of(str(work.folder/'out'/'rows')), answers, who)
    return review, serve_in_thread(review_app(review), KEY)


def says(page, said, but=''):
    "Wait for what the page says about a key."
    from playwright.sync_api import expect
    line = page.locator('#said')
    expect(line).not_to_have_text(but)
    if said: expect(line).to_have_text(said)
    return line.inner_text()


def test_keys(prepared, browser, tmp_path):
    "Each key does what it says, hostile text is text, and the file has every answer."
    review, served = reviewed(prepared, tmp_path/'answers.jsonl')
    rows = review.doubts.rows
    with served as address:
        for size, scheme in (((1200, 900), 'light'), ((390, 844), 'dark')):
            page = browser.new_page(viewport=dict(width=size[0], height=size[1]), color_scheme=scheme)
            faults = []
            page.on('pageerror', lambda fault: faults.append(fault))
            page.goto(f'{address}/?key={KEY}')
            page.wait_for_selector('#row:not([hidden])')
            shown = page.locator('#text').inner_text()
            assert shown == next(row.text for i, row in enumerate(rows) if i not in review.given()).replace('\r', '')
            for key, said in (('1', ''), ('k', 'Kept.'), ('x', 'Left out.'), ('u', 'Taken back.'), ('s', 'Skipped.')):
                page.keyboard.press(key)
                says(page, said)
            page.keyboard.press('/')
            page.keyboard.type('clau')
            page.keyboard.press('Enter')
            assert says(page, '', but='Skipped.') in ('Kept.', 'Changed to clause.')
            assert page.title() == 'rows: review'
            assert page.evaluate('document.documentElement.scrollWidth <= innerWidth')
            assert not findings(page)
            assert faults == []
            page.close()
    given = review.given()
    assert len(given) == 6
    assert 'clause' in given.values()
    assert all(line['who'] == 'ann' for line in read_jsonl(tmp_path/'answers.jsonl'))


def test_only_with_the_key(prepared, tmp_path):
    import httpx
    review, served = reviewed(prepared, tmp_path/'answers.jsonl')
    with served as address:
        assert httpx.get(f'{address}/api/queue').status_code == 403
        assert httpx.get(f'{address}/?key=wrong').status_code == 403
        good = {'X-Key': KEY}
        assert httpx.get(f'{address}/api/queue', headers=good | {'Host': 'evil.example'}).status_code == 403
        assert httpx.get(f'{address}/api/queue', headers=good).json()['progress']['answered'] == 0
        for body, status in ((dict(index=0, new='no such label'), 422), (dict(index=10**6, new=None), 422),
                             (dict(index='x'), 422)):
            assert httpx.post(f'{address}/api/answer', json=body, headers=good).status_code == status
    assert not (tmp_path/'answers.jsonl').exists()


def test_two_people_one_file(prepared, tmp_path):
    "Answers that are given at the same time are all there, and each sees those of the other."
    reviews = [reviewed(prepared, tmp_path/'answers.jsonl', who)[0] for who in ('ann', 'bob')]
    def work(review, parity):
        for i in range(parity, 12, 2): review.answer(i, review.doubts.rows[i].label)
    threads = [threading.Thread(target=work, args=(review, i)) for i, review in enumerate(reviews)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    assert len(read_jsonl(tmp_path/'answers.jsonl')) == 12
    assert [review.progress()['answered'] for review in reviews] == [12, 12]


def test_two_people_in_two_browsers(prepared, browser, tmp_path):
    "Neither is asked about a row that the other has answered since the page was opened."
    pages, served = [], [reviewed(prepared, tmp_path/'answers.jsonl', who)[1] for who in ('ann', 'bob')]
    with served[0] as ann, served[1] as bob:
        for address in (ann, bob):
            pages.append(browser.new_page())
            pages[-1].goto(f'{address}/?key={KEY}')
            pages[-1].wait_for_selector('#row:not([hidden])')
        for _ in range(3):
            pages[0].keyboard.press('k')
            says(pages[0], 'Kept.')
            pages[0].locator('#said').evaluate('said => { said.textContent = "" }')
        pages[1].keyboard.press('s')
        says(pages[1], 'Skipped.')
        pages[1].keyboard.press('x')
        says(pages[1], 'Left out.')
        for page in pages: page.close()
    answers = read_jsonl(tmp_path/'answers.jsonl')
    assert [line['who'] for line in answers] == ['ann'] * 3 + ['bob']
    assert len({line['id'] for line in answers}) == 4


def test_killed_and_the_loop(prepared):
    "A server that is killed has kept every answer; the next preparation applies them, and doubts them no more."
    import re

    import httpx
    words = ['-m', 'libdocs.review', 'out/rows', '--port', '0', '--who', 'eve']
    process = subprocess.Popen([sys.executable, *words], cwd=prepared.folder, env=prepared.env, stdout=subprocess.PIPE,
                               text=True)
    address, key = re.search(r'(http\S+)/\?key=(\S+)', ''.join(process.stdout.readline() for _ in range(2))).groups()
    good = {'X-Key': key}
    listed = read_jsonl(prepared.folder/'out'/'rows_label_issues.jsonl')
    for index, issue in enumerate(listed):
        assert httpx.get(f'{address}/api/rows/{index}', headers=good).json()['id'] == issue['id']
        new = prepared.right[issue['id']]
        assert httpx.post(f'{address}/api/answer', json=dict(index=index, new=new), headers=good).status_code == 200
    process.send_signal(signal.SIGKILL)
    process.wait()
    answers = prepared.folder/'out'/'rows_corrections.jsonl'
    assert len(read_jsonl(answers)) == len(listed) > 8
    with open(answers, 'ab') as file: file.write(b'{"id": "half a li')
    tested = {row['id'] for row in read_jsonl(prepared.folder/'out'/'rows_test.jsonl')}
    done = prepare(prepared, '--corrections', 'out/rows_corrections.jsonl')
    succeeds(done)
    assert 'rows_corrections.jsonl:' in done.stderr
    changed = sum(row['label'] != prepared.right[row['id']] for row in listed)
    moved = tested ^ {row['id'] for row in read_jsonl(prepared.folder/'out'/'rows_test.jsonl')}
    assert len(moved) <= 2 * changed, 'rows that nobody has corrected have changed sides'
    again = read_jsonl(prepared.folder/'out'/'rows_label_issues.jsonl')
    assert {row['id'] for row in again}.isdisjoint(row['id'] for row in listed)
    labels = {row['id']: row['label'] for name in ('train', 'test')
              for row in read_jsonl(prepared.folder/'out'/f'rows_{name}.jsonl')}
    for issue in listed: assert labels.get(issue['id'], prepared.right[issue['id']]) == prepared.right[issue['id']]
    assert 'People have answered about' in (prepared.folder/'out'/'rows_report.html').read_text()


@pytest.mark.parametrize('words, message', [
    (['nothing'], 'nothing to review is here'), (['data/raw.csv'], 'nothing to review is here'),
    (['out/rows', '--train', 'no.jsonl'], 'no.jsonl: cannot be read'),
    (['out/rows', '--corrections', 'bad.jsonl'], 'bad.jsonl:1: not JSON'),
    (['out/rows', '--corrections', 'notes.txt'], 'notes.txt:1: not JSON'),
    (['out/rows', '--corrections', 'data/raw.jsonl/x.jsonl'], 'cannot write to the folder'),
    (['latin.jsonl'], 'latin.jsonl: is not UTF-8'), (['five.jsonl'], 'five.jsonl:1: a JSON object'),
    (['lacking.jsonl'], 'lacking.jsonl:1: text is missing'),
    (['out/rows', '--port', '70000'], 'a port, from 1 to 65535'),
    (['out/rows', '--port', '-1'], 'a port, from 1 to 65535')])
def test_bad_input_is_one_line(prepared, words, message):
    put(prepared.folder, {'bad.jsonl': b'no JSON\n', 'notes.txt': b'my notes', 'five.jsonl': b'5\n',
                          'latin.jsonl': '{"id": "\xe9"}'.encode('latin-1'),
                          'lacking.jsonl': b'{"id": 1, "text": null, "label": "a"}\n'})
    done = command('libdocs', 'review', *words, cwd=prepared.folder, env=prepared.env)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_corrections_of_another_corpus(prepared):
    lines = [dict(id=f'x{i}', text='0' * 16, old='word', new='zero', who='', when='') for i in range(3)]
    put(prepared.folder, {'other.jsonl': jsonl(lines), 'typo.jsonl': jsonl([lines[0] | dict(new='zro')])})
    for name, message in (('other', 'none of the 3 corrections is about a row of this corpus'),
                          ('typo', "typo.jsonl:1: no row of the corpus has the label 'zro'; did you mean 'zero'?")):
        done = prepare(prepared, '--corrections', f'{name}.jsonl')
        assert done.returncode == 2
        assert message in done.stderr


def test_what_to_label_next(prepared, tmp_path):
    "Rows of a pool are asked for, not twice, and are rows of the corpus once they have labels."
    from libdocs.core.corrections import read_corrections
    from libdocs.report.doubts import doubts_of, suggested
    from libdocs.review import Review
    more = documents(90, ['word', 'clause', 'zero'], 8)
    pool = [dict(id=f'p{i}', text=row['text'], label=None) for i, row in enumerate(more)]
    put(prepared.folder, {'data/pool.jsonl': jsonl(pool)})
    answers, asked = tmp_path/'answers.jsonl', []
    for _ in range(2):
        said = read_corrections([answers]) if answers.exists() else {}
        known = {id: answer.new for id, answer in said.items()}
        doubts = suggested(doubts_of(str(prepared.folder/'out'/'rows')), [prepared.folder/'data'/'pool.jsonl'], 'text',
                           10, known)
        review = Review(doubts, answers, 'ann')
        for i in range(len(doubts.rows)): review.answer(i, 'zero')
        asked += [doubt.id for doubt in doubts.rows]
    assert len(asked) == len(set(asked)) > 10
    done = command('libdocs', 'prepare', '-i', 'data', '-f', '*.jsonl', '-o', 'out/more', '--corrections', str(answers),
                   cwd=prepared.folder, env=prepared.env)
    succeeds(done)
    files = [prepared.folder/'out'/f'more_{name}.jsonl' for name in ('train', 'test', 'removed')]
    rows = [row for file in files for row in read_jsonl(file)]
    labels = {row['id']: row['label'] for row in rows if row['id'].startswith('p')}
    assert {id for id, label in labels.items() if label == 'zero'} == set(asked)
    assert sum(row.get('reason') == 'unlabelled' for row in rows) == 90 - len(asked)
    (prepared.folder/'data'/'pool.jsonl').unlink()


def test_numbers_and_stale_answers(prepared, tmp_path):
    "Ids and labels that are numbers are text in answers; an answer to another text leaves the row open."
    from libdocs.core.corrections import read_corrections
    from libdocs.report.doubts import doubts_of
    from libdocs.review import Review
    rows = [dict(id=i, text=f'row {i}', label=i % 2) for i in range(4)]
    put(tmp_path, {'rows.jsonl': b'\xef\xbb\xbf' + jsonl(rows)})
    def opened(): return Review(doubts_of(str(tmp_path/'rows.jsonl')), tmp_path/'answers.jsonl')
    review = opened()
    for i in range(3): review.answer(i, '1')
    review.answer(2, '0')
    review.answer(2, None, undone=True)
    assert {id: answer.new for id, answer in read_corrections([tmp_path/'answers.jsonl']).items()} == {
        '0': '1', '1': '1', '2': '1'}
    put(tmp_path, {'rows.jsonl': jsonl([rows[0] | dict(text='another'), *rows[1:]])})
    assert opened().given() == {1: '1', 2: '1'}
