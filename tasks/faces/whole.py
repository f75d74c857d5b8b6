"""Whole pictures in place of detected faces, for corpora whose media are faces already.

Cropped stills (FER2013, AffectNet) would lose their borders, or the face itself, to a detector that
was made for scenes. With a region (EMOTIC's persons) the region is the picture.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from tasks.faces.clip import Row, empty_row
from tasks.faces.crops import encode, thin
from tasks.faces.params import FacesParams
from tasks.faces.windows import ClipRequest, Window
from tasks.media.decoding import Media

_THUMBNAIL_PX = 24
#: Side from which a picture counts as full size, and variance of its edges that counts as sharp.
_FULL_PX, _SHARP = 96.0, 100.0


@dataclass(frozen=True, eq=False)
class _Seen:
    """What is kept of one frame."""

    quality: float
    data: bytes
    thumbnail: np.ndarray


class WholeClip:
    """Collects the windows of one clip, as ``tasks.faces.clip.ClipFaces`` does.

    Args:
        request: the clip.
        media: what its file holds.
        params: what decides the rows.
    """

    def __init__(self, request: ClipRequest, media: Media, params: FacesParams) -> None:
        self.request, self.media, self.params = request, media, params
        self.times_s: list[float] = []
        self.reasons: list[str] = []
        self.is_still = False
        self._seen: list[_Seen] = []

    def fail(self, reason: str) -> None:
        """Say why a part or all of the clip could not be used."""
        if reason not in self.reasons:
            self.reasons.append(reason)

    def add(self, window: Window) -> None:
        """Take the next frames of the clip."""
        for problem in window.problems:
            self.fail(problem.reason)
        self.is_still = window.is_still
        # a frame on screen across the border of two windows is in both
        old = int(np.searchsorted(window.times_s, self.times_s[-1], "right")) if self.times_s else 0
        self.times_s.extend(window.times_s[old:].tolist())
        self._seen.extend(self._look(frame) for frame in window.frames[old:])

    def _look(self, frame: np.ndarray) -> _Seen:
        params = self.params
        pixels = fit(frame, params.crop_px)
        grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
        even = (grey.astype(np.float32) - grey.mean()) / max(float(grey.std()), 1.0)
        return _Seen(
            quality(grey),
            encode(pixels, params.crop_format, params.jpeg_quality),
            cv2.resize(even, (_THUMBNAIL_PX, _THUMBNAIL_PX), interpolation=cv2.INTER_AREA),
        )

    def rows(self) -> list[Row]:
        """The clip's rows: one for every sampled frame, or one that says why there is none."""
        if not self._seen:
            return [empty_row(self.request, self.reasons[0] if self.reasons else "no_video")]
        kept = thin(
            [seen.thumbnail for seen in self._seen],
            np.array([seen.quality for seen in self._seen]),
            np.array(self.times_s),
            self.params.crops_per_utterance,
            self.params.min_difference,
        )
        status, reason = ("degraded", self.reasons[0]) if self.reasons else ("ok", None)
        return [
            {
                "utterance_id": self.request.utterance_id,
                "frame": frame,
                "time_s": None if self.is_still else time_s,
                "track": 0,
                "chosen": True,
                "box_px": self._box_px(),
                "is_detected": False,
                "quality": seen.quality,
                "crop": seen.data if frame in kept else None,
                "status": status,
                "reason": reason,
            }
            for frame, (seen, time_s) in enumerate(zip(self._seen, self.times_s, strict=True))
        ]

    def _box_px(self) -> list[float] | None:
        """The region in the upright frame of full size."""
        width, height = self.media.width_px, self.media.height_px
        if not width or not height:
            return None
        rows, columns = self.request.region.box_px(width, height)
        return [float(v) for v in (columns.start, rows.start, columns.stop, rows.stop)]


def fit(pixels: np.ndarray, most_px: int) -> np.ndarray:
    """A picture (H, W, 3), reduced where its longer side is above ``most_px``."""
    height, width = pixels.shape[:2]
    scale = most_px / max(height, width)
    if scale >= 1:
        return pixels
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)


def quality(grey: np.ndarray) -> float:
    """How much a picture (H, W) uint8 shows, 0 to 1: the geometric mean of size and sharpness."""
    size = min(1.0, float(np.sqrt(grey.size)) / _FULL_PX)
    variance = float(cv2.Laplacian(cv2.resize(grey, (96, 96)), cv2.CV_32F).var())
    return float(np.sqrt(size * variance / (variance + _SHARP)))
