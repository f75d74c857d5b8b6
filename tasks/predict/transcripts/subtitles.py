"""Subtitles (SRT, VTT) and plain lines with times."""

import html
import re
from collections.abc import Iterator
from itertools import zip_longest

from models.errors import UserError
from tasks.predict.transcripts.turns import Note, Row, parse_time

_ARROW = re.compile(r"^\s*(\S+)\s+-->\s+(\S+)(?:\s.*)?$")
_NO_CUE = re.compile(r"(?:WEBVTT|NOTE|STYLE|REGION)(?:\s|$)")
# no tag holds what begins another: else a line of beginnings takes time by the square of its length
_VOICE = re.compile(r"<v(?:\.[^\s<>]*)?\s++([^<>]*)>", re.IGNORECASE)
_TAG = re.compile(r"</?[a-zA-Z0-9][^<>]*>|\{\\[^{}]*\}")
#: As whisperX writes its speakers.
_BRACKETED = re.compile(r"\[([^\]\n]{1,40})\]:\s*")

_TIME = r"\d[\d:]*(?:[.,]\d+)?"
_LINE = re.compile(
    rf"\s*[\[(]?\s*({_TIME})\s*s?(?:\s*(?:-->|->|to|[-–—,]|\t)\s*|[ ]+)({_TIME})\s*s?\s*[\])]?"
    r"(?:\s*[:\t]\s*|\s+|$)(.*)"
)
_BEGINNING = re.compile(rf"\s*[\[(]?\s*({_TIME})\s*s?\s*[\])]?(?:\s*[-–\t]\s*|\s+)(.*)")
_MARKED = re.compile(r"[:.,\t\[(>]")
#: Which the patterns of lines would go over again and again.
_MANY_BLANKS = re.compile(r"(\s{8})\s+")
_NAMED = re.compile(r"(?:\[([^\]]{1,40})\]|([^\W\d_][^:\n]{0,39}?)):\s+")


def has_cues(text: str) -> bool:
    """Whether there is a line like the time line of a subtitle."""
    return any(
        (found := _ARROW.match(line)) and ":" in found[1] and found[1][0].isdigit()
        for line in text.split("\n", 4000)[:4000]
    )


def read_subtitles(name: str, text: str) -> Iterator[Row]:
    """Cues of SRT or VTT; a cue in which several people speak is a row for each."""
    is_vtt = text.lstrip().startswith("WEBVTT")
    lines = text.split("\n")
    skip = False
    cue: Row | None = None
    for number, line in enumerate(lines):
        is_after_blank = number == 0 or not lines[number - 1].strip()
        if "-->" in line:
            if cue is not None:
                yield from _spoken(cue, is_vtt)
            cue, skip = _cue(name, number + 1, line), False
        elif is_vtt and is_after_blank:
            if cue is not None:  # in VTT a blank line ends a cue
                yield from _spoken(cue, is_vtt)
            cue, skip = None, bool(_NO_CUE.match(line))
        elif cue is not None and not skip and not _is_number(lines, number):
            cue = Row(cue.where, cue.start_s, cue.end_s, None, f"{cue.text}\n{line}")
    if cue is not None:
        yield from _spoken(cue, is_vtt)


def _cue(name: str, line: int, text: str) -> Row:
    found = _ARROW.match(text)
    try:
        if found is None:
            raise ValueError(f"'{text.strip()[:40]}' is no pair of times")
        return Row(f"line {line}", parse_time(found[1]), parse_time(found[2]), None, "")
    except ValueError as error:
        raise UserError(f"{name}, line {line}: {error}; correct that line") from error


def _is_number(lines: list[str], number: int) -> bool:
    """Whether a line is the number of the cue whose time line follows."""
    after = lines[number + 1] if number + 1 < len(lines) else ""
    return lines[number].strip().isdecimal() and "-->" in after


def without_style(text: str) -> str:
    """Text of a cue without tags as ``<i>`` and ``{\\an8}``; a lone ``<`` stays."""
    return _TAG.sub("", text)


def _spoken(cue: Row, is_vtt: bool) -> Iterator[Row]:
    """A row for each voice of a cue, without marks of style."""
    voices = list(_VOICE.finditer(cue.text)) if is_vtt else []
    pieces: list[tuple[str | None, str]] = [
        (None, cue.text[: voices[0].start()] if voices else cue.text)
    ]
    for voice, after in zip_longest(voices, voices[1:]):
        end = len(cue.text) if after is None else after.start()
        pieces.append((html.unescape(voice[1]), cue.text[voice.end() : end]))
    for speaker, piece in pieces:
        words = without_style(piece)
        words = (html.unescape(words) if is_vtt else words).strip()
        if bracketed := _BRACKETED.match(words):
            speaker, words = bracketed[1], words[bracketed.end() :]
        if words or len(pieces) == 1:
            yield Row(cue.where, cue.start_s, cue.end_s, speaker, words)


def read_timed_text(name: str, text: str, note: Note) -> list[Row] | None:
    """Lines as ``00:01.2 - 00:03.4 Anna: words`` or ``[00:01.2] Anna: words``; None without.

    A line without times goes on with the turn before it.
    """
    rows: list[Row] = []
    before = 0
    for number, line in enumerate(text.split("\n"), 1):
        times, words = _line_times(line)
        if times:
            where = f"line {number}"
            try:
                start_s, *end = (parse_time(time) for time in times)
            except ValueError as error:
                raise UserError(f"{name}, {where}: {error}; correct that line") from error
            speaker, words = _spoken_by(words)
            rows.append(Row(where, start_s, end[0] if end else None, speaker, words))
        elif line.strip() and rows:
            last = rows[-1]
            joined = f"{last.text}\n{line}"
            rows[-1] = Row(last.where, last.start_s, last.end_s, last.speaker, joined)
        else:
            before += bool(line.strip())
    if rows and before:
        note(f"{name}: {before} lines before the first time were left out")
    return rows or None


def read_lines(name: str, text: str, note: Note) -> list[Row]:
    """Lines without times, each a turn: they are a second apart, since something has to be."""
    note(f"{name} has no times; its lines are shown as if each took a second")
    spoken = [(n, line) for n, line in enumerate(text.split("\n"), 1) if line.strip()]
    return [
        Row(f"line {number}", float(place), place + 1.0, *_spoken_by(line.strip()))
        for place, (number, line) in enumerate(spoken)
    ]


def _spoken_by(words: str) -> tuple[str | None, str]:
    """Who is named at the beginning of a line, and the rest of it."""
    named = _NAMED.match(words)
    return (named[1] or named[2], words[named.end() :]) if named else (None, words)


def _line_times(line: str) -> tuple[list[str], str]:
    """One or two times that a line begins with, and the words after them."""
    # whole numbers alone are no times: sentences begin with numbers and years
    line = _MANY_BLANKS.sub(r"\1", line)
    if (found := _LINE.fullmatch(line)) and _MARKED.search(line[: found.start(3)]):
        return [found[1], found[2]], found[3]
    if (found := _BEGINNING.fullmatch(line)) and ":" in found[1]:
        return [found[1]], found[2]
    return [], line
