"""How good the near-duplicates are that the threshold gives: precision and recall on known copies.

    python bench/duplicates.py DATA [--write]

1. neardup_articles_1000 (1,000 news articles, 10 pairs known to be plagiarised): pairs found at each
   threshold.
2. Planted edits: 300 texts of DATA's banking77 (short), cuad_contracts (long) and of two made-up corpora
   in Chinese and in Greek and English mixed, each with one copy for each kind of edit. Recall is the share
   of the planted copies found (directly or by their cluster).
3. Texts that must not merge: different articles under one boilerplate header.
4. The test rows of banking77 that a scan by 3-word shingles (Jaccard similarity of at least 0.7) takes
   for copies of training rows, beside `leakage`."""
import argparse, json, re
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
from main_job import machine, write

from libdocs.utils.data_cleaner.leakage import leakage
from libdocs.utils.data_cleaner.tfidf import cluster_texts, near_duplicates, tfidf_rows
from libdocs.utils.data_cleaner.words import words

THRESHOLDS = (.5, .6, .7, .8, .85, .9, .95, .98)


def articles(path: Path) -> list:
    rows = [json.loads(line) for line in open(path, encoding='utf-8')]
    groups, X = [r.get('dup_group') for r in rows], tfidf_rows([r['text'] for r in rows])
    truth = {(i, j) for i in range(len(rows)) for j in range(i + 1, len(rows)) if groups[i] and groups[i] == groups[j]}
    lines = ['| threshold | pairs found | precision | recall |', '|---|---|---|---|']
    for t in THRESHOLDS:
        pairs = set(map(tuple, near_duplicates(X, t).rows.tolist()))
        right = len(pairs & truth)
        lines.append(f'| {t:g} | {len(pairs)} | {right / len(pairs) if pairs else 1:.3f} | {right / len(truth):.3f} |')
    return [f'neardup_articles_1000: {len(truth)} true pairs.', '', *lines]


def pieces(text: str) -> list:
    "Words; two characters at a time where there are no spaces, as most Chinese words have."
    return text.split() if ' ' in text else [text[k:k + 2] for k in range(0, len(text), 2)]


def joined(parts: list, text: str) -> str: return (' ' if ' ' in text else '').join(parts)


def edits(text: str, rng, other: str) -> dict:
    "name → edited copy."
    parts, strange = pieces(text), pieces(other)
    replaced = [strange[rng.integers(len(strange))] if k % 20 == 10 % len(parts) else w for k, w in enumerate(parts)]
    third = max(1, len(parts) // 3)
    return {'case and white space': re.sub(r' ', '  \t', text.upper()) + '\n',
            'one word in 20 replaced': joined(replaced, text),
            'a sentence of 8 words added': joined([*parts, *(strange * 8)[:8]], text),
            'two parts swapped': joined([*parts[third:], *parts[:third]], text)}


def planted(name: str, texts: list, rng) -> list:
    "A table line for each kind of edit."
    kinds = list(edits(texts[0], rng, texts[1]))
    copies = [edits(text, rng, texts[(k + 7) % len(texts)]) for k, text in enumerate(texts)]
    lines = []
    for kind in kinds:
        everything, n = [*texts, *(c[kind] for c in copies)], len(texts)
        recall, wrong = [], []
        for t in (.7, .8, .9, .95):
            cluster = cluster_texts(everything, t).cluster
            recall.append(f'{np.mean(cluster[:n] == cluster[n:]):.3f}')
            originals = Counter(cluster[:n].tolist())
            wrong.append(sum(c - 1 for c in originals.values()))
        lines.append(f'| {name} | {kind} | {" | ".join(recall)} | {" / ".join(map(str, wrong))} |')
    return lines


def made_up(kind: str, rng) -> list:
    "300 texts in a script that is not Latin, or in two at once."
    def letters(first, last): return [chr(c) for c in range(first, last)]
    def zipf(vocabulary, size):
        return rng.choice(vocabulary, size,
                          p=1 / np.arange(1, len(vocabulary) + 1) / (1 / np.arange(1, len(vocabulary) + 1)).sum())
    def word(alphabet, size): return ''.join(rng.choice(alphabet, size))
    chinese = [word(letters(0x4e00, 0x5e00), 2) for _ in range(4000)]
    if kind == 'Chinese, made up': return [''.join(zipf(chinese, 80)) + '。' for _ in range(300)]
    mixed = [word(letters(0x3b1, 0x3c9) if rng.random() < .5 else letters(97, 123),
                  rng.integers(2, 9)) for _ in range(4000)] + chinese[:500]
    return [' '.join(zipf(mixed, 80)) for _ in range(300)]


def boilerplate(rng) -> list:
    "Different texts under one header."
    header = ' '.join(f'header{i}' for i in range(60))
    vocabulary = [f'word{i}' for i in range(5000)]
    lines = ['| words of the text under a header of 60 words | merged at 0.7 | 0.8 | 0.9 | 0.95 |',
             '|---|---|---|---|---|']
    for size in (5, 10, 20, 50, 200):
        texts = [f'{header} {" ".join(rng.choice(vocabulary, size))}' for _ in range(500)]
        merged = [500 - len(set(cluster_texts(texts, t).cluster.tolist())) for t in (.7, .8, .9, .95)]
        lines.append(f'| {size} | {" | ".join(map(str, merged))} |')
    return lines


def shingles(text: str) -> set:
    words = re.findall(r'\w+', text.lower())
    return {' '.join(words[i:i + 3]) for i in range(max(1, len(words) - 2))}


def nearest_by_shingles(train: list, test: list) -> tuple:
    "(best Jaccard similarity, its train row) of each test text."
    sets, having = [shingles(t) for t in train], {}
    for row, shingles in enumerate(sets):
        for s in shingles: having.setdefault(s, []).append(row)
    best, who = np.zeros(len(test)), np.zeros(len(test), int)
    for k, text in enumerate(test):
        mine = shingles(text)
        for row, n in Counter(row for s in mine for row in having.get(s, ())).items():
            if (similar := n / (len(mine) + len(sets[row]) - n)) > best[k]:
                best[k], who[k] = similar, row
    return best, who


def banking(folder: Path) -> list:
    train, test = (pd.read_json(folder/f'banking77_{s}.jsonl', lines=True) for s in ('train', 'test'))
    best, who = nearest_by_shingles(list(train['text']), list(test['text']))
    scan = best >= .7
    lines = [f'The scan takes {scan.sum()} of {len(test):,} test rows for copies.', '',
             '| threshold of `leakage` | leaked rows | share | of the rows of the scan |', '|---|---|---|---|']
    for t in (.6, .7, .8, .9, .95):
        audit = leakage(train, test, t)
        lines.append(f'| {t:g} | {audit.leaked.sum():,} ({audit.counts["exact"]} exact) | '
                     f'{audit.share:.1%} | {(audit.leaked & scan).sum()} |')
    audit = leakage(train, test, .9)
    missed = np.flatnonzero(scan & ~audit.leaked)
    other = sum(test['label'][k] != train['label'][who[k]] for k in missed)
    differing = [len(set(words(test['text'][k])) ^ set(words(train['text'][who[k]]))) for k in missed]
    examples = '; '.join(f'"{test["text"][k].strip()}" / "{train["text"][who[k]].strip()}"' for k in missed[:3])
    return [*lines, '', f'Of the {len(missed)} rows that the scan has and `leakage` at 0.9 has not, '
            f'{other} have another label than their match. They and their matches differ in '
            f'{min(differing)} to {max(differing)} words (median {int(np.median(differing))}; both sides '
            'counted), and in so short a text these carry enough of the weight to bring the cosine below '
            f'0.9: {examples}. '
            f'The scan counts every word alike; the other way round, {(audit.leaked & ~scan).sum()} rows '
            'are leaked at 0.9 that the scan misses, because it wants the words in order.']


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('data', type=Path)
    p.add_argument('--write', action='store_true', help='put the tables into bench/RESULTS.md')
    args, rng = p.parse_args(), np.random.default_rng(0)
    texts = {name: [json.loads(line)['text'] for line in open(args.data/path, encoding='utf-8')]
             for name, path in (('banking77', 'banking77/banking77_train.jsonl'),
                                ('cuad_contracts', 'cuad_contracts/cuad_contracts.jsonl')) if (args.data/path).exists()}
    out = [machine(), '']
    if (path := args.data/'neardup_articles_1000/neardup_articles_1000.jsonl').exists():
        out += articles(path) + ['']
    out += ['Planted edits, 300 texts each: share of the copies found at the threshold, and how many of '
            'the 300 originals are merged with another original (at the four thresholds).', '',
            '| texts | edit | 0.7 | 0.8 | 0.9 | 0.95 | originals merged |', '|---|---|---|---|---|---|---|']
    for name, some in texts.items():
        out += planted(name, [some[k] for k in rng.permutation(len(some))[:300]], rng)
    for name in ('Chinese, made up', 'Greek, Latin and Chinese, made up'):
        out += planted(name, made_up(name, rng), rng)
    out += ['', *boilerplate(rng), '']
    if (args.data/'banking77').exists(): out += banking(args.data/'banking77')
    print('\n'.join(out))
    if args.write: write('\n'.join(out), 'duplicates.py')


if __name__ == '__main__': main()
