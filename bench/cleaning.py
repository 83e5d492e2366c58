"""The cleaning engine beside its peers: the same rows, in turns, one process for each run.

    python bench/cleaning.py [DATA] [--work FOLDER] [--runs 5] [--only NAME] [--write]

Corpora are made by bench/corpus.py in --work (2 GB for the largest); DATA adds the real ones under
it. What each contender does:

- libdocs: texts to TF-IDF rows to all pairs with a cosine of at least 0.9 (`tfidf_rows`,
  `near_duplicates`)
- exact: TfidfVectorizer(sublinear_tf=True) and sparse_dot_topn's sp_matmul_topn on all cores: the same
  weights, the same pairs
- rensa: only the MinHash signatures (128 permutations over the words of each text), no search
- datasketch: MinHash signatures (128 permutations) and MinHash-LSH at 0.8

Times are wall seconds from the list of Python strings to the result, without imports and after one
call on two short texts (which loads libdocs's compiled code); medians of --runs runs in turns, with
the range. The rows "1,000,000" and "worst" are `cluster_texts`, from a Parquet file read in batches
and from lists; peak memory is that of the complete process."""
import argparse, json, os, re, resource, statistics, subprocess, sys, tempfile, threading, time
from pathlib import Path

import numpy as np

import corpus
from main_job import machine, write

threads = len(os.sched_getaffinity(0))


def libdocs(texts: list) -> tuple:
    from libdocs.utils.data_cleaner.tfidf import near_duplicates, tfidf_rows
    pairs = near_duplicates(tfidf_rows(texts), .9).rows
    return len(pairs), hash(pairs.tobytes())


def exact(texts: list, **how) -> tuple:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sparse_dot_topn import sp_matmul_topn
    rows = TfidfVectorizer(sublinear_tf=True, token_pattern=r'(?u)[^\W_]+', **how).fit_transform(texts).tocsr()
    products = sp_matmul_topn(rows, rows.T.tocsr(), top_n=min(len(texts), 2000), threshold=.9 - 1e-9,
                              n_threads=threads).tocoo()
    pairs = np.column_stack([products.row, products.col])[products.row < products.col].astype(np.int64)
    pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
    return len(pairs), hash(pairs.tobytes())


def exact_with_our_words(texts: list) -> tuple:
    "The peer with libdocs's definition of a word: to distinguish a difference of words from one of search."
    from libdocs.utils.data_cleaner.words import words
    return exact(texts, analyzer=words)


def rensa(texts: list) -> tuple:
    from rensa import RMinHash
    signatures = []
    for text in texts:
        signature = RMinHash(num_perm=128, seed=42)
        signature.update(text.split())
        signatures.append(signature)
    return len(signatures), None


def datasketch(texts: list) -> tuple:
    from datasketch import MinHash, MinHashLSH
    index, pairs = MinHashLSH(threshold=.8, num_perm=128), 0
    for row, signature in enumerate(MinHash.generator(
        ([w.encode() for w in set(text.split())] for text in texts), num_perm=128)):
        pairs += len(index.query(signature))
        index.insert(row, signature)
    return pairs, None


def stream(paths: str) -> tuple:
    import pyarrow.parquet as pq
    from libdocs.utils.data_cleaner.tfidf import cluster_texts
    files = (pq.ParquetFile(path) for path in paths.split(os.pathsep))
    clusters = cluster_texts(batch.column(0) for file in files for batch in file.iter_batches(5000, columns=['text']))
    return len(clusters.texts) - len(np.unique(clusters.cluster)), None


def clusters(texts: list) -> tuple:
    from libdocs.utils.data_cleaner.tfidf import cluster_texts
    return len(texts) - len(np.unique(cluster_texts(texts).cluster)), None


def worst(name: str) -> list:
    "Texts made to hurt."
    rng, words, n = np.random.default_rng(0), [f'w{i}' for i in range(100_000)], 200_000
    form, long_form = ' '.join(words[:100]), ' '.join(words[:2000])
    if name == 'identical': return ['the same text again and again'] * n
    if name == 'form letter, one word of its own': return [f'{form} x{i}' for i in range(n)]
    if name == 'form letter, one of 1,000 words':
        return [f'{form} x{i}' for i in rng.integers(0, 1000, n)]
    if name == 'form letter, two of 1,000 words':
        return [f'{form} x{i} y{j}' for i, j in rng.integers(0, 1000, (n, 2))]
    if name == 'form letter of 2,000 words, one of its own (20,000 rows)':
        return [f'{long_form} x{i}' for i in range(20_000)]
    if name == 'form letter, a word anywhere changed':
        return [' '.join([*words[:p], f'y{q}', *words[p + 1:100]])
                for p, q in zip(rng.integers(0, 100, n), rng.integers(0, 500, n))]
    if name == 'one text of 50 MB and 100 short ones':
        return [' '.join(words[i] for i in rng.zipf(1.3, 9_500_000) % 100_000)] + ['a b c'] * 100
    if name == '1,000,000 rows of 3 words out of 1,000':
        return [' '.join(words[i] for i in row) for row in rng.integers(0, 1000, (1_000_000, 3))]
    if name == '1,000,000 rows of 3 Zipf words':
        return [' '.join(words[i] for i in row) for row in rng.zipf(1.2, (1_000_000, 3)) % 100_000]


WORST = ['identical', 'form letter, one word of its own', 'form letter, one of 1,000 words',
         'form letter, two of 1,000 words', 'form letter, a word anywhere changed',
         'form letter of 2,000 words, one of its own (20,000 rows)', 'one text of 50 MB and 100 short ones',
         '1,000,000 rows of 3 words out of 1,000', '1,000,000 rows of 3 Zipf words']


def load(source: str) -> list:
    "Texts from a Parquet or JSONL file, or made to hurt."
    if source in WORST: return worst(source)
    if source.endswith('.parquet'):
        import pyarrow.parquet as pq
        return pq.read_table(source, columns=['text'])['text'].to_pylist()
    return [json.loads(line)['text'] for line in open(source, encoding='utf-8')]


def once(contender: str, source: str):
    "One run, in this process; prints seconds, result and peak memory as JSON."
    work = globals()[contender]
    if contender == 'stream': clusters(['a b', 'a c'])
    else: work(['a b', 'a c'])
    data = source if contender == 'stream' else load(source)
    start, most, ended = time.perf_counter(), [0], threading.Event()
    watch = threading.Thread(target=watch_memory, args=(most, ended), daemon=True)
    watch.start()
    count, digest = work(data)
    seconds = time.perf_counter() - start
    ended.set(), watch.join()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps([seconds, count, digest, peak, most[0] / 2**20]))


def watch_memory(most: list, ended: threading.Event):
    "Keep in `most[0]` the kB of this process that are in no file: the system cannot take these back."
    while not ended.wait(.2):
        status = Path('/proc/self/status').read_text()
        most[0] = max(most[0], int(re.search(r'RssAnon:\s*(\d+)', status)[1]))


def in_turns(contenders: list, source: str, runs: int) -> dict:
    "contender → list of [seconds, count, digest, GiB, GiB that are in no file], one for each run."
    results = {c: [] for c in contenders}
    for _ in range(runs):
        for contender in contenders:
            done = subprocess.run([sys.executable, __file__, '--once', contender, source],
                                  capture_output=True, text=True, env=os.environ | dict(PYTHONHASHSEED='0'))
            if done.returncode: raise SystemExit(done.stderr[-3000:])
            results[contender].append(json.loads(done.stdout.splitlines()[-1]))
            print(contender, source, results[contender][-1], flush=True)
    return results


def seconds(runs: list) -> tuple:
    "(median, text) of some runs."
    times = [r[0] for r in runs]
    middle = statistics.median(times)
    return middle, f'{middle:.2f} s ({min(times):.2f} – {max(times):.2f})'


def agreement(source: str, measured: dict, same: bool) -> str:
    "Whether the exact peer found the same pairs, and if not, whether it does with the same words."
    if same: return 'the same pairs'
    again = in_turns(['exact_with_our_words'], source, 1)['exact_with_our_words'][0]
    return f'{measured["exact"][0][1]:,} pairs; with the words of libdocs ' + (
        'the same pairs' if again[2] == measured['libdocs'][0][2] else f'{again[1]:,} pairs: NOT THE SAME')


def compare(name: str, source: str, contenders: list, runs: int) -> list:
    "Table lines of libdocs beside its peers."
    measured = in_turns(['libdocs', *contenders], source, runs)
    ours, text = seconds(measured['libdocs'])
    lines = [f'| {name} | libdocs | {text} | | {measured["libdocs"][0][1]:,} pairs |']
    for contender in contenders:
        theirs, text = seconds(measured[contender])
        same = {r[2] for r in measured[contender] + measured['libdocs']}
        what = agreement(source, measured, len(same) == 1) if contender == 'exact' else {
            'rensa': 'signatures only', 'datasketch': f'{measured[contender][0][1]:,} pairs, approximate'}[contender]
        lines.append(f'| | {contender} | {text} | **{theirs / ours:.1f} ×** | {what} |')
    return lines


def made(folder: Path, rows: int, chars: int, seed: int = 0) -> str:
    "A corpus of bench/corpus.py, made if it is not there."
    path = folder/f'zipf_{rows}_{chars}{f"_{seed}" if seed else ""}.parquet'
    if not path.exists():
        corpus.write(f'{path}.part', rows, chars, seed=seed)
        os.replace(f'{path}.part', path)
    return str(path)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('data', type=Path, nargs='?')
    p.add_argument('--work', type=Path, default=Path(tempfile.gettempdir())/'libdocs_bench')
    p.add_argument('--runs', type=int, default=5)
    p.add_argument('--only', default='', help='peers, real, large, worst or huge (ten million rows, an hour to make)')
    p.add_argument('--once', nargs=2, metavar=('CONTENDER', 'SOURCE'), help=argparse.SUPPRESS)
    p.add_argument('--write', action='store_true', help='put the tables into bench/RESULTS.md')
    args = p.parse_args()
    if args.once: return once(*args.once)
    args.work.mkdir(parents=True, exist_ok=True)
    for part, measure in dict(peers=peers, real=real, large=large, worst=worst_cases, huge=huge).items():
        if args.only not in part or (part == 'huge' and not args.only): continue
        text = '\n'.join([f'{machine().replace("one run each", f"median of {args.runs} runs, with the range")}',
                          '', *measure(args)])
        print(text, flush=True)
        if args.write: write(text, f'cleaning.py {part}')


def peers(args) -> list:
    head = ['| rows | contender | seconds | times libdocs | result |', '|---|---|---|---|---|']
    head += compare('20,000 documents of 1.7 kB', made(args.work, 20_000, 1700), ['exact'], args.runs)
    return head + compare('130,000 texts of 60 characters', made(args.work, 130_000, 60),
                          ['exact', 'rensa', 'datasketch'], args.runs)


def real(args) -> list:
    head = ['| corpus | contender | seconds | times libdocs | result |', '|---|---|---|---|---|']
    for name in ('sms_spam/sms_spam', 'clinc150/clinc150_train', 'banking77/banking77_train',
                 'cuad_contracts/cuad_contracts', 'neardup_articles_1000/neardup_articles_1000'):
        path = args.data/f'{name}.jsonl' if args.data else None
        if path is None or not path.exists(): print(f'skipped {name}: not there')
        else: head += compare(Path(name).name, str(path), ['exact'], args.runs)
    return head


def large(args) -> list:
    small, big = (in_turns(['stream'], made(args.work, rows, 1700), args.runs)['stream']
                  for rows in (100_000, 1_000_000))
    lines = ['| rows | seconds | peak memory | copies found |', '|---|---|---|---|']
    for name, runs in (('100,000 documents of 1.7 kB', small), ('1,000,000 documents of 1.7 kB', big)):
        lines.append(f'| {name} | {seconds(runs)[1]} | {max(r[3] for r in runs):.2f} GiB | {runs[0][1]:,} |')
    return lines + ['', f'Ten times the rows take {seconds(big)[0] / seconds(small)[0]:.1f} times as long.']


def huge(args) -> list:
    lines = ['| rows | seconds | memory that is in no file | with files that are mapped | copies found |',
             '|---|---|---|---|---|']
    for millions in (1, 10):
        paths = [made(args.work, 1_000_000, 1700, seed) for seed in range(millions)]
        runs = in_turns(['stream'], os.pathsep.join(paths), args.runs)['stream']
        own, mapped = (max(run[at] for run in runs) for at in (4, 3))
        name, copies = f'{millions},000,000 documents of 1.7 kB', runs[0][1]
        lines.append(f'| {name} | {seconds(runs)[1]} | {own:.2f} GiB | {mapped:.2f} GiB | {copies:,} |')
    return lines


def worst_cases(args) -> list:
    lines = ['| 200,000 rows, if not said otherwise | seconds | peak memory | copies found |', '|---|---|---|---|']
    for name in WORST:
        runs = in_turns(['clusters'], name, args.runs)['clusters']
        lines.append(f'| {name} | {seconds(runs)[1]} | {max(r[3] for r in runs):.2f} GiB | {runs[0][1]:,} |')
    return lines


if __name__ == '__main__': main()
