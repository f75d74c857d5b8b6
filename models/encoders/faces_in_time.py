"""Which of an utterance's faces are encoded, and how far apart in time they are."""

from collections.abc import Sequence

import numpy as np


def spread(count: int, most: int) -> list[int]:
    """Indices of at most ``most`` of ``count`` faces, at the middles of equal stretches."""
    if count <= most:
        return list(range(count))
    return [int(place) for place in (np.arange(most) + 0.5) * count / most]


def hop_s(times_s: Sequence[float]) -> float | None:
    """Seconds from face to face where they are evenly spaced (within 10 %), else None."""
    steps = np.diff(times_s)
    if not len(steps) or steps.min() <= 0 or steps.max() - steps.min() > 0.1 * steps.mean():
        return None
    return round(float(steps.mean()), 6)
