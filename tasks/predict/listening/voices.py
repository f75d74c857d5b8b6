"""Who speaks: utterances of one medium put together by how alike their voices are."""

from collections.abc import Sequence

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage

#: Voices further apart than this (1 - cosine of their vectors, mean over pairs) are two people.
APART = 0.3
#: Shorter utterances found no person of their own: too little is heard of the voice.
FOUNDING_S = 1.0


def tell_apart(voices: np.ndarray, known: np.ndarray, lengths_s: Sequence[float]) -> list[int]:
    """Number of the speaker of each utterance, from 1 by first appearance; 0 where not known.

    Args:
        voices: (N, D) vectors of length 1.
        known: (N,) bool; others have no vector.
        lengths_s: (N,) of the utterances.
    """
    lengths = np.asarray(lengths_s)
    founders = known & (lengths >= FOUNDING_S)
    if not founders.any():
        founders = known
    groups = np.zeros(len(voices), np.int64)
    if founders.sum() == 1:
        groups[founders] = 1
    elif founders.any():
        tree = linkage(voices[founders], method="average", metric="cosine")
        groups[founders] = fcluster(tree, APART, criterion="distance")
    rest = np.flatnonzero(known & ~founders)
    if len(rest) and founders.any():
        numbers = np.unique(groups[founders])
        centres = np.stack([voices[groups == number].mean(axis=0) for number in numbers])
        centres /= np.linalg.norm(centres, axis=1, keepdims=True)
        groups[rest] = numbers[(voices[rest] @ centres.T).argmax(axis=1)]
    order = {number: place for place, number in enumerate(dict.fromkeys(groups[groups > 0]), 1)}
    return [order.get(number, 0) for number in groups]
