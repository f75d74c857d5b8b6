"""How far features are from those that a network learnt from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

#: Share of the training rows that are no further away than the limit.
SHARE = 0.99
_WHAT = {"audio": "sound", "video": "face", "text": "words"}


@dataclass(frozen=True)
class Range:
    """Where the features of the training rows lie, of one modality.

    Attributes:
        mean: (D,).
        scale: (D,) standard deviations; dimensions of 0 do not count.
        limit: distance that ``SHARE`` of the training rows do not exceed.
    """

    mean: np.ndarray
    scale: np.ndarray
    limit: float

    @classmethod
    def of(cls, rows: np.ndarray) -> "Range":
        """That of training rows (N, D)."""
        exact = rows.astype(np.float64)
        found = cls(exact.mean(axis=0), exact.std(axis=0), np.inf)
        return cls(found.mean, found.scale, float(np.quantile(found.distances(rows), SHARE)))

    def distances(self, rows: np.ndarray) -> np.ndarray:
        """(N,) root mean square over the dimensions, in standard deviations."""
        varies = self.scale > 1e-6 * (1 + np.abs(self.mean))
        z = (rows[:, varies].astype(np.float64) - self.mean[varies]) / self.scale[varies]
        return np.sqrt(np.square(z).mean(axis=1)) if varies.any() else np.zeros(len(rows))


def told(far: Sequence[str]) -> str:
    """A sentence about the modalities that lie beyond their limit; empty without any."""
    if not far:
        return ""
    names = " and ".join(_WHAT[name] for name in far)
    verb = "are" if far == ["text"] or len(far) > 1 else "is"
    return f"the {names} {verb} further from the training data than {SHARE:.0%} of those are"


def beyond(
    ranges: Mapping[str, Range],
    features: Mapping[str, np.ndarray],
    present: Mapping[str, np.ndarray],
) -> list[list[str]]:
    """For each row the modalities that lie beyond their limit.

    Args:
        ranges: of those modalities that have one.
        features: modality to (N, D).
        present: modality to (N,) bool.
    """
    count = len(next(iter(present.values()))) if present else 0
    found: list[list[str]] = [[] for _ in range(count)]
    for name, limits in ranges.items():
        if name in features:
            is_far = present[name] & (limits.distances(features[name]) > limits.limit)
            for row in np.flatnonzero(is_far):
                found[row].append(name)
    return found
