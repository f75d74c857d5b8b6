"""From decoded sound of any layout and rate to mono at one rate, cut to the sample.

The output lies on one time grid for the whole file: sample k belongs to time k / rate. So cutting
two neighbouring spans gives, joined, the samples of the span that covers both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction

import av
import numpy as np
import soxr

from tasks.media.types import Problem

MARGIN_S = 0.2  # sound decoded on both sides of the span, for the codec and the filter to settle
GAP_S = 0.05  # smaller jumps of timestamps are rounding or drift of a clock, not missing sound
TOLERATED_S = 0.25  # tracks of one file end at different times; less than this is no problem
SILENCE = 1e-4  # -80 dB of full scale
CLIPPED_SHARE = 1e-3
# A mix that keeps less of the channels' power than this has lost what they hold: the channels
# cancel. One channel that sounds alone keeps all of it, equal ones more.
CANCELLED_SHARE = 0.01

# The mono mix that broadcasting prescribes (ITU-R BS.775): full fronts, centre 3 dB up against
# them, surrounds 3 dB down, no low-frequency effects; scaled so that no mix exceeds 1.
_WEIGHTS = {"FC": math.sqrt(2), "FL": 1.0, "FR": 1.0, "LFE": 0.0, "LFE2": 0.0}
_SURROUND = math.sqrt(0.5)
_FULL_SCALE = {"u8": 2.0**7, "s16": 2.0**15, "s32": 2.0**31, "s64": 2.0**63}


def to_channels(frame: av.AudioFrame) -> tuple[np.ndarray, np.ndarray]:
    """Channels of a decoded frame, (C, S) floats, and their shares in the mono mix, (C,).

    Integer formats are scaled to [-1, 1]; the shares add up to 1.
    """
    names = [channel.name for channel in frame.layout.channels]
    samples = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, len(names)).T
    base = frame.format.name.removesuffix("p")
    samples = samples.astype(np.float64 if base in ("s32", "s64", "dbl") else np.float32)
    if base == "u8":
        samples -= 128.0
    if base in _FULL_SCALE:
        samples /= _FULL_SCALE[base]
    weights = np.array([_WEIGHTS.get(name, _SURROUND) for name in names])
    # Tracks without a declared layout have equal channels, as do those of unusual layouts.
    if len(names) == 1 or not {"FL", "FR"} <= set(names):
        weights = np.ones(len(names))
    return samples, (weights / weights.sum()).astype(samples.dtype)


def to_mono(channels: np.ndarray, shares: np.ndarray, only: int | None = None) -> np.ndarray:
    """(S,) float32 mono: the mix of (C, S) channels by their shares, or one of them alone."""
    one = shares @ channels if only is None or only >= len(channels) else channels[only]
    return one.astype(np.float32)


@dataclass
class Powers:
    """Sums of squares of a span's channels and of their mix, which tell whether they cancel."""

    mix: float = 0.0
    channels: np.ndarray | None = None  # (C,), each as loud as in the mix
    samples: int = 0

    def add(self, channels: np.ndarray, shares: np.ndarray, mix: np.ndarray) -> None:
        """Take (C, S) channels, their shares and the (S,) mix that they make."""
        powers = shares**2 * np.einsum("cs,cs->c", channels, channels, dtype=np.float64)
        if self.channels is None:
            self.channels = np.zeros(len(channels))
        if len(powers) == len(self.channels):  # a change of layout ends the track's whole parts
            self.channels += powers
            self.mix += float(np.einsum("s,s->", mix, mix, dtype=np.float64))
            self.samples += len(mix)

    def louder(self) -> int | None:
        """The loudest channel where the channels cancel in the mix; None where they do not."""
        if self.channels is None or len(self.channels) < 2:
            return None
        is_heard = self.channels.max() > self.samples * SILENCE**2
        does_cancel = self.mix < CANCELLED_SHARE * self.channels.sum()
        return int(np.argmax(self.channels)) if is_heard and does_cancel else None


@dataclass(frozen=True)
class Sound:
    """Mono sound of a span: samples (S,) float32 in [-1, 1], their start, and what is wrong."""

    samples: np.ndarray
    start_s: float
    clipped: int
    problems: tuple[Problem, ...]


@dataclass
class SoundCollector:
    """Takes decoded frames in order and keeps those a span needs, placed by their timestamps.

    Args:
        start_s: Beginning of the span, on the file's own time line.
        end_s: End of the span.
        rate_hz: Output rate.
        origin_us: What the container's clock shows at the beginning of the file, in microseconds.
        phase: (first sample, frame size): where the track's frames begin, when the container's
            clock is coarser than a sample; see `frame_phase`.
        only: The channel to take instead of the mix of all.
    """

    start_s: float
    end_s: float
    rate_hz: int
    origin_us: int
    phase: tuple[int, int] | None = None
    only: int | None = None
    to_skip: int = 0  # frames to leave out: after a seek a codec trims its first one as if at 0
    in_rate_hz: int = 0
    first: int | None = None  # input sample number of the first frame seen
    cursor: int = 0  # input sample number after the last frame seen
    filled: int = 0  # input samples inside the span that no frame gave
    not_finite: int = 0
    other_rates: int = 0
    powers: Powers = field(default_factory=Powers)
    _chunks: list[np.ndarray] = field(default_factory=list)
    _begin: int = 0  # input sample number of the first kept sample
    _block: int = 0  # output sample number of the same instant
    _stop: int = 0  # no input sample from here on is needed

    @property
    def is_done(self) -> bool:
        """Whether later sound cannot change the result."""
        return self.first is not None and self.cursor >= self._stop

    @property
    def end_reached_s(self) -> float:
        """Time up to which sound was seen."""
        return self.cursor / self.in_rate_hz if self.first is not None else 0.0

    def is_late(self) -> bool:
        """Whether decoding began too late for the span's first samples to be exact."""
        if self.first is None:
            return False
        needed_s = self.start_s - 0.75 * margin_s(self.in_rate_hz)
        return self.first / self.in_rate_hz > max(0.0, needed_s)

    def add(self, frame: av.AudioFrame) -> None:
        """Take the next decoded frame."""
        if frame.samples == 0:
            return
        if self.to_skip > 0:
            self.to_skip -= 1
            return
        if self.in_rate_hz == 0:
            self._plan(frame.sample_rate)
        if frame.sample_rate != self.in_rate_hz:
            self.other_rates += 1
            return
        at = self._place(frame)
        channels, shares = to_channels(frame)
        samples = to_mono(channels, shares, self.only)
        if self.first is None:
            self.first = at
            self._chunks.append(np.zeros(max(0, at - self._begin), np.float32))
        elif at > self.cursor:
            inside = min(at, self._stop) - max(self.cursor, self._begin)
            if inside > 0:
                self.filled += inside
                self._chunks.append(np.zeros(inside, np.float32))
        self.cursor = at + len(samples)
        low = min(max(0, self._begin - at), len(samples))
        high = max(low, min(len(samples), self._stop - at))
        kept = samples[low:high]
        if self.only is None and len(channels) > 1:
            self.powers.add(channels[:, low:high], shares, kept)
        if not np.isfinite(kept).all():
            self.not_finite += int(np.count_nonzero(~np.isfinite(kept)))
            kept = np.nan_to_num(kept, nan=0.0, posinf=0.0, neginf=0.0)
        if len(kept):  # an empty part of a frame would hold the frame
            self._chunks.append(kept)

    def _plan(self, in_rate_hz: int) -> None:
        """Choose input samples so that the first one also lies on the output's time grid."""
        self.in_rate_hz = in_rate_hz
        common = math.gcd(in_rate_hz, self.rate_hz)
        in_block, out_block = in_rate_hz // common, self.rate_hz // common
        margin = math.ceil(margin_s(in_rate_hz) * in_rate_hz / in_block)
        block = max(0, round(self.start_s * self.rate_hz) // out_block - margin)
        self._begin, self._block = block * in_block, block * out_block
        self._stop = math.ceil(self.end_s * in_rate_hz) + margin * in_block

    def _place(self, frame: av.AudioFrame) -> int:
        """Input sample number of the frame's first sample."""
        if frame.pts is None or frame.time_base is None:
            return self.cursor
        rate = self.in_rate_hz
        at = sample_number(frame.pts, frame.time_base, rate, self.origin_us)
        if self.first is not None:
            return self.cursor if abs(at - self.cursor) <= GAP_S * rate else max(at, self.cursor)
        if self.phase is not None:
            first, size = self.phase
            snapped = first + round((at - first) / size) * size
            if abs(snapped - at) <= math.ceil(frame.time_base * rate) + 1:
                return snapped
        return at

    def result(self) -> Sound | None:
        """The span's samples, or None where the track gave none for it."""
        if self.first is None:
            return None
        rate, ratio = self.rate_hz, Fraction(self.rate_hz, self.in_rate_hz)
        kept = np.concatenate(self._chunks)
        padding = np.zeros(max(0, self._stop - self._begin - len(kept)), np.float32)
        # Zeros after the end only let the filter run out; they are cut off below.
        kept = np.concatenate([kept, padding[: self.in_rate_hz]])
        if ratio != 1:
            kept = soxr.resample(kept, self.in_rate_hz, rate, quality="VHQ")
        begin = max(round(self.start_s * rate), math.ceil(self.first * ratio))
        end = min(round(self.end_s * rate), math.ceil(self.cursor * ratio))
        samples = kept[max(0, begin - self._block) : max(0, end - self._block)]
        if len(samples) == 0:
            return None
        clipped = int(np.count_nonzero(np.abs(samples) > 1.0))
        samples = np.clip(samples, -1.0, 1.0).astype(np.float32, copy=False)
        problems = self._problems(samples, clipped, begin)
        return Sound(np.ascontiguousarray(samples), begin / rate, clipped, problems)

    def _problems(self, samples: np.ndarray, clipped: int, begin: int) -> tuple[Problem, ...]:
        rate, found = self.rate_hz, []
        if self.only is not None:
            alone = f"the channels cancel each other; channel {self.only + 1} alone was taken"
            found.append(Problem("cancelling_channels", alone))
        if self.filled:
            gap_s = self.filled / self.in_rate_hz
            found.append(Problem("audio_gap", f"{gap_s:.3f} s of sound are missing inside"))
        if begin / rate > self.start_s + TOLERATED_S:
            late = f"sound begins at {begin / rate:.3f} s, the span at {self.start_s:.3f} s"
            found.append(Problem("audio_gap", late))
        if self.not_finite:
            found.append(Problem("corrupt", f"{self.not_finite} samples are not numbers"))
        if self.other_rates:
            found.append(Problem("corrupt", "the sample rate changes within the track"))
        if clipped > CLIPPED_SHARE * len(samples):
            found.append(Problem("clipped_audio", f"{clipped} of {len(samples)} samples exceed 1"))
        if np.max(np.abs(samples)) < SILENCE:
            found.append(Problem("silent_audio", "the sound track holds only silence here"))
        return tuple(found)


def margin_s(in_rate_hz: int) -> float:
    """Sound needed before and after a span; 256 samples cover the filter at very low rates."""
    return max(MARGIN_S, 256 / max(in_rate_hz, 1))


def sample_number(stamp: int, base: Fraction, rate_hz: int, origin_us: int) -> int:
    """Number of the sample at a timestamp, counted from the beginning of the file."""
    # Whole numbers alone: exact for any length, and far cheaper than fractions.
    top = stamp * base.numerator * rate_hz * 1_000_000 - origin_us * rate_hz * base.denominator
    bottom = base.denominator * 1_000_000
    return (2 * top + bottom) // (2 * bottom)


def frame_phase(frames: list[av.AudioFrame], origin_us: int) -> tuple[int, int] | None:
    """Where frames of equal size begin in a track whose clock is coarser than a sample.

    Matroska counts milliseconds, so the time of a frame found by seeking is up to half a
    millisecond off; its true place is a whole number of frames after the track's first ones.

    Args:
        frames: The first three frames of the track.
        origin_us: What the container's clock shows at the beginning of the file, in microseconds.

    Returns:
        (sample number where the second frame begins, samples per frame); None where the clock is
        exact or the frames differ in size.
    """
    if len(frames) < 3 or frames[1].samples != frames[2].samples or frames[0].pts is None:
        return None
    rate, base = frames[0].sample_rate, frames[0].time_base
    if base is None or base * rate <= 1:
        return None
    at = sample_number(frames[0].pts, base, rate, origin_us)
    return at + frames[0].samples, frames[1].samples
