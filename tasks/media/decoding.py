"""The media layer: what a file holds, and the sound and frames of a span of it.

One pass gives picture and sound. Frames are chosen by timestamps and turned upright; only chosen
frames become RGB. Sound becomes mono float32 at the wanted rate, cut to the sample. Bad content
never raises: it comes back as problems with a reason from `REASONS`. Bytes from strangers are safe
to decode inside `tasks.media.worker.Decoders`, where a crash or a hang costs one clip.
"""

from __future__ import annotations

import hashlib
import math
import os
from dataclasses import replace
from os import PathLike
from pathlib import Path

from models.errors import UserError
from tasks.media.formats import picture_format
from tasks.media.opening import MediaFault, open_medium
from tasks.media.probing import probe_tracks
from tasks.media.spans import Span
from tasks.media.stills import decode_picture, probe_picture
from tasks.media.tracks import decode_tracks
from tasks.media.types import (
    REASONS,
    Clip,
    FrameSampling,
    Kind,
    Media,
    Problem,
    Reason,
    Region,
    Status,
)

__all__ = [
    "REASONS",
    "Clip",
    "FrameSampling",
    "Kind",
    "Media",
    "Problem",
    "Reason",
    "Region",
    "Span",
    "Status",
    "decode",
    "media_sha256",
    "probe",
]


def probe(path: str | PathLike[str]) -> Media:
    """What a file holds; the first frame of each track is decoded to be sure.

    Args:
        path: A file of any name; its extension has no say.

    Returns:
        A `Media` whose `kind` is None and whose `problems` say why, where nothing is usable.
    """
    path = Path(path)
    try:
        with open_medium(path) as medium:
            container = picture_format(medium)
            return probe_tracks(medium) if container is None else probe_picture(medium, container)
    except MediaFault as fault:
        return Media(kind=None, problems=(fault.problem,))


def decode(
    span: Span | str | PathLike[str],
    *,
    audio_rate_hz: int | None,
    frame_times: FrameSampling | None,
    min_duration_s: float = 0.0,
) -> Clip:
    """Decode a span of a file in one pass; nothing after the span's end is decoded.

    Args:
        span: What to read; a path alone is the whole file. The file may have any name, its
            extension has no say. Still pictures ignore start and end.
        audio_rate_hz: Rate of the mono sound to return; None where no sound is wanted.
        frame_times: Which frames to return, and how high; None where none are wanted.
        min_duration_s: What lasts less than this is marked `too_short`.

    Returns:
        The clip; `status` and `problems` tell what is wrong with it.
    """
    if not isinstance(span, Span):
        span = Span(os.fspath(span))
    if audio_rate_hz is None and frame_times is None:
        raise UserError(f"{span}: neither sound nor frames are asked for; give one of them")
    if audio_rate_hz is not None and audio_rate_hz < 1:
        raise UserError(f"{span}: audio_rate_hz is {audio_rate_hz}; give at least 1")
    path, end_s = Path(span.path), span.end_s
    start = 0.0 if span.start_s is None else float(span.start_s)
    notes: list[Problem] = []
    if not math.isfinite(start) or (
        end_s is not None and not (math.isfinite(end_s) and max(start, 0.0) < end_s)
    ):
        detail = f"{path}: the span from {start} s to {end_s} s is empty"
        return Clip.failed(Problem("empty_span", detail))
    if start < 0:
        notes.append(Problem("span_before_start", f"{path}: the span starts at {start} s"))
        start = 0.0
    try:
        with open_medium(path) as medium:
            container = picture_format(medium)
            if container is None:
                span = replace(span, start_s=start)
                clip = decode_tracks(medium, span, audio_rate_hz, frame_times)
            else:
                clip = decode_picture(medium, container, (start, end_s), frame_times, span.region)
                if audio_rate_hz is not None:
                    notes.append(Problem("no_audio", f"{path} is a picture without sound"))
    except MediaFault as fault:
        return Clip.failed(fault.problem)
    if (short := _too_short(path, clip, min_duration_s)) is not None:
        notes.append(short)
    return replace(clip, problems=(*notes, *clip.problems))


def media_sha256(path: str | PathLike[str]) -> str:
    """SHA-256 of a file's bytes as 64 hexadecimal digits; the file is read in pieces."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); check the path") from None


def _too_short(path: Path, clip: Clip, min_duration_s: float) -> Problem | None:
    if clip.audio is None or clip.audio_rate_hz is None:
        return None
    length_s = len(clip.audio) / clip.audio_rate_hz
    if length_s >= min_duration_s:
        return None
    return Problem("too_short", f"{path}: {length_s:.3f} s of sound, {min_duration_s} s are needed")
