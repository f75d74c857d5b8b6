"""From faces in single frames to tracks: who is where at every sampled frame of an utterance.

Faces are looked for in some of the frames only. A track links what was found by overlap, fills the
frames between two finds along a straight line, and never reaches beyond its first or last find.
Boxes are (x0, y0, x1, y1) and landmarks (5, 2) in pixels of one frame size throughout.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from scipy.optimize import linear_sum_assignment

from models.mtcnn.detector import Faces


@dataclass(frozen=True)
class TrackedFace:
    """One track at one frame."""

    frame: int
    track: int
    box_px: np.ndarray
    landmarks_px: np.ndarray
    confidence: float
    is_detected: bool


@dataclass
class Track:
    """Where one face was found: ``frames`` ascending, one box, landmarks, confidence for each.

    ``scene`` counts the cuts before; no track goes on beyond a cut.
    """

    number: int
    scene: int = 0
    frames: list[int] = field(default_factory=list)
    times_s: list[float] = field(default_factory=list)
    boxes_px: list[np.ndarray] = field(default_factory=list)
    landmarks_px: list[np.ndarray] = field(default_factory=list)
    confidence: list[float] = field(default_factory=list)

    def add(self, frame: int, time_s: float, faces: Faces, row: int) -> None:
        """Append face ``row`` of ``faces``."""
        self.frames.append(frame)
        self.times_s.append(time_s)
        self.boxes_px.append(faces.boxes_px[row])
        self.landmarks_px.append(faces.landmarks_px[row])
        self.confidence.append(float(faces.confidence[row]))

    def at(self, frames: np.ndarray, times_s: np.ndarray) -> list[TrackedFace]:
        """The track at those of ``frames`` (T,) that lie between its first and last find.

        Between two finds box, landmarks and confidence change linearly with time.
        """
        inside = (frames >= self.frames[0]) & (frames <= self.frames[-1])
        frames, times_s = frames[inside], times_s[inside]
        found = np.asarray(self.frames)
        after = np.searchsorted(found, frames)  # first find at or after each frame
        before = np.where(found[after] == frames, after, after - 1)
        known_s = np.asarray(self.times_s)
        gap_s = known_s[after] - known_s[before]
        weight = np.divide(
            times_s - known_s[before], gap_s, out=np.zeros(len(frames)), where=gap_s > 0
        )
        boxes = _between(np.stack(self.boxes_px), before, after, weight)
        landmarks = _between(np.stack(self.landmarks_px), before, after, weight)
        confidence = _between(np.asarray(self.confidence), before, after, weight)
        return [
            TrackedFace(int(frame), self.number, box, points, float(sure), bool(is_found))
            for frame, box, points, sure, is_found in zip(
                frames, boxes, landmarks, confidence, before == after, strict=True
            )
        ]


def _between(
    values: np.ndarray, before: np.ndarray, after: np.ndarray, weight: np.ndarray
) -> np.ndarray:
    weight = weight.reshape(-1, *[1] * (values.ndim - 1))
    # this form gives a value back exactly where both ends are the same find
    return values[before] + weight * (values[after] - values[before])


class Tracker:
    """Links the faces of successive frames into tracks.

    Attributes:
        min_iou: least overlap of a face with the last find of a track that it continues.
        max_gap_s: a track that was not found for longer has ended.
        tracks: all tracks so far, by number. Numbers go by first appearance, then left to right.
    """

    def __init__(self, min_iou: float = 0.25, max_gap_s: float = 1.0) -> None:
        self.min_iou = min_iou
        self.max_gap_s = max_gap_s
        self.tracks: list[Track] = []

    def update(self, frame: int, time_s: float, faces: Faces, scene: int = 0) -> None:
        """Take the faces of the next frame in which faces were looked for; their order is free."""
        faces = left_to_right(faces)
        oldest_s = time_s - self.max_gap_s - 1e-9
        live = [t for t in self.tracks if t.scene == scene and t.times_s[-1] >= oldest_s]
        last = np.stack([t.boxes_px[-1] for t in live]) if live else np.zeros((0, 4))
        pairs = match(last, faces.boxes_px, self.min_iou)
        for old, new in pairs:
            live[old].add(frame, time_s, faces, new)
        for new in sorted(set(range(len(faces))) - {new for _, new in pairs}):
            track = Track(len(self.tracks), scene)
            track.add(frame, time_s, faces, new)
            self.tracks.append(track)


def left_to_right(faces: Faces) -> Faces:
    """The same faces ordered by their boxes, so that the detector's order has no influence."""
    order = np.lexsort((faces.confidence, *faces.boxes_px.T[::-1]))
    return Faces(faces.boxes_px[order], faces.landmarks_px[order], faces.confidence[order])


def iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes (A, 4) with boxes (B, 4): (A, B) in [0, 1]."""
    near = np.maximum(a[:, None, :2], b[None, :, :2])
    far = np.minimum(a[:, None, 2:], b[None, :, 2:])
    common = np.clip(far - near, 0, None).prod(axis=2)
    area_a, area_b = (a[:, 2:] - a[:, :2]).prod(axis=1), (b[:, 2:] - b[:, :2]).prod(axis=1)
    union = area_a[:, None] + area_b[None] - common
    return np.divide(common, union, out=np.zeros_like(common), where=union > 0)


def match(a: np.ndarray, b: np.ndarray, min_iou: float) -> list[tuple[int, int]]:
    """Pairs of boxes of (A, 4) and (B, 4) with the largest sum of overlaps, each at least so."""
    overlap = iou(np.asarray(a, np.float64), np.asarray(b, np.float64))
    overlap[overlap < min_iou] = 0.0
    rows, columns = linear_sum_assignment(-overlap)
    return [
        (int(row), int(column))
        for row, column in zip(rows, columns, strict=True)
        if overlap[row, column] > 0
    ]


def is_steady(before: Faces, after: Faces, min_iou: float) -> bool:
    """Whether both frames show the same faces at nearly the same places.

    Only then may the frames between be filled in unseen: a cut, a face that comes or goes, or fast
    motion calls for a look.
    """
    pairs = match(before.boxes_px, after.boxes_px, max(min_iou, 1e-6))
    return len(pairs) == len(before) == len(after)


def glance(frame: np.ndarray) -> np.ndarray:
    """A frame (H, W, 3) as a few numbers, (18 * 32 * 3,) float32, by which cuts are seen."""
    # every few pixels only: a cut shows all the same, and most of the frame is never touched
    step = max(1, min(frame.shape[:2]) // 72)
    sparse = np.ascontiguousarray(frame[::step, ::step])
    return cv2.resize(sparse, (32, 18), interpolation=cv2.INTER_AREA).astype(np.float32).ravel()


def is_cut(before: np.ndarray, after: np.ndarray, min_likeness: float) -> bool:
    """Whether two glances correlate by less than ``min_likeness``: another scene."""
    before, after = before - before.mean(), after - after.mean()
    norm = float(np.linalg.norm(before) * np.linalg.norm(after))
    if norm == 0:  # an even picture: fading to black is a cut unless both are even
        return bool(before.any() or after.any())
    return float(before @ after) / norm < min_likeness


def choose(tracks: Sequence[Track], frame_count: int, width: int, height: int) -> int | None:
    """Number of the track taken as the speaker's: lasting, large, central and surely a face.

    Duration multiplies the rest, so that a face shown large for a moment does not win over one that
    is there all along. None without tracks.

    Args:
        tracks: the tracks of an utterance.
        frame_count: sampled frames of the utterance.
        width: of the frame in pixels.
        height: of the frame in pixels.
    """
    if not tracks:
        return None
    boxes = [np.stack(track.boxes_px) for track in tracks]
    side = np.array([np.sqrt((b[:, 2:] - b[:, :2]).prod(axis=1)).mean() for b in boxes])
    centre = np.stack([(b[:, :2] + b[:, 2:]).mean(axis=0) / 2 for b in boxes])
    off = np.abs(centre / [width, height] - 0.5).max(axis=1) * 2
    covered = np.array([t.frames[-1] - t.frames[0] + 1 for t in tracks]) / max(frame_count, 1)
    sure = np.array([np.mean(track.confidence) for track in tracks])
    looks = 0.55 * side / side.max() + 0.30 * np.clip(1 - off, 0, 1) + 0.15 * sure
    score = np.sqrt(np.clip(covered, 0, 1)) * looks
    return tracks[int(np.argmax(score))].number
