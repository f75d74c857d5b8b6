"""Rows of a table of the user's own, part after part: fields that can be read, and the others."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import get_args

import polars as pl

from tasks.corpora.files import ROW, blank_to_null, is_no_number, set_aside, to_number
from tasks.corpora.table_files import LIST_MARK, read_table_parts
from tasks.corpora.table_options import TableField, TableOptions
from tasks.tables.row_checks import RowCheck, judge

#: Fields of judgements that are read together.
CELLS = 1 << 18


def read_rows(
    root: Path, options: TableOptions, own: Sequence[str]
) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
    """Part after part: rows whose fields can be read, with the columns ``own``, and the others.

    ``own`` are columns of judgements in the same file; rows have them as ``label:<column>``.
    """
    region = options.columns.get("region")
    corners = region if isinstance(region, list) else []
    single = [column for column in options.columns.values() if isinstance(column, str)]
    for part in read_table_parts(
        root / options.file,
        [*single, *corners, *own],
        options.delimiter,
        options.encoding,
        max(1, CELLS // max(1, len(own))),
    ):
        yield _screen(_fields(root, part, options, own), options)


def _fields(
    root: Path, part: pl.DataFrame, options: TableOptions, own: Sequence[str]
) -> pl.DataFrame:
    """Our fields as strings, blanks as null, and the columns of judgements in the same file."""
    region = options.columns.get("region")
    single = {f: c for f, c in options.columns.items() if isinstance(c, str)}
    fields: dict[str, pl.Expr] = {}
    for field in get_args(TableField):
        if field in single:
            given = pl.col(single[field])
            given = pl.when(given != LIST_MARK).then(given)
            text = blank_to_null(given)
            # blanks around a medium's name may be part of it
            fields[field] = pl.when(text.is_not_null()).then(given) if field == "media" else text
        elif field in options.constants:
            fields[field] = pl.lit(options.constants[field])
        else:
            fields[field] = pl.lit(None, pl.String)
    if isinstance(region, list):
        fields["region"] = pl.concat_str(
            [pl.col(name).fill_null("") for name in region], separator=LIST_MARK
        )
    if "dialogue" not in single:
        fields["dialogue"] = fields["utterance"]
    rows = part.select(ROW, *(pl.col(name).alias(f"label:{name}") for name in own), **fields)
    return rows.with_columns(
        media=_without_blanks(root, options.media, rows["media"]),
        utterance_id=pl.format("{}/{}", pl.col("dialogue").fill_null("?"), "utterance"),
        file=pl.lit(options.file),
    )


def _without_blanks(root: Path, pattern: str, media: pl.Series) -> pl.Expr:
    """Names of media, stripped but for those that a file has just as they stand there."""
    padded = media.filter(media != media.str.strip_chars()).unique().to_list()
    files = [name for name in padded if os.path.isfile(root / pattern.replace("{}", name))]
    name = pl.col("media")
    return pl.when(name.is_in(files)).then(name).otherwise(name.str.strip_chars())


def _screen(rows: pl.DataFrame, options: TableOptions) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rows whose fields can be read, and quarantine rows that name file, row and column."""
    parts = _corners()
    numbers = parts.list.eval(pl.element().str.strip_chars().cast(pl.Float64, strict=False))
    bad_region = pl.col("region").is_not_null() & (
        (parts.list.len() != 4) | numbers.list.eval(pl.element().is_null()).list.any()
    )
    empty_region = pl.col("region").str.replace_all(LIST_MARK, "").str.strip_chars() == ""
    bad_turn = is_no_number("turn") | (to_number("turn") % 1 != 0)
    no_turn = pl.lit("turn" in options.columns) & pl.col("turn").is_null()
    rules: tuple[tuple[str, TableField, pl.Expr, str], ...] = (
        ("missing_key", "utterance", pl.col("utterance").is_null(), "is empty"),
        ("missing_key", "dialogue", pl.col("dialogue").is_null(), "is empty"),
        ("bad_turn", "turn", bad_turn | no_turn, "is no whole number"),
        ("bad_times", "start_s", is_no_number("start_s"), "is no number of seconds"),
        ("bad_age", "age", is_no_number("age"), "is no number of years"),
        ("bad_times", "end_s", is_no_number("end_s"), "is no number of seconds"),
        (
            "bad_region",
            "region",
            bad_region & ~empty_region,
            "is not x0, y0, x1, y1 as fractions of the picture",
        ),
    )
    checks = []
    for name, field, is_bad, what in rules:
        column = options.columns.get(field, field)
        shown = ", ".join(column) if isinstance(column, list) else column
        value = pl.col(field).fill_null("").str.replace_all(LIST_MARK, " ")
        sentence = pl.format(
            "{} row {}: column {}: '{}' " + what + "; mend the table",
            "file",
            ROW,
            pl.lit(shown),
            value,
        )
        checks.append(RowCheck(name, is_bad, sentence))
    judged = judge(rows, checks)
    key = pl.col("utterance_id").fill_null(pl.format("?/{}-{}", "file", ROW))
    broken = set_aside(judged.bad, key, pl.col("reason"), pl.col("detail"))
    return judged.good.with_columns(region=pl.when(~empty_region).then("region")), broken


def _corners() -> pl.Expr:
    """The parts of ``region``: a list, or numbers separated by blanks, commas or semicolons."""
    return (
        pl.col("region")
        .str.strip_chars("[]() ")
        .str.replace_all(rf"[\s,;{LIST_MARK}]+", LIST_MARK)
        .str.split(LIST_MARK)
    )


def region_of() -> pl.Expr:
    """``region`` as numbers: x0, y0, x1, y1."""
    return _corners().cast(pl.List(pl.Float64))
