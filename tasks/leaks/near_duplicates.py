"""Pairs of nearly equal texts among many, without comparing all pairs.

MinHash signatures of character shingles, cut into bands: texts that agree in a whole band are
candidates, and only candidates are compared exactly. With the numbers below a pair at the
threshold is missed once in about 3,000 times. Everything is seeded, so the result is repeatable.
"""

import numpy as np
from scipy import sparse

#: Characters in a shingle.
SHINGLE = 4
_BANDS, _ROWS = 64, 6
#: Texts hashed at a time: their shingles stay within the processor's cache.
_BLOCK = 2_000
#: Candidates compared at a time.
_PAIR_BLOCK = 200_000
#: Candidates of several bands that wait, at least, before repeated ones are taken out.
_FRESH = 1_000_000
#: In a band, a text is compared with at most this many followers; equal texts were merged before,
#: so larger groups are made of near-empty texts only.
_FOLLOWERS = 200


def near_pairs(texts: list[str], threshold: float = 0.7) -> np.ndarray:
    """Pairs (P, 2) of rows i < j whose sets of shingles have a Jaccard index of ``threshold`` up.

    Args:
        texts: different from one another, already normalised.
        threshold: 0.7 finds sentences in which about one word in eight was changed.
    """
    if len(texts) < 2:
        return np.empty((0, 2), dtype=np.int64)
    pairs = _candidates(_band_keys(texts))
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


def _band_keys(texts: list[str]) -> np.ndarray:
    """A hash of each band of each text's signature, (bands, N) uint64.

    Texts are hashed block by block: signatures and shingles of all would take much more room.
    """
    rng = np.random.default_rng(20250731)
    count = _BANDS * _ROWS
    factor = rng.integers(1, 2**32, count, dtype=np.uint32) | np.uint32(1)
    shift = rng.integers(0, 2**32, count, dtype=np.uint32)
    keys = np.empty((_BANDS, len(texts)), dtype=np.uint64)
    for begin in range(0, len(texts), _BLOCK):
        block = texts[begin : begin + _BLOCK]
        owner, shingle = _shingles(block)
        start = np.searchsorted(owner, np.arange(len(block)))
        part = np.zeros((_BANDS, len(block)), dtype=np.uint64)
        for number in range(count):
            mixed = shingle * factor[number] + shift[number]
            mixed ^= mixed >> np.uint32(15)
            mixed *= np.uint32(0x85EBCA6B)
            least = np.minimum.reduceat(mixed, start).astype(np.uint64)
            band = part[number // _ROWS]
            if number % _ROWS:
                band *= np.uint64(0x9E3779B97F4A7C15)
                band += least
            else:
                band[:] = least
        keys[:, begin : begin + _BLOCK] = part
    return keys


def _candidates(keys: np.ndarray) -> np.ndarray:
    """Pairs (P, 2) of rows i < j that agree in at least one band, each once."""
    n = keys.shape[1]
    pairs, fresh, count = np.empty(0, dtype=np.int64), [], 0
    # a key and its row in one number are sorted many times faster than rows by their keys; what of
    # the key gives way to the row is told apart below as any other chance
    bits = np.uint64((n - 1).bit_length())
    low = (np.uint64(1) << bits) - np.uint64(1)
    rows = np.arange(n, dtype=np.uint64)
    for key in keys:
        both = np.sort((key & ~low) | rows)
        order, ordered = (both & low).astype(np.int64), both >> bits
        for step in range(1, min(_FOLLOWERS, n - 1) + 1):
            equal = np.flatnonzero(ordered[step:] == ordered[:-step])
            if not len(equal):
                break
            fresh.append(order[equal] * n + order[equal + step])
            count += len(equal)
        if count > max(len(pairs), _FRESH):  # not in each band: sorting all pairs takes longer
            pairs, fresh, count = _distinct(np.concatenate([pairs, *fresh])), [], 0
    pairs = _distinct(np.concatenate([pairs, *fresh]))
    return np.column_stack([pairs // n, pairs % n])


def _distinct(values: np.ndarray) -> np.ndarray:
    """``np.unique``, which is slower by far where it counts by a table of hashes."""
    ordered = np.sort(values)
    return ordered[np.append(True, ordered[1:] != ordered[:-1])] if len(ordered) else ordered
