"""Faces of the sample corpus, drawn with OpenCV: simple, but MTCNN takes them for faces.

Valence bends the mouth and lifts the cheeks, arousal opens the eyes, dominance tilts and lowers
the brows, the voice opens the mouth. People differ in skin, hair, eyes, clothes and head shape;
dialogues in the room behind them. A head is drawn upright on a canvas of its own, twice as large
as needed, and laid over the room with a slight turn and shift, which also smooths its edges.
"""

from functools import lru_cache

import cv2
import numpy as np

from tasks.sample.expression import (
    CANVAS_HEIGHT,
    CANVAS_WIDTH,
    CENTRE,
    Colour,
    Expression,
    Look,
    draw_features,
)
from tasks.sample.strokes import draw_line, fill_ellipse, fill_polygon, rounded

Image = np.ndarray  # (H, W, 3) uint8, RGB

_HEAD_SHARE = 1.12  # height of the canvas in the picture's height

_SKINS: tuple[Colour, ...] = (
    (236, 198, 172), (224, 178, 148), (205, 156, 122), (180, 130, 98), (150, 104, 78),
    (240, 208, 188),
)  # fmt: skip
_HAIRS: tuple[Colour, ...] = (
    (42, 30, 24), (82, 52, 30), (132, 92, 50), (190, 150, 88), (120, 50, 28), (120, 118, 116),
)  # fmt: skip
_IRISES: tuple[Colour, ...] = ((70, 110, 150), (88, 60, 36), (82, 112, 70), (60, 44, 32))
_SHIRTS: tuple[Colour, ...] = (
    (52, 74, 110), (120, 48, 52), (60, 96, 72), (90, 90, 96), (150, 130, 90), (74, 58, 96),
)  # fmt: skip


def draw_look(rng: np.random.Generator) -> Look:
    """A person's face."""
    return Look(
        skin=_SKINS[rng.integers(len(_SKINS))],
        hair=_HAIRS[rng.integers(len(_HAIRS))],
        iris=_IRISES[rng.integers(len(_IRISES))],
        shirt=_SHIRTS[rng.integers(len(_SHIRTS))],
        half_width=rng.uniform(108, 124),
        half_height=rng.uniform(148, 166),
        is_long_haired=bool(rng.random() < 0.5),
        fringe=rng.uniform(0.1, 1.0),
        brow_px=int(rng.integers(7, 12)),
        eye_distance=rng.uniform(46, 52),
    )


def draw_room(width_px: int, height_px: int, rng: np.random.Generator) -> Image:
    """A wall with soft light, a window or picture and a shelf, blurred as by a lens."""
    wall = rng.uniform(90, 190, 3)
    wall = 0.6 * wall + 0.4 * wall.mean()
    y, x = np.mgrid[0:height_px, 0:width_px] / height_px
    light = 1.0 - 0.3 * np.hypot(x - rng.uniform(0.2, 1.1), y - rng.uniform(0, 0.4))
    room = (light[..., None] * wall).astype(np.float32)
    for _ in range(rng.integers(2, 5)):
        corner = rng.uniform(0, 1, 2) * (width_px, height_px * 0.6)
        size = rng.uniform(0.1, 0.35, 2) * height_px
        a, b = corner - size / 2, corner + size / 2
        colour = wall * rng.uniform(0.5, 1.25) + rng.uniform(-25, 25, 3)
        cv2.rectangle(room, a.astype(int).tolist(), b.astype(int).tolist(), colour.tolist(), -1)
    shelf = int(height_px * rng.uniform(0.6, 0.8))
    cv2.rectangle(room, (0, shelf), (width_px, shelf + height_px // 30), (wall * 0.6).tolist(), -1)
    room = cv2.GaussianBlur(room, (0, 0), height_px / 60)
    return room.clip(0, 255).astype(np.uint8)


def draw_scenery(
    frames: int, width_px: int, height_px: int, rng: np.random.Generator
) -> list[Image]:
    """Hills under a drifting cloud: a picture with no face in it."""
    y, x = np.mgrid[0:height_px, 0:width_px].astype(np.float32)
    sky = np.stack([120 + 60 * y / height_px, 170 + 40 * y / height_px, 225 + 0 * y], axis=2)
    phase = rng.uniform(0, 6, 3)
    for layer, colour in enumerate(((120, 150, 120), (86, 126, 80), (60, 96, 52))):
        edge = (0.5 + 0.14 * layer) * height_px
        edge = edge + 0.06 * height_px * np.sin(x / width_px * (4 + 2 * layer) + phase[layer])
        sky[y > edge] = colour
    pictures = []
    for frame in range(frames):
        picture = sky.copy()
        at = (int(width_px * 0.2 + 2 * frame), int(height_px * 0.2))
        axes = (width_px // 8, height_px // 18)
        cv2.ellipse(picture, at, axes, 0, 0, 360, (245, 245, 248), -1, cv2.LINE_AA)
        pictures.append(picture.astype(np.uint8))
    return pictures


def draw_clip(
    look: Look,
    room: Image,
    expression: Expression,
    opening: np.ndarray,
    rng: np.random.Generator,
) -> list[Image]:
    """The pictures of one utterance.

    Args:
        look: whose face.
        room: picture behind the person, (H, W, 3); it gives the size.
        expression: mean expression of the clip; it wavers a little from picture to picture.
        opening: how far the voice opens the mouth at each picture, 0 to 1.
        rng: draws motion, blinks and wavering.
    """
    frames = len(opening)
    base = _draw_head(look)
    behind = _draw_shoulders(look, room)
    t = np.arange(frames) / max(frames, 12)
    sway = rng.uniform(0, 2 * np.pi, 3)
    turn_deg = rng.normal(0, 2.5) + 2.5 * np.sin(2 * np.pi * t + sway[0])
    shift = np.stack(
        [
            rng.normal(0, 6) + 3 * np.sin(4 * t + sway[1]),
            rng.normal(0, 3) + 2 * np.sin(7 * t + sway[2]),
        ],
        axis=1,
    )
    scale = room.shape[0] * _HEAD_SHARE / CANVAS_HEIGHT * rng.uniform(0.92, 1.04)
    wave = 0.06 * np.sin(2 * np.pi * np.outer(t, [1.0, 1.4, 0.8]) + rng.uniform(0, 6, 3))
    blink = int(rng.integers(0, 3 * frames))  # about one clip in three has a blink
    pictures = []
    for frame in range(frames):
        head = base.copy()
        shown = Expression(
            expression.valence + wave[frame, 0],
            expression.arousal + wave[frame, 1],
            expression.dominance + wave[frame, 2],
        )
        draw_features(head, look, shown, float(opening[frame]), is_blinking=frame == blink)
        offset = shift[frame] * room.shape[0] / 240
        pictures.append(_lay_over(behind, head, turn_deg[frame], offset, scale))
    return pictures


def _lay_over(
    behind: Image, head: np.ndarray, turn_deg: float, shift_px: np.ndarray, scale: float
) -> Image:
    """``head`` (premultiplied RGBA) on ``behind``, turned about its centre."""
    height, width = behind.shape[:2]
    matrix = cv2.getRotationMatrix2D(CENTRE, turn_deg, scale)
    matrix[:, 2] += np.array([width / 2, height * 0.5]) - CENTRE + shift_px
    placed = cv2.warpAffine(head, matrix, (width, height), flags=cv2.INTER_LINEAR)
    red, green, blue, alpha = cv2.split(placed)
    through = cv2.bitwise_not(alpha)
    rest = cv2.multiply(behind, cv2.merge((through, through, through)), scale=1 / 255)
    return cv2.add(cv2.merge((red, green, blue)), rest)


def _draw_shoulders(look: Look, room: Image) -> Image:
    picture = room.copy()
    height, width = room.shape[:2]
    centre = (width // 2, int(height * 1.08))
    axes = (int(height * 0.52), int(height * 0.26))
    dark = tuple(int(0.7 * c) for c in look.shirt)
    cv2.ellipse(picture, centre, axes, 0, 0, 360, dark, -1, cv2.LINE_AA)
    inner = (int(axes[0] * 0.95), int(axes[1] * 0.95))
    cv2.ellipse(picture, (centre[0] - 3, centre[1]), inner, 0, 0, 360, look.shirt, -1, cv2.LINE_AA)
    return picture


@lru_cache(maxsize=32)  # a person appears in many clips; callers copy before they draw
def _draw_head(look: Look) -> np.ndarray:
    """Hair, neck, ears, skin and nose without the moving parts, premultiplied RGBA."""
    head = np.zeros((CANVAS_HEIGHT, CANVAS_WIDTH, 4), np.uint8)
    x, y = CENTRE
    w, h = look.half_width, look.half_height
    hair = (*look.hair, 255)
    dark_hair = (*(int(0.72 * c) for c in look.hair), 255)
    skin, shade = (*look.skin, 255), (*(int(0.80 * c) for c in look.skin), 255)
    if look.is_long_haired:
        fill_ellipse(head, (x, y + 10), (w * 1.27, h * 1.12), dark_hair)
        fill_polygon(
            head,
            [
                (x - w * 1.27, y),
                (x - w * 1.2, y + h * 1.15),
                (x + w * 1.2, y + h * 1.15),
                (x + w * 1.27, y),
            ],
            dark_hair,
        )
    fill_ellipse(head, (x, y - 16), (w * 1.13, h * 1.08), hair)
    fill_polygon(
        head, [(x - 44, y + h * 0.7), (x - 56, 500), (x + 56, 500), (x + 44, y + h * 0.7)], shade
    )
    for side in (-1, 1):
        fill_ellipse(head, (x + side * w * 1.0, y + 4), (16, 30), shade)
    fill_ellipse(head, (x, y), (w, h), skin)
    _shade_skin(head, look)
    # hair line: a cap over the forehead that follows the skull
    line = y - h * (0.62 - 0.12 * look.fringe)
    side_y = y - h * 0.22
    part = w * (0.35 - 0.5 * look.fringe)
    cap = [(x - w * 1.08, side_y), (x - w * 0.88, y - h * 0.42), (x - w * 0.45, line),
           (x + part, line - 14), (x + w * 0.6, line + 4), (x + w * 0.88, y - h * 0.42),
           (x + w * 1.08, side_y), (x + w * 1.08, y - h * 0.7), (x + w * 0.6, y - h * 1.08),
           (x, y - h * 1.16), (x - w * 0.6, y - h * 1.08), (x - w * 1.08, y - h * 0.7)]  # fmt: skip
    fill_polygon(head, rounded(cap), hair)
    strand = (*(int(0.86 * c) for c in look.hair), 255)
    for offset in np.linspace(-0.9, 0.9, 9):  # strands fan out from the parting
        root = (x + part * 0.5 + offset * w * 0.25, y - h * 1.08)
        bend = (x + offset * w * 0.8, y - h * 0.98)
        draw_line(
            head,
            rounded([root, bend, (x + offset * w, line - 12 + 70 * offset**2)])[:20],
            strand,
            3,
        )
    return head


def _shade_skin(head: np.ndarray, look: Look) -> None:
    """Light from the upper left, darker towards the rim and jaw, and a nose with its shadow."""
    x, y = CENTRE
    w, h = look.half_width, look.half_height
    rows, columns = np.mgrid[0:CANVAS_HEIGHT, 0:CANVAS_WIDTH].astype(np.float32)
    u, v = (columns - x) / w, (rows - y) / h
    inside = (u**2 + v**2 < 1.0).astype(np.float32)
    light = 1.06 - 0.20 * np.clip(u * 0.6 + v * 0.35, -1, 1) - 0.26 * (u**2 + v**2) ** 2
    socket = sum(
        np.exp(-(((columns - x - s * look.eye_distance) / 34) ** 2) - ((rows - y + 26) / 24) ** 2)
        for s in (-1, 1)
    )
    light -= 0.13 * socket
    light += 0.10 * np.exp(-(((columns - x + 3) / 9) ** 2) - ((rows - y - 8) / 38) ** 2)  # bridge
    light -= 0.16 * np.exp(-(((columns - x - 13) / 7) ** 2) - ((rows - y - 18) / 30) ** 2)
    light -= 0.22 * np.exp(-(((columns - x) / 20) ** 2) - ((rows - y - 50) / 6) ** 2)  # below it
    light -= 0.12 * np.exp(-(((columns - x) / 34) ** 2) - ((rows - y - 122) / 9) ** 2)  # lower lip
    light = light[..., None] * inside[..., None] + (1 - inside[..., None])
    head[..., :3] = np.clip(head[..., :3] * light, 0, 255).astype(np.uint8)
    dark = (*(int(0.42 * c) for c in look.skin), 255)
    for side in (-1, 1):
        fill_ellipse(head, (x + side * 11, y + 46), (6, 3.4), dark)
        wing = [(x + side * 17, y + 30), (x + side * 23, y + 40), (x + side * 19, y + 48)]
        draw_line(head, wing, (*(int(0.66 * c) for c in look.skin), 255), 3)
