"""One pass through a sound or video file: seek before the span, decode both tracks, stop after it.

A damaged packet costs what depends on it and no more: pictures are left out from there to the next
key frame, sound is missing for the packet's length, and both are said in a problem.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import av
import numpy as np
from av.error import FFmpegError
from av.stream import Discard

from tasks.media.choosing import Tracks, open_tracks
from tasks.media.formats import cut_short
from tasks.media.interlace import Deinterlacer
from tasks.media.opening import Medium
from tasks.media.pictures import Converter, FrameCollector, pixel_aspect, tilt
from tasks.media.probing import length_of, nominal_rate, nothing_found, sound_phase
from tasks.media.sound import TOLERATED_S, SoundCollector, margin_s
from tasks.media.spans import Span
from tasks.media.types import Clip, FrameSampling, Kind, Problem, Reason, no_frames

_SEEK_WORTH_S = 2.0  # nearer to the beginning, decoding from there costs less than a second try
_BACK_OFFS_S = (0.0, 5.0, 30.0)  # tries with more room where an index leads past the right frame
_FAR_S = 3600.0
_INTERLEAVED_S = 10.0  # tracks of one file lie no further apart; a track silent longer has ended


def decode_tracks(
    medium: Medium, span: Span, audio_rate_hz: int | None, frame_times: FrameSampling | None
) -> Clip:
    """The wanted sound and frames of a span of an open file (None: not wanted at all)."""
    reading = _read(medium, span, audio_rate_hz, frame_times)
    louder = None if reading.sound is None else reading.sound.powers.louder()
    if louder is not None:  # only now is it known that the mix is next to nothing
        reading = _read(medium, span, audio_rate_hz, frame_times, louder)
    return reading.clip()


def _read(
    medium: Medium,
    span: Span,
    audio_rate_hz: int | None,
    frame_times: FrameSampling | None,
    channel: int | None = None,
) -> Reading:
    """A pass that saw the span; of the sound one channel alone where one is named."""
    phase, length_s = None, None
    far = (span.start_s or 0.0) > _SEEK_WORTH_S
    for back_off_s in (*(_BACK_OFFS_S if far else ()), None):
        # After a seek that led too far each try begins anew: where an index is wrong, a container
        # does not come back to where one that was just opened stands.
        with open_tracks(medium) as tracks:
            if length_s is None:
                length_s = length_of(tracks)
                if audio_rate_hz and far:
                    phase = sound_phase(tracks)
            reading = Reading.begin(span, tracks, audio_rate_hz, frame_times, length_s, phase)
            if reading.sound is not None:
                reading.sound.only = channel
            if reading.run(back_off_s):
                return reading
    raise AssertionError("reading from the beginning of a file is never too late")


@dataclass
class Reading:
    """One pass over the packets of a file."""

    span: Span
    tracks: Tracks
    audio_rate_hz: int | None
    frame_times: FrameSampling | None
    length_s: float
    start_s: float
    end_s: float  # of the span or, where it has none, of the file
    picture: FrameCollector[av.VideoFrame] | None
    sound: SoundCollector | None
    packets: int = 0
    stored_s: float = 0.0  # time up to which there were packets, decodable or not
    is_at_end: bool = False
    is_damaged: bool = False  # the picture, up to the next key frame
    errors: list[str] = field(default_factory=list)
    first_dts: int | None = None
    tilted: list[Problem] = field(default_factory=list)
    whole_rows: Deinterlacer = field(default_factory=Deinterlacer)

    @classmethod
    def begin(
        cls,
        span: Span,
        tracks: Tracks,
        audio_rate_hz: int | None,
        frame_times: FrameSampling | None,
        length_s: float,
        phase: tuple[int, int] | None,
    ) -> Reading:
        """Plan a pass: the wanted times and the sound's time grid."""
        start_s = span.start_s or 0.0
        end_s = length_s if span.end_s is None else span.end_s
        # A mistyped end far away must not make a list of a billion wanted times.
        end_s = min(end_s, max(length_s, start_s) + _FAR_S)
        picture = sound = None
        if frame_times is not None and tracks.video is not None:
            convert = Converter(span.region, frame_times.max_height_px, pixel_aspect(tracks.video))
            if tracks.is_still:
                picture = FrameCollector(0.0, 1.0, np.zeros(1), convert)
            else:
                tick_s = float(tracks.video.time_base or 0) / 2 + 1e-6
                wanted = frame_times.wanted_s(start_s, end_s)
                rate = float(tracks.video.average_rate or 25)
                room = min(100_000, int((end_s - start_s) * rate * 1.02) + 16)
                picture = FrameCollector(start_s, end_s, wanted, convert, tick_s, room)
        if audio_rate_hz and tracks.audio is not None:
            sound = SoundCollector(start_s, end_s, audio_rate_hz, tracks.origin_us, phase)
        return cls(
            span, tracks, audio_rate_hz, frame_times, length_s, start_s, end_s, picture, sound
        )

    def run(self, back_off_s: float | None) -> bool:
        """Read the span; False where the seek led past its start. None: from the beginning."""
        streams = self._wanted_streams()
        if not streams:
            return True
        if back_off_s is not None and not self._seek(streams[0], back_off_s):
            return False
        for packet in self._packets(streams):
            self._take(packet)
            if back_off_s is not None and self._is_late():
                return False
        if self.is_at_end and self.picture is not None:
            self._show(self.whole_rows.finish(), self.picture)
            self.picture.finish()
        # A seek that led to the end of the file says nothing about what lies before.
        return back_off_s is None or self._has_seen_all()

    def _wanted_streams(self) -> list[av.VideoStream | av.AudioStream]:
        """The chosen tracks that somebody collects; the others are left out when reading."""
        wanted: list[av.VideoStream | av.AudioStream] = []
        for stream, collector in (
            (self.tracks.video, self.picture),
            (self.tracks.audio, self.sound),
        ):
            if stream is None:
                continue
            if collector is None:
                stream.discard = Discard.all
            else:
                wanted.append(stream)
        return wanted

    def _take(self, packet: av.Packet) -> None:
        """Decode a packet and hand its frames on."""
        is_video = packet.stream.type == "video"
        collector = self.picture if is_video else self.sound
        if collector is None or collector.is_done:
            return
        try:
            frames = packet.decode()
        except FFmpegError as error:
            self.errors.append(str(error.strerror))
            if is_video and self.picture is not None:
                self._show(self.whole_rows.finish(), self.picture)
                self.picture.lose()
                self.is_damaged = True
            return
        for frame in frames:
            if isinstance(frame, av.AudioFrame) and self.sound is not None:
                self.sound.add(frame)
            elif isinstance(frame, av.VideoFrame) and self.picture is not None:
                self._show(self.whole_rows.add(frame), self.picture)

    def _show(
        self, frames: Iterable[av.VideoFrame], picture: FrameCollector[av.VideoFrame]
    ) -> None:
        """Hand on pictures, or the news that one and those built on it are damaged."""
        for frame in frames:
            time_s = self._time_s(frame)
            if picture.first_s is None and not self.tilted:
                self.tilted = list(tilt(frame, self.tracks.medium))
            if frame.is_corrupt:
                self.errors.append("damaged frame")
            self.is_damaged = frame.is_corrupt or (self.is_damaged and not frame.key_frame)
            if self.is_damaged:
                picture.lose(time_s)
            else:
                picture.add(frame, time_s)

    def _seek(self, stream: av.VideoStream | av.AudioStream, back_off_s: float) -> bool:
        margin = 0.1
        if self.sound is not None and self.tracks.audio is not None:
            margin += 1.5 * margin_s(self.tracks.audio.codec_context.sample_rate or 0)
        target_s = self.start_s - margin - back_off_s
        no_times = self.tracks.is_bare or self.tracks.has_guessed_times
        if target_s <= 0 or stream.time_base is None or no_times:
            return False
        try:
            offset = int((target_s + self.tracks.origin_s) / stream.time_base)
            self.tracks.container.seek(offset, stream=stream)
            if self.sound is not None:
                self.sound.to_skip = 2
        except FFmpegError:
            return False
        return True

    def _is_late(self) -> bool:
        return (self.picture is not None and self.picture.is_late()) or (
            self.sound is not None and self.sound.is_late()
        )

    def _has_seen_all(self) -> bool:
        return (self.picture is None or self.picture.first_s is not None) and (
            self.sound is None or self.sound.first is not None
        )

    def _packets(self, streams: list[av.VideoStream | av.AudioStream]) -> Iterator[av.Packet]:
        """Packets until both tracks have what they need or the file ends."""
        demuxed = self.tracks.container.demux(*streams)
        tick_s = {stream.index: float(stream.time_base or 0) for stream in streams}
        while True:
            try:
                packet = next(demuxed)
            except StopIteration:
                self.is_at_end = True
                return
            except FFmpegError as error:
                self.errors.append(str(error.strerror))
                self.is_at_end = True
                return
            self.packets += packet.size > 0
            yield packet
            if all(c is None or c.is_done for c in (self.picture, self.sound)):
                return
            if packet.dts is not None:
                step_s = tick_s[packet.stream_index]
                at_s = packet.dts * step_s - self.tracks.origin_s
                after_s = at_s + (packet.duration or 0) * step_s
                self.stored_s = max(self.stored_s, after_s)
                if at_s > self.end_s + _INTERLEAVED_S:
                    self.is_at_end = True
                    return

    def _time_s(self, frame: av.VideoFrame) -> float:
        if self.tracks.has_guessed_times:
            return self._counted_s(frame)
        stamp = frame.pts if frame.pts is not None else frame.dts
        if stamp is not None and frame.time_base is not None:
            base = frame.time_base
            return stamp * base.numerator / base.denominator - self.tracks.origin_s
        return self._counted_s(frame)

    def _counted_s(self, frame: av.VideoFrame) -> float:
        """Time of a frame by the order of packets or, in bare streams, of frames."""
        assert self.picture is not None
        assert self.tracks.video is not None
        if frame.dts is not None and frame.time_base is not None:
            if self.first_dts is None:
                self.first_dts = frame.dts
            return float((frame.dts - self.first_dts) * frame.time_base)
        if self.picture.last_s is None:
            return 0.0
        return self.picture.last_s + 1.0 / nominal_rate(self.tracks.video)

    def clip(self) -> Clip:
        """What was read, and everything that is wrong with it."""
        frames = None if self.picture is None else self.picture.frames()
        sound = None if self.sound is None else self.sound.result()
        kind: Kind = "image" if self.tracks.is_still else "video" if self.tracks.video else "audio"
        problems = [*self._problems(), *(() if sound is None else sound.problems)]
        return Clip(
            frames=no_frames() if frames is None else frames,
            times_s=np.array(self.picture.times_s if self.picture and frames is not None else []),
            audio=None if sound is None else sound.samples,
            audio_start_s=None if sound is None else sound.start_s,
            audio_rate_hz=None if sound is None else self.audio_rate_hz,
            clipped_samples=0 if sound is None else sound.clipped,
            kind=kind,
            problems=tuple(problems),
        )

    def _problems(self) -> Iterator[Problem]:
        """What is wrong with the file or the span, but for what the sound says of itself."""
        seen = (self.picture is not None and self.picture.last_s is not None) or (
            self.sound is not None and self.sound.first is not None
        )
        wants_both_nothing = self.picture is None and self.sound is None
        if not seen and not wants_both_nothing:
            yield nothing_found(self.tracks.medium, has_packets=self.packets > 0)
        if self.frame_times is not None and self.tracks.video is None:
            yield Problem("no_video", f"{self.span} has no picture track")
        if self.audio_rate_hz and self.tracks.audio is None:
            yield Problem("no_audio", f"{self.span} has no sound track")
        if seen and not self.tracks.is_still:
            yield from self._coverage()
        yield from self.tilted
        if seen and self.errors:
            yield self._damage()

    def _damage(self) -> Problem:
        first = sorted(set(self.errors))[0]
        return Problem("corrupt", f"{self.span}: {len(self.errors)} damaged packets ({first})")

    def _coverage(self) -> Iterator[Problem]:
        """Say which end of the span the file, or one track alone, does not reach."""
        ends_s = []
        if self.picture is not None:
            ends_s.append(self.picture.end_reached_s)
        if self.sound is not None:
            ends_s.append(self.sound.end_reached_s)
        reached_s = max(ends_s)
        if self.is_at_end:
            yield from self._early_end(reached_s)
        yield from self._gaps(reached_s)

    def _early_end(self, reached_s: float) -> Iterator[Problem]:
        """Say why a file that was read to its end ends before the span does."""
        cut = cut_short(self.tracks.medium)
        if cut is not None:
            yield Problem("truncated", f"{self.span} {cut}")
        if reached_s >= self.end_s - TOLERATED_S:
            return
        is_short = self.length_s > max(reached_s, self.stored_s) + 2 * TOLERATED_S
        if cut is None and is_short and self._has_all_tracks():
            detail = f"{self.span} states {self.length_s:.3f} s and ends at {reached_s:.3f} s"
            yield Problem("truncated", detail)
        if self.span.end_s is not None and self.end_s > self.length_s + TOLERATED_S:
            detail = f"{self.span} ends at {reached_s:.3f} s, the span at {self.end_s:.3f} s"
            yield Problem("span_beyond_end", detail)

    def _gaps(self, reached_s: float) -> Iterator[Problem]:
        """Say where one track alone does not cover the span."""
        common_s = min(self.end_s, reached_s if self.is_at_end else self.end_s) - TOLERATED_S
        gaps: tuple[tuple[Reason, FrameCollector[av.VideoFrame] | SoundCollector | None], ...]
        gaps = (("video_gap", self.picture), ("audio_gap", self.sound))
        for reason, collector in gaps:
            if collector is None:
                continue
            if not self._gave(collector):
                name = "picture" if reason == "video_gap" else "sound"
                yield Problem(reason, f"the {name} track has nothing inside the span")
            elif self.is_at_end and collector.end_reached_s < common_s:
                end_s = collector.end_reached_s
                yield Problem(reason, f"ends at {end_s:.3f} s, the span at {self.end_s:.3f} s")
        first_s = None if self.picture is None else self.picture.first_s
        if first_s is not None and self.start_s + TOLERATED_S < first_s < self.end_s:
            yield Problem("video_gap", f"pictures begin at {first_s:.3f} s")

    def _has_all_tracks(self) -> bool:
        """Whether every track was read, so that no unread one may reach the stated end."""
        return (self.picture is not None or self.tracks.video is None) and (
            self.sound is not None or self.tracks.audio is None
        )

    def _gave(self, collector: FrameCollector[av.VideoFrame] | SoundCollector) -> bool:
        if isinstance(collector, FrameCollector):
            return len(collector.times_s) > 0
        first = collector.first
        return first is not None and (
            first / collector.in_rate_hz < self.end_s and collector.end_reached_s > self.start_s
        )
