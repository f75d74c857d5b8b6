"""Where a long table is cut into files.

A file ends before the utterance whose name has the least hash of those where it may end. So
cuts follow what the rows are of, not where they stand: rows that come or go leave the files before
them as they are, and those after them from the next cut that the two tables share.
"""

import hashlib
import itertools
from collections.abc import Iterator

import polars as pl
import pyarrow as pa


def most_rows(part_rows: int) -> int:
    """Rows that a file may hold where about ``part_rows`` are asked for."""
    return part_rows * 3 // 2


def in_parts(tables: Iterator[pa.Table], part_rows: int) -> Iterator[pa.Table]:
    """The same rows, sorted by their first column, a table for each file; at least one."""
    rest = next(tables)
    for table in itertools.chain([rest.slice(0, 0)], tables):
        rest = pa.concat_tables([rest, table])
        while rest.num_rows > most_rows(part_rows):
            end = _end(rest.column(0), part_rows)
            yield rest.slice(0, end)
            rest = rest.slice(end)
    yield rest


def _end(names: pa.ChunkedArray, part_rows: int) -> int:
    """Rows of the first file: from half as many as asked for to half as many again."""
    least, most = part_rows // 2, most_rows(part_rows)
    near = pl.Series(pl.from_arrow(names.slice(least - 1, most - least + 2)))
    begins = (near != near.shift(1)).fill_null(False).arg_true()
    if not len(begins):
        return most  # all of one utterance
    # one that mixes well: simple ones of names that differ in a digit have a pattern
    sums = [hashlib.blake2b(name.encode(), digest_size=8).digest() for name in near.gather(begins)]
    return least - 1 + begins[sums.index(min(sums))]
