"""Tables of a corpus part after part, each with the utterances that it may speak of."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from models.errors import UserError
from tasks.tables.contract import Table
from tasks.tables.parquet import read_ranges, read_table

#: Rows of a table that are read together.
_ROWS = 65_536


@dataclass(frozen=True)
class Part:
    """Some rows of a table.

    Attributes:
        ids: the utterances that they are of, sorted, and those between that have no row.
        rows: (len(ids),) where these stand in the source.
        table: the rows.
    """

    ids: pl.Series
    rows: np.ndarray
    table: pl.DataFrame


class ById:
    """The utterances of a corpus in the order of their ids, as tables have them.

    Args:
        ids: the utterances in the order of the source.
    """

    def __init__(self, ids: pl.Series) -> None:
        order = ids.arg_sort()
        self._ids, self._rows = ids.gather(order), order.to_numpy()

    def parts(self, table: Table, path: Path) -> Iterator[Part]:
        """A table's rows; every utterance is in one part. Refused at the end: rows of no other."""
        begin, strangers, first = 0, 0, ""
        for part in _in_order(table, path):
            names = part.get_column("utterance_id")
            end = self._after(names[-1]) if len(names) else begin
            ids = self._ids[begin:end]
            strange = names.filter(~names.is_in(ids.implode()))
            first = first or (strange[0] if len(strange) else "")
            strangers += len(strange)
            yield Part(ids, self._rows[begin:end], part)
            begin = end
        yield Part(self._ids[begin:], self._rows[begin:], table.empty())
        if strangers:
            raise UserError(
                f"{path}: {strangers} rows belong to no utterance, e.g. {first}; "
                "rerun stages ingest, labels and splits"
            )

    def _after(self, name: str) -> int:
        return int(self._ids.search_sorted(name, "right"))


def _in_order(table: Table, path: Path) -> Iterator[pl.DataFrame]:
    """A table's rows by utterance, part after part; of a file in another order all at once."""
    if read_table(table, path, table.key).get_column("utterance_id").is_sorted():
        return read_ranges(table, path, _ROWS)
    return iter([read_table(table, path).sort(table.key)])
