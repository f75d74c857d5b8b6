"""What a table's contract is, and the check that holds a frame to it.

A stage can neither emit nor accept a broken table: ``parquet.write_table`` and ``read_table`` both
call ``Table.check``, whose errors name the file, the column, the first offending rows and the
remedy.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from models.errors import UserError


class TableError(UserError):
    """A table breaks its contract; the message names file, column, row and remedy."""


@dataclass(frozen=True)
class Column:
    """What one column holds. ``minimum`` and ``maximum`` are inclusive.

    A table that has nothing to say in an ``optional`` column is written without it; read, it is
    null.
    """

    dtype: pl.DataType | type[pl.DataType]
    meaning: str
    nullable: bool = False
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] | None = None
    optional: bool = False


@dataclass(frozen=True)
class Table:
    """A named table: its columns in order, its key, and where broken rows come from.

    Rows are sorted by ``key`` on writing; unless ``is_unique`` is False, no two may share one.
    Parquet keeps ``row_group`` rows together: many of a long table that is read whole, few where a
    row is heavy and its neighbours are not wanted. A table of over one and a half times
    ``part_rows`` is a folder of files of about so many (0: never), so that a change in it changes
    one of them (``tasks.tables.parts``).
    """

    name: str
    columns: Mapping[str, Column]
    key: tuple[str, ...]
    made_by: str
    checks: tuple["RowRule", ...] = ()
    is_unique: bool = True
    row_group: int = 8_192
    part_rows: int = 0

    @property
    def schema(self) -> dict[str, pl.DataType | type[pl.DataType]]:
        """Column names and types in order."""
        return {name: column.dtype for name, column in self.columns.items()}

    def empty(self) -> pl.DataFrame:
        """A table with no rows."""
        return pl.DataFrame(schema=self.schema)

    def frame(self, rows: Sequence[Mapping[str, object]]) -> pl.DataFrame:
        """Rows as a frame with this table's columns and types; absent keys become null."""
        unknown = sorted({key for row in rows for key in row} - set(self.columns))
        if unknown:
            raise TableError(f"table {self.name}: no such column: {', '.join(unknown)}")
        return pl.DataFrame(
            {name: [row.get(name) for row in rows] for name in self.columns},
            schema=self.schema,
            strict=True,
        )

    def completed(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The same rows with null in each ``optional`` column that is not there, in order."""
        absent = {n: c for n, c in self.columns.items() if c.optional and n not in frame.columns}
        whole = frame.with_columns(pl.lit(None, c.dtype).alias(n) for n, c in absent.items())
        own = [name for name in self.columns if name in whole.columns]
        return whole.select(*own, *(name for name in whole.columns if name not in own))

    def check(self, frame: pl.DataFrame, where: str, columns: Sequence[str] | None = None) -> None:
        """Raise ``TableError`` unless ``frame`` keeps the contract.

        Args:
            frame: the rows.
            where: file name for the message.
            columns: only these columns were asked for (default: all must be there, in order).
        """
        wanted = list(columns) if columns is not None else list(self.columns)
        absent = {n for n, c in self.columns.items() if c.optional and n not in frame.columns}
        wanted = [name for name in wanted if name not in absent]
        self._check_columns(frame, where, wanted)
        for name in wanted:
            self._check_values(frame, where, name, self.columns[name])
        key = [name for name in self.key if name not in absent]
        if self.is_unique and set(key) <= set(wanted):
            repeated = _repeated(frame, key)
            if repeated.height:
                first = repeated.select(key).row(0)
                raise TableError(
                    f"{where}: {repeated.height} rows share a key; the first is "
                    f"{self._row_name(first)}; keep one row per {', '.join(key)} "
                    f"(made by {self.made_by})"
                )
        for check in self.checks:
            if set(check.columns) <= set(wanted):
                broken = frame.filter(check.broken).select(self.key)
                if broken.height:
                    raise TableError(
                        f"{where}: {broken.height} rows break '{check.rule}'; the first is "
                        f"{self._row_name(broken.row(0))} (made by {self.made_by})"
                    )

    def _check_columns(self, frame: pl.DataFrame, where: str, wanted: list[str]) -> None:
        missing = [name for name in wanted if name not in frame.columns]
        extra = [name for name in frame.columns if name not in wanted]
        if missing or extra:
            parts = []
            if missing:
                parts.append(f"lacks column {', '.join(missing)}")
            if extra:
                parts.append(f"has unknown column {', '.join(extra)}")
            raise TableError(
                f"{where}: table {self.name} {' and '.join(parts)}; rerun {self.made_by}"
            )
        for name in wanted:
            expected, found = self.columns[name].dtype, frame.schema[name]
            if not _same_dtype(expected, found):
                raise TableError(
                    f"{where}: column {name} of table {self.name} is {found}, expected {expected}; "
                    f"rerun {self.made_by}"
                )

    def _check_values(self, frame: pl.DataFrame, where: str, name: str, column: Column) -> None:
        values = pl.col(name)
        rules: list[tuple[str, pl.Expr]] = []
        if not column.nullable:
            rules.append(("is empty", values.is_null()))
        if frame.schema[name].is_float():
            rules.append(("is not finite", values.is_not_null() & ~values.is_finite()))
        if column.minimum is not None:
            rules.append((f"is below {column.minimum:g}", values < column.minimum))
        if column.maximum is not None:
            rules.append((f"is above {column.maximum:g}", values > column.maximum))
        if column.choices is not None:
            rules.append(
                (
                    f"is none of {', '.join(column.choices)}",
                    values.is_not_null() & ~values.is_in(column.choices),
                )
            )
        for what, broken in rules:
            rows = frame.filter(broken)
            if not rows.height:
                continue
            key = [k for k in self.key if k in frame.columns]
            row = self._row_name(rows.select(key).row(0)) if key else "first such row"
            value = rows.get_column(name)[0]
            raise TableError(
                f"{where}: row {row}: {name} = {value!r} {what} ({rows.height} such rows); "
                f"mend the source or rerun {self.made_by}"
            )

    @staticmethod
    def _row_name(values: tuple) -> str:
        return " / ".join(str(value) for value in values if value is not None) or "without a key"


@dataclass(frozen=True)
class RowRule:
    """A rule over several columns; ``broken`` selects the rows that break it."""

    rule: str
    columns: tuple[str, ...]
    broken: pl.Expr


def _repeated(frame: pl.DataFrame, key: Sequence[str]) -> pl.DataFrame:
    """Rows that share their key with another; whole keys take ten times the memory of a column."""
    first = frame.get_column(key[0])
    if first.is_sorted():
        frame = frame.filter(first.eq_missing(first.shift()) | first.eq_missing(first.shift(-1)))
    elif first.n_unique() == frame.height:
        return frame.clear()
    return frame.filter(pl.struct(key).is_duplicated())


def _same_dtype(expected: pl.DataType | type[pl.DataType], found: pl.DataType) -> bool:
    if isinstance(expected, pl.Array) and expected.size == 0:  # any fixed width
        return isinstance(found, pl.Array) and found.inner == expected.inner
    return found == expected


UTTERANCE_ID = Column(pl.String, "<corpus>/<dialogue>/<utterance>")
