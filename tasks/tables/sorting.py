"""Rows that come in any order and go in that of their utterances, more than memory has room for."""

import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

#: Rows of the file that are read together.
_GROUP = 8_192


def with_items(ids: pl.Series) -> pl.DataFrame:
    """Columns item and utterance_id, sorted by both: each id, once, with its place among all."""
    return pl.DataFrame({"utterance_id": ids}).sort("utterance_id").with_row_index("item")


def items_near(items: pl.DataFrame, ids: pl.Series) -> pl.DataFrame:
    """Those of ``with_items`` among which those of ``ids`` are that exist: few, if ``ids`` lie
    close to each other.
    """
    low, high = ids.min(), ids.max()
    known = items["utterance_id"]
    if not isinstance(low, str) or not isinstance(high, str):  # none, or none has an id
        return items.clear()
    first = int(known.search_sorted(pl.Series([low]), "left")[0])
    after = int(known.search_sorted(pl.Series([high]), "right")[0])
    return items.slice(first, after - first)


class SortedRows:
    """Takes rows part after part; gives them range after range of their ``item``.

    The rows of one part are kept. With a second they go into a file that has no name: it is gone
    with the process, however that ends.

    Args:
        folder: where there is room for the file.
        items: ``item`` counts from 0 to below this.
        rows: of a range, about; an item is in one range.
    """

    def __init__(self, folder: Path, items: int, rows: int) -> None:
        self._rows, self._folder = rows, folder
        self._first: pl.DataFrame | None = None
        self._counts = np.zeros(items, np.int64)
        self._lows: list[int] = []
        self._highs: list[int] = []
        self._file, self._writer = None, None

    def add(self, rows: pl.DataFrame) -> None:
        """Take a part; every part has the same columns, ``item`` one of them."""
        if self._first is None:
            self._first = rows
            return
        if self._writer is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 (ranges closes it)
            arrow = self._first.to_arrow(compat_level=pl.CompatLevel.oldest())
            self._writer = pq.ParquetWriter(self._file, arrow.schema, compression="snappy")
            self._write(self._first)
        self._write(rows)

    def _write(self, rows: pl.DataFrame) -> None:
        assert self._writer is not None
        if not rows.height:  # the writer would make a group of it
            return
        rows = rows.sort("item", maintain_order=True)
        items = rows["item"].to_numpy()
        self._counts += np.bincount(items, minlength=len(self._counts))
        self._lows += items[::_GROUP].tolist()
        self._highs += items[_GROUP - 1 :: _GROUP].tolist()
        self._highs += items[-1:].tolist() if len(items) % _GROUP else []
        arrow = rows.to_arrow(compat_level=pl.CompatLevel.oldest())
        self._writer.write_table(arrow, row_group_size=_GROUP)

    def ranges(self) -> Iterator[pl.DataFrame]:
        """All rows, range after range; within one in no order of their items."""
        if self._first is None:
            return
        if self._writer is None:
            yield self._first
            return
        self._writer.close()
        assert self._file is not None
        with self._file, pq.ParquetFile(self._file) as file:
            lows, highs = np.array(self._lows), np.array(self._highs)
            for low, after in self._bounds():
                groups = np.flatnonzero((lows < after) & (highs >= low)).tolist()
                read = pl.DataFrame(pl.from_arrow(file.read_row_groups(groups)))
                item = pl.col("item")
                yield read.filter((item >= low) & (item < after))

    def _bounds(self) -> Iterator[tuple[int, int]]:
        """First item of each range and the first after it."""
        total = np.cumsum(self._counts)
        low = 0
        while low < len(total):
            before = int(total[low - 1]) if low else 0
            after = max(low + 1, int(np.searchsorted(total, before + self._rows, "right")))
            yield low, after
            low = after


def in_groups(parts: Iterator[pa.Table], rows: int) -> Iterator[pa.Table]:
    """The same rows in tables of a multiple of ``rows``, but for the last; at least one table."""
    first = next(parts)
    rest, given = first, False
    for part in itertools.chain([first.slice(0, 0)], parts):
        rest = pa.concat_tables([rest, part]).combine_chunks()
        whole = rest.num_rows // rows * rows
        if whole:
            yield rest.slice(0, whole)
            given, rest = True, rest.slice(whole)
    if rest.num_rows or not given:
        yield rest
