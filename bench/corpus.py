"""Made-up corpora for the benchmarks: words as rare as English words are, and near-duplicates
planted at known cosines.

Word frequencies follow the double power law that Gerlach & Altmann (Phys. Rev. X 3, 021006, 2013)
fitted to English: f(r) ~ 1/r up to rank 7,873 and ~ 1/r^1.77 behind it, without end, so that the
vocabulary grows with the corpus as it does in real text (here up to rank 3 million).

    python bench/corpus.py OUT.parquet --rows 20000 --chars 1700 [--planted 0.05] [--seed 0]

writes a Parquet file with the columns text, copy_of (number of the row that a planted row was made
from, or null) and cosine (the one aimed at)."""
import argparse, functools
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

knee, steepness, ranks = 7873, 1.77, 3_000_000
letters_per_word = 5.37  # of the words of `vocabulary`, in a running text, with the space behind them


@functools.cache
def rank_edges() -> np.ndarray:
    "(ranks,) float64: running sums of `rank_frequencies`, up to 1."
    edges = np.cumsum(rank_frequencies())
    return edges / edges[-1]


@functools.cache
def rank_frequencies() -> np.ndarray:
    "(ranks,) float64: how often the word of each rank stands in a text; they sum to 1."
    rank = np.arange(1, ranks + 1, dtype=float)
    frequency = np.where(rank <= knee, 1 / rank, knee ** (steepness - 1) / rank ** steepness)
    return frequency / frequency.sum()


@functools.cache
def vocabulary() -> pa.Array:
    "The word of each rank: syllables that count in base 80 and a last consonant, so that frequent words are short."
    syllables = np.array([c + v for c in 'bcdfghklmnprstvz' for v in 'aeiou'])
    numbers, word, more = np.arange(ranks), np.full(ranks, '', dtype='U9'), np.full(ranks, True)
    while more.any():
        word[more] = np.char.add(word[more], syllables[numbers[more] % 80])
        numbers //= 80
        more &= numbers > 0
    return pa.array(np.char.add(word, np.array(list('dlmnrst'))[np.arange(ranks) % 7]).tolist(), pa.string())


def draw(count: int, rng: np.random.Generator) -> np.ndarray:
    "(count,) int32 ranks from 0."
    return np.searchsorted(rank_edges(), rng.random(count)).astype(np.int32)


def edited(words: np.ndarray, cosine: float, idf: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    "A copy of `words` with words replaced, one after the other, until the TF-IDF cosine has come down to `cosine`."
    def weights(text):
        return {w: (1 + np.log(n)) * idf[w] for w, n in zip(*np.unique(text, return_counts=True))}
    def similarity(a, b):
        return sum(a[w] * b[w] for w in a.keys()
                   & b.keys()) / np.sqrt(sum(v * v for v in a.values()) * sum(v * v for v in b.values()))
    places, others, before = rng.permutation(len(words)), draw(len(words), rng), weights(words)
    low, high = 0, len(words)
    while high - low > 1:  # the cosine falls with each word, but for little waves: search by halves
        middle, copy = (low + high) // 2, words.copy()
        copy[places[:middle]] = others[:middle]
        low, high = (middle, high) if similarity(before, weights(copy)) >= cosine else (low, middle)
    copy = words.copy()
    copy[places[:low]] = others[:low]
    return copy


def texts(rows: int, chars: int, planted: float = .05, seed: int = 0, block: int = 10_000) -> Iterator[pa.Table]:
    """Blocks of `rows` texts of about `chars` characters in all, a share `planted` of them edited copies of an
    earlier row of their block."""
    length = max(3, round(chars / letters_per_word))
    idf = np.log((1 + rows) / (1 + rows * -np.expm1(-length * rank_frequencies()))) + 1
    for start in range(0, rows, block):
        rng, n = np.random.default_rng([seed, start]), min(block, rows - start)
        lengths = np.maximum(3, rng.poisson(length, n))
        documents = np.split(draw(lengths.sum(), rng), np.cumsum(lengths)[:-1])
        copy_of, cosines = np.full(n, -1), np.full(n, np.nan)
        for row in rng.choice(np.arange(1, n), round(planted * n), replace=False) if n > 1 else []:
            copy_of[row], cosines[row] = rng.integers(row), rng.uniform(.5, 1)
            documents[row] = edited(documents[copy_of[row]], cosines[row], idf, rng)
        offsets = np.concatenate([[0], np.cumsum([len(d) for d in documents])]).astype(np.int32)
        words = pa.ListArray.from_arrays(offsets, vocabulary().take(pa.array(np.concatenate(documents))))
        numbers = pa.array(np.where(copy_of < 0, 0, copy_of + start), mask=copy_of < 0)
        yield pa.table({'text': pc.binary_join(words, ' '), 'copy_of': numbers,
                        'cosine': pa.array(cosines, mask=copy_of < 0)})


def write(path: str, rows: int, chars: int, planted: float = .05, seed: int = 0):
    "Write `texts` to a Parquet file, block by block."
    writer = None
    for table in texts(rows, chars, planted, seed):
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    writer.close()


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('path')
    parser.add_argument('--rows', type=int, default=20_000)
    parser.add_argument('--chars', type=int, default=1700)
    parser.add_argument('--planted', type=float, default=.05)
    parser.add_argument('--seed', type=int, default=0)
    write(**vars(parser.parse_args()))
