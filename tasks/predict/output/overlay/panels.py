"""What is drawn into frames: subtitle, emotion, the dot on the circumplex, labels of faces."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

from tasks.predict.answer import Answer, Utterance, Value
from tasks.predict.output.overlay.lettering import drawable, font_for, wrapped

Colour = tuple[int, int, int]

#: As on the timeline in the dark, where they stand out from a dark ground.
COLOURS: tuple[Colour, ...] = (
    (86, 180, 233), (240, 138, 60), (53, 199, 155), (221, 148, 189), (240, 228, 66),
    (94, 150, 220), (232, 235, 238),
)  # fmt: skip
_GROUND = (12, 16, 20, 190)
_INK = (245, 247, 249, 255)
_SOFT = (178, 186, 194, 255)
_MOST_WORDS_LINES = 3
#: Utterances whose pictures are held.
_KEPT = 8


@dataclass(frozen=True, eq=False)
class Sprite:
    """A small picture to lay over frames.

    Attributes:
        x: of its left edge in the frame.
        y: of its upper edge.
        ink: (H, W, 3) uint16, colour times opacity.
        hidden: (H, W, 1) uint16, 255 minus opacity.
    """

    x: int
    y: int
    ink: np.ndarray
    hidden: np.ndarray

    def lay(self, frame: np.ndarray) -> None:
        """Blend it into a (H, W, 3) uint8 frame; what lies outside is left out."""
        y0, x0 = max(0, self.y), max(0, self.x)
        y1 = min(frame.shape[0], self.y + self.ink.shape[0])
        x1 = min(frame.shape[1], self.x + self.ink.shape[1])
        if y0 >= y1 or x0 >= x1:
            return
        part = (slice(y0 - self.y, y1 - self.y), slice(x0 - self.x, x1 - self.x))
        below = frame[y0:y1, x0:x1]
        below[:] = (below * self.hidden[part] + self.ink[part]) // 255


def sprite(picture: Image.Image, x: float, y: float) -> Sprite:
    """A sprite of an RGBA picture with its upper left corner at (x, y)."""
    pixels = np.asarray(picture, np.uint16)
    opacity = pixels[..., 3:]
    return Sprite(round(x), round(y), pixels[..., :3] * opacity, 255 - opacity)


class Panels:
    """Draws for one answer and one size of frames; each thing is drawn once and kept a while."""

    def __init__(self, answer: Answer, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.unit = max(min(width, height) / 720, 0.5)  # 1 on a 720p picture
        labels = {
            target: sorted({n for u in answer.utterances if target in u.classes
                            for n in u.classes[target].probabilities})
            for target in dict.fromkeys(t for u in answer.utterances for t in u.classes)
        }  # fmt: skip
        self._place = {(t, n): i for t, names in labels.items() for i, n in enumerate(names)}
        self.label = lru_cache(maxsize=64)(self._label)
        self._kept: dict[tuple[str, int], Sequence[Sprite]] = {}

    def colour(self, utterance: Utterance) -> Colour:
        """Of its likeliest category; grey where it has none."""
        first = next(iter(utterance.classes.items()), None)
        if first is None:
            return _SOFT[:3]
        return COLOURS[self._place[first[0], first[1].label] % len(COLOURS)]

    def of(self, utterance: Utterance, place: int) -> Sequence[Sprite]:
        """Everything of an utterance that does not move; ``place`` counts those shown at once."""
        key = (utterance.id, place)
        if key not in self._kept:
            while len(self._kept) >= _KEPT:  # the oldest first
                self._kept.pop(next(iter(self._kept)))
            self._kept[key] = self._sprites(utterance, place)
        return self._kept[key]

    def _sprites(self, utterance: Utterance, place: int) -> Sequence[Sprite]:
        found = [self._verdict(utterance, place)]
        if (dot := self._circumplex(utterance, place)) is not None:
            found.append(dot)
        if utterance.text and (words := self._subtitle(utterance, place)) is not None:
            found.append(words)
        return found

    def _label(self, text: str, colour: Colour) -> Sprite:
        """A label to stand above a box; its x and y are 0."""
        size = self._px(20)
        font = font_for(text, size)
        shown = wrapped(drawable(text, font), font, self.width * 0.6, 1) or ["?"]
        width, height = round(font.getlength(shown[0])) + self._px(12), size + self._px(9)
        picture = Image.new("RGBA", (width, height), (*colour, 235))
        ImageDraw.Draw(picture).text((self._px(6), self._px(3)), shown[0], (10, 12, 14, 255), font)
        return sprite(picture, 0, 0)

    def _verdict(self, utterance: Utterance, place: int) -> Sprite:
        """Upper left: who, the likeliest category and how sure, or why nothing is said."""
        lines = [utterance.speaker] if utterance.speaker else []
        lines += [f"{c.label} {100 * c.confidence:.0f} %" for c in utterance.classes.values()]
        if not utterance.is_answered:
            lines.append(utterance.reason or "nothing could be said")
        if utterance.far:
            lines.append("unlike the training data")
        bar = next((c.confidence for c in utterance.classes.values()), None)
        return self._card(lines or ["values only"], bar, self.colour(utterance), place)

    def _card(self, lines: list[str], bar: float | None, colour: Colour, place: int) -> Sprite:
        size, pad = self._px(24), self._px(12)
        fonts = [font_for(line, size) for line in lines]
        shown = [
            (wrapped(drawable(line, font), font, self.width * 0.55, 1) or [""])[0]
            for line, font in zip(lines, fonts, strict=True)
        ]
        wide = max(f.getlength(s) for f, s in zip(fonts, shown, strict=True))
        wide = max(round(wide), self._px(150))
        step = size + self._px(8)
        picture = Image.new("RGBA", (wide + 2 * pad, len(lines) * step + 2 * pad), _GROUND)
        draw = ImageDraw.Draw(picture)
        for row, (line, font) in enumerate(zip(shown, fonts, strict=True)):
            ink = _INK if row == 0 or bar is None else (*colour, 255)
            draw.text((pad, pad + row * step), line, ink, font)
        if bar is not None:
            y = picture.height - self._px(8)
            draw.rectangle((pad, y, pad + wide, y + self._px(4)), (72, 80, 88, 255))
            draw.rectangle((pad, y, pad + round(wide * bar), y + self._px(4)), (*colour, 255))
        y = self._px(16) + place * (picture.height + self._px(8))
        return sprite(picture, self._px(16), y)

    def _circumplex(self, utterance: Utterance, place: int) -> Sprite | None:
        """Upper right: valence to the right, arousal upwards, the range around the dot."""
        vad = utterance.values.get("vad", {})
        if "valence" not in vad or "arousal" not in vad:
            return None
        finer = 3  # drawn larger and made smaller, which smooths edges
        side = self._px(132)
        big = side * finer
        picture = Image.new("RGBA", (big, big), (0, 0, 0, 0))
        draw = ImageDraw.Draw(picture)
        rim = big * 0.06
        draw.ellipse((rim, rim, big - rim, big - rim), _GROUND, _SOFT, finer)
        draw.line((big / 2, rim, big / 2, big - rim), (255, 255, 255, 70), finer)
        draw.line((rim, big / 2, big - rim, big / 2), (255, 255, 255, 70), finer)
        reach = big / 2 - rim

        def at(valence: float, arousal: float) -> tuple[float, float]:
            v, a = (float(np.clip(n, -1, 1)) for n in (valence, arousal))
            return big / 2 + v * reach, big / 2 - a * reach

        (v0, v1), (a0, a1) = (_range(vad[name]) for name in ("valence", "arousal"))
        colour = self.colour(utterance)
        shade = Image.new("RGBA", picture.size, (0, 0, 0, 0))
        ImageDraw.Draw(shade).ellipse((*at(v0, a1), *at(v1, a0)), (*colour, 80))
        picture = Image.alpha_composite(picture, shade)
        x, y = at(vad["valence"].value, vad["arousal"].value)
        dot = big * 0.05
        ImageDraw.Draw(picture).ellipse(
            (x - dot, y - dot, x + dot, y + dot), (*colour, 255), _INK, finer
        )
        small = picture.resize((side, side), Image.Resampling.LANCZOS)
        draw = ImageDraw.Draw(small)
        font = font_for("V", self._px(15))
        draw.text((side - self._px(22), side / 2 + self._px(1)), "V", _SOFT, font)
        draw.text((side / 2 + self._px(4), self._px(9)), "A", _SOFT, font)
        y = self._px(16) + place * (side + self._px(8))
        return sprite(small, self.width - side - self._px(16), y)

    def _subtitle(self, utterance: Utterance, place: int) -> Sprite | None:
        size = self._px(28)
        text = " ".join((utterance.text or "").split())
        font = font_for(text, size)
        lines = wrapped(drawable(text, font), font, self.width * 0.86, _MOST_WORDS_LINES)
        if not lines:
            return None
        pad, step = self._px(10), size + self._px(7)
        wide = round(max(font.getlength(line) for line in lines)) + 2 * pad
        picture = Image.new("RGBA", (wide, len(lines) * step + pad), _GROUND)
        draw = ImageDraw.Draw(picture)
        for row, line in enumerate(lines):
            x = (wide - font.getlength(line)) / 2
            draw.text((x, pad / 2 + row * step), line, _INK, font)
        below = self._px(24) + place * (_MOST_WORDS_LINES * step + 2 * pad)
        y = self.height - picture.height - below
        return sprite(picture, (self.width - wide) / 2, y)

    def _px(self, at_720: float) -> int:
        return max(1, round(at_720 * self.unit))


def _range(value: Value) -> tuple[float, float]:
    """The interval of a number, else its spread over the networks."""
    if value.low is None or value.high is None:
        return value.value - value.spread, value.value + value.spread
    return value.low, value.high
