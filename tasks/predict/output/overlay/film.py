"""``overlay.mp4``: decoded, drawn into and encoded frame by frame, with its sound."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Literal

import av
import numpy as np
from av.container import InputContainer, OutputContainer
from av.error import FFmpegError
from av.stream import Stream
from av.video.stream import VideoStream

from models.errors import UserError
from tasks.atomic import replacing
from tasks.media.choosing import Tracks, open_tracks
from tasks.media.opening import MediaFault, Medium, open_medium
from tasks.media.pictures import Converter, pixel_aspect
from tasks.predict.answer import Answer, Utterance
from tasks.predict.output.overlay.panels import Panels
from tasks.predict.output.overlay.paths import FacePaths

#: Ticks a second: whole for every usual frame rate, and for milliseconds.
_CLOCK = 90_000
_MOST_HEIGHT_PX = 1080
_AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
#: More utterances than this at once would hide the picture.
_MOST_AT_ONCE = 2

Progress = Callable[[float], None]


def write_overlay(
    answer: Answer, medium: Path, out: Path, progress: Progress = lambda done_s: None
) -> None:
    """Write the video as MP4 with faces, emotions, a circumplex and subtitles drawn in.

    Frames are upright and keep their times; the sound becomes AAC. Memory does not grow with the
    length.

    Args:
        answer: what is drawn.
        medium: the video that was looked at.
        out: the file, replaced whole.
        progress: told the seconds of the video that are done.
    """
    if answer.medium.kind != "video":
        raise UserError(f"{medium.name} is no video, so nothing can be drawn into it")
    try:
        with open_medium(medium) as opened:
            size = _size(opened)
            with (
                open_tracks(opened) as tracks,
                replacing(out) as temporary,
                av.open(str(temporary), "w", format="mp4") as container,
            ):
                _Film(answer, tracks, container, size).write(progress)
    except MediaFault as fault:
        raise UserError(f"{fault.problem.detail}; give another file") from fault
    except FFmpegError as error:
        raise UserError(f"{out}: the video cannot be encoded ({error.strerror})") from error


def _size(medium: Medium) -> tuple[int, int]:
    """Width and height of the drawn video; an encoder must know them before any sound comes."""
    with open_tracks(medium) as tracks:
        for packet in _packets(tracks.container, [tracks.video] if tracks.video else []):
            for frame in _decoded(packet):
                if isinstance(frame, av.VideoFrame):
                    height, width = _even(_converter(tracks)(frame)).shape[:2]
                    return width, height
    raise UserError(
        f"{medium.path.name} has no picture that can be decoded, so none can be drawn into"
    )


def _packets(container: InputContainer, streams: Sequence[Stream]) -> Iterator[av.Packet]:
    """Packets of some tracks, up to the end or to where nothing more can be read."""
    packets = container.demux(*streams) if streams else iter(())
    while True:
        try:
            packet = next(packets)
        except (StopIteration, FFmpegError):
            return
        yield packet


def _decoded(packet: av.Packet) -> Sequence[object]:
    """Frames of a packet; a damaged one costs what depends on it, and ingest has said so."""
    try:
        return packet.decode()
    except FFmpegError:
        return ()


def _converter(tracks: Tracks) -> Converter:
    assert tracks.video is not None
    return Converter(None, _MOST_HEIGHT_PX, pixel_aspect(tracks.video))


class _Film:
    """One pass from the packets of a video to those of the drawn one."""

    def __init__(
        self, answer: Answer, tracks: Tracks, out: OutputContainer, size: tuple[int, int]
    ) -> None:
        assert tracks.video is not None
        self.tracks, self.out = tracks, out
        self.picture = _Picture(answer, tracks, out, size)
        self.sound = None if tracks.audio is None else _Sound(tracks, out)
        tracks.video.codec_context.thread_count = 0  # nothing else is decoded meanwhile

    def write(self, progress: Progress) -> None:
        """Everything, frame by frame."""
        told_s = -1.0
        streams = [s for s in (self.tracks.video, self.tracks.audio) if s is not None]
        for packet in _packets(self.tracks.container, streams):
            for frame in _decoded(packet):
                if isinstance(frame, av.VideoFrame):
                    self.picture.add(frame)
                elif isinstance(frame, av.AudioFrame) and self.sound is not None:
                    self.sound.add(frame)
            if self.picture.last_s >= told_s + 1:
                told_s = self.picture.last_s
                progress(told_s)
        self.picture.finish()
        if self.sound is not None:
            self.sound.finish()
        progress(max(self.picture.last_s, 0.0))


class _Picture:
    """Draws into frames and encodes them."""

    def __init__(
        self, answer: Answer, tracks: Tracks, out: OutputContainer, size: tuple[int, int]
    ) -> None:
        assert tracks.video is not None
        self.out, self.origin_s = out, tracks.origin_s
        self.rate = Fraction(tracks.video.average_rate or tracks.video.guessed_rate or 25)
        self.convert = _converter(tracks)
        self.stream: VideoStream = out.add_stream(_codec(), rate=self.rate.limit_denominator(1001))
        self.stream.pix_fmt = "yuv420p"
        # frames out of order would leave the end of the file unknown where rates vary
        self.stream.options = {"crf": "23", "preset": "veryfast", "bf": "0"}
        self.stream.width, self.stream.height = size
        self.stream.time_base = self.stream.codec_context.time_base = Fraction(1, _CLOCK)
        self.shown = _Shown(answer)
        self.painter = _Painter(answer, *size)
        self.last_s = -1.0
        self.count = 0

    def add(self, frame: av.VideoFrame) -> None:
        """Draw into the next frame; one that goes back in time is left out."""
        time_s = self._time_s(frame)
        if time_s <= self.last_s and self.count:
            return
        pixels = _even(self.convert(frame))
        self.painter.draw(pixels, self.shown.at(time_s), time_s)
        drawn = av.VideoFrame.from_ndarray(pixels, format="rgb24")
        drawn.pts, drawn.time_base = round(time_s * _CLOCK), Fraction(1, _CLOCK)
        self.out.mux(self.stream.encode(drawn))
        self.last_s = time_s
        self.count += 1

    def _time_s(self, frame: av.VideoFrame) -> float:
        stamp = frame.pts if frame.pts is not None else frame.dts
        if stamp is not None and frame.time_base is not None:
            return float(stamp * frame.time_base) - self.origin_s
        return 0.0 if not self.count else self.last_s + float(1 / self.rate)

    def finish(self) -> None:
        """Encode what the encoder still holds."""
        self.out.mux(self.stream.encode(None))


class _Sound:
    """Encodes the sound as AAC, at its own times."""

    def __init__(self, tracks: Tracks, out: OutputContainer) -> None:
        assert tracks.audio is not None
        rate = tracks.audio.codec_context.sample_rate
        self.rate = rate if rate in _AAC_RATES else 48000
        layout = "mono" if tracks.audio.channels == 1 else "stereo"
        self.out, self.origin_s = out, tracks.origin_s
        self.stream = out.add_stream("aac", rate=self.rate, layout=layout)
        self.resampler = av.AudioResampler("fltp", layout, self.rate, frame_size=1024)
        self.next: int | None = None  # number of the next sample

    def add(self, frame: av.AudioFrame) -> None:
        """Encode a frame."""
        if self.next is None:
            at_s = 0.0
            if frame.pts is not None and frame.time_base is not None:
                at_s = float(frame.pts * frame.time_base) - self.origin_s
            self.next = round(at_s * self.rate)
        frame.pts = None  # counted here: programs write times that jump by a sample
        self._encode(self.resampler.resample(frame))

    def _encode(self, frames: list[av.AudioFrame]) -> None:
        assert self.next is not None
        for frame in frames:
            frame.pts, frame.time_base = self.next, Fraction(1, self.rate)
            self.next += frame.samples
            self.out.mux(self.stream.encode(frame))

    def finish(self) -> None:
        """Encode what is still held."""
        if self.next is not None:
            self._encode(self.resampler.resample(None))
            self.out.mux(self.stream.encode(None))


@dataclass
class _Shown:
    """Which utterances are on the screen, asked at times that never go back."""

    answer: Answer
    place: int = 0

    def __post_init__(self) -> None:
        self.waiting = sorted(self.answer.utterances, key=lambda u: (u.start_s, u.end_s))
        self.current: list[Utterance] = []

    def at(self, time_s: float) -> list[Utterance]:
        while self.place < len(self.waiting) and self.waiting[self.place].start_s <= time_s:
            self.current.append(self.waiting[self.place])
            self.place += 1
        self.current = [u for u in self.current if u.end_s > time_s]
        return self.current[:_MOST_AT_ONCE]


class _Painter:
    """Draws what belongs to a time into a frame."""

    def __init__(self, answer: Answer, width: int, height: int) -> None:
        self.panels, self.paths = Panels(answer, width, height), FacePaths(answer.faces)
        self.answer = answer
        seen = answer.medium.size_px or (width, height)
        self.scale = (width / max(1, seen[0]), height / max(1, seen[1]))

    def draw(self, pixels: np.ndarray, utterances: list[Utterance], time_s: float) -> None:
        """Draw into ``pixels``, (H, W, 3) uint8."""
        for place, utterance in enumerate(utterances):
            self._faces(pixels, utterance, time_s)
            for each in self.panels.of(utterance, place):
                each.lay(pixels)

    def _faces(self, pixels: np.ndarray, utterance: Utterance, time_s: float) -> None:
        is_alone = self.paths.tracks(utterance.id) == 1
        colour = self.panels.colour(utterance)
        for track, box in self.paths.at(utterance.id, time_s).items():
            x0, y0, x1, y1 = (round(edge * self.scale[k % 2]) for k, edge in enumerate(box))
            _outline(pixels, (x0, y0, x1, y1), colour, max(2, round(3 * self.panels.unit)))
            name = utterance.speaker if is_alone and utterance.speaker else f"face {track + 1}"
            said = [f"{c.label} {100 * c.confidence:.0f} %" for c in utterance.classes.values()]
            text = " · ".join([name, *said[:1]]) if is_alone else name
            label = self.panels.label(text, colour)
            above = y0 - label.ink.shape[0]
            x = min(x0, pixels.shape[1] - label.ink.shape[1])
            replace(label, x=max(0, x), y=above if above >= 0 else y1).lay(pixels)


def _outline(
    pixels: np.ndarray, box: tuple[int, int, int, int], colour: tuple[int, int, int], thick: int
) -> None:
    """Draw the edges of a box, as much of them as lies in the frame."""
    height, width = pixels.shape[:2]
    x0, y0, x1, y1 = box

    def fill(left: int, top: int, right: int, bottom: int) -> None:
        rows = slice(max(0, top), max(0, min(height, bottom)))
        pixels[rows, max(0, left) : max(0, min(width, right))] = colour

    fill(x0, y0, x1, y0 + thick)
    fill(x0, y1 - thick, x1, y1)
    fill(x0, y0, x0 + thick, y1)
    fill(x1 - thick, y0, x1, y1)


def _even(frame: np.ndarray) -> np.ndarray:
    """A copy whose sides are even, as the encoder's colours need them."""
    height, width = (max(2, side // 2 * 2) for side in frame.shape[:2])
    if frame.shape[0] < 2 or frame.shape[1] < 2:
        frame = np.pad(frame, ((0, 1), (0, 1), (0, 0)), mode="edge")
    return np.array(frame[:height, :width], order="C")


def _codec() -> Literal["libx264", "mpeg4"]:
    """H.264 where this build of FFmpeg has it."""
    return "libx264" if "libx264" in av.codecs_available else "mpeg4"
