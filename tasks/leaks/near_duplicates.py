"""Pairs of nearly equal texts among many, without comparing all pairs.

MinHash signatures of character shingles, cut into bands: texts that agree in a whole band are
candidates. Those whose sketches differ too much for the threshold are dropped, and what is left is
compared exactly. With the numbers below a pair at the threshold is missed once in about 3,000
times. Everything is seeded, so the result is repeatable.
"""

from dataclasses import dataclass

import numpy as np
from scipy import sparse

#: Characters in a shingle.
SHINGLE = 4
_BANDS, _ROWS = 64, 6
#: Words of 64 bits in a sketch, one bit for a shingle or several.
_WORDS = 4
#: Texts hashed at a time: their shingles stay within the processor's cache.
_BLOCK = 2_000
#: Candidates compared at a time.
_PAIR_BLOCK = 200_000
#: Candidates of several bands that wait, at least, before repeated ones are taken out.
_FRESH = 1_000_000
#: In a band, a text is compared with at most this many followers; equal texts were merged before,
#: so larger groups are made of near-empty texts only.
_FOLLOWERS = 200


@dataclass(frozen=True)
class _Hashed:
    """What is known of each text without its shingles.

    Attributes:
        keys: a hash of each band of its signature, (bands, N) uint64.
        sketches: the bits of its shingles, (N, words) uint64.
        sizes: how many different shingles it has.
    """

    keys: np.ndarray
    sketches: np.ndarray
    sizes: np.ndarray


def near_pairs(texts: list[str], threshold: float = 0.7) -> np.ndarray:
    """Pairs (P, 2) of rows i < j whose sets of shingles have a Jaccard index of ``threshold`` up.

    Args:
        texts: different from one another, already normalised.
        threshold: 0.7 finds sentences in which about one word in eight was changed.
    """
    if len(texts) < 2:
        return np.empty((0, 2), dtype=np.int64)
    pairs = _candidates(_hashed(texts), threshold)
    if not len(pairs):
        return pairs
    # only texts in some pair are compared, which are few
    paired = _distinct(pairs.ravel())
    owner, shingle = _shingles([texts[row] for row in paired])
    begins = np.searchsorted(owner, np.arange(len(paired) + 1))
    table = sparse.csr_array(
        (np.ones(len(shingle), dtype=np.int32), shingle.astype(np.int64), begins),
        shape=(len(paired), 2**32),
    )
    place = np.searchsorted(paired, pairs)
    sizes = np.diff(table.indptr)
    kept = [np.empty((0, 2), dtype=np.int64)]
    for begin in range(0, len(pairs), _PAIR_BLOCK):
        block = pairs[begin : begin + _PAIR_BLOCK]
        a, b = place[begin : begin + _PAIR_BLOCK].T
        common = np.asarray(table[a].multiply(table[b]).sum(axis=1)).ravel()
        jaccard = common / (sizes[a] + sizes[b] - common)
        kept.append(block[jaccard >= threshold])
    return np.concatenate(kept)


def _shingles(texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Row and 32-bit hash of each different shingle of each text, sorted by row."""
    # padding gives every text at least one shingle and makes its ends count
    padded = [f" {text}  "[:10_000] + " " * max(0, SHINGLE - len(text) - 3) for text in texts]
    lengths = np.array([len(text) for text in padded])
    points = np.frombuffer("".join(padded).encode("utf-32-le"), dtype=np.uint32).astype(np.uint64)
    owner = np.repeat(np.arange(len(texts)), lengths)
    hashed = np.zeros(len(points) - SHINGLE + 1, dtype=np.uint64)
    for offset in range(SHINGLE):
        hashed = hashed * np.uint64(0x9E3779B97F4A7C15) + points[offset : offset + len(hashed)]
    hashed ^= hashed >> np.uint64(29)
    hashed *= np.uint64(0xBF58476D1CE4E5B9)
    short = hashed >> np.uint64(32)
    inside = owner[: len(hashed)] == owner[SHINGLE - 1 :]
    keys = np.sort(
        (owner[: len(hashed)][inside].astype(np.uint64) << np.uint64(32)) | short[inside]
    )
    keys = keys[np.append(True, keys[1:] != keys[:-1])]
    low = (keys & np.uint64(0xFFFFFFFF)).astype(np.uint32)
    return (keys >> np.uint64(32)).astype(np.int64), low


def _hashed(texts: list[str]) -> _Hashed:
    """Texts are hashed block by block: signatures and shingles of all would take much more room."""
    rng = np.random.default_rng(20250731)
    count = _BANDS * _ROWS
    factor = rng.integers(1, 2**32, count, dtype=np.uint32) | np.uint32(1)
    shift = rng.integers(0, 2**32, count, dtype=np.uint32)
    n = len(texts)
    keys = np.empty((_BANDS, n), dtype=np.uint64)
    sketches = np.empty((n, _WORDS), dtype=np.uint64)
    sizes = np.empty(n, dtype=np.int64)
    for begin in range(0, n, _BLOCK):
        block = slice(begin, min(begin + _BLOCK, n))
        owner, shingle = _shingles(texts[block])
        bounds = np.searchsorted(owner, np.arange(block.stop - begin + 1))
        start = bounds[:-1]
        sizes[block] = np.diff(bounds)
        bit = np.uint64(1) << (shingle & np.uint32(63)).astype(np.uint64)
        word = (shingle >> np.uint32(6)) % np.uint32(_WORDS)
        for number in range(_WORDS):
            inside = np.where(word == number, bit, np.uint64(0))
            sketches[block, number] = np.bitwise_or.reduceat(inside, start)
        for number in range(count):
            mixed = shingle * factor[number] + shift[number]
            mixed ^= mixed >> np.uint32(15)
            mixed *= np.uint32(0x85EBCA6B)
            least = np.minimum.reduceat(mixed, start)
            band = keys[number // _ROWS, block]
            if number % _ROWS:
                band *= np.uint64(0x9E3779B97F4A7C15)
                band += least
            else:
                band[:] = least
    return _Hashed(keys, sketches, sizes)


def _candidates(hashed: _Hashed, threshold: float) -> np.ndarray:
    """Pairs (P, 2) of rows i < j that agree in a band and may reach the threshold, each once."""
    n = hashed.keys.shape[1]
    pairs, fresh, count = np.empty(0, dtype=np.int64), [], 0
    # a key and its row in one number are sorted many times faster than rows by their keys; what of
    # the key gives way to the row is told apart below as any other chance
    bits = np.uint64((n - 1).bit_length())
    low = (np.uint64(1) << bits) - np.uint64(1)
    rows = np.arange(n, dtype=np.uint64)
    for key in hashed.keys:
        both = np.sort((key & ~low) | rows)
        ordered = both >> bits
        first = np.flatnonzero(ordered[1:] == ordered[:-1])
        for step in range(1, _FOLLOWERS + 1):
            if not len(first):
                break
            a, b = ((both[place] & low).astype(np.int64) for place in (first, first + step))
            near = _within_reach(a, b, hashed, threshold)
            fresh.append(a[near] * n + b[near])
            count += len(fresh[-1])
            # equal keys stand side by side: who agrees with the next but one agrees with the next
            first = first[first + step + 1 < n]
            first = first[ordered[first + step + 1] == ordered[first]]
        if count > max(len(pairs), _FRESH):  # not in each band: sorting all pairs takes longer
            pairs, fresh, count = _distinct(np.concatenate([pairs, *fresh])), [], 0
    pairs = _distinct(np.concatenate([pairs, *fresh]))
    return np.column_stack([pairs // n, pairs % n])


def _within_reach(a: np.ndarray, b: np.ndarray, hashed: _Hashed, threshold: float) -> np.ndarray:
    """Which pairs the threshold may hold for: each bit that differs is a shingle not shared."""
    apart = np.bitwise_count(hashed.sketches[a] ^ hashed.sketches[b]).sum(axis=1)
    most = (hashed.sizes[a] + hashed.sizes[b]) * (1 - threshold) / (1 + threshold)
    return apart <= most + 1e-6


def _distinct(values: np.ndarray) -> np.ndarray:
    """``np.unique``, which is slower by far where it counts by a table of hashes."""
    ordered = np.sort(values)
    return ordered[np.append(True, ordered[1:] != ordered[:-1])] if len(ordered) else ordered
