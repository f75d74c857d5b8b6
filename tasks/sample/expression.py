"""What a face of the sample corpus shows, drawn onto its head: eyes, brows, cheeks, mouth."""

from dataclasses import dataclass

import numpy as np

from tasks.sample.strokes import draw_line, fill_ellipse, fill_polygon, outline

Colour = tuple[int, int, int]

CANVAS_WIDTH, CANVAS_HEIGHT = 400, 500
CENTRE = (200, 250)  # of the face on the canvas


@dataclass(frozen=True)
class Look:
    """What makes a face somebody's: colours, half axes of the head in canvas pixels, hair cut."""

    skin: Colour
    hair: Colour
    iris: Colour
    shirt: Colour
    half_width: float
    half_height: float
    is_long_haired: bool
    fringe: float  # how far the hair comes down, 0 to 1
    brow_px: int
    eye_distance: float


@dataclass(frozen=True)
class Expression:
    """What a face shows: ``valence``, ``arousal``, ``dominance`` about -1 to 1."""

    valence: float
    arousal: float
    dominance: float


def draw_features(
    head: np.ndarray, look: Look, shown: Expression, opening: float, is_blinking: bool
) -> None:
    """Eyes, brows, cheeks and mouth, drawn onto ``head``."""
    for side in (-1, 1):
        _draw_eye(head, look, shown, side, is_blinking)
        _draw_brow(head, look, shown, side)
    _draw_mouth(head, look, shown, opening)


def _draw_eye(
    head: np.ndarray, look: Look, shown: Expression, side: int, is_blinking: bool
) -> None:
    x, y = CENTRE[0] + side * look.eye_distance, CENTRE[1] - 26
    lid = (*(int(0.45 * c) for c in look.skin), 255)
    height = 2.0 if is_blinking else float(np.clip(12.0 + 7.0 * shown.arousal, 3.5, 22.0))
    # a smile pushes the lower lid up
    lower = height * float(np.clip(0.85 - 0.2 * shown.valence, 0.5, 1.1))
    a = np.linspace(0, np.pi, 15)
    upper_lid = np.stack([x + 27 * np.cos(a), y - height * np.sin(a)], axis=1)
    lower_lid = np.stack([x - 27 * np.cos(a), y + lower * np.sin(a)], axis=1)
    outline = np.concatenate([upper_lid, lower_lid])
    left, top, right, bottom = int(x - 32), int(y - 26), int(x + 33), int(y + 27)
    patch = head[top:bottom, left:right]
    eye = np.empty_like(patch)
    eye[...] = (238, 236, 232, 255)
    centre = (x - left, y - top)
    fill_ellipse(eye, centre, (13.5, 13.5), (*look.iris, 255))
    fill_ellipse(eye, centre, (6.5, 6.5), (18, 14, 14, 255))
    fill_ellipse(eye, (centre[0] - 4, centre[1] - 4), (3, 3), (250, 250, 250, 255))
    eye[: int(centre[1] - height + 5)] = eye[: int(centre[1] - height + 5)] * 0.75  # lid's shadow
    mask = np.zeros(patch.shape[:2], np.uint8)
    fill_polygon(mask, outline - (left, top), (255,))
    share = mask[..., None].astype(np.uint16)
    patch[...] = ((eye * share + patch * (255 - share)) // 255).astype(np.uint8)
    patch[..., 3] = 255
    draw_line(head, upper_lid, lid, 5)
    draw_line(head, lower_lid, (*(int(0.62 * c) for c in look.skin), 255), 2)
    fold = upper_lid[2:-2] - (0, 7)
    draw_line(head, fold, (*(int(0.68 * c) for c in look.skin), 255), 2)


def _draw_brow(head: np.ndarray, look: Look, shown: Expression, side: int) -> None:
    x, y = CENTRE[0] + side * look.eye_distance, CENTRE[1] - 26
    raise_px = 27 + 5 * shown.arousal - 5 * shown.dominance
    tilt = 13 * shown.dominance  # inner end down when commanding, up when yielding
    brow = [
        (x - side * 28, y - raise_px + tilt + 2),
        (x - side * 8, y - raise_px - 4 + tilt * 0.35),
        (x + side * 12, y - raise_px - 6 - tilt * 0.25),
        (x + side * 32, y - raise_px + 3 - tilt * 0.5),
    ]
    colour = tuple(int(min(0.62 * c, 105)) for c in look.hair)
    draw_line(head, brow, (*colour, 255), look.brow_px)


def _draw_mouth(head: np.ndarray, look: Look, shown: Expression, opening: float) -> None:
    x, y = CENTRE[0], CENTRE[1] + 86
    bend = 17.0 * float(np.clip(shown.valence, -1.4, 1.4))
    half = 42 + 9 * max(0.0, shown.valence) - 5 * opening
    gap = 3 + 22 * opening
    u = np.linspace(-1, 1, 17)
    middle = bend * (0.45 - u**2)  # corners go up (smaller y) when bend is positive
    edge = 1 - u**2
    points = x + half * u
    inner_top = y + middle - 0.35 * gap * edge
    inner_bottom = y + middle + 0.65 * gap * edge
    bow = 8 * edge * (1 - 0.35 * np.exp(-((u / 0.18) ** 2)))
    outer_top, outer_bottom = inner_top - bow, inner_bottom + 10 * edge
    red, green, blue = look.skin
    upper_lip = (int(red * 0.72), int(green * 0.46), int(blue * 0.46), 255)
    lower_lip = (int(red * 0.82), int(green * 0.54), int(blue * 0.54), 255)
    fill_polygon(head, outline(points, outer_top, (inner_top + inner_bottom) / 2), upper_lip)
    fill_polygon(head, outline(points, (inner_top + inner_bottom) / 2, outer_bottom), lower_lip)
    fill_polygon(head, outline(points, inner_top, inner_bottom), (74, 26, 30, 255))
    if gap > 8:
        teeth = np.minimum(inner_top + 0.35 * gap * edge, inner_bottom)
        fill_polygon(
            head, outline(points[3:-3], inner_top[3:-3], teeth[3:-3]), (236, 232, 226, 255)
        )
    corner = (*(int(0.5 * c) for c in look.skin), 255)
    shadow = (*(int(0.84 * c) for c in look.skin), 255)
    for side, end in ((-1, 0), (1, -1)):
        fill_ellipse(head, (points[end], y + middle[end]), (4, 3), corner)
        if shown.valence > 0.2:  # the fold from nose to mouth of a smile
            fold = [
                (x + side * 30, y - 44),
                (x + side * 50, y - 26),
                (points[end] + side * 12, y + middle[end] - 2),
            ]
            draw_line(head, fold, shadow, 2)
