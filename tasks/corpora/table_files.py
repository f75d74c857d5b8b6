"""Tables of the user's own as strings: text tables, Parquet, JSON lines; nothing is guessed."""

import json
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from models.errors import UserError
from tasks.corpora.claims import check_parquet
from tasks.corpora.files import require
from tasks.corpora.text_blocks import ROW, csv_blocks, form_of

#: Joins the elements of a list, which Parquet and JSON have and text tables have not; alone it is
#: an empty list.
LIST_MARK = "\x1f"

#: Rows of a Parquet file that are decoded together, where a row group has more.
_MOST_ROWS = 1 << 20

_READS = ".csv, .tsv, .txt, .parquet, .jsonl, .ndjson"


def read_table_parts(
    path: Path, columns: Iterable[str], delimiter: str | None, encoding: str, rows: int
) -> Iterator[pl.DataFrame]:
    """``columns`` of a table as strings, and ``row`` counting its rows from 1; at least one part.

    In text tables an empty field is an empty string; in the typed formats null stays null, and a
    list is its elements joined by ``LIST_MARK``.

    Args:
        path: the file.
        columns: of it.
        delimiter: of a text table; comma, or tab for ``.tsv``.
        encoding: of a text table.
        rows: of a part, at most.
    """
    wanted = list(dict.fromkeys(columns))
    kind = path.suffix.lower()
    if ROW in wanted:
        raise UserError(f"{path}: a column is called '{ROW}', which is used here; rename it")
    if kind in (".csv", ".tsv", ".txt"):
        tab = "\t" if kind == ".tsv" else ","
        parts = _text_parts(path, wanted, delimiter or tab, encoding)
    elif kind == ".parquet":
        parts = _parquet_parts(path, wanted, rows)
    elif kind in (".jsonl", ".ndjson"):
        parts = _json_parts(path, wanted, rows)
    else:
        raise UserError(f"{path}: tables of kind '{kind}' are not read; save it as one of {_READS}")
    for part in parts:
        # pl.format over what was filtered from a column of uneven chunks makes polars 2.1 panic
        yield from (
            cut.rechunk() for cut in (part.iter_slices(rows) if part.height > rows else [part])
        )


def _text_parts(
    path: Path, wanted: list[str], delimiter: str, encoding: str
) -> Iterator[pl.DataFrame]:
    for frame in csv_blocks(path, delimiter, encoding):
        require(frame, wanted, path)
        yield frame.select(ROW, *wanted)


def _parquet_parts(path: Path, wanted: list[str], rows: int) -> Iterator[pl.DataFrame]:
    try:
        check_parquet(path, wanted)
        schema = pl.read_parquet_schema(path)
        require(pl.DataFrame(schema=schema), wanted, path)
        text = [_as_text(path, name, schema[name]) for name in wanted]
        for at, end in pairwise(_row_group_cuts(path, rows)):
            part = pl.scan_parquet(path).select(wanted).slice(at, end - at).collect()
            yield part.select(text).select(
                *wanted, pl.int_range(at + 1, at + 1 + pl.len()).alias(ROW)
            )
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; check options.file in params.yaml") from None
    except (OSError, pa.ArrowException, pl.exceptions.PolarsError) as error:
        raise UserError(f"{path}: not readable as Parquet ({error}); write it again") from error


def _as_text(path: Path, name: str, dtype: pl.DataType) -> pl.Expr:
    if isinstance(dtype, (pl.List, pl.Array)):
        listed = pl.col(name).cast(pl.List(pl.String))
        return (
            pl.when(listed.list.len() > 0)
            .then(listed.list.join(LIST_MARK))
            .when(listed.is_not_null())
            .then(pl.lit(LIST_MARK))
        )
    if dtype.is_nested() or dtype == pl.Binary:
        raise UserError(f"{path}: column {name} holds {dtype}; name a column of text or numbers")
    return pl.col(name).cast(pl.String)


def _row_group_cuts(path: Path, rows: int) -> list[int]:
    """Where a file is cut: whole row groups, for what shares one is decoded together."""
    metadata = pq.read_metadata(path)
    cuts, end = [0], 0
    for group in range(metadata.num_row_groups):
        end += metadata.row_group(group).num_rows
        if end - cuts[-1] >= rows:
            cuts += [*range(cuts[-1] + _MOST_ROWS, end, _MOST_ROWS), end]
    return cuts if cuts[-1] == end and end else [*cuts, end]


def _json_parts(path: Path, wanted: list[str], rows: int) -> Iterator[pl.DataFrame]:
    keys: set[str] = set()
    done = False
    for numbers, part in _json_rows(path, rows):
        keys.update(*part)
        yield _json_frame(path, wanted, numbers, part)
        done = True
    absent = [
        name for name in wanted if name not in keys
    ]  # from some lines it may be, not from all
    if keys and absent:
        require(pl.DataFrame(schema=dict.fromkeys(sorted(keys), pl.String)), absent, path)
    if not done:
        yield _json_frame(path, wanted, [], [])


def _json_rows(path: Path, rows: int) -> Iterator[tuple[list[int], list[dict[str, object]]]]:
    """Numbers of lines that are not blank, and what they say, ``rows`` at a time."""
    numbers: list[int] = []
    found: list[dict[str, object]] = []
    form = form_of(path)
    with path.open(encoding=form.encoding) as stream:  # any line end is one
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise UserError(
                    f"{path} line {number} is no JSON ({error}); mend the line"
                ) from error
            if not isinstance(row, dict):
                raise UserError(f"{path} line {number} is no JSON object; mend the line")
            numbers.append(number)
            found.append(row)
            if len(found) == rows:
                yield numbers, found
                numbers, found = [], []
    if found:
        yield numbers, found


def _json_frame(
    path: Path, wanted: list[str], numbers: list[int], rows: list[dict[str, object]]
) -> pl.DataFrame:
    data = {
        name: [_cell(path, n, name, r.get(name)) for n, r in zip(numbers, rows, strict=True)]
        for name in wanted
    }
    return pl.DataFrame(
        {ROW: numbers, **data}, schema={ROW: pl.Int64, **dict.fromkeys(wanted, pl.String)}
    )


def _cell(path: Path, number: int, name: str, value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list) and not any(isinstance(part, (list, dict)) for part in value):
        return LIST_MARK.join("" if part is None else str(part) for part in value) or LIST_MARK
    if isinstance(value, (list, dict)):
        raise UserError(f"{path} line {number}: {name} is nested; give text, a number or a list")
    return json.dumps(value)
