"""Still and animated pictures, read by Pillow: upright, without transparency, eight bits a colour.

Pillow's JPEG colours are those every vision model was trained with, and it knows CMYK, palettes,
EXIF and the composition of animations.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image

from tasks.media.formats import check_whole_png, explain
from tasks.media.opening import MAX_PIXELS, MediaFault, Medium
from tasks.media.pictures import EXIF_ORIENTATIONS, FrameCollector, Orientation, crop
from tasks.media.types import Clip, FrameSampling, Media, Problem, Region, no_frames

Image.MAX_IMAGE_PIXELS = MAX_PIXELS // 2  # Pillow refuses what has twice as many
#: Of all frames together: each is drawn, whatever is wanted, and a million take up to 0.1 s.
_MAX_ANIMATION_PIXELS = 300_000_000

# Formats that run other programs (EPS) or belong to other uses stay out.
_FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF", "JPEG2000")
_EXIF_ORIENTATION = 0x0112
# What damaged bytes make Pillow's readers raise, by format and place.
_DAMAGE = (
    OSError, SyntaxError, ValueError, EOFError, struct.error, TypeError, RuntimeError,
    LookupError, ArithmeticError,
)  # fmt: skip
_UNSET_DELAY_S = 0.1  # what browsers show a frame for that states no delay


def probe_picture(medium: Medium, container: str) -> Media:
    """What a picture file holds; it is decoded once, so damage is found."""
    with _opened(medium, container) as image:
        turn = orientation(image)
        count = _frame_count(image, container, medium)
        _load(image, medium)
        width, height = image.size
        if turn.is_transposed:
            width, height = height, width
        length_s = sum(_delays_s(image, count, medium)) if count > 1 else None
    return Media(
        kind="animation" if count > 1 else "image",
        container=container,
        duration_s=length_s,
        has_video=True,
        video_codec=container,
        fps=count / length_s if length_s else None,
        width_px=width,
        height_px=height,
        rotation_deg=turn.rotation_deg,
        is_mirrored=turn.is_mirrored,
    )


def decode_picture(
    medium: Medium,
    container: str,
    span_s: tuple[float, float | None],
    sampling: FrameSampling | None,
    region: Region | None,
) -> Clip:
    """The picture, or the frames of an animation at the wanted times of the span (start, end).

    A still picture has no times: its one frame answers every span, at time 0.
    """
    if sampling is None:
        return Clip.failed(kind=probe_picture(medium, container).kind)
    with _opened(medium, container) as image:
        count = _frame_count(image, container, medium)
        if count > 1:
            return _decode_animation(medium, image, count, span_s, sampling, region)
        upright = orientation(image).apply(flatten(image, medium))
    frame = _fit(crop(upright, region), sampling.max_height_px)
    return Clip(np.ascontiguousarray(frame)[None], np.zeros(1), kind="image")


def _decode_animation(
    medium: Medium,
    image: Image.Image,
    count: int,
    span_s: tuple[float, float | None],
    sampling: FrameSampling,
    region: Region | None,
) -> Clip:
    turn = orientation(image)
    problems: list[Problem] = []
    delays_s = list(_delays_s(image, count, medium))
    total_s = sum(delays_s)
    start_s, end_s = span_s[0], total_s if span_s[1] is None else span_s[1]
    if start_s >= total_s:
        raise MediaFault(
            Problem("span_beyond_end", f"{medium} ends at {total_s:.3f} s, before {start_s:.3f} s")
        )
    if end_s > total_s + max(delays_s):
        detail = f"{medium} ends at {total_s:.3f} s, before {end_s:.3f} s"
        problems.append(Problem("span_beyond_end", detail))

    def picture(frame: Image.Image) -> np.ndarray:
        upright = turn.apply(flatten(frame, medium))
        return _fit(crop(upright, region), sampling.max_height_px)

    wanted = sampling.wanted_s(start_s, end_s)
    collector: FrameCollector[Image.Image] = FrameCollector(start_s, end_s, wanted, picture)
    time_s = 0.0
    for index, delay_s in enumerate(delays_s):
        _load(image, medium, index)
        collector.add(image.copy(), time_s)  # Pillow draws the next frame over this one
        time_s += delay_s
        if collector.is_done:
            break
    collector.lose(total_s)
    frames = collector.frames()
    times_s = np.array(collector.times_s)
    frames = no_frames() if frames is None else frames
    return Clip(frames, times_s, kind="animation", problems=tuple(problems))


@contextmanager
def _decoding(medium: Medium) -> Iterator[None]:
    """What damage makes Pillow's readers raise becomes a `MediaFault`."""
    try:
        yield
    except Image.DecompressionBombError as error:
        raise MediaFault(Problem("too_large", f"{medium}: {error}")) from None
    except _DAMAGE as error:
        raise MediaFault(explain(medium, error)) from None


@contextmanager
def _opened(medium: Medium, container: str) -> Iterator[Image.Image]:
    """A Pillow image whose header was read; raises `MediaFault` where it cannot be."""
    if container == "png":
        check_whole_png(medium)
    Image.init()  # otherwise Pillow knows only five of the formats below
    with _decoding(medium):
        # some of Pillow's readers read through the handle's own number, so they get that one
        image = Image.open(medium.file, formats=_FORMATS)
    if image.width * image.height > MAX_PIXELS:
        detail = f"{medium} has {image.width}x{image.height} pixels"
        raise MediaFault(Problem("too_large", detail))
    with image:
        yield image


def _frame_count(image: Image.Image, container: str, medium: Medium) -> int:
    """How many pictures follow each other in time (pages of a TIFF do not)."""
    if container not in ("gif", "webp", "png", "avif"):
        return 1
    with _decoding(medium):  # a GIF is read to its end to be counted
        count = int(getattr(image, "n_frames", 1))
    if count > 1 and count * image.width * image.height > _MAX_ANIMATION_PIXELS:
        detail = (
            f"{medium} has {count} frames of {image.width}x{image.height} pixels, more than "
            f"{_MAX_ANIMATION_PIXELS:,} pixels together; make it a video"
        )
        raise MediaFault(Problem("too_large", detail))
    return count


def _load(image: Image.Image, medium: Medium, index: int = 0) -> None:
    """Decode one frame; damage becomes a `MediaFault`."""
    with _decoding(medium):
        if index != image.tell():
            image.seek(index)
        image.load()


def _delays_s(image: Image.Image, count: int, medium: Medium) -> Iterator[float]:
    """How long each frame of an animation is shown."""
    for index in range(count):
        _load(image, medium, index)  # some readers know a frame's delay only after reading it
        yield float(image.info.get("duration", 0)) / 1000.0 or _UNSET_DELAY_S


def orientation(image: Image.Image) -> Orientation:
    """How the stored rows and columns lie in the upright picture, as its EXIF says."""
    try:
        value = image.getexif().get(_EXIF_ORIENTATION, 1)
    except _DAMAGE:
        # A damaged EXIF block says nothing about orientation; the picture itself is whole.
        return Orientation()
    return EXIF_ORIENTATIONS.get(value, Orientation()) if isinstance(value, int) else Orientation()


def _fit(frame: np.ndarray, max_height_px: int | None) -> np.ndarray:
    """Reduce a frame that is too high by averaging areas, keeping its shape."""
    height, width = frame.shape[:2]
    if max_height_px is None or height <= max_height_px:
        return frame
    size = (max(1, round(width * max_height_px / height)), max_height_px)
    small = Image.fromarray(np.ascontiguousarray(frame)).resize(size, Image.Resampling.BOX)
    return np.asarray(small)


def flatten(image: Image.Image, medium: Medium) -> np.ndarray:
    """(H, W, 3) uint8 RGB of a Pillow image in any mode.

    Transparent parts lie on black, which is what most files hold beneath them. Sixteen-bit grey is
    scaled to eight bits, where Pillow alone would cut values off at 255.
    """
    _load(image, medium, image.tell())
    if image.mode in ("I", "F"):
        raise MediaFault(
            Problem("unsupported", f"{medium} has 32-bit grey values; save it with 8 or 16 bits")
        )
    if image.mode.startswith("I;16"):
        grey = np.round(np.asarray(image).astype(np.float32) / 257.0).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if image.has_transparency_data:
        layers = np.asarray(image.convert("RGBA")).astype(np.uint16)
        return ((layers[..., :3] * layers[..., 3:] + 127) // 255).astype(np.uint8)
    return np.asarray(image.convert("RGB"))
