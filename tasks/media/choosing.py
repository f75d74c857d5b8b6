"""Open a sound or video file by its content and choose the tracks that a player would.

Files are handed to FFmpeg as open file objects, never as names: then no name can be taken for an
option, a pattern or an address, the extension has no say, and a play list cannot make FFmpeg open
other files or the network.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Discard, Disposition
from av.video.stream import VideoStream

from tasks.media.formats import HEIF_BRANDS, cut_short, explain
from tasks.media.opening import MAX_PIXELS, MediaFault, Medium
from tasks.media.types import Problem

_UNWANTED = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.dependent
_FOR_FEW = Disposition.hearing_impaired | Disposition.visual_impaired | Disposition.comment


@dataclass(frozen=True)
class Tracks:
    """An open container and the tracks chosen from it.

    Attributes:
        medium: The file that the container reads.
        origin_us: What the container's clock shows at the beginning of the file, in microseconds.
        stated_s: Duration that the container states, or None.
        is_still: A picture in a video container (HEIF).
    """

    medium: Medium
    container: InputContainer
    video: VideoStream | None
    audio: AudioStream | None
    origin_us: int
    stated_s: float | None
    is_still: bool

    @property
    def is_bare(self) -> bool:
        """A stream without container (H.264, HEVC): nothing states times, nothing can be sought."""
        return self.container.start_time is None and self.container.duration is None

    @property
    def has_guessed_times(self) -> bool:
        """H.264 with frames out of order in AVI, which stores no times but the order of packets."""
        return (
            self.container.format.name == "avi"
            and self.video is not None
            and self.video.codec_context.name == "h264"
            and self.video.codec_context.has_b_frames
        )

    @property
    def origin_s(self) -> float:
        """What the container's clock shows at the beginning of the file, in seconds."""
        return self.origin_us / av.time_base


@contextmanager
def open_tracks(medium: Medium) -> Iterator[Tracks]:
    """Choose the tracks of a sound or video file; raises `MediaFault` where it cannot.

    Whatever reads packets leaves the container elsewhere, so each pass from the beginning opens
    one of its own, over the same handle.
    """
    try:
        container = av.open(medium.reader(), mode="r", metadata_errors="replace")
    # An index error is what a container without one usable stream gives in some demuxers.
    except (FFmpegError, IndexError, ValueError, UnicodeError) as error:
        raise MediaFault(explain(medium, error)) from None
    with container:
        yield _choose(medium, container)


def _choose(medium: Medium, container: InputContainer) -> Tracks:
    """Take the tracks a player would: default ones first, then the largest or clearest."""
    is_still = medium.head[4:8] == b"ftyp" and medium.head[8:12] in HEIF_BRANDS
    if is_still and (cut := cut_short(medium)) is not None:  # what is lost would be shown as grey
        raise MediaFault(Problem("truncated", f"{medium} {cut}"))
    if is_still and any(s.disposition & Disposition.dependent for s in container.streams.video):
        raise MediaFault(
            Problem("unsupported", f"{medium} is a HEIF picture made of tiles; convert it to JPEG")
        )
    video = max(_videos(container), key=_video_rank, default=None)
    audios = [s for s in container.streams.audio if s.codec_context is not None]
    audio = max(audios, key=_audio_rank, default=None)
    if video is None and audio is None:
        raise MediaFault(_no_tracks(medium, container))
    if video is not None and video.width * video.height > MAX_PIXELS:
        raise MediaFault(
            Problem("too_large", f"{medium} has frames of {video.width}x{video.height} pixels")
        )
    for stream in container.streams:
        if stream not in (video, audio):
            stream.discard = Discard.all
        else:
            stream.codec_context.thread_count = 1  # clips run side by side, not their frames
    length = container.duration
    return Tracks(
        medium=medium,
        container=container,
        video=video,
        audio=audio,
        origin_us=container.start_time or 0,
        stated_s=length / av.time_base if length is not None and length > 0 else None,
        is_still=is_still,
    )


def _videos(container: InputContainer) -> list[VideoStream]:
    """Picture tracks that can be decoded and are no cover art."""
    return [
        stream
        for stream in container.streams.video
        if stream.codec_context is not None and not stream.disposition & _UNWANTED
    ]


def _no_tracks(medium: Medium, container: InputContainer) -> Problem:
    """Why an opened file has no track to decode."""
    problem = explain(medium)
    if problem.reason == "truncated":
        return problem
    if any(s.type in ("video", "audio") and s.codec_context is None for s in container.streams):
        return Problem("unsupported", f"{medium} has no track that can be decoded here")
    if not container.streams.video:
        return Problem("no_content", f"{medium} has a header and no tracks")
    return problem


def _video_rank(stream: VideoStream) -> tuple[int, ...]:
    size = stream.width * stream.height
    return (*_wanted(stream), size, stream.codec_context.bit_rate or 0, -stream.index)


def _audio_rank(stream: AudioStream) -> tuple[int, ...]:
    rate = stream.codec_context.sample_rate or 0
    return (*_wanted(stream), rate, stream.channels, stream.codec_context.bit_rate or 0)


def _wanted(stream: VideoStream | AudioStream) -> tuple[int, int]:
    marks = stream.disposition
    return int(not marks & _FOR_FEW), int(bool(marks & Disposition.default))
