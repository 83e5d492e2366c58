"The page on troubleshooting lists every error message of the source, each with a way out."
import ast, sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT/'docs'))
import messages

LEAST = 12  # characters of a part of a message that is looked for


@pytest.fixture(scope='module')
def page(): return ' '.join(messages.page().split())


def words_of(node):
    "The parts of a message that are written out in the call."
    parts = node.values if isinstance(node, ast.JoinedStr) else [node]
    return [' '.join(part.value.split()) for part in parts if messages.is_text(part)]


def test_every_message_is_on_the_page(page):
    "What the calls of InputError say, read from the source by another way than the page."
    said = [(path.name, node.lineno, words) for path in sorted((ROOT/'libdocs').rglob('*.py'))
            for node in ast.walk(ast.parse(path.read_text(encoding='utf-8')))
            if isinstance(node, ast.Call) and getattr(node.func, 'id', '') == 'InputError' and node.args
            for words in words_of(node.args[0]) if len(words) >= LEAST]
    assert len(said) > 150
    assert [place for place in said if place[2] not in page] == []


def test_every_message_has_a_way_out():
    "It says so itself, or the table of docs/messages.py adds a sentence."
    assert [message for message in messages.collect()
            if not messages.SAYS_MORE.search(message.text) and not messages.more_of(message.text)] == []


def test_every_added_sentence_is_of_a_message():
    "A message that is gone, or says more now, needs no entry in the table."
    short = [message.text for message in messages.collect() if not messages.SAYS_MORE.search(message.text)]
    assert [part for part, way in messages.WAYS.items()
            if not any(messages.more_of(text) == way and part in text for text in short)] == []


def test_reasons_are_there(page):
    "Bad rows and the Hub's answers, which fill the gaps of many messages."
    for words in ('broken JSON', 'not a JSON object but', 'values where the header has', 'holds a NUL byte',
                  'has no such repo', 'cannot be reached', 'out of memory'):
        assert words in page
