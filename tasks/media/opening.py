"""Open a media file by its content, choose its tracks, and say why a file cannot be used.

Files are handed to FFmpeg as open file objects, never as names: then no name can be taken for an
option, a pattern or an address, the extension has no say, and a play list cannot make FFmpeg open
other files or the network.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Discard, Disposition
from av.video.stream import VideoStream

from tasks.media.types import Problem

MAX_PIXELS = 200_000_000  # a 200-megapixel picture takes 0.6 GB as RGB

# A picture format is read by Pillow; everything else goes through FFmpeg.
_PICTURES = {
    b"\xff\xd8\xff": "jpeg",
    b"\x89PNG\r\n\x1a\n": "png",
    b"GIF8": "gif",
    b"BM": "bmp",
    b"II*\0": "tiff",
    b"MM\0*": "tiff",
    b"\0\0\0\x0cjP  ": "jpeg2000",
}
_SOUND_OR_VIDEO = (
    *(b"RIFF", b"RIFX", b"RF64", b"FORM", b"OggS", b"fLaC", b"ID3", b"caff", b"FLV\x01", b"#!AMR"),
    *(b"\x1aE\xdf\xa3", b"0&\xb2u", b".RMF", b"\0\0\x01\xba", b"\0\0\x01\xb3", b"wvpk", b"MAC "),
)
_ISO_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1")
_AVIF_BRANDS = (b"avif", b"avis")
_UNWANTED = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.dependent
_FOR_FEW = Disposition.hearing_impaired | Disposition.visual_impaired | Disposition.comment


class MediaFault(Exception):
    """Ends the reading of one file with a problem; never leaves the media layer."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail)
        self.problem = problem


@dataclass(frozen=True)
class Tracks:
    """An open container and the tracks chosen from it.

    Attributes:
        origin_us: What the container's clock shows at the beginning of the file, in microseconds.
        stated_s: Duration that the container states, or None.
        is_still: A picture in a video container (HEIF).
    """

    container: InputContainer
    video: VideoStream | None
    audio: AudioStream | None
    origin_us: int
    stated_s: float | None
    is_still: bool

    @property
    def origin_s(self) -> float:
        """What the container's clock shows at the beginning of the file, in seconds."""
        return self.origin_us / av.time_base


def check_file(path: Path) -> None:
    """Raise `MediaFault` unless the path is a readable file with at least one byte."""
    try:
        state = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        raise MediaFault(Problem("missing", f"{path} does not exist")) from None
    except (OSError, ValueError) as error:
        raise MediaFault(Problem("not_readable", f"{path}: {error}")) from None
    # Opening a named pipe would wait for ever, so only plain files get further than this.
    if not stat.S_ISREG(state.st_mode):
        raise MediaFault(Problem("not_readable", f"{path} is not a plain file"))
    if state.st_size == 0:
        raise MediaFault(Problem("empty_file", f"{path} has zero bytes"))
    if not os.access(path, os.R_OK):
        raise MediaFault(Problem("not_readable", f"{path}: permission denied"))


def picture_format(path: Path) -> str | None:
    """Name of the picture format by the first bytes; None where it is no picture for Pillow."""
    head = _head(path)
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    if head[4:8] == b"ftyp" and head[8:12] in _AVIF_BRANDS:
        return "avif"
    return next((name for magic, name in _PICTURES.items() if head.startswith(magic)), None)


@contextmanager
def open_tracks(path: Path) -> Iterator[Tracks]:
    """Open a sound or video file and choose its tracks; raises `MediaFault` where it cannot."""
    with open(path, "rb") as file:
        try:
            container = av.open(file, mode="r", metadata_errors="replace")
        # An index error is what a container without one usable stream gives in some demuxers.
        except (FFmpegError, IndexError, ValueError, UnicodeError) as error:
            raise MediaFault(explain(path, error)) from None
        with container:
            yield _choose(path, container)


def _choose(path: Path, container: InputContainer) -> Tracks:
    """Take the tracks a player would: default ones first, then the largest or clearest."""
    is_still = _head(path)[4:8] == b"ftyp" and _head(path)[8:12] in _HEIF_BRANDS
    if is_still and any(s.disposition & Disposition.dependent for s in container.streams.video):
        raise MediaFault(
            Problem("unsupported", f"{path} is a HEIF picture made of tiles; convert it to JPEG")
        )
    videos = [
        stream
        for stream in container.streams.video
        if stream.codec_context is not None and not stream.disposition & _UNWANTED
    ]
    audios = [s for s in container.streams.audio if s.codec_context is not None]
    video = max(videos, key=_video_rank, default=None)
    audio = max(audios, key=_audio_rank, default=None)
    if video is None and audio is None:
        problem = explain(path)
        if problem.reason != "truncated" and any(
            s.type in ("video", "audio") and s.codec_context is None for s in container.streams
        ):
            problem = Problem("unsupported", f"{path} has no track that can be decoded here")
        elif problem.reason != "truncated" and not container.streams.video:
            problem = Problem("no_content", f"{path} has a header and no tracks")
        raise MediaFault(problem)
    if video is not None and video.width * video.height > MAX_PIXELS:
        raise MediaFault(
            Problem("too_large", f"{path} has frames of {video.width}x{video.height} pixels")
        )
    for stream in container.streams:
        if stream not in (video, audio):
            stream.discard = Discard.all
        else:
            stream.codec_context.thread_count = 1  # clips run side by side, not their frames
    start, length = container.start_time, container.duration
    return Tracks(
        container=container,
        video=video,
        audio=audio,
        origin_us=start or 0,
        stated_s=length / av.time_base if length is not None and length > 0 else None,
        is_still=is_still,
    )


def _video_rank(stream: VideoStream) -> tuple[int, ...]:
    size = stream.width * stream.height
    return (*_wanted(stream), size, stream.codec_context.bit_rate or 0, -stream.index)


def _audio_rank(stream: AudioStream) -> tuple[int, ...]:
    rate = stream.codec_context.sample_rate or 0
    return (*_wanted(stream), rate, stream.channels, stream.codec_context.bit_rate or 0)


def _wanted(stream: VideoStream | AudioStream) -> tuple[int, int]:
    marks = stream.disposition
    return int(not marks & _FOR_FEW), int(bool(marks & Disposition.default))


def explain(path: Path, error: Exception | None = None) -> Problem:
    """Why a file of which nothing could be decoded is so: cut short, damaged or no media."""
    head = _head(path)
    name = picture_format(path)
    if not (name or head[4:8] in _ISO_BOXES or head.startswith(_SOUND_OR_VIDEO)):
        return Problem("not_media", f"{path} does not begin like any known media format")
    if (cut := cut_short(path)) is not None:
        return Problem("truncated", f"{path} {cut}")
    if isinstance(error, EOFError):
        return Problem("no_content", f"{path} ends right after its header")
    because = f" ({error.strerror if isinstance(error, OSError) else error})" if error else ""
    return Problem("unreadable", f"{path} cannot be decoded{because}")


def cut_short(path: Path) -> str | None:
    """In what way the file is shorter than its own headers say, or None."""
    head, size = _head(path), path.stat().st_size
    if head[:4] == b"RIFF":
        stated = 8 + int.from_bytes(head[4:8], "little")
        # Programs that write into a pipe leave the largest number they can instead of a size.
        # Others count their own header in, which is wrong by a few bytes only.
        is_known = stated < 0x7FFF0000
        return f"has {size} of {stated} bytes" if is_known and stated > size + 16 else None
    if head.startswith(b"\x89PNG"):
        return _cut_chunks(path, size)
    if head.startswith(b"\xff\xd8\xff"):
        with open(path, "rb") as file:
            file.seek(max(0, size - 65536))
            return None if b"\xff\xd9" in file.read() else "lacks the mark that ends a JPEG"
    return _cut_boxes(path, size) if head[4:8] in _ISO_BOXES else None


def check_whole_png(path: Path) -> None:
    """Raise `MediaFault` for a PNG file without its end, which Pillow may accept."""
    if (cut := _cut_chunks(path, path.stat().st_size)) is not None:
        raise MediaFault(Problem("truncated", f"{path} {cut}"))


def _cut_chunks(path: Path, size: int) -> str | None:
    """Walk the chunks of a PNG file."""
    at = 8
    with open(path, "rb") as file:
        while at + 12 <= size:
            file.seek(at)
            header = file.read(8)
            if header[4:] == b"IEND":
                return None
            at += 12 + int.from_bytes(header[:4], "big")
    return "lacks the chunk that ends a PNG"


def _cut_boxes(path: Path, size: int) -> str | None:
    """Walk the top-level boxes of an MP4 or MOV file."""
    at, seen = 0, set()
    with open(path, "rb") as file:
        while at + 8 <= size:
            file.seek(at)
            header = file.read(16)
            length, name = int.from_bytes(header[:4], "big"), header[4:8]
            if length == 1:
                length = int.from_bytes(header[8:16], "big")
            seen.add(name)
            if length == 0:  # by definition: up to the end of the file
                break
            if length < 8:
                return None
            if at + length > size:
                return f"has {size} of at least {at + length} bytes"
            at += length
    has_index = b"moov" in seen or b"meta" in seen
    return None if has_index or b"mdat" not in seen else "lost its index (no moov box)"


def _head(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(64)
