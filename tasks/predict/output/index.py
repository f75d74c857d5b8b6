"""``index.html``: what was said of several files, each with a link to its folder."""

from collections.abc import Iterable
from html import escape
from importlib.resources import files
from pathlib import Path
from urllib.parse import quote

from tasks.atomic import replacing
from tasks.predict.answer import Answer
from tasks.report.page.filling import whole_page


def write_index(entries: Iterable[tuple[str, Answer | None, str]], out: Path) -> None:
    """Write the page that lists several files.

    Args:
        entries: for each file the name of its folder beside the page, its answer, and, where
            there is none, the reason in a sentence.
        out: the page, replaced whole.
    """
    listed = list(entries)
    answered = sum(answer is not None for _, answer, _ in listed)
    body = files("tasks.predict.output") / "page_assets" / "index.html"
    parts = {
        "SUMMARY": f"{answered} of {len(listed)} files understood",
        "ROWS": "\n".join(_row(*entry) for entry in listed),
    }
    page = whole_page("affectloom predictions", body.read_text(encoding="utf-8"), parts)
    with replacing(out) as temporary:
        temporary.write_bytes(page.encode("utf-8", "replace"))


def _row(name: str, answer: Answer | None, reason: str) -> str:
    if answer is None:
        return (
            f'<tr class="failed"><th scope="row">{escape(name)}</th>'
            f'<td colspan="3">{escape(reason)}</td></tr>'
        )
    link = quote(f"{name}/timeline.html")
    if ":" in name.partition("/")[0]:  # else a name like "a:b" would be an address
        link = f"./{link}"
    known = sum(u.is_answered for u in answer.utterances)
    length = _clock(answer.medium.duration_s) if answer.medium.kind != "image" else "picture"
    return (
        f'<tr><th scope="row"><a href="{escape(link)}">{escape(name)}</a></th>'
        f'<td class="num">{length}</td><td class="num">{known} of {len(answer.utterances)}</td>'
        f'<td class="text">{escape(in_short(answer) or reason)}</td></tr>'
    )


def in_short(answer: Answer) -> str:
    """An answer in a line: the share of time of the likeliest categories, and mean values."""
    time_s: dict[str, float] = {}
    means: dict[str, list[tuple[float, float]]] = {}
    for utterance in answer.utterances:
        length_s = max(utterance.end_s - utterance.start_s, 1e-3)
        for classes in list(utterance.classes.values())[:1]:
            time_s[classes.label] = time_s.get(classes.label, 0.0) + length_s
        for values in utterance.values.values():
            for column, number in values.items():
                means.setdefault(column, []).append((number.value, length_s))
    total = sum(time_s.values())
    parts = [
        f"{label.replace('_', ' ')} {100 * share / total:.0f} %"
        for label, share in sorted(time_s.items(), key=lambda item: -item[1])[:3]
    ]
    for column, found in list(means.items())[:3]:
        mean = sum(value * s for value, s in found) / sum(s for _, s in found)
        parts.append(f"{column} {mean:+.2f}")
    if parts:
        return ", ".join(parts)
    return next((u.reason for u in answer.utterances if u.reason), "nothing could be said")


def _clock(time_s: float) -> str:
    whole = round(time_s)
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"
