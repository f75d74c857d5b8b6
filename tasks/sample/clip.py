"""Clips of the sample corpus as MP4 files: H.264 and AAC, the same bytes for the same input."""

from collections.abc import Iterable
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import OutputContainer

from models.errors import UserError

#: One thread, and nothing in the file that depends on the library's version or the clock.
_VIDEO = {"preset": "superfast", "crf": "23", "bf": "0", "threads": "1", "flags": "+bitexact"}
_AUDIO = {"flags": "+bitexact"}
_AUDIO_BITS_PER_S = 48_000


def write_clip(
    path: Path,
    parts: Iterable[tuple[list[np.ndarray], np.ndarray]],
    fps: int,
    rate_hz: int,
    has_audio: bool = True,
) -> None:
    """Encode pictures and sound to ``path``, part by part, so that a long file needs little memory.

    Args:
        path: MP4 file to write.
        parts: for each part its pictures, (H, W, 3) uint8 RGB, and its sound, (N,) float32 in
            [-1, 1]; both of the same length in seconds.
        fps: pictures per second.
        rate_hz: sampling rate of the sound.
        has_audio: False leaves the audio stream out.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            container = stack.enter_context(
                av.open(str(path), "w", format="mp4", options={"fflags": "+bitexact"})
            )
            _encode(container, parts, fps, rate_hz, has_audio)
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror or error}; "
            "free space or make the folder writable"
        ) from error


def _encode(
    container: OutputContainer,
    parts: Iterable[tuple[list[np.ndarray], np.ndarray]],
    fps: int,
    rate_hz: int,
    has_audio: bool,
) -> None:
    video = container.add_stream("libx264", rate=fps, options=dict(_VIDEO))
    video.pix_fmt = "yuv420p"
    audio = None
    if has_audio:
        audio = container.add_stream("aac", rate=rate_hz, options=dict(_AUDIO), layout="mono")
        audio.bit_rate = _AUDIO_BITS_PER_S
    pictures_done, samples_done = 0, 0
    for pictures, sound in parts:
        for picture in pictures:
            if not pictures_done:
                video.height, video.width = picture.shape[:2]
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = pictures_done, Fraction(1, fps)
            container.mux(video.encode(frame))
            pictures_done += 1
        if audio is not None:
            block = av.AudioFrame.from_ndarray(sound[None], format="fltp", layout="mono")
            block.sample_rate = rate_hz
            block.pts, block.time_base = samples_done, Fraction(1, rate_hz)
            container.mux(audio.encode(block))
            samples_done += len(sound)
    container.mux(video.encode())
    if audio is not None:
        container.mux(audio.encode())
