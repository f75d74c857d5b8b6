"""Turns of a transcript, and the mending of what is harmless in them."""

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import zip_longest

from models.errors import UserError

#: Takes a sentence for people about something that was mended.
Note = Callable[[str], None]

_CLOCK = re.compile(r"(?:(\d+):)?(\d{1,3}):(\d{1,2}(?:[.,]\d+)?)")
#: What names a language: ``en``, ``pt-BR``.
_TAG = re.compile(r"[A-Za-z]{2,3}([-_][A-Za-z0-9]{2,8})*")
_SECONDS = re.compile(r"[-+]?\d+(?:[.,]\d+)?\s*(?:s|sec)?")
#: A turn may reach so far beyond the medium's end without a word about it.
_TOLERATED_S = 0.5


@dataclass(frozen=True)
class Turn:
    """One stretch of speech.

    Attributes:
        start_s: where it begins.
        end_s: where it ends, later than it begins.
        speaker: None where the transcript does not say.
        text: its words, on one line, never empty.
        language: of the words, as ``en``; None where the transcript does not say.
    """

    start_s: float
    end_s: float
    speaker: str | None
    text: str
    language: str | None = None


@dataclass(frozen=True)
class Row:
    """A turn as it stands in a file, not yet checked.

    Attributes:
        where: for messages, as ``line 3``.
        start_s: where it begins.
        end_s: None where the file says only where turns begin.
        speaker: blank is the same as None.
        text: with line breaks, perhaps empty.
        language: whatever the file says.
    """

    where: str
    start_s: float
    end_s: float | None
    speaker: str | None
    text: str
    language: str | None = None


def parse_time(text: str) -> float:
    """Seconds of ``1:02:03.4``, ``02:03,4`` or ``12.3``; ValueError where it is none of these."""
    text = text.strip()
    if clock := _CLOCK.fullmatch(text):
        hours, minutes = int(clock[1] or 0), int(clock[2])
        seconds = float(clock[3].replace(",", "."))
        if seconds >= 60 or (clock[1] and minutes >= 60):
            raise ValueError(f"'{text}' is no time: there are 60 minutes and 60 seconds")
        return 3600.0 * hours + 60.0 * minutes + seconds
    if _SECONDS.fullmatch(text):
        return float(text.rstrip("sec ").replace(",", "."))
    raise ValueError(f"'{text}' is no time; write 1:02:03.4 or seconds")


def checked(name: str, rows: Iterable[Row], length_s: float | None, note: Note) -> list[Turn]:
    """Turns in order of time; what is wrong and matters is an error that names file and row.

    Args:
        name: of the file, for messages.
        rows: as they stand in the file.
        length_s: of the medium; None where it is not known.
        note: told what was mended or left out.
    """
    rows = _ended(name, list(rows), length_s)
    whole = [row for row in rows if row.text.strip()]
    _tell(note, name, len(rows) - len(whole), "turns without words", "left out")
    timed = [row for row in whole if _is_timed(name, row)]
    _tell(note, name, len(whole) - len(timed), "turns that last no time", "left out")
    kept = timed
    if length_s is not None:
        kept = [row for row in timed if row.start_s < length_s]
        beyond = len(timed) - len(kept)
        if beyond * 2 > len(timed):
            late = next(row for row in timed if row.start_s >= length_s)
            raise UserError(
                f"{name}, {late.where}: begins at {late.start_s:g} s, but the medium ends at "
                f"{length_s:g} s; is it the transcript of another file?"
            )
        _tell(note, name, beyond, "turns after the medium's end", "left out")
        long = sum((row.end_s or 0.0) > length_s + _TOLERATED_S for row in kept)
        _tell(note, name, long, "turns that end after the medium", "cut to it")
    turns = [_turn(row, length_s) for row in kept]
    ordered = sorted(turns, key=lambda turn: (turn.start_s, turn.end_s))
    if ordered != turns:
        note(f"{name}: its turns are not in order of time; they were sorted")
    single = list(dict.fromkeys(ordered))
    _tell(note, name, len(ordered) - len(single), "turns that stand there twice", "read once")
    if not single:
        raise UserError(f"{name} has no turn with words; give a transcript that has one")
    _tell(note, name, _overlaps(single), "turns over the same speaker's last", "kept")
    return single


def _ended(name: str, rows: list[Row], length_s: float | None) -> list[Row]:
    """Rows with an end: one that has none ends where the next begins, the last with the medium."""
    found = []
    for row, after in zip_longest(rows, rows[1:]):
        if row.end_s is None:
            end_s = length_s if after is None else after.start_s
            if end_s is None:
                raise UserError(f"{name}, {row.where}: the last turn has no end; give it one")
            row = replace(row, end_s=end_s)
        found.append(row)
    return found


def _is_timed(name: str, row: Row) -> bool:
    """Whether time passes in a row; times that cannot be are an error."""
    assert row.end_s is not None
    if not (math.isfinite(row.start_s) and math.isfinite(row.end_s)):
        raise UserError(f"{name}, {row.where}: a time is no finite number; correct it")
    if row.end_s < row.start_s:
        raise UserError(
            f"{name}, {row.where}: ends at {row.end_s:g} s, before it begins at "
            f"{row.start_s:g} s; correct the times"
        )
    if row.start_s < 0:
        raise UserError(f"{name}, {row.where}: begins at {row.start_s:g} s; times start at 0")
    return row.end_s > row.start_s


def _turn(row: Row, length_s: float | None) -> Turn:
    assert row.end_s is not None
    end_s = row.end_s if length_s is None else min(row.end_s, length_s)
    speaker = _writable(row.speaker or "")
    tag = (row.language or "").strip()
    language = tag if _TAG.fullmatch(tag) else None
    return Turn(row.start_s, end_s, speaker or None, _writable(row.text), language)


def _writable(text: str) -> str:
    """Words with single blanks; halves of characters, as JSON may hold them, become '?'."""
    return " ".join(text.split()).encode("utf-8", "replace").decode("utf-8")


def _overlaps(turns: list[Turn]) -> int:
    """How many begin before the last one of the same speaker ends."""
    ends: dict[str | None, float] = {}
    found = 0
    for turn in turns:
        found += turn.start_s < ends.get(turn.speaker, 0.0) - 1e-3
        ends[turn.speaker] = max(turn.end_s, ends.get(turn.speaker, 0.0))
    return found


def _tell(note: Note, name: str, count: int, what: str, done: str) -> None:
    if count:
        note(f"{name}: {what}: {count} ({done})")
