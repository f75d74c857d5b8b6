"""Text files that may be longer than memory has room for: decoded and parsed block by block."""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import polars as pl
import pyarrow as pa
import pyarrow.csv as pc

from models.errors import UserError
from tasks.corpora.raw_folders import check_file

#: Name of the column that counts the data rows of a file from 1.
ROW = "row"

#: Characters that are decoded together.
_PIECE = 1 << 22


@dataclass(frozen=True)
class TextForm:
    """How a text file is written; all of it has been decoded once.

    Attributes:
        encoding: as Python calls it; a byte order mark is skipped.
        ends_with_return: lines end with a carriage return alone, as old Macintosh programs' do.
        has_text: something stands in it that is no blank.
        has_rows: something stands below its first line that is no blank.
    """

    encoding: str
    ends_with_return: bool
    has_text: bool
    has_rows: bool


def form_of(path: Path, encoding: str = "utf-8") -> TextForm:
    """How ``path`` is written; ``auto`` is UTF-8, else cp1252.

    Raises:
        UserError: where it cannot be read, or is not of this encoding to its end.
    """
    check_file(path)
    tried = ("utf-8-sig", "cp1252") if encoding == "auto" else (encoding,)
    for name in tried:
        name = "utf-8-sig" if name.lower() in ("utf-8", "utf8") else name
        try:
            with path.open(encoding=name, newline="\n") as stream:
                return _look(stream, name)
        except LookupError:
            raise UserError(
                f"params.yaml: no encoding is called '{encoding}'; correct it"
            ) from None
        except UnicodeDecodeError:
            continue
        except FileNotFoundError:
            raise UserError(f"{path} does not exist; check the corpus's folder") from None
        except OSError as error:
            raise UserError(f"{path} cannot be read ({error.strerror}); check it") from error
    raise UserError(
        f"{path} is not {encoding} text; save it as UTF-8, or name its encoding in the options"
    )


def _look(stream: TextIO, encoding: str) -> TextForm:
    first = stream.readline()  # all of it, where no line ends with a line feed
    ends_with_return = not first.endswith("\n") and "\r" in first
    below = first.partition("\r")[2] if ends_with_return else ""
    has_rows = bool(below.strip())
    while piece := stream.read(_PIECE):
        has_rows = has_rows or bool(piece.strip())
    return TextForm(encoding, ends_with_return, bool(first.strip()) or has_rows, has_rows)


def csv_blocks(
    path: Path,
    delimiter: str = ",",
    encoding: str = "utf-8",
    names: Sequence[str] | None = None,
    block: int = 1 << 26,
) -> Iterator[pl.DataFrame]:
    """A delimited text file, block by block, at least one; see ``files.read_csv``."""
    form = form_of(path, encoding)
    header = list(names) if names is not None else _header(path, form, delimiter)
    if not form.has_text or (names is None and not form.has_rows):
        yield pl.DataFrame(schema={ROW: pl.Int64, **dict.fromkeys(header, pl.String)})
        return
    done = 0
    with io.BufferedReader(_Utf8(path, form)) as source:  # it fills each block
        try:
            # few bytes of a short file: the reader asks for room for a whole block at once
            size = min(block, 4 * path.stat().st_size + 1)
            reader = pc.open_csv(
                source,
                read_options=pc.ReadOptions(
                    column_names=names and header, use_threads=False, block_size=size
                ),
                parse_options=pc.ParseOptions(delimiter=delimiter, newlines_in_values=True),
                convert_options=pc.ConvertOptions(column_types=dict.fromkeys(header, pa.string())),
            )
            for batch in reader:
                frame = pl.DataFrame(pl.from_arrow(batch)).with_row_index(ROW, done + 1)
                done += frame.height
                yield frame.with_columns(pl.col(ROW).cast(pl.Int64))
        except pa.ArrowInvalid as error:
            reason = str(error).removeprefix("CSV parse error: ")
            raise UserError(f"{path}: {reason}; mend that row, or its quotes") from error


def _header(path: Path, form: TextForm, delimiter: str) -> list[str]:
    with io.BufferedReader(_Utf8(path, form)) as source:
        lines = io.TextIOWrapper(source, "utf-8", newline="\n")
        header = next(csv.reader(lines, delimiter=delimiter), [])
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise UserError(f"{path}: two columns are called '{twice[0]}'; rename one of them")
    if ROW in header:
        raise UserError(f"{path}: a column is called '{ROW}', which is used here; rename it")
    return header


class _Utf8(io.RawIOBase):
    """A text file as UTF-8 with line feeds, whatever it was written in."""

    def __init__(self, path: Path, form: TextForm) -> None:
        self._text = path.open(encoding=form.encoding, newline="\n")
        self._mends_ends = form.ends_with_return
        self._left = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        """See ``io.RawIOBase.readinto``."""
        if not self._left:
            piece = self._text.read(_PIECE)
            self._left = memoryview(
                (piece.replace("\r", "\n") if self._mends_ends else piece).encode()
            )
        taken = self._left[: len(buffer)]
        buffer[: len(taken)] = taken
        self._left = self._left[len(taken) :]
        return len(taken)

    def close(self) -> None:
        """See ``io.IOBase.close``."""
        self._text.close()
        super().close()
