"""Small media files made on the spot: shaded frames that tell their number, known sounds."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

FIRST_SHADE, SHADE_STEP = 20, 4


def shade(number: int) -> int:
    """Grey level of frame `number`; far enough apart to survive lossy coding."""
    return FIRST_SHADE + SHADE_STEP * number


def numbers(frames: np.ndarray) -> list[int]:
    """Which frames these are, read from their shades."""
    means = frames.reshape(len(frames), -1).mean(axis=1)
    return np.round((means - FIRST_SHADE) / SHADE_STEP).astype(int).tolist()


def corners(width: int = 64, height: int = 48) -> np.ndarray:
    """A picture whose quarters differ: red, green / blue, white; (H, W, 3) uint8."""
    picture = np.zeros((height, width, 3), np.uint8)
    top, left = slice(0, height // 2), slice(0, width // 2)
    bottom, right = slice(height // 2, height), slice(width // 2, width)
    picture[top, left] = (250, 0, 0)
    picture[top, right] = (0, 250, 0)
    picture[bottom, left] = (0, 0, 250)
    picture[bottom, right] = (250, 250, 250)
    return picture


def corner_names(frame: np.ndarray) -> str:
    """Colours of the four quarters, in reading order, as letters."""
    height, width = frame.shape[:2]
    letters = ""
    for row in (height // 4, 3 * height // 4):
        for column in (width // 4, 3 * width // 4):
            bright = tuple(bool(v) for v in frame[row, column] > 128)
            letters += {
                (True, False, False): "r",
                (False, True, False): "g",
                (False, False, True): "b",
                (True, True, True): "w",
            }.get(bright, "?")
    return letters


def tone(seconds: float, rate_hz: int, channels: int = 1, hz: float = 220.0) -> np.ndarray:
    """(channels, S) float32 sound of two mixed sines at half scale, the same in every channel."""
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    mono = 0.3 * np.sin(2 * np.pi * hz * t) + 0.2 * np.sin(2 * np.pi * 0.37 * hz * t + 1)
    return np.repeat(mono[None].astype(np.float32), channels, axis=0)


def write(
    path: Path,
    *,
    times_s: np.ndarray | None = None,
    pictures: list[np.ndarray] | None = None,
    size: tuple[int, int] = (64, 48),
    video_codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    gop: int = 12,
    b_frames: int = 2,
    matrix: list[int] | None = None,
    aspect: Fraction | None = None,
    sound: np.ndarray | None = None,
    rate_hz: int = 16000,
    layout: str = "mono",
    audio_codec: str = "pcm_s16le",
    audio_start_s: float = 0.0,
    format: str | None = None,
) -> Path:
    """Write a file with shaded (or given) frames at `times_s` and `sound` (channels, S)."""
    with av.open(str(path), "w", format=format) as out:
        video = audio = None
        if times_s is not None:
            video = out.add_stream(video_codec, rate=Fraction(1000))
            video.width, video.height, video.pix_fmt = *size, pix_fmt
            video.time_base = video.codec_context.time_base = Fraction(1, 12000)
            video.codec_context.gop_size = gop
            if video_codec == "libx264":
                video.options = {"crf": "8", "preset": "veryfast", "bf": str(b_frames)}
            if aspect is not None:
                video.sample_aspect_ratio = video.codec_context.sample_aspect_ratio = aspect
            if matrix is not None:
                video.set_display_matrix(matrix)
        if sound is not None:
            audio = out.add_stream(audio_codec, rate=rate_hz, layout=layout)
        if video is not None:
            for number, time_s in enumerate(times_s):
                picture = (
                    np.full((size[1], size[0], 3), shade(number), np.uint8)
                    if pictures is None
                    else pictures[number]
                )
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts, frame.time_base = round(time_s * 12000), Fraction(1, 12000)
                out.mux(video.encode(frame))
            out.mux(video.encode(None))
        if audio is not None:
            step = audio.codec_context.frame_size or 1024
            codec_format = audio.codec_context.format.name
            for begin in range(0, sound.shape[1], step):
                samples = np.ascontiguousarray(sound[:, begin : begin + step])
                frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout=layout)
                frame.sample_rate = rate_hz
                frame.pts = begin + round(audio_start_s * rate_hz)
                frame.time_base = Fraction(1, rate_hz)
                if codec_format != "fltp":
                    convert = av.AudioResampler(codec_format, layout, rate_hz)
                    for converted in convert.resample(frame):
                        out.mux(audio.encode(converted))
                else:
                    out.mux(audio.encode(frame))
            out.mux(audio.encode(None))
    return path
