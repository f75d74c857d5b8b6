"""From decoded pictures to upright RGB frames at the wanted times.

Frames are chosen by their timestamps alone, so variable frame rates need no special case, and only
a chosen frame is converted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

from tasks.media.opening import Medium
from tasks.media.types import Problem, Region

F = TypeVar("F")

_MOST_ROOM_BYTES = 1 << 30  # more is only taken as frames arrive
_LEVEL_DEG = 2.0  # less is a slanted horizon, not a turn that somebody stated
SQUARE_TOLERANCE = 0.01  # pixels whose sides differ by less are taken for square


@dataclass(frozen=True)
class Orientation:
    """How a stored picture becomes upright: exchange the axes, then flip each as told."""

    is_transposed: bool = False
    flips_x: bool = False
    flips_y: bool = False

    @property
    def rotation_deg(self) -> int:
        """Clockwise turn in degrees; a mirrored picture is first flipped left to right."""
        if self.is_transposed:
            return 90 if self.flips_x else 270
        return 180 if self.flips_y else 0

    @property
    def is_mirrored(self) -> bool:
        """Whether left and right are exchanged."""
        return (self.is_transposed + self.flips_x + self.flips_y) % 2 == 1

    def apply(self, frame: np.ndarray) -> np.ndarray:
        """The upright view of a stored (H, W, 3) frame; no copy is made."""
        if self.is_transposed:
            frame = frame.swapaxes(0, 1)
        return frame[:: -1 if self.flips_y else 1, :: -1 if self.flips_x else 1]


def orientation_from_matrix(matrix: np.ndarray) -> Orientation:
    """From a display matrix: 9 integers a b u c d v x y w.

    It sends a stored point (p, q) to (a p + c q, b p + d q). Turns between right angles go to the
    nearer one; see `tilt`.
    """
    a, b, c, d = (int(matrix[i]) for i in (0, 1, 3, 4))
    if abs(b) + abs(c) > abs(a) + abs(d):
        return Orientation(True, flips_x=c < 0, flips_y=b < 0)
    return Orientation(False, flips_x=a < 0, flips_y=d < 0)


EXIF_ORIENTATIONS = {
    1: Orientation(),
    2: Orientation(flips_x=True),
    3: Orientation(flips_x=True, flips_y=True),
    4: Orientation(flips_y=True),
    5: Orientation(True),
    6: Orientation(True, flips_x=True),
    7: Orientation(True, flips_x=True, flips_y=True),
    8: Orientation(True, flips_y=True),
}
"""EXIF tag 0x0112: how the stored rows and columns lie in the upright picture."""


def frame_orientation(frame: av.VideoFrame) -> Orientation:
    """Orientation that a decoded video frame carries."""
    try:
        matrix = _display_matrix(frame)
    except ValueError:
        # PyAV refuses all side data when one kind (EXIF in HEIF) is newer than its own list;
        # the turn is still known, a flip is not.
        turn = round(-frame.rotation / 90) % 4
        return EXIF_ORIENTATIONS[(1, 6, 3, 8)[turn]]
    return Orientation() if matrix is None else orientation_from_matrix(matrix)


def _display_matrix(frame: av.VideoFrame) -> np.ndarray | None:
    matrix = frame.side_data.get("DISPLAYMATRIX")
    return None if matrix is None else np.frombuffer(bytes(matrix), np.int32)


def tilt(frame: av.VideoFrame, medium: Medium) -> Iterator[Problem]:
    """The problem of a frame whose display matrix turns by no right angle; none for others."""
    try:
        matrix = _display_matrix(frame)
    except ValueError:
        return  # a HEIF picture, whose turns are right angles by its format
    if matrix is None:
        return
    across, down = abs(int(matrix[0])), abs(int(matrix[1]))  # where a stored row goes
    off_deg = math.degrees(math.atan2(min(across, down), max(across, down)))
    if off_deg > _LEVEL_DEG:
        detail = f"{medium} is to be shown {off_deg:.0f} degrees off a right angle; turn it upright"
        yield Problem("tilted", detail)


def pixel_aspect(stream: av.VideoStream) -> float:
    """Width of a stored pixel over its height; 1.0 where it is square or not told."""
    aspect = stream.sample_aspect_ratio
    if not aspect or abs(float(aspect) - 1.0) <= SQUARE_TOLERANCE:
        return 1.0
    return float(aspect)


def target_size(
    width: int, height: int, is_transposed: bool, region: Region | None, max_height_px: int | None
) -> tuple[int, int]:
    """Stored width and height to scale to, so that the cropped upright frame is low enough."""
    tall = width if is_transposed else height
    region = region or Region()
    # The exact height is found by trying: rounding the crop outwards can add a row.
    goal = tall
    if max_height_px is not None:
        goal = min(tall, max(1, int(max_height_px / (region.y1 - region.y0)) + 1))
        while goal > 1 and _rows(region, goal) > max_height_px:
            goal -= 1
    if goal == tall:
        return width, height
    scale = goal / tall
    if is_transposed:
        return goal, max(1, round(height * scale))
    return max(1, round(width * scale)), goal


def _rows(region: Region, height: int) -> int:
    rows, _ = region.box_px(1, height)
    return rows.stop - rows.start


@dataclass
class Converter:
    """Turns decoded video frames into upright RGB of one size.

    Args:
        region: Part of the upright frame to keep.
        max_height_px: Upper bound of the kept part's height.
        aspect: Width of a stored pixel over its height.
    """

    region: Region | None = None
    max_height_px: int | None = None
    aspect: float = 1.0
    orientation: Orientation = field(default_factory=Orientation)
    size: tuple[int, int] | None = None
    _reformatter: VideoReformatter = field(default_factory=VideoReformatter)

    def __call__(self, frame: av.VideoFrame) -> np.ndarray:
        """(H, W, 3) uint8 view or array of a decoded frame."""
        if self.size is None:
            self.orientation = frame_orientation(frame)
            self.size = target_size(
                max(1, round(frame.width * self.aspect)),
                frame.height,
                self.orientation.is_transposed,
                self.region,
                self.max_height_px,
            )
        width, height = self.size
        is_smaller = height < frame.height or width < frame.width
        rgb = self._reformatter.reformat(
            frame,
            width=width,
            height=height,
            format="rgb24",
            # Averaging over areas keeps a much reduced picture free of aliasing.
            interpolation=Interpolation.AREA if is_smaller else Interpolation.BILINEAR,
            threads=1,
        )
        return crop(self.orientation.apply(rgb.to_ndarray()), self.region)


def crop(frame: np.ndarray, region: Region | None) -> np.ndarray:
    """The part of an upright (H, W, 3) frame that the region names."""
    if region is None:
        return frame
    return frame[region.box_px(frame.shape[1], frame.shape[0])]


@dataclass
class FrameCollector(Generic[F]):
    """Takes frames in display order and keeps those on screen at the wanted times.

    Args:
        start_s: Beginning of the span.
        end_s: End of the span.
        wanted_s: Ascending wanted times; None keeps every frame shown in the span.
        convert: Makes the (H, W, 3) picture of a frame; called for kept frames only.
        tick_s: Half of the clock's step: a frame this much after a wanted time still answers it.
        room: About how many frames are expected where every frame is wanted.
    """

    start_s: float
    end_s: float
    wanted_s: np.ndarray | None
    convert: Callable[[F], np.ndarray]
    tick_s: float = 1e-6
    room: int = 16
    first_s: float | None = None  # time of the first frame seen
    last_s: float | None = None  # time of the last frame seen
    is_done: bool = False
    times_s: list[float] = field(default_factory=list)
    _pictures: np.ndarray | None = None
    _before: F | None = None  # the last frame seen, not yet known to be wanted
    _next: int = 0  # first wanted time without an answer
    _step_s: float = 0.04

    def is_late(self) -> bool:
        """Whether decoding began after the frame that was on screen at the span's start."""
        return self.first_s is not None and self.first_s > max(0.0, self.start_s) + self.tick_s

    def add(self, frame: F, time_s: float) -> None:
        """Take the next frame, shown from `time_s` on; one that goes back in time is left out."""
        if self.is_done or (self.last_s is not None and time_s <= self.last_s):
            return
        if self.first_s is None:
            self.first_s = time_s
        if self._before is not None:
            assert self.last_s is not None
            self._step_s = time_s - self.last_s
            self._answer(time_s)
        elif self.wanted_s is not None:
            early = self._count_before(time_s)
            # What is wanted before the track begins is answered by its first frame; what is
            # wanted in a damaged part has no answer.
            if self.last_s is None and early and time_s < self.end_s:
                self._keep(frame, time_s)
            self._next = early
        self._before, self.last_s = frame, time_s
        if self.wanted_s is None:
            self.is_done = time_s >= self.end_s - self.tick_s
        else:  # a time just before the end may be one of those wanted
            self.is_done = time_s >= self.end_s or self._next >= len(self.wanted_s)

    def lose(self, time_s: float | None = None) -> None:
        """Say that a frame, shown from `time_s` on, is damaged, so nobody knows the picture."""
        if self._before is not None and not self.is_done:
            self._answer(self.end_reached_s if time_s is None else time_s)
            self._before = None

    def finish(self) -> None:
        """Say that the track has no more frames; the last is shown for one more frame's time."""
        if self._before is not None and not self.is_done:
            self._answer(self.end_reached_s)
        self.is_done = True

    @property
    def end_reached_s(self) -> float:
        """Time up to which pictures were seen."""
        return 0.0 if self.last_s is None else self.last_s + self._step_s

    def _answer(self, until_s: float) -> None:
        """Keep the frame before `until_s` if it is on screen at a wanted time."""
        assert self._before is not None
        assert self.last_s is not None
        if self.wanted_s is None:
            if until_s > self.start_s + self.tick_s and self.last_s < self.end_s - self.tick_s:
                self._keep(self._before, self.last_s)
            return
        answered = self._count_before(until_s)
        if answered > self._next:
            self._keep(self._before, self.last_s)
            self._next = answered

    def _count_before(self, time_s: float) -> int:
        """How many wanted times lie before a frame shown from `time_s` on."""
        assert self.wanted_s is not None
        return int(np.searchsorted(self.wanted_s, time_s - self.tick_s, side="left"))

    def _keep(self, frame: F, time_s: float) -> None:
        if self.times_s and self.times_s[-1] == time_s:
            return
        picture = self.convert(frame)
        count = len(self.times_s)
        if self._pictures is None:
            room = self.room if self.wanted_s is None else min(self.room, len(self.wanted_s))
            room = max(1, min(room, _MOST_ROOM_BYTES // picture.nbytes))
            self._pictures = np.empty((room, *picture.shape), np.uint8)
        elif count == len(self._pictures):
            grown = np.empty((2 * count, *picture.shape), np.uint8)
            grown[:count] = self._pictures
            self._pictures = grown
        self._pictures[count] = picture
        self.times_s.append(time_s)

    def frames(self) -> np.ndarray | None:
        """The kept pictures, (N, H, W, 3) uint8; None where there are none."""
        return None if self._pictures is None else self._pictures[: len(self.times_s)]
