"""Which form a transcript has, by its content, and its text whatever its encoding."""

import json
from collections.abc import Iterable
from pathlib import Path

from models.errors import UserError
from tasks.predict.transcripts.subtitles import (
    has_cues,
    read_lines,
    read_subtitles,
    read_timed_text,
)
from tasks.predict.transcripts.tables import read_json_rows, read_table_rows
from tasks.predict.transcripts.tiers import read_eaf, read_textgrid
from tasks.predict.transcripts.turns import Note, Row, Turn, checked

_MOST_BYTES = 64 << 20
_FORMS = "SRT, VTT, TextGrid, EAF, JSON with segments, CSV with a header, or lines with times"
_MARKS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))


def read_transcript(
    path: Path,
    length_s: float | None = None,
    note: Note = lambda sentence: None,
    *,
    is_plain: bool = False,
) -> list[Turn]:
    """Turns of a transcript, in order of time.

    The form is found by content; ``docs/timeline.md`` lists the forms. Turns may overlap.

    Args:
        path: the file.
        length_s: of its medium; None where it is not known.
        note: told, in a sentence, what was mended or left out.
        is_plain: lines without times are read too, each a turn.
    """
    text = read_any_text(path, note).replace("\r\n", "\n").replace("\r", "\n")
    if not text.strip():
        raise UserError(f"{path.name} is empty; give a transcript, or none")
    return checked(path.name, _rows(path.name, text, note, is_plain), length_s, note)


def _rows(name: str, text: str, note: Note, is_plain: bool) -> Iterable[Row]:
    head = text.lstrip()
    if head.startswith("WEBVTT") or has_cues(text):
        return read_subtitles(name, text)
    if head.startswith("<"):
        return read_eaf(name, head)
    if head[:200].startswith("File type") or '"ooTextFile' in head[:200]:
        return read_textgrid(name, text, note)
    if "ooBinaryFile" in head[:50]:
        raise UserError(f"{name} is a binary TextGrid; save it in Praat as a text file")
    if head[0] in "[{":
        try:
            # NaN as a time is caught where times are checked
            return read_json_rows(name, json.loads(text))
        except (ValueError, RecursionError) as error:
            if head[0] == "{" or name.lower().endswith(".json"):
                raise UserError(f"{name} is no JSON ({error}); write it again") from error
    rows = read_table_rows(name, text)
    if rows is None:
        rows = read_timed_text(name, text, note)
    if rows is None and is_plain:
        return read_lines(name, text, note)
    if rows is None:
        raise UserError(f"{name} is no transcript with times; forms that are read: {_FORMS}")
    return rows


def read_any_text(path: Path, note: Note) -> str:
    """The text of a file in UTF-8, UTF-16 or, with a note, cp1252."""
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); check the path") from error
    if len(data) > _MOST_BYTES:
        raise UserError(f"{path.name} is larger than 64 MB; that is no transcript")
    try:
        text = data.decode(_encoding(data))
    except UnicodeDecodeError:
        text = data.decode("cp1252", "replace")
        note(f"{path.name} is not UTF-8; it was read as Western European text (cp1252)")
    if "\0" in text:
        raise UserError(f"{path.name} is no text; give a transcript in one of: {_FORMS}")
    return text


def _encoding(data: bytes) -> str:
    """By its mark, else by where the zero bytes of Western letters are in UTF-16."""
    for mark, name in _MARKS:
        if data.startswith(mark):
            return name
    head = data[:400]
    zeros = (head[0::2].count(0), head[1::2].count(0))
    if len(head) >= 4 and max(zeros) > len(head) // 4 and min(zeros) == 0:
        return "utf-16-le" if zeros[1] else "utf-16-be"
    return "utf-8"
