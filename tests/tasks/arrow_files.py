"""Parquet as this project writes it, of rows in any order."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.tables.parquet import ROW_GROUP


def write_arrow(arrow: pa.Table, path: Path) -> None:
    """Write a table as it is: neither checked nor sorted."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(arrow, path, compression="zstd", row_group_size=ROW_GROUP)
