"""What adapters of corpora share: options, tables and text files read strictly, rows set aside.

Nothing here guesses types: every field of a text file is a string until an adapter parses it, and
what cannot be parsed is set aside with the file and the row it stands in.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import polars as pl
from pydantic import BaseModel, ConfigDict, ValidationError

from models.errors import UserError, hint, nearest
from tasks.corpora.text_blocks import ROW, csv_blocks, form_of
from tasks.tables.annotations import ANNOTATIONS
from tasks.tables.quarantine import QUARANTINE
from tasks.tables.utterances import UTTERANCES

#: Columns that an adapter's utterances must have; ingest fills the hash.
UTTERANCE_COLUMNS = [
    name for name, column in UTTERANCES.columns.items()
    if name != "media_sha256" and not column.optional
]  # fmt: skip
#: Columns of an adapter's judgements; values stay text, so that ingest can name a bad one.
JUDGEMENT_SCHEMA = {**ANNOTATIONS.schema, "value": pl.String}

#: The control characters that stand where cp1252 text was taken for Latin-1.
_CP1252 = {
    chr(code): bytes([code]).decode("cp1252")
    for code in range(0x80, 0xA0)
    if code not in (0x81, 0x8D, 0x8F, 0x90, 0x9D)
}
_CP1252["\xa0"] = " "


class Options(BaseModel):
    """What ``params.yaml: corpora.<corpus>.options`` may say; an adapter adds its own fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Kind = TypeVar("Kind", bound=Options)


def parse_options(kind: type[Kind], options: Mapping[str, object], adapter: str) -> Kind:
    """``options`` as ``kind``; the first mistake becomes one sentence."""
    try:
        return kind.model_validate(dict(options))
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join(str(part) for part in first["loc"])
        where = f"params.yaml: options of adapter {adapter}"
        if first["type"] == "extra_forbidden" and len(first["loc"]) == 1:
            known = list(kind.model_fields)
            near = hint(path, known)
            raise UserError(f"{where}: there is no option '{path}'; {near}") from error
        message = first["msg"].removeprefix("Value error, ")
        raise UserError(f"{where}: {path or 'they'}: {message}; correct it") from error


def read_csv(
    path: Path,
    delimiter: str = ",",
    encoding: str = "utf-8",
    names: Sequence[str] | None = None,
    block: int = 1 << 26,
) -> pl.DataFrame:
    """A delimited text file: all fields as strings, and ``row`` counting data rows from 1.

    Fields stay as they are: ``NA`` and ``None`` are words, an empty field is an empty string. A
    row with too many or too few fields is an error.

    Args:
        path: the file; a byte order mark is skipped.
        delimiter: one character.
        encoding: of the bytes; ``auto`` takes UTF-8, and cp1252 where that fails.
        names: of the columns, where the file has no header.
        block: bytes that are parsed together; a row may not be longer.
    """
    return pl.concat(csv_blocks(path, delimiter, encoding, names, block), rechunk=True)


def read_text(path: Path, encoding: str = "utf-8") -> str:
    """The text of a file without byte order mark; ``auto`` is UTF-8, else cp1252."""
    form = form_of(path, encoding)
    with path.open(encoding=form.encoding, newline="") as stream:
        return stream.read()


def split_lines(text: str) -> list[str]:
    """Lines as editors count them: other separators that Unicode knows are part of a line."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return lines if lines[-1] else lines[:-1]


def read_lines(root: Path, files: Iterable[Path]) -> pl.DataFrame:
    """Lines of text files: columns file (relative to ``root``), line (from 1), text (stripped)."""
    frames = []
    for file in files:
        lines = split_lines(read_text(file, "auto"))
        frames.append(
            pl.DataFrame({"text": lines}, schema={"text": pl.String})
            .with_row_index("line", 1)
            .select(
                file=pl.lit(file.relative_to(root).as_posix()),
                line=pl.col("line").cast(pl.Int64),
                text=pl.col("text").str.strip_chars(),
            )
        )
    schema = {"file": pl.String, "line": pl.Int64, "text": pl.String}
    return pl.concat(frames) if frames else pl.DataFrame(schema=schema)


def require(frame: pl.DataFrame, columns: Iterable[str], path: Path) -> None:
    """Raise unless ``frame``, read from ``path``, has all of ``columns``."""
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        has = [name for name in frame.columns if name != ROW]
        raise UserError(
            f"{path} lacks column '{missing[0]}' (it has {', '.join(has) or 'none'}); "
            f"{_hint(missing[0], has)}"
        )


def _hint(missing: str, has: Sequence[str]) -> str:
    """What a user can do about a column that is not there."""
    if len(has) == 1:
        found = [mark for mark in (";", "\t", "|", ",") if mark in has[0]]
        if found:
            return (
                f"its cells seem to be separated by {found[0]!r}: set the delimiter, or save "
                "it with commas"
            )
    plain = {name.strip().lower(): name for name in has}
    near = nearest(missing.strip().lower(), list(plain))
    return f"did you mean '{plain[near]}'?" if near else "check the file"


def first_existing(root: Path, candidates: Sequence[str]) -> Path | None:
    """The first of ``candidates`` that exists under ``root``."""
    return next((root / name for name in candidates if (root / name).exists()), None)


def blank_to_null(name: str | pl.Expr) -> pl.Expr:
    """A column of strings, stripped; nothing left becomes null."""
    text = (pl.col(name) if isinstance(name, str) else name).str.strip_chars()
    return pl.when(text != "").then(text)


def to_number(name: str | pl.Expr) -> pl.Expr:
    """A column of strings as floats; null where a field is no number (see ``is_no_number``)."""
    text = pl.col(name) if isinstance(name, str) else name
    return text.str.strip_chars().cast(pl.Float64, strict=False)


def is_no_number(name: str) -> pl.Expr:
    """True where a field holds something that is not a finite number; a blank is no mistake."""
    text, value = blank_to_null(name), to_number(name)
    return (text.is_not_null() & (value.is_null() | ~value.is_finite())).fill_null(False)


def mend_cp1252(name: str) -> pl.Expr:
    """Text whose quotes and dashes were read as control characters, with the right ones."""
    return pl.col(name).str.replace_many(list(_CP1252), list(_CP1252.values()))


def set_aside(
    rows: pl.DataFrame, utterance: pl.Expr, reason: str | pl.Expr, detail: pl.Expr
) -> pl.DataFrame:
    """``rows`` as quarantine rows of the stage ingest.

    Args:
        rows: what cannot be used.
        utterance: id without the corpus; null where there is none (``?`` takes its place).
        reason: typed reason.
        detail: one sentence with file, row, value and remedy.
    """
    return rows.select(
        utterance_id=utterance.fill_null("?"),
        stage=pl.lit("ingest"),
        reason=pl.lit(reason) if isinstance(reason, str) else reason,
        detail=detail,
    ).cast(pl.Schema(QUARANTINE.schema))


def judgements(frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Frames of judgements below each other, with all columns; absent ones become null."""
    empty = pl.DataFrame(schema=JUDGEMENT_SCHEMA)
    return pl.concat(
        [
            empty,
            *(
                frame.with_columns(
                    pl.lit(None).alias(name) for name in JUDGEMENT_SCHEMA if name not in frame
                )
                .select(list(JUDGEMENT_SCHEMA))
                .cast(pl.Schema(JUDGEMENT_SCHEMA))
                for frame in frames
            ),
        ]
    )
