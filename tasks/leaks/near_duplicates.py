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
    owner, shingle = _shingles(texts)
    start = np.searchsorted(owner, np.arange(len(texts)))
    pairs = _candidates(_signatures(shingle, start))
    if not len(pairs):
        return pairs
    # only texts in some pair are compared, which are few
    is_paired = np.zeros(len(texts), dtype=bool)
    is_paired[pairs] = True
    chosen = is_paired[owner]
    _, code = np.unique(shingle[chosen], return_inverse=True)
    table = sparse.csr_array(
        (np.ones(len(code), dtype=np.int32), (owner[chosen], code)),
        shape=(len(texts), int(code.max()) + 1),
    )
    sizes = np.diff(table.indptr)
    kept = [np.empty((0, 2), dtype=np.int64)]
    for begin in range(0, len(pairs), _PAIR_BLOCK):
        block = pairs[begin : begin + _PAIR_BLOCK]
        a, b = block[:, 0], block[:, 1]
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


def _signatures(shingle: np.ndarray, start: np.ndarray) -> np.ndarray:
    """MinHash signatures (N, bands x rows), uint32."""
    rng = np.random.default_rng(20250731)
    count = _BANDS * _ROWS
    factor = rng.integers(1, 2**32, count, dtype=np.uint32) | np.uint32(1)
    shift = rng.integers(0, 2**32, count, dtype=np.uint32)
    signatures = np.empty((len(start), count), dtype=np.uint32)
    bounds = np.append(start, len(shingle))
    for begin in range(0, len(start), _BLOCK):
        end = min(begin + _BLOCK, len(start))
        part = shingle[bounds[begin] : bounds[end]]
        offsets = start[begin:end] - bounds[begin]
        for number in range(count):
            mixed = part * factor[number] + shift[number]
            mixed ^= mixed >> np.uint32(15)
            mixed *= np.uint32(0x85EBCA6B)
            signatures[begin:end, number] = np.minimum.reduceat(mixed, offsets)
    return signatures


def _candidates(signatures: np.ndarray) -> np.ndarray:
    """Pairs (P, 2) of rows i < j that agree in at least one band, each once."""
    n = len(signatures)
    found = []
    for band in range(_BANDS):
        columns = signatures[:, band * _ROWS : (band + 1) * _ROWS].astype(np.uint64)
        key = columns[:, 0]
        for number in range(1, _ROWS):
            key = key * np.uint64(0x9E3779B97F4A7C15) + columns[:, number]
        order = np.argsort(key, kind="stable")
        ordered = key[order]
        for step in range(1, min(_FOLLOWERS, n - 1) + 1):
            equal = np.flatnonzero(ordered[step:] == ordered[:-step])
            if not len(equal):
                break
            found.append(order[equal] * n + order[equal + step])
        found = [np.unique(np.concatenate(found))] if found else []
    pairs = found[0] if found else np.empty(0, dtype=np.int64)
    return np.column_stack([pairs // n, pairs % n])
