"""What the media layer speaks: problems, what a file is, what is asked of it, what comes out.

Times are seconds from the beginning of the file as a player shows it (the container's own start
time is taken away). Bad content never raises: it becomes a `Problem` with a reason from `REASONS`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from models.errors import UserError
from tasks.media.plain import crossing

Kind = Literal["video", "audio", "image", "animation"]
Status = Literal["ok", "degraded", "failed"]
Reason = Literal[
    "missing",
    "not_readable",
    "empty_file",
    "not_media",
    "unreadable",
    "unsupported",
    "too_large",
    "no_content",
    "truncated",
    "corrupt",
    "no_audio",
    "no_video",
    "audio_gap",
    "video_gap",
    "tilted",
    "silent_audio",
    "cancelling_channels",
    "clipped_audio",
    "empty_span",
    "span_before_start",
    "span_beyond_end",
    "too_short",
    "timeout",
    "crashed",
]

REASONS: dict[Reason, str] = {
    "missing": "there is no file at this path",
    "not_readable": "the path is a folder or device, or its permissions forbid reading",
    "empty_file": "the file has zero bytes",
    "not_media": "the bytes are not those of any known picture, sound or video format",
    "unreadable": "the format is recognised, but nothing in the file can be decoded",
    "unsupported": "the format is recognised, but this program cannot decode that variant",
    "too_large": "it has more pixels than are decoded without endangering the machine",
    "no_content": "the file has a valid header and no frame or sample after it",
    "truncated": "the file ends before the end that its own header states",
    "corrupt": "bytes in the middle are damaged; what depends on them is left out",
    "no_audio": "sound was asked for and the file has no sound track",
    "no_video": "frames were asked for and the file has no picture track",
    "audio_gap": "the sound track does not cover the whole span",
    "video_gap": "the picture track does not cover the whole span",
    "tilted": "the file turns its picture by no right angle; it is shown at the nearest one",
    "silent_audio": "there is a sound track, but it holds only silence here",
    "cancelling_channels": "the channels cancel each other, so that one of them alone was taken",
    "clipped_audio": "many samples lie outside [-1, 1] and were limited to it",
    "empty_span": "the span ends at or before its start, or its times are not finite numbers",
    "span_before_start": "the span starts before the file does",
    "span_beyond_end": "the span starts or ends after the end of the file",
    "too_short": "what could be decoded lasts less than the required minimum",
    "timeout": "decoding took longer than the time limit, and its process was stopped",
    "crashed": "the process that decoded the file died",
}
"""Every reason and its meaning; the quarantine table and the documentation use these words."""

assert set(REASONS) == set(get_args(Reason))


@crossing
@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a file or a clip: a reason for tables, a sentence for people."""

    reason: Reason
    detail: str


@dataclass(frozen=True)
class Region:
    """A part of the upright frame, as fractions of its width and height in [0, 1]."""

    x0: float = 0.0
    y0: float = 0.0
    x1: float = 1.0
    y1: float = 1.0

    def __post_init__(self) -> None:
        if not (0 <= self.x0 < self.x1 <= 1 and 0 <= self.y0 < self.y1 <= 1):
            raise UserError(
                f"region ({self.x0}, {self.y0}, {self.x1}, {self.y1}) is not a part of the frame; "
                "give fractions with 0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1"
            )

    def box_px(self, width: int, height: int) -> tuple[slice, slice]:
        """Rows and columns of this region in a frame of the given size; never empty."""
        left, top = math.floor(self.x0 * width), math.floor(self.y0 * height)
        right, bottom = math.ceil(self.x1 * width), math.ceil(self.y1 * height)
        return slice(top, max(bottom, top + 1)), slice(left, max(right, left + 1))


@dataclass(frozen=True)
class FrameSampling:
    """At which times of a span frames are wanted.

    `rate_hz` alone: at start, start + 1/rate_hz, ... before the end. `count` alone: at the middles
    of `count` equal parts of the span. Both: at the rate, but `count` evenly spread times where the
    rate would give more. Neither: every frame shown in the span. A frame that answers several
    wanted times is kept once. `max_height_px` reduces taller frames, keeping their shape.
    """

    rate_hz: float | None = None
    count: int | None = None
    max_height_px: int | None = None

    def __post_init__(self) -> None:
        if self.rate_hz is not None and not (0 < self.rate_hz < math.inf):
            raise UserError(f"rate_hz is {self.rate_hz}; give a frame rate above 0")
        if self.count is not None and self.count < 1:
            raise UserError(f"count is {self.count}; give a number of frames of at least 1")
        if self.max_height_px is not None and self.max_height_px < 1:
            raise UserError(f"max_height_px is {self.max_height_px}; give at least 1 pixel")

    def wanted_s(self, start_s: float, end_s: float) -> np.ndarray | None:
        """Wanted times in [start_s, end_s), ascending, float64; None means every frame."""
        if self.rate_hz is not None:
            # The small term keeps a span of exactly n periods from growing an n+1st time.
            steps = max(1, math.ceil((end_s - start_s) * self.rate_hz - 1e-6))
            if self.count is None or steps <= self.count:
                return start_s + np.arange(steps) / self.rate_hz
        elif self.count is None:
            return None
        return start_s + (np.arange(self.count) + 0.5) * ((end_s - start_s) / self.count)


@crossing
@dataclass(frozen=True)
class Media:
    """What a file holds, as `probe` finds it.

    Attributes:
        kind: None where nothing usable was found; `problems` then says why.
        container: Name of the container or picture format.
        duration_s: From the beginning to the end of the longest track; None for still images.
        has_audio: A sound track with at least one decodable sample.
        has_video: A picture track (cover art of music is none) with at least one decodable frame.
        fps: Average frames per second; None for still images.
        width_px: Width as shown: after rotation, with square pixels.
        height_px: Height as shown.
        rotation_deg: Clockwise turn that was applied to show the frame upright: 0, 90, 180 or 270.
        is_mirrored: The upright frame was also flipped left to right before that turn.
        problems: What is wrong; empty for a sound file.
    """

    kind: Kind | None
    container: str = ""
    duration_s: float | None = None
    has_audio: bool = False
    has_video: bool = False
    video_codec: str | None = None
    fps: float | None = None
    width_px: int | None = None
    height_px: int | None = None
    rotation_deg: int = 0
    is_mirrored: bool = False
    audio_codec: str | None = None
    audio_rate_hz: int | None = None
    channels: int | None = None
    problems: tuple[Problem, ...] = ()

    @property
    def status(self) -> Status:
        """`failed` where nothing is usable, `degraded` where a part is, else `ok`."""
        return _status(self.has_audio or self.has_video, self.problems)


@crossing
@dataclass(frozen=True, eq=False)
class Clip:
    """The decoded span of one file.

    Attributes:
        frames: (N, H, W, 3) uint8 RGB, upright; N is 0 where there is no picture.
        times_s: (N,) float64, when each frame begins to be shown, ascending. A frame may begin a
            little before the span: it is the one on the screen at the wanted time.
        audio: (S,) float32 mono in [-1, 1], or None. Sample k lies at audio_start_s + k / rate.
        audio_start_s: Time of the first sample: the span's start unless the sound begins later.
        audio_rate_hz: Samples per second, or None without sound.
        clipped_samples: How many samples had to be limited to [-1, 1].
        kind: What the file is; None where that could not be found out.
        problems: What is wrong; empty for a sound clip.
    """

    frames: np.ndarray
    times_s: np.ndarray
    audio: np.ndarray | None = None
    audio_start_s: float | None = None
    audio_rate_hz: int | None = None
    clipped_samples: int = 0
    kind: Kind | None = None
    problems: tuple[Problem, ...] = ()

    @property
    def status(self) -> Status:
        """`failed` where nothing is usable, `degraded` where a part is, else `ok`."""
        return _status(len(self.frames) > 0 or self.audio is not None, self.problems)

    @classmethod
    def failed(cls, *problems: Problem, kind: Kind | None = None) -> Clip:
        """A clip of which nothing could be decoded."""
        return cls(no_frames(), np.zeros(0), kind=kind, problems=problems)


def no_frames() -> np.ndarray:
    """The frames of a clip without picture: (0, 0, 0, 3) uint8."""
    return np.zeros((0, 0, 0, 3), np.uint8)


def _status(is_usable: bool, problems: tuple[Problem, ...]) -> Status:
    if not is_usable:
        return "failed"
    return "degraded" if problems else "ok"
