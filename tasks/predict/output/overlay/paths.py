"""Where faces are between the frames that were looked at."""

from collections import defaultdict
from collections.abc import Iterable

import numpy as np

from tasks.predict.answer import Face

Box = tuple[float, float, float, float]
#: Between frames further apart than this a face may have been anywhere.
MOST_GAP_S = 2.5
#: A box stays this long before the first frame it was seen in, after the last, and within a gap.
HOLD_S = 0.25


class FacePaths:
    """Boxes of tracked faces at any time."""

    def __init__(self, faces: Iterable[Face]) -> None:
        found: dict[str, dict[int, list[Face]]] = defaultdict(lambda: defaultdict(list))
        for face in sorted(faces, key=lambda face: face.time_s):
            found[face.utterance][face.track].append(face)
        self._paths = {
            utterance: {
                track: (np.array([f.time_s for f in seen]), np.array([f.box_px for f in seen]))
                for track, seen in sorted(tracks.items())
            }
            for utterance, tracks in found.items()
        }

    def at(self, utterance: str, time_s: float) -> dict[int, Box]:
        """Track to box (x0, y0, x1, y1) in pixels, for the faces of an utterance."""
        found = {}
        for track, (times_s, boxes) in self._paths.get(utterance, {}).items():
            box = _between(times_s, boxes, time_s)
            if box is not None:
                x0, y0, x1, y1 = box.tolist()
                found[track] = (x0, y0, x1, y1)
        return found

    def tracks(self, utterance: str) -> int:
        """How many faces an utterance has."""
        return len(self._paths.get(utterance, {}))


def _between(times_s: np.ndarray, boxes: np.ndarray, time_s: float) -> np.ndarray | None:
    after = int(np.searchsorted(times_s, time_s))
    before = after - 1
    if before >= 0 and after < len(times_s):
        low, high = times_s[before], times_s[after]
        if high - low <= MOST_GAP_S:
            share = (time_s - low) / (high - low)
            return boxes[before] + share * (boxes[after] - boxes[before])
    near = min(
        (k for k in (before, after) if 0 <= k < len(times_s)),
        key=lambda k: abs(times_s[k] - time_s),
    )
    return boxes[near] if abs(times_s[near] - time_s) <= HOLD_S else None
