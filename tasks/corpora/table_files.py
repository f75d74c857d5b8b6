"""Tables of the user's own as strings: text tables, Parquet, JSON lines; nothing is guessed."""

import json
from collections.abc import Iterable
from pathlib import Path

import polars as pl

from models.errors import UserError
from tasks.corpora.claims import check_parquet
from tasks.corpora.files import ROW, read_csv, read_text, require, split_lines

#: Joins the elements of a list, which Parquet and JSON have and text tables have not; alone it is
#: an empty list.
LIST_MARK = "\x1f"

_READS = ".csv, .tsv, .txt, .parquet, .jsonl, .ndjson"


def read_table_file(
    path: Path, columns: Iterable[str], delimiter: str | None, encoding: str
) -> pl.DataFrame:
    """``columns`` of a table as strings, and ``row`` counting its rows from 1.

    In text tables an empty field is an empty string; in the typed formats null stays null, and a
    list is its elements joined by ``LIST_MARK``.
    """
    wanted = list(dict.fromkeys(columns))
    kind = path.suffix.lower()
    if ROW in wanted:
        raise UserError(f"{path}: a column is called '{ROW}', which is used here; rename it")
    if kind in (".csv", ".tsv", ".txt"):
        tab = "\t" if kind == ".tsv" else ","
        frame = read_csv(path, delimiter or tab, encoding)
        require(frame, wanted, path)
        return frame.select(ROW, *wanted)
    if kind == ".parquet":
        return _read_parquet(path, wanted)
    if kind in (".jsonl", ".ndjson"):
        return _read_json_lines(path, wanted)
    raise UserError(f"{path}: tables of kind '{kind}' are not read; save it as one of {_READS}")


def _read_parquet(path: Path, wanted: list[str]) -> pl.DataFrame:
    try:
        check_parquet(path)
        schema = pl.read_parquet_schema(path)
        require(pl.DataFrame(schema=schema), wanted, path)
        frame = pl.read_parquet(path, columns=wanted)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; check options.file in params.yaml") from None
    except (OSError, pl.exceptions.PolarsError) as error:
        raise UserError(f"{path}: not readable as Parquet ({error}); write it again") from error
    return frame.select(_as_text(path, name, frame.schema[name]) for name in wanted).with_columns(
        pl.int_range(1, pl.len() + 1).alias(ROW)
    )


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


def _read_json_lines(path: Path, wanted: list[str]) -> pl.DataFrame:
    rows: list[dict[str, object]] = []
    numbers: list[int] = []
    for number, line in enumerate(split_lines(read_text(path)), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(f"{path} line {number} is no JSON ({error}); mend the line") from error
        if not isinstance(row, dict):
            raise UserError(f"{path} line {number} is no JSON object; mend the line")
        rows.append(row)
        numbers.append(number)
    for name in wanted:  # a key may be absent from some lines, but not from all
        if rows and not any(name in row for row in rows):
            keys = {key: pl.String for row in rows for key in row}
            require(pl.DataFrame(schema=dict(sorted(keys.items()))), [name], path)
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
