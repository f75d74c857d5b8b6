"""The faces of one clip: windows of frames in, rows of the faces table out.

Frames come a window at a time and are let go; what stays of them are boxes, small crops as bytes,
thumbnails and the energy of the voice. Faces are looked for in every N-th sampled frame, at the
end of a window, and wherever what lies between two looks is not plainly the same.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from models.mtcnn.detector import Faces, Mtcnn, MtcnnConfig, reduced_size
from tasks.faces.crops import Crop, encode, make_crop, thin
from tasks.faces.params import FacesParams
from tasks.faces.tracking import Track, TrackedFace, Tracker, choose, glance, is_cut, is_steady
from tasks.faces.windows import ENERGY_RATE_HZ, ClipRequest, Window
from tasks.media.decoding import Media

Row = dict[str, object]

#: Fewest steps between neighbouring frames from which a correlation with the voice is stated.
_MIN_STEPS = 8
#: What an interpolated face's crop counts against one at which the detector looked.
_UNSEEN_WEIGHT = 0.85


@dataclass(frozen=True, eq=False)
class _Seen:
    """What is kept of one face of one frame after the frame is gone."""

    quality: float
    data: bytes
    thumbnail: np.ndarray
    mouth: np.ndarray


class ClipFaces:
    """Collects the windows of one clip; ``rows`` then gives its part of the table.

    Args:
        request: the clip.
        media: what its file holds.
        detector: finds faces.
        params: what decides the rows.
    """

    def __init__(
        self, request: ClipRequest, media: Media, detector: Mtcnn, params: FacesParams
    ) -> None:
        self.request, self.media = request, media
        self.detector, self.params = detector, params
        self.tracker = Tracker(params.track_iou, params.max_gap_s)
        self.times_s: list[float] = []
        self.energy: list[np.ndarray] = []  # times and values of the steps, (2, E)
        self.reasons: list[str] = []
        self.is_still = False
        self.size_px = (1, 1)  # width and height of the decoded region
        self._seen: dict[tuple[int, int], _Seen] = {}  # (track, frame)
        self._last: tuple[int, Faces] | None = None  # the last frame looked at
        self._glance: np.ndarray | None = None
        self._scenes: list[int] = []  # of each sampled frame

    def fail(self, reason: str) -> None:
        """Say why a part or all of the clip could not be used."""
        if reason not in self.reasons:
            self.reasons.append(reason)

    def add(self, window: Window) -> None:
        """Take the next frames of the clip."""
        for problem in window.problems:
            self.fail(problem.reason)
        self.is_still = window.is_still
        if len(window.energy):
            steps_s = window.energy_start_s + (np.arange(len(window.energy)) + 0.5) / ENERGY_RATE_HZ
            self.energy.append(np.stack([steps_s, window.energy]))
        # a frame on screen across the border of two windows is in both
        old = int(np.searchsorted(window.times_s, self.times_s[-1], "right")) if self.times_s else 0
        frames, times_s = window.frames[old:], window.times_s[old:]
        if not len(frames):
            return
        self.size_px = (frames.shape[2], frames.shape[1])
        first = len(self.times_s)
        self.times_s.extend(times_s.tolist())
        self._see_cuts(frames)
        for index, faces in self._look(frames, first):
            scene = self._scenes[first + index]
            self.tracker.update(first + index, float(times_s[index]), faces, scene)
        numbers = np.arange(first, first + len(frames))
        for track in self.tracker.tracks:
            if track.frames[-1] >= first:
                for face in track.at(numbers, times_s):
                    self._keep(frames[face.frame - first], face)

    def _see_cuts(self, frames: np.ndarray) -> None:
        """Number the scene of each frame."""
        for frame in frames:
            seen = glance(frame)
            scene = self._scenes[-1] if self._scenes else 0
            if self._glance is not None and is_cut(self._glance, seen, self.params.cut_likeness):
                scene += 1
            self._scenes.append(scene)
            self._glance = seen

    def _look(self, frames: np.ndarray, first: int) -> list[tuple[int, Faces]]:
        """Faces of the frames at which it is worth looking, by index in the window.

        Between two looks that do not show plainly the same, the middle frame is looked at, and so
        on, until what lies between is plain or nothing is left.
        """
        every = self.params.detect_every
        todo = [i for i in range(len(frames)) if (first + i) % every == 0 or i == len(frames) - 1]
        found: dict[int, Faces] = {}
        while todo:
            found |= zip(todo, self._detect(frames, todo), strict=True)
            # the last look at the window before, if its frame is the border of a gap
            known = [(self._last[0] - first, self._last[1])] if self._last else []
            todo = [
                (before + after) // 2
                for (before, old), (after, new) in pairwise(known + sorted(found.items()))
                if after - before > 1
                and not (
                    self._scenes[first + before] == self._scenes[first + after]
                    and is_steady(old, new, self.params.steady_iou)
                )
            ]
        looked = sorted(found.items())
        self._last = (first + looked[-1][0], looked[-1][1])
        return looked

    def _detect(self, frames: np.ndarray, indices: list[int]) -> list[Faces]:
        """Faces of frames ``indices``, whose boxes are cut at the frame's border."""
        height, width = reduced_size(frames.shape[1], frames.shape[2], self.params.detect_height_px)
        smallest_px = max(MtcnnConfig.min_face_px, self.params.min_face * min(height, width))
        limit = np.array([frames.shape[2], frames.shape[1]] * 2, dtype=np.float32)
        cut = []
        wanted = [frames[index] for index in indices]
        for faces in self.detector.detect(wanted, self.params.detect_height_px, smallest_px):
            boxes = np.clip(faces.boxes_px, 0, limit)
            is_inside = ((boxes[:, 2:] - boxes[:, :2]) >= 1).all(axis=1)
            cut.append(
                Faces(boxes[is_inside], faces.landmarks_px[is_inside], faces.confidence[is_inside])
            )
        return cut

    def _keep(self, frame: np.ndarray, face: TrackedFace) -> None:
        params = self.params
        crop: Crop = make_crop(frame, face.landmarks_px, face.box_px, params.crop_px, params.margin)
        data = encode(crop.pixels, params.crop_format, params.jpeg_quality)
        self._seen[face.track, face.frame] = _Seen(crop.quality, data, crop.thumbnail, crop.mouth)

    def rows(self) -> list[Row]:
        """The clip's rows: one for every track at every sampled frame, or one that says why not."""
        tracks = [t for t in self.tracker.tracks if max(t.confidence) >= self.params.min_confidence]
        if not tracks:
            unseen = self.reasons[0] if self.reasons else "no_video"
            return [empty_row(self.request, "no_face" if self.times_s else unseen)]
        chosen = choose(tracks, len(self.times_s), *self.size_px)
        rows = [
            row
            for number, track in enumerate(tracks)
            for row in self._track_rows(track, number, track.number == chosen)
        ]
        return sorted(rows, key=lambda row: (row["frame"], row["track"]))

    def _track_rows(self, track: Track, number: int, is_chosen: bool) -> Iterator[Row]:
        """The rows of one face through the clip, called by its number among those that stay."""
        times_s = np.asarray(self.times_s)
        faces = track.at(np.arange(len(times_s)), times_s)
        kept = self._kept(faces) if is_chosen else set()
        speaking = self._speaking(faces)
        origin, scale = self._placement()
        status, reason = ("degraded", self.reasons[0]) if self.reasons else ("ok", None)
        for face in faces:
            seen = self._seen.get((face.track, face.frame))
            box = face.box_px.astype(np.float64).reshape(2, 2) * scale + origin
            landmarks = face.landmarks_px.astype(np.float64) * scale + origin
            yield {
                "utterance_id": self.request.utterance_id,
                "frame": face.frame,
                "time_s": None if self.is_still else float(times_s[face.frame]),
                "track": number,
                "chosen": is_chosen,
                "box_px": box.ravel().tolist(),
                "landmarks_px": landmarks.ravel().tolist(),
                "confidence": min(face.confidence, 1.0),
                "is_detected": face.is_detected,
                "quality": seen.quality if seen else None,
                "speaking": speaking,
                "crop": seen.data if seen and face.frame in kept else None,
                "status": status,
                "reason": reason,
            }

    def _placement(self) -> tuple[np.ndarray, np.ndarray]:
        """Where the decoded region lies in the upright frame of full size, and pixels per pixel."""
        width, height = self.size_px
        full_width, full_height = self.media.width_px or width, self.media.height_px or height
        rows, columns = self.request.region.box_px(full_width, full_height)
        size = np.array([columns.stop - columns.start, rows.stop - rows.start], dtype=np.float64)
        return np.array([columns.start, rows.start], dtype=np.float64), size / [width, height]

    def _kept(self, faces: list[TrackedFace]) -> set[int]:
        """Frames whose crops are written."""
        seen = [
            (f, self._seen[f.track, f.frame]) for f in faces if (f.track, f.frame) in self._seen
        ]
        worth = [s.quality * (1.0 if f.is_detected else _UNSEEN_WEIGHT) for f, s in seen]
        kept = thin(
            [s.thumbnail for _, s in seen],
            np.array(worth),
            np.array([self.times_s[f.frame] for f, _ in seen]),
            self.params.crops_per_utterance,
            self.params.min_difference,
        )
        return {seen[i][0].frame for i in kept}

    def _speaking(self, faces: list[TrackedFace]) -> float | None:
        """Correlation of mouth motion with the voice's energy, -1 to 1; None where unknowable.

        Crops are aligned, so that a moving head moves the mouth little. At a few frames a second it
        is a weak hint: of two faces the speaker's is mostly the higher, its sign alone says little.
        """
        if not self.energy or self.is_still:
            return None
        seen = {f.frame: s for f in faces if (s := self._seen.get((f.track, f.frame)))}
        steps = [frame for frame in seen if frame - 1 in seen]
        if len(steps) < _MIN_STEPS:
            return None
        motion = np.array([_difference(seen[k].mouth, seen[k - 1].mouth) for k in steps])
        times_s, power = np.concatenate(self.energy, axis=1)
        total = np.concatenate([[0.0], np.cumsum(power)])
        begin = np.searchsorted(times_s, [self.times_s[k - 1] for k in steps])
        end = np.searchsorted(times_s, [self.times_s[k] for k in steps])
        is_heard = end > begin
        if is_heard.sum() < _MIN_STEPS:
            return None
        mean = (total[end] - total[begin])[is_heard] / (end - begin)[is_heard]
        # in steps of 10 ms the quietest voice is about 1e-6; below lies the noise of the coder
        loudness = np.log10(mean + 1e-6)
        return _correlation(motion[is_heard], loudness)


def empty_row(clip: ClipRequest, reason: str) -> Row:
    """The one row of a clip without faces."""
    return {
        "utterance_id": clip.utterance_id,
        "frame": -1,
        "track": -1,
        "chosen": False,
        "is_detected": False,
        "status": "quarantined",
        "reason": reason,
    }


def _difference(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.sqrt(np.mean((a - b) ** 2)))


def _correlation(a: np.ndarray, b: np.ndarray) -> float | None:
    """Pearson's r; None where one of the two hardly varies."""
    if a.std() < 1e-4 or b.std() < 1e-2:
        return None
    return float(np.clip(np.corrcoef(a, b)[0, 1], -1.0, 1.0))
