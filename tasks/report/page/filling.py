"""Self-contained pages: a template's marks give way to style, script and data."""

import json
from collections.abc import Mapping, Sequence
from importlib.resources import files


def fill(page: str, parts: Mapping[str, str]) -> str:
    """A template in which each ``<!--NAME-->`` became its part; marks in parts stay as they are."""
    for name, text in parts.items():
        head, _, tail = page.partition(f"<!--{name}-->")
        page = head + text + tail
    return page


def whole_page(
    title: str,
    body: str,
    parts: Mapping[str, str],
    *,
    style: str = "",
    policy: Sequence[str] = (),
) -> str:
    """A page with the head and the design that all of ours have.

    Args:
        title: of the window.
        body: template from ``<body>`` on.
        parts: of the body.
        style: after the common sheet, which is the only home of the colours.
        policy: what the page may do beside showing itself and pictures inside it.
    """
    assets = files("tasks.report.page") / "page_assets"
    common = (assets / "page.css").read_text(encoding="utf-8")
    head = {
        "POLICY": "".join(f"; {one}" for one in policy),
        "TITLE": title,
        "STYLE": f"{common}\n{style}" if style else common,
    }
    return fill((assets / "head.html").read_text(encoding="utf-8"), head) + fill(body, parts)


def embed(content: object) -> str:
    """JSON that is safe inside a script element, whatever strings it holds."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    # "<" could begin "</script>" or "<!--"; the two separators end lines in old JavaScript
    for character in ("<", ">", "&", "\u2028", "\u2029"):
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
