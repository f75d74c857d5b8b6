"""Self-contained pages: a template's marks give way to style, script and data."""

import json
from collections.abc import Mapping


def fill(page: str, parts: Mapping[str, str]) -> str:
    """A template in which each ``<!--NAME-->`` became its part; marks in parts stay as they are."""
    for name, text in parts.items():
        head, _, tail = page.partition(f"<!--{name}-->")
        page = head + text + tail
    return page


def embed(content: object) -> str:
    """JSON that is safe inside a script element, whatever strings it holds."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    # "<" could begin "</script>" or "<!--"; the two separators end lines in old JavaScript
    for character in ("<", ">", "&", "\u2028", "\u2029"):
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
