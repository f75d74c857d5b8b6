"""Transcripts as tables (CSV and its kin) and as JSON of programs that transcribe."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from models.errors import UserError
from tasks.predict.transcripts.turns import Row, parse_time

_START = ("start", "start_s", "begin", "from", "onset", "start_time", "tmin", "xmin", "start_ms")
_END = ("end", "end_s", "stop", "to", "offset", "end_time", "tmax", "xmax", "end_ms")
_LENGTH = ("duration", "duration_s", "dur", "length", "duration_ms")
_SPEAKER = ("speaker", "speaker_name", "name", "who", "participant", "tier", "speaker_id")
_TEXT = ("text", "words", "transcript", "transcription", "utterance", "sentence", "content")
_LANGUAGE = ("language", "lang")
_SEGMENTS = ("segments", "utterances", "chunks", "turns")


def read_table_rows(name: str, text: str) -> list[Row] | None:
    """Rows of a table whose header names a beginning and words; None where it is no such table.

    Cells are separated by commas, semicolons, tabs or bars. Times are seconds or clocks, but
    milliseconds in columns named ``_ms`` and in the tables that Whisper writes.
    """
    header = text.lstrip("\n").partition("\n")[0]
    for delimiter in ",;\t|":
        names = [cell.strip().strip('"').lower() for cell in header.split(delimiter)]
        if set(names) & set(_START) and set(names) & set(_TEXT):
            return _table(name, text.lstrip("\n"), delimiter, names)
    return None


def _table(name: str, text: str, delimiter: str, names: list[str]) -> list[Row]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    next(reader)
    # Whisper's own tables count milliseconds and have exactly these columns
    is_whisper = delimiter == "\t" and names == ["start", "end", "text"]
    rows = []
    try:
        for number, cells in enumerate(reader, 1):
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(names):
                raise UserError(
                    f"{name}, row {number}: has {len(cells)} cells, the header {len(names)}; "
                    "quote cells that hold the separator"
                )
            cell_of = dict(zip(names, cells, strict=True))
            rows.append(_row(name, f"row {number}", cell_of))
    except csv.Error as error:
        raise UserError(f"{name}: not readable as a table ({error}); mend its quotes") from error
    ends = [row.end_s for row in rows if row.end_s is not None]
    whole = all(time.is_integer() for time in (*ends, *(row.start_s for row in rows)))
    if not (is_whisper and whole and len(ends) == len(rows)):
        return rows
    return [
        Row(row.where, row.start_s / 1000, end_s / 1000, None, row.text)
        for row, end_s in zip(rows, ends, strict=True)
    ]


def read_json_rows(name: str, content: Any) -> list[Row]:
    """Segments of Whisper, whisperX, transformers, ``predictions.json``, or a list of such."""
    segments, language = content, None
    if isinstance(content, Mapping):
        language = _first(content, _LANGUAGE)
        segments = next((content[key] for key in _SEGMENTS if key in content), None)
    if not isinstance(segments, list):
        raise UserError(f"{name}: has no list of {' or '.join(_SEGMENTS)}; give one")
    rows = []
    for number, segment in enumerate(segments, 1):
        where = f"segment {number}"
        if not isinstance(segment, Mapping):
            raise UserError(f"{name}, {where}: is no object with start, end and text")
        found = {"language": language}
        found |= {str(key).lower(): value for key, value in segment.items() if value is not None}
        times = found.get("timestamp")
        if isinstance(times, Sequence) and len(times) == 2:
            found |= {"start": times[0], "end": times[1]}
        rows.append(_row(name, where, found))
    return rows


def _row(name: str, where: str, found: Mapping[str, Any]) -> Row:
    start_s = _time(name, where, found, _START)
    if start_s is None:
        raise UserError(f"{name}, {where}: does not say when it begins; give its start")
    end_s = _time(name, where, found, _END)
    if end_s is None and (length_s := _time(name, where, found, _LENGTH)) is not None:
        end_s = start_s + length_s
    speaker, text = _first(found, _SPEAKER), _first(found, _TEXT)
    language = _first(found, _LANGUAGE)
    return Row(
        where,
        start_s,
        end_s,
        None if speaker is None else str(speaker),
        str(text or ""),
        language if isinstance(language, str) else None,
    )


def _first(found: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((found[name] for name in names if found.get(name) is not None), None)


def _time(name: str, where: str, found: Mapping[str, Any], names: Sequence[str]) -> float | None:
    key = next((key for key in names if found.get(key) not in (None, "")), None)
    if key is None:
        return None
    value = found[key]
    try:
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            raise ValueError(f"{value!r} is no time")
        seconds = parse_time(value) if isinstance(value, str) else float(value)
    except (ValueError, OverflowError) as error:
        raise UserError(f"{name}, {where}: {key}: {error}; correct it") from error
    return seconds / 1000 if key.endswith("_ms") else seconds
