"""Outlines, lines and filled shapes, drawn at a sixteenth of a pixel."""

from collections.abc import Sequence

import cv2
import numpy as np

_SHIFT = 4  # OpenCV draws at 1/16 pixel


def rounded(points: object) -> np.ndarray:
    """A closed outline with its corners cut three times, which makes a smooth curve of it."""
    curve = np.asarray(points, float)
    for _ in range(3):
        following = np.roll(curve, -1, axis=0)
        curve = np.stack([0.75 * curve + 0.25 * following, 0.25 * curve + 0.75 * following], 1)
        curve = curve.reshape(-1, 2)
    return curve


def outline(x: np.ndarray, top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    """Outline (2N, 2) of the area between two curves over the same ``x`` (N,)."""
    return np.concatenate([np.stack([x, top], 1), np.stack([x, bottom], 1)[::-1]])


def _fixed(points: object) -> np.ndarray:
    return np.rint(np.asarray(points, float) * 2**_SHIFT).astype(np.int32)


def fill_polygon(image: np.ndarray, points: object, colour: Sequence[float]) -> None:
    """Fill the area inside ``points``."""
    cv2.fillPoly(image, [_fixed(points)], colour, cv2.LINE_AA, _SHIFT)


def draw_line(image: np.ndarray, points: object, colour: Sequence[float], width_px: int) -> None:
    """Join ``points`` by a line."""
    cv2.polylines(image, [_fixed(points)], False, colour, width_px, cv2.LINE_AA, _SHIFT)


def fill_ellipse(
    image: np.ndarray,
    centre: tuple[float, float],
    half_axes: tuple[float, float],
    colour: Sequence[float],
) -> None:
    """Fill an upright ellipse."""
    cv2.ellipse(
        image, _fixed(centre).tolist(), _fixed(half_axes).tolist(), 0, 0, 360, colour, -1,
        cv2.LINE_AA, _SHIFT,
    )  # fmt: skip
