"""What face detection asks of a decoder: windows of sampled frames with the voice's energy.

Runs inside the worker processes of ``Decoders``; it imports neither torch nor OpenCV, so that a
fresh worker starts quickly.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tasks.media.decoding import Clip, FrameSampling, Media, Problem, Region, Span, decode, probe
from tasks.media.plain import crossing

#: Bytes and most frames decoded at a time: memory does not grow with the length of a clip.
_WINDOW_BYTES, _WINDOW_FRAMES = 160_000_000, 240
#: Rate of the sound that is read for its energy, and steps of energy per second.
_AUDIO_RATE_HZ, ENERGY_RATE_HZ = 8_000, 100
#: Problems of a file that say nothing about its picture.
_SOUND_PROBLEMS = frozenset(
    ("no_audio", "audio_gap", "silent_audio", "cancelling_channels", "clipped_audio")
)


@dataclass(frozen=True)
class ClipRequest:
    """One utterance's picture.

    Attributes:
        utterance_id: for the rows.
        span: of the media file; None where the utterance has none.
        media_sha256: hash of the file's bytes.
    """

    utterance_id: str
    span: Span | None = None
    media_sha256: str | None = None

    @property
    def region(self) -> Region:
        """The part of the upright frame that is looked at."""
        return (self.span and self.span.region) or Region()


@dataclass(frozen=True)
class WindowRequest:
    """A part of a clip, and which of its frames are wanted."""

    span: Span
    sampling: FrameSampling

    def __str__(self) -> str:
        return self.span.path


@crossing
@dataclass(frozen=True, eq=False)
class Window:
    """The decoded part.

    Attributes:
        frames: (N, H, W, 3) uint8 RGB, the region of the upright frame, reduced where too tall.
        times_s: (N,) float64, ascending.
        energy: (E,) float32, mean square of the sound in steps of 10 ms; empty without sound.
        energy_start_s: time of the first step.
        is_still: the file is a picture, so that times mean nothing.
        problems: what is wrong with the picture.
    """

    frames: np.ndarray
    times_s: np.ndarray
    energy: np.ndarray
    energy_start_s: float
    is_still: bool
    problems: tuple[Problem, ...]


def probe_file(path: str) -> Media:
    """What the file holds."""
    return probe(Path(path))


def windows(
    span: Span, media: Media, rate_hz: float, max_frames: int, max_height_px: int
) -> Iterator[WindowRequest]:
    """The windows of a clip, in order; their frames together are those of one even sampling.

    Where the clip has more than ``max_frames`` at ``rate_hz``, they are taken at a lower rate.
    """
    sampling = FrameSampling(rate_hz, max_height_px=max_height_px)
    if media.kind == "image":
        yield WindowRequest(replace(span, start_s=0.0, end_s=None), sampling)
        return
    start = max(0.0, span.start_s or 0.0)
    end = span.end_s if span.end_s is not None else media.duration_s
    if end is None or not math.isfinite(end) or end <= start:  # the decoder says what is wrong
        yield WindowRequest(replace(span, start_s=start, end_s=end), sampling)
        return
    rate_hz = min(rate_hz, max_frames / (end - start))
    sampling = FrameSampling(rate_hz, max_height_px=max_height_px)
    wanted = max(1, math.ceil((end - start) * rate_hz - 1e-6))
    step = window_frames(media, span.region, max_height_px)
    for first in range(0, wanted, step):
        last = first + step
        until_s = end if last >= wanted else start + last / rate_hz
        yield WindowRequest(replace(span, start_s=start + first / rate_hz, end_s=until_s), sampling)


def window_frames(media: Media, region: Region | None, max_height_px: int) -> int:
    """How many frames of a file make a window."""
    part = region or Region()
    width = (media.width_px or 1) * (part.x1 - part.x0)
    height = (media.height_px or 1) * (part.y1 - part.y0)
    scale = min(1.0, max_height_px / height)
    return max(1, min(_WINDOW_FRAMES, int(_WINDOW_BYTES / (3 * width * height * scale**2))))


def decode_window(request: WindowRequest) -> Window:
    """Decode the frames and the sound's energy of a part of a clip."""
    clip = decode(request.span, audio_rate_hz=_AUDIO_RATE_HZ, frame_times=request.sampling)
    return Window(
        clip.frames,
        clip.times_s,
        _energy(clip),
        clip.audio_start_s or 0.0,
        clip.kind == "image",
        tuple(p for p in clip.problems if p.reason not in _SOUND_PROBLEMS),
    )


def failed_window(problem: Problem) -> Window:
    """A window of which nothing could be decoded."""
    clip = Clip.failed(problem)
    return Window(clip.frames, clip.times_s, _energy(clip), 0.0, False, (problem,))


def _energy(clip: Clip) -> np.ndarray:
    """Mean square of the sound in steps of 10 ms, (E,) float32; the last part step is left out."""
    if clip.audio is None:
        return np.zeros(0, np.float32)
    step = _AUDIO_RATE_HZ // ENERGY_RATE_HZ
    whole = clip.audio[: len(clip.audio) // step * step].reshape(-1, step)
    return (whole * whole).mean(axis=1, dtype=np.float32)
