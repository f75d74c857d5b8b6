"""Aligned face crops: five landmarks brought to fixed places, judged for quality, thinned, encoded.

A crop is upright and square. Its landmarks lie where those of an average frontal face lie, moved
towards the centre by ``margin``, the share of the side left free for hair, chin and ears.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from models.errors import UserError

#: Eyes, nose and mouth corners of an average frontal face, as fractions of a crop without margin.
TEMPLATE = np.array([[0.34, 0.46], [0.66, 0.46], [0.50, 0.64], [0.37, 0.82], [0.63, 0.82]])
#: Mouth in a crop without margin: x0, y0, x1, y1.
MOUTH = np.array([0.30, 0.70, 0.70, 0.96])
_THUMBNAIL_PX = 24
# A face whose eyes lie closer than this share of the box is a profile: turning the picture to bring
# such eyes level would tilt or blow up the face.
_PROFILE_EYES = 0.18
_MAX_TILT_DEG = 50.0

Format = Literal["jpeg", "png"]


@dataclass(frozen=True, eq=False)
class Crop:
    """One aligned face.

    Attributes:
        pixels: (crop_px, crop_px, 3) uint8 RGB.
        quality: 0 (useless) to 1.
        thumbnail: (24, 24) float32 grey, brightness and contrast evened out.
        mouth: small float32 grey picture of the mouth, evened out by the whole face.
    """

    pixels: np.ndarray
    quality: float
    thumbnail: np.ndarray
    mouth: np.ndarray


def similarity(landmarks_px: np.ndarray, box_px: np.ndarray, margin: float) -> np.ndarray:
    """The turn, scale and shift (2, 3) from frame pixels to crop fractions that fit best.

    Least squares over five points, as complex numbers: to = a * from + b. Where the landmarks do
    not carry it (a profile, a strong tilt), the box alone places the crop, without turning it.
    """
    target = (TEMPLATE * (1 - 2 * margin) + margin) @ [1, 1j]
    source = landmarks_px.astype(np.float64) @ [1, 1j]
    centred = source - source.mean()
    spread = (np.abs(centred) ** 2).sum()
    a = (np.conj(centred) * (target - target.mean())).sum() / spread if spread > 0 else 0j
    box_side = max(float((box_px[2:] - box_px[:2]).max()), 1.0)
    eyes = abs(source[1] - source[0]) / box_side
    side = (1 - 2 * margin) / abs(a) if abs(a) > 0 else np.inf  # of the crop's core, frame pixels
    is_odd = (
        eyes < _PROFILE_EYES
        or abs(np.degrees(np.angle(a))) > _MAX_TILT_DEG
        or not 0.5 < side / box_side < 1.6
    )
    if is_odd:
        centre = complex(*((box_px[:2] + box_px[2:]) / 2).astype(np.float64))
        # a detector's box is about as wide as the core of an aligned crop
        a = complex((1 - 2 * margin) / (box_side * 1.05))
        b = complex(0.5, 0.5) - a * centre
    else:
        b = target.mean() - a * source.mean()
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def align(
    frame: np.ndarray, landmarks_px: np.ndarray, box_px: np.ndarray, crop_px: int, margin: float
) -> np.ndarray:
    """The aligned face (crop_px, crop_px, 3) of a frame (H, W, 3).

    What lies outside the frame repeats its border.
    """
    matrix = similarity(landmarks_px, box_px, margin) * crop_px
    # OpenCV's pixel 0 has its centre at 0; ours at 0.5
    matrix[:, 2] += matrix[:, :2].sum(axis=1) * 0.5 - 0.5
    frame, matrix = _around(frame, matrix, crop_px)
    scale = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    if scale < 0.5:
        frame, matrix = _reduced(frame, matrix, int(1 / scale))
    return cv2.warpAffine(
        frame,
        matrix,
        (crop_px, crop_px),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )


def _around(frame: np.ndarray, matrix: np.ndarray, crop_px: int) -> tuple[np.ndarray, np.ndarray]:
    """The part of the frame that the crop is taken from, with a pixel or two around it."""
    corners = np.array([[0, 0], [crop_px, 0], [0, crop_px], [crop_px, crop_px]], dtype=np.float64)
    seen = (corners - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
    size = np.array([frame.shape[1], frame.shape[0]])
    near = np.clip(np.floor(seen.min(axis=0)).astype(int) - 2, 0, size - 1)
    far = np.clip(np.ceil(seen.max(axis=0)).astype(int) + 3, near + 1, size)
    moved = matrix.copy()
    moved[:, 2] += matrix[:, :2] @ near
    return frame[near[1] : far[1], near[0] : far[0]], moved


def _reduced(frame: np.ndarray, matrix: np.ndarray, factor: int) -> tuple[np.ndarray, np.ndarray]:
    """The frame made smaller by averaging, where sampling it directly would alias."""
    height, width = max(1, frame.shape[0] // factor), max(1, frame.shape[1] // factor)
    small = cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)
    ratio = np.array([frame.shape[1] / width, frame.shape[0] / height])
    changed = matrix.copy()
    changed[:, :2] = matrix[:, :2] * ratio
    changed[:, 2] += matrix[:, :2] @ (ratio * 0.5 - 0.5)
    return small, changed


def make_crop(
    frame: np.ndarray, landmarks_px: np.ndarray, box_px: np.ndarray, crop_px: int, margin: float
) -> Crop:
    """Align a face of a frame (H, W, 3) and judge it."""
    pixels = align(frame, landmarks_px, box_px, crop_px, margin)
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    even = (grey.astype(np.float32) - grey.mean()) / max(float(grey.std()), 1.0)
    x0, y0, x1, y1 = np.round((MOUTH * (1 - 2 * margin) + margin) * crop_px).astype(int)
    return Crop(
        pixels,
        quality(grey, landmarks_px, box_px),
        cv2.resize(even, (_THUMBNAIL_PX, _THUMBNAIL_PX), interpolation=cv2.INTER_AREA),
        cv2.resize(even[y0:y1, x0:x1], (24, 16), interpolation=cv2.INTER_AREA),
    )


def quality(grey: np.ndarray, landmarks_px: np.ndarray, box_px: np.ndarray) -> float:
    """How much a face shows, 0 to 1: the geometric mean of size, sharpness and pose.

    Args:
        grey: the aligned crop, (S, S) uint8.
        landmarks_px: (5, 2) in the frame.
        box_px: (4,) in the frame; a face of 96 pixels and more counts as full size.
    """
    size = min(1.0, float(np.sqrt(np.clip(box_px[2:] - box_px[:2], 0, None).prod())) / 96.0)
    variance = float(cv2.Laplacian(cv2.resize(grey, (96, 96)), cv2.CV_32F).var())
    sharpness = variance / (variance + 100.0)
    return float(np.cbrt(size * sharpness * pose(landmarks_px)))


def pose(landmarks_px: np.ndarray) -> float:
    """1 for a face seen from the front down to 0 for a profile, from the nose's place.

    The nose of a frontal face lies as far from one eye as from the other.
    """
    left, right = np.linalg.norm(landmarks_px[:2] - landmarks_px[2], axis=1).tolist()
    return min(left, right) / max(left, right) if max(left, right) > 0 else 0.0


def thin(
    thumbnails: Sequence[np.ndarray],
    qualities: np.ndarray,
    times_s: np.ndarray,
    wanted: int,
    min_difference: float,
) -> list[int]:
    """Which crops to keep: the best of each of ``wanted`` equal parts of time, unlike each other.

    A crop whose thumbnail differs by less than ``min_difference`` (root mean square, in standard
    deviations of the picture) from the last one kept is left out; the first is always kept.
    """
    if len(times_s) == 0:
        return []
    span_s = float(times_s[-1] - times_s[0])
    part = np.zeros(len(times_s), dtype=int)
    if span_s > 0:
        part = np.minimum(((times_s - times_s[0]) / span_s * wanted).astype(int), wanted - 1)
    # best of each part; of equals the first
    order = np.lexsort((times_s, -qualities, part))
    best = order[np.unique(part[order], return_index=True)[1]]
    kept: list[int] = []
    for row in best.tolist():
        if kept:
            difference = thumbnails[row] - thumbnails[kept[-1]]
            if float(np.sqrt(np.mean(difference**2))) < min_difference:
                continue
        kept.append(row)
    return kept


def encode(pixels: np.ndarray, kind: Format, jpeg_quality: int) -> bytes:
    """RGB pixels (H, W, 3) as JPEG or PNG bytes; the same pixels give the same bytes."""
    options = [cv2.IMWRITE_JPEG_QUALITY, jpeg_quality] if kind == "jpeg" else []
    suffix = ".jpg" if kind == "jpeg" else ".png"
    is_done, data = cv2.imencode(suffix, cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), options)
    if not is_done:
        raise UserError(f"a face crop of shape {pixels.shape} cannot be encoded as {kind}")
    return data.tobytes()


def decode(data: bytes) -> np.ndarray:
    """RGB pixels (H, W, 3) uint8 of an encoded crop."""
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if pixels is None:
        raise UserError("a face crop in the faces table is not a picture; rerun stage faces")
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
