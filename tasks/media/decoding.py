"""The media layer: what a file holds, and the sound and frames of a span of it.

One pass gives picture and sound. Frames are chosen by timestamps and turned upright; only chosen
frames become RGB. Sound becomes mono float32 at the wanted rate, cut to the sample. Bad content
never raises: it comes back as problems with a reason from `REASONS`. Bytes from strangers are safe
to decode inside `tasks.media.worker.Decoders`, where a crash or a hang costs one clip.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace
from os import PathLike
from pathlib import Path

from models.errors import UserError
from tasks.media.opening import MediaFault, check_file, picture_format
from tasks.media.probing import probe_tracks
from tasks.media.stills import decode_picture, probe_picture
from tasks.media.tracks import Request, decode_tracks
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
        check_file(path)
        container = picture_format(path)
        return probe_tracks(path) if container is None else probe_picture(path, container)
    except MediaFault as fault:
        return Media(kind=None, problems=(fault.problem,))


def decode(
    path: str | PathLike[str],
    start_s: float | None = None,
    end_s: float | None = None,
    *,
    audio_rate_hz: int | None,
    frame_times: FrameSampling | None,
    region: Region | None = None,
    min_duration_s: float = 0.0,
) -> Clip:
    """Decode a span of a file in one pass; nothing after the span's end is decoded.

    Args:
        path: A file of any name; its extension has no say.
        start_s: Beginning of the span; None is the beginning of the file.
        end_s: End of the span; None is the end of the file. Still pictures ignore both.
        audio_rate_hz: Rate of the mono sound to return; None where no sound is wanted.
        frame_times: Which frames to return, and how high; None where none are wanted.
        region: Part of the upright frame to keep, such as one half of an IEMOCAP frame.
        min_duration_s: What lasts less than this is marked `too_short`.

    Returns:
        The clip; `status` and `problems` tell what is wrong with it.
    """
    if audio_rate_hz is None and frame_times is None:
        raise UserError(f"{path}: neither sound nor frames are asked for; give one of them")
    if audio_rate_hz is not None and audio_rate_hz < 1:
        raise UserError(f"{path}: audio_rate_hz is {audio_rate_hz}; give at least 1")
    path, start = Path(path), 0.0 if start_s is None else float(start_s)
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
        check_file(path)
        container = picture_format(path)
        if container is None:
            request = Request(start, end_s, audio_rate_hz, frame_times, region)
            clip = decode_tracks(path, request)
        else:
            clip = decode_picture(path, container, (start, end_s), frame_times, region)
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
