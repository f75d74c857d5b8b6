"""Text as small pictures, in a font that has its letters."""

import unicodedata
from functools import lru_cache

from PIL import Image, ImageDraw, ImageFont

Font = ImageFont.FreeTypeFont

#: Tried in this order; Pillow looks for them in the system's folders of fonts.
_FONTS = (
    "DejaVuSans.ttf", "NotoSans-Regular.ttf", "Arial.ttf", "LiberationSans-Regular.ttf",
    "NotoSansCJK-Regular.ttc", "NotoNaskhArabic-Regular.ttf", "NotoSansDevanagari-Regular.ttf",
    "PingFang.ttc", "msyh.ttc",
)  # fmt: skip
_ELLIPSIS = "…"


@lru_cache(maxsize=64)
def _fonts(size_px: int) -> tuple[Font, ...]:
    found = []
    for name in _FONTS:
        try:
            found.append(ImageFont.truetype(name, size_px))
        except OSError:  # not on this machine
            continue
    own = ImageFont.load_default(size_px)  # Pillow carries it: Western letters only
    return (*found, own) if isinstance(own, Font) else tuple(found)


@lru_cache(maxsize=4096)
def _has(font: Font, letter: str) -> bool:
    """Whether a font draws a letter as something else than the box for unknown ones."""
    if letter.isspace() or unicodedata.category(letter).startswith(("C", "M")):
        return True
    return _drawn(font, letter) != _drawn(font, "\uffff")


def _drawn(font: Font, letter: str) -> bytes:
    picture = Image.new("L", (4 * round(font.size), 2 * round(font.size)))
    ImageDraw.Draw(picture).text((0, 0), letter, 255, font)
    return picture.tobytes()


def font_for(text: str, size_px: int) -> Font:
    """The font that has most letters of a text, the first of those that have equally many."""
    letters = sorted(set(text))
    return max(_fonts(size_px), key=lambda font: sum(_has(font, letter) for letter in letters))


def drawable(text: str, font: Font) -> str:
    """A text with letters that the font lacks as their plain form (ǣ: æ), else as its empty box."""
    clean = "".join(c for c in text if c.isspace() or unicodedata.category(c)[0] != "C")
    return "".join(letter if _has(font, letter) else _plain(letter, font) for letter in clean)


def _plain(letter: str, font: Font) -> str:
    base = unicodedata.normalize("NFKD", letter)
    kept = "".join(c for c in base if not unicodedata.combining(c))
    return kept if kept and all(_has(font, c) for c in kept) else "\uffff"


def wrapped(text: str, font: Font, width_px: float, most_lines: int) -> list[str]:
    """Lines that fit a width; words too long are cut, and what does not fit ends in an ellipsis."""
    lines = [""]
    for word in text.split():
        for piece in _pieces(word, font, width_px):
            joined = f"{lines[-1]} {piece}".strip()
            if font.getlength(joined) <= width_px:
                lines[-1] = joined
            else:
                lines.append(piece)
        if len(lines) > most_lines:
            break
    if len(lines) > most_lines:
        last = lines[most_lines - 1]
        while last and font.getlength(last + _ELLIPSIS) > width_px:
            last = last[:-1]
        lines = [*lines[: most_lines - 1], last.rstrip() + _ELLIPSIS]
    return [line for line in lines if line]


def _pieces(word: str, font: Font, width_px: float) -> list[str]:
    """A word, cut where it is wider than a line: scripts without spaces need it."""
    pieces, rest = [], word
    while font.getlength(rest) > width_px and len(rest) > 1:
        low, high = 1, len(rest)
        while low < high:  # the longest beginning that fits
            middle = (low + high + 1) // 2
            if font.getlength(rest[:middle]) <= width_px:
                low = middle
            else:
                high = middle - 1
        pieces.append(rest[:low])
        rest = rest[low:]
    return [*pieces, rest]
