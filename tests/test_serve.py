"`libdocs serve` as browsers and programs meet it: answers, limits, keys, faults, the page, and how it ends."
import contextlib, json, re, signal, socket, sys, threading, time
from types import SimpleNamespace

import httpx
import numpy as np
import pytest
from corpora import bert, csv_bytes, documents, environment, jsonl, one_error, put
from pages import findings, opened
from test_report import CONTRAST, HOSTILE
from warm import HANG, MODULE, Job

from libdocs.classifiers.deberta import DebertaZeroShot
from libdocs.core.settings import ServeOptions
from libdocs.evaluation.neighbours import TrainRows
from libdocs.serve import answering, main
from libdocs.web import listen, local_app, serve_in_thread

KEY = 'a key that is long enough'
WORDS = ['word', 'clause', 'zero']


@pytest.fixture(scope='module')
def work(tmp_path_factory):
    "A folder with a tiny model, a zero-shot model, and labelled rows."
    root, rows = tmp_path_factory.mktemp('serve'), documents(40, WORDS, 1)
    put(root, {'rows.jsonl': jsonl(rows), 'ds/train.csv': csv_bytes(rows[:30]), 'ds/test.csv': csv_bytes(rows[30:]),
               'bare.jsonl': jsonl([dict(text=row['text']) for row in rows])})
    texts = [row['text'] for row in rows]
    sizes = dict(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
                 max_position_embeddings=128, initializer_range=.5)  # large weights: each word makes a difference
    bert(root/'model', texts, WORDS, **sizes)
    bert(root/'nli', texts, ['entailment', 'neutral', 'contradiction'], **sizes)
    return SimpleNamespace(folder=root, rows=rows, texts=texts, env=environment(root/'home'))


@contextlib.contextmanager
def served(model, options=None, rows=None, limit=2_000_000):
    "A client of a server in this process."
    with answering(local_app('test'), model, options or ServeOptions(), rows) as app:
        with serve_in_thread(app, KEY, limit) as at:
            with httpx.Client(base_url=at, headers={'X-Key': KEY}, timeout=HANG) as client: yield client


class Held:
    "A model that answers when it is let go."
    name, labels, is_nli, calibrated, thresholds = 'held', ('short', 'long'), False, False, None

    def __init__(self): self.busy, self.free = threading.Event(), threading.Event()

    def predict_proba(self, texts, labels=None):
        self.busy.set()
        assert self.free.wait(HANG)
        return np.array([[1 / len(text), 1 - 1 / len(text)] for text in texts])


def ask(client, *texts, **more): return client.post('/classify', json=dict(texts=texts, **more))


def later(results, function, *args):
    "A thread that puts what a function returns into `results`."
    thread = threading.Thread(target=lambda: results.append(function(*args)))
    thread.start()
    return thread


# Answers

def test_the_answers_are_those_of_the_model(work):
    "In order, with the names that `libdocs classify` writes; a text without content gets none."
    model = DebertaZeroShot(str(work.folder/'model'), device='cpu')
    said = model.classify(work.texts[:3])
    least = (said[0][0][1] + max(answer[0][1] for answer in said[1:])) / 2
    with served(model, ServeOptions(min_confidence=least)) as client:
        answers = ask(client, *work.texts[:3], ' ', top=2).json()['answers']
        assert client.get('/model').json() == dict(
            name=str(work.folder/'model'), labels=WORDS, zero_shot=False, calibrated=False, min_confidence=least,
            thresholds=[], train_rows=None)
    assert answers[3] == dict(prediction=None, confidence=None, abstained=True, predictions=[], scores=[])
    for answer, ranked in zip(answers, said):
        assert answer['predictions'] == [label for label, _ in ranked[:2]]
        assert answer['scores'] == pytest.approx([score for _, score in ranked[:2]], abs=1e-5)
        assert answer['abstained'] == (ranked[0][1] < least)
        assert answer['prediction'] == (None if answer['abstained'] else ranked[0][0])
    assert answers[0]['abstained'] != answers[1]['abstained'] or answers[0]['abstained'] != answers[2]['abstained']


def test_zero_shot(work):
    "Labels of the user's, also in the explanation."
    model = DebertaZeroShot(str(work.folder/'nli'), device='cpu')
    with served(model, ServeOptions(labels=('invoice', 'memo'))) as client:
        assert sorted(ask(client, work.texts[0]).json()['answers'][0]['predictions']) == ['invoice', 'memo']
        assert client.post('/explain', json=dict(text='a b', label='memo')).json()['label'] == 'memo'


def test_words_that_mattered(work):
    "Each change is that of leaving the word out, and the parts make up the text, whatever its characters."
    model, text = DebertaZeroShot(str(work.folder/'model'), device='cpu'), f'  {work.texts[0]}\n\U0001f4c4 合同 end'
    with served(model) as client:
        said = client.post('/explain', json=dict(text=text, label='zero')).json()
        without = dict(zip(WORDS, model.predict_proba([text.replace(work.texts[0].split()[0], '', 1)])[0]))
    assert ''.join(part['text'] for part in said['parts']) == text
    words = [part for part in said['parts'] if part['change'] is not None]
    assert [part['text'] for part in words] == [*work.texts[0].split(), '\U0001f4c4', '合', '同', 'end']
    assert words[0]['change'] == pytest.approx(said['probability'] - without['zero'], abs=1e-5)
    assert any(abs(part['change']) > .01 for part in words)


def test_many_at_once(work):
    "Each of many concurrent requests gets the answers to its own texts, and several are computed together."
    model, all_answers = DebertaZeroShot(str(work.folder/'model'), device='cpu'), []
    texts = [f'{text} {i}' for i, text in enumerate(work.texts * 3)]
    with served(model) as client:
        threads = [later(all_answers, lambda i=i: (i, ask(client, *texts[3*i:3*i + 3]))) for i in range(40)]
        for thread in threads: thread.join()
        batches = float(re.search(r'libdocs_batch_texts_count (\S+)', client.get('/metrics').text)[1])
    expected = model.predict_proba(texts).max(axis=1)
    for i, answer in all_answers:
        assert answer.status_code == 200
        confidences = [row['confidence'] for row in answer.json()['answers']]
        assert confidences == pytest.approx(expected[3*i:3*i + 3], abs=1e-5)
    assert len(all_answers) == 40
    assert batches <= 40


# Limits and faults

def test_full_and_late():
    "Beyond the queue 429 with the time to wait, beyond the time 504; what was accepted is answered."
    model, results = Held(), []
    with served(model, ServeOptions(max_waiting=2, max_seconds=HANG)) as client:
        threads = [later(results, ask, client, 'abcd')]
        model.busy.wait(HANG)
        threads.append(later(results, ask, client, 'abcde'))
        while 'libdocs_waiting_texts 2.0' not in client.get('/metrics').text: time.sleep(.01)
        refused = ask(client, 'abc')
        assert refused.status_code == 429
        assert int(refused.headers['retry-after']) >= 1
        model.free.set()
        for thread in threads: thread.join()
        assert sorted(answer.json()['answers'][0]['confidence'] for answer in results) == [.75, .8]
        assert ask(client, 'abc').status_code == 200
        assert 'libdocs_requests_total{path="/classify",status="429"} 1.0' in client.get('/metrics').text
    model = Held()
    with served(model, ServeOptions(max_seconds=.05)) as client:
        late = ask(client, 'abc')
        assert (late.status_code, late.json()['detail']) == (504, 'no answer within 0.05 s')
        model.free.set()


def test_limits(work):
    "Too long, too many, too large, of another type, unknown: 4xx and one sentence, which does not repeat the text."
    options = ServeOptions(max_chars=20, max_texts=2)
    with served(DebertaZeroShot(str(work.folder/'model'), device='cpu'), options, limit=500) as client:
        for status, body in {
            422: [dict(texts=['x'*21]), dict(texts=['x']*3), dict(texts=[]), dict(texts='x'), dict(texts=[None]), {},
                  [], dict(texts=['x'], top=0), dict(texts=['x'], temperature=2), dict(texts=['canary \ud800'])],
            413: [dict(texts=['x'*600])]}.items():
            for some in body:
                content = json.dumps(some)
                answer = client.post('/classify', content=content, headers={'Content-Type': 'application/json'})
                assert answer.status_code == status, (content, answer.text)
                assert list(answer.json()) == ['detail']
                assert 'canary' not in answer.text
        broken = client.post('/classify', content=b'{"texts": ["canary', headers={'Content-Type': 'application/json'})
        assert (broken.status_code, 'canary' in broken.text) == (422, False)
        slow = client.post('/classify', content=(b'x'*100 for _ in range(9)))  # no Content-Length
        assert slow.status_code == 413
        assert client.get('/classify').status_code == 405
        assert client.get('/nowhere').status_code == 404
        assert ask(client, 'word1', '').status_code == 200


def test_a_request_that_does_not_arrive(monkeypatch):
    "It is given up."
    monkeypatch.setattr('libdocs.web.body_seconds', .05)
    with served(Held()) as client:
        with socket.create_connection((client.base_url.host, client.base_url.port)) as link:
            link.sendall(f'POST /classify HTTP/1.1\r\nHost: localhost\r\nX-Key: {KEY}\r\n'
                         'Content-Length: 9\r\n\r\n{"te'.encode())
            assert link.recv(1000).startswith(b'HTTP/1.1 408 ')


def test_a_text_that_the_model_cannot_take():
    "Its request fails, and says no more than the kind of the error; those of others are answered."
    class Picky(Held):
        def predict_proba(self, texts, labels=None):
            scores = super().predict_proba(texts)
            if 'canary' in texts: raise RuntimeError('canary')
            return scores
    model, results = Picky(), []
    with served(model) as client:
        threads = [later(results, ask, client, text) for text in ('abcd', 'canary', 'abcd')]
        model.busy.wait(HANG)
        model.free.set()
        for thread in threads: thread.join()
        assert sorted(answer.status_code for answer in results) == [200, 200, 500]
        failed = next(answer for answer in results if answer.status_code == 500)
        assert failed.json() == dict(detail='unexpected RuntimeError; the log says where')
        assert client.get('/health').json() == dict(status='ok')


def test_who_goes_away(work):
    "A client that does not wait for its answer harms nobody."
    model = Held()
    with served(model) as client:
        with pytest.raises(httpx.ReadTimeout):
            client.post('/classify', json=dict(texts=['abc']), timeout=.05)
        model.free.set()
        assert ask(client, 'abcd').json()['answers'][0]['confidence'] == .75


def test_an_answer_that_is_due_is_given_when_the_server_stops():
    "What is being answered when the end comes is answered."
    model, results, server = Held(), [], contextlib.ExitStack()
    client = server.enter_context(served(model))
    patient = httpx.Client(base_url=client.base_url, headers={'X-Key': KEY}, timeout=HANG)
    asking = later(results, ask, patient, 'abcd')
    model.busy.wait(HANG)
    stopping = later([], server.close)
    model.free.set()
    asking.join(), stopping.join()
    assert results[0].json()['answers'][0]['confidence'] == .75


# Who may ask

@pytest.mark.parametrize('path', ['/', '/api', '/classify', '/metrics', '/health', '/openapi.json', '/nowhere'])
def test_nothing_without_the_key(path):
    "Not with a wrong one, not under a foreign name; and every answer says how it may be used."
    with served(Held()) as client:
        at = str(client.base_url).rstrip('/') + path
        for headers, query in [({}, ''), ({'X-Key': 'wrong'}, ''), ({}, '?key=wrong'), ({'X-Key': KEY[:-1]}, ''),
                               ({'X-Key': KEY, 'Host': 'evil.example'}, ''), ({'X-Key': '\xff'.encode('latin-1')}, '')]:
            answer = httpx.get(at + query, headers=headers)
            assert answer.status_code == 403
            assert answer.headers['cache-control'] == 'no-store'
            assert "frame-ancestors 'none'" in answer.headers['content-security-policy']
        assert httpx.get(at, params=dict(key=KEY)).status_code == client.get(path).status_code != 403


# The page

@pytest.fixture(scope='module')
def hostile(work):
    "A server of a model whose labels and training rows mean harm, with thresholds; (address, texts)."
    labels = HOSTILE[:6]
    class Model(Held):
        name = '<b>model</b>'
        thresholds = [dict(accuracy=.95, min_confidence=.3), dict(accuracy=.99, min_confidence=.9)]
        def predict_proba(self, texts, labels=None):
            firsts = [1 + 5 * text.count('window') - .5 * text.count('ham') for text in texts]
            scores = np.array([[first, 3, 2, 1, 1, 1] for first in firsts])
            return scores / scores.sum(axis=1, keepdims=True)
    model = Model()
    model.labels = tuple(labels)
    rows = TrainRows([(f'{text} window', label) for text, label in zip(HOSTILE, labels)])
    with served(model, ServeOptions(min_confidence=.5), rows) as client: yield f'{client.base_url}?key={KEY}'


def at_home(browser, address, width, scheme):
    "The page of a server, which may ask that server."
    return opened(browser, address, width, scheme, lambda url: url.startswith((address.split('?')[0], 'data:,')))


@pytest.mark.parametrize('width, scheme', [(1280, 'light'), (390, 'dark')])
def test_page(browser, hostile, width, scheme):
    "Labels, bars, words and rows are there as text, they can be read, and a phone needs not scroll sideways."
    page, faults = at_home(browser, hostile, width, scheme)
    text = f'{HOSTILE[1]} ham {HOSTILE[4]}\nhöre \U0001f4c4 {HOSTILE[6]}'
    page.fill('#text', text)
    page.press('#text', 'Control+Enter')
    page.wait_for_selector('#rows li')
    page.wait_for_selector('#words span')
    assert page.locator('#words').text_content() == text
    assert page.locator('#bars button').first.text_content() == HOSTILE[0]
    assert page.locator('#verdict').text_content() == 'No prediction: 40.7% is less than the 50.0% that were asked for.'
    assert page.locator('#promises li').all_text_contents() == [
        'For 95.0% accuracy (--min-confidence 0.300) it would answer.',
        'For 99.0% accuracy (--min-confidence 0.900) it would abstain.']
    assert 'onerror="window.hit' in page.locator('#for').text_content()
    assert page.locator('#against').text_content().startswith('ham −')
    page.locator('#bars button').nth(1).click()
    page.wait_for_selector('#bars dt:nth-of-type(2) button[aria-pressed=true]')
    assert page.locator('#label').text_content() == HOSTILE[1]
    page.hover('#go')
    assert page.evaluate('window.hit') is None
    assert page.evaluate('document.documentElement.scrollWidth') <= width
    assert page.locator('main img').count() == 0
    ratio, where = page.evaluate(CONTRAST)
    assert ratio >= 4.5, where
    assert not findings(page)
    page.click('a[data-path="/api"]')
    page.wait_for_selector('text=POST /classify')
    assert not findings(page)
    assert page.evaluate('document.documentElement.scrollWidth') <= width
    assert not faults
    page.close()


def test_page_says_what_is_wrong(browser, hostile):
    "An empty text, one that is too long, a server that has stopped; and the next text is answered."
    page, _ = at_home(browser, hostile, 1280, 'light')
    page.click('#go')
    page.wait_for_selector('text=The text is empty.')
    page.fill('#text', 'x' * 100_001)
    page.click('#go')
    page.wait_for_selector('#fault:has-text("at most 100000 characters")')
    page.route('**/classify', lambda route: route.abort())
    page.click('#go')
    page.wait_for_selector('#fault:has-text("is it still running?")')
    page.unroute('**/classify')
    page.fill('#text', 'window window')
    page.click('#go')
    page.wait_for_selector('#verdict .big')
    assert page.locator('#fault').is_hidden()
    page.close()


# The command

def started(work, *words, **env):
    "The command in a process of its own, and the address that it prints."
    job = Job(MODULE, ['libdocs.command', 'serve', *words, '--device', 'cpu'], work.folder, work.env | env)
    while '(Ctrl-C stops)' not in (said := job.out.read_text(encoding='utf-8')):
        time.sleep(.02)
    return job, re.search(r'http://\S+', said)[0]


@pytest.mark.parametrize('sent', [signal.SIGINT, signal.SIGTERM])
def test_command(work, sent):
    "It answers at the address that it prints, ends cleanly, and logs neither texts nor the key."
    job, address = started(work, './model', '--train', './ds', '--port', '0', '--log-level', 'debug')
    at, key = address.split('/?key=')
    with httpx.Client(base_url=at, headers={'X-Key': key}, timeout=HANG) as client:
        assert ask(client, 'canary').status_code == 200
        assert client.post('/classify', content=b'canary').status_code == 422
        assert client.post('/similar', json=dict(text=work.texts[0])).json()['rows'][0]['text'] == work.texts[0]
        assert httpx.get(f'{at}/canary?key=canary').status_code == 403
        job.send_signal(sent)  # while the connection is open
        code, out, err = job.wait()
    assert code == 0, err
    assert out.splitlines() == [f'open {address}  (Ctrl-C stops)', 'stopped']
    assert 'canary' not in err
    assert key not in err


def test_key_of_the_environment(work):
    "It is not printed."
    job, address = started(work, './model', '--port', '0', LIBDOCS_KEY=KEY)
    assert address.endswith('/?key=$LIBDOCS_KEY')
    assert httpx.get(address.split('?')[0] + 'health', params=dict(key=KEY)).json() == dict(status='ok')
    job.send_signal(signal.SIGTERM)
    code, out, err = job.wait()
    assert (code, KEY in out + err) == (0, False)


def test_two_servers_on_one_port(work, capfd, monkeypatch):
    "A port that was named is that or none; one that was not is another."
    monkeypatch.chdir(work.folder)
    with listen(port=0) as taken:
        code = main(['./model', '--port', str(port := taken.getsockname()[1])])
        line = one_error(code, capfd.readouterr().err)
        assert f'port {port}: Address already in use; choose another port (--port 0 takes any that is free)' in line


@pytest.mark.parametrize('words, says', [
    (['./none'], './none'), (['./ds'], './ds'), (['./nli'], 'is an NLI model: give it the labels'),
    (['./model', '--labels', 'a', 'b'], 'is fine-tuned and scores its own labels'),
    (['./model', '--train', 'none.jsonl'], 'none.jsonl: no such file'),
    (['./model', '--train', 'bare.jsonl'], "no column 'label'"),
    (['./model', '--train', 'rows.jsonl', '--text', 'body'], "no column 'body'"),
    (['./model', '--train', 'rows.jsonl', './ds'], './ds: is a folder; give files, or one dataset'),
    (['./model', '--host', 'no.such.host.invalid'], 'or another address')])
def test_bad_input(work, capfd, monkeypatch, words, says):
    "One line, exit code 2."
    monkeypatch.chdir(work.folder)
    code = main([*words, '--device', 'cpu'])
    assert says in one_error(code, capfd.readouterr().err)


def test_what_is_missing_is_named(work, capfd, monkeypatch):
    "The extra, and a key that is one."
    monkeypatch.setenv('LIBDOCS_KEY', 'short')
    assert 'at least 16 characters' in one_error(main(['./model']), capfd.readouterr().err)
    monkeypatch.delenv('LIBDOCS_KEY')
    monkeypatch.setitem(sys.modules, 'uvicorn', None)
    assert "pip install 'libdocs[serve]'" in one_error(main(['./model']), capfd.readouterr().err)
