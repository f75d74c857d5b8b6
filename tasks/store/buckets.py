"""From the feature store to a features table: a few bucket files, the same bytes every time.

A bucket holds the utterances whose id hashes to it, sorted by id, in row groups of fixed size; in a
large table whole dialogues, so that one more dialogue changes one file. Each entry of the store is
read once and checked; only one row group is in memory at a time.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.atomic import replacing, replacing_folder
from tasks.store.segments import Store
from tasks.tables.features import FEATURES
from tasks.tables.parquet import ROW_GROUP

#: Bucket files of a features table.
BUCKETS = 16
#: From so many rows on dialogues stay together; in smaller tables there may be fewer than buckets.
BY_DIALOGUE = 50_000
#: Features hardly repeat and are never searched: no dictionary and no statistics. Compressing
#: half floats saves 8 % of space and halves the speed, so they are left as they are.
_COMPRESSION = {
    "utterance_id": "zstd",
    "status": "zstd",
    "reason": "zstd",
    "frames": "zstd",
    "dim": "zstd",
    "hop_s": "zstd",
    "pooled.list.element": "none",
    "sequence": "none",
}
#: pyarrow has no stubs: type checkers guess each option's type from its default.
_WRITING: dict[str, Any] = {
    "compression": _COMPRESSION,
    "use_dictionary": ["status", "reason"],
    "write_statistics": ["utterance_id", "status"],
}
_CHECKED = [name for name in FEATURES.columns if name != "sequence"]  # bytes have no rules


@dataclass(frozen=True, slots=True)
class Row:
    """An utterance's row; ``key`` is None where it has no features."""

    utterance_id: str
    key: str | None
    status: str
    reason: str | None
    frames: int
    hop_s: float | None


def bucket_of(utterance_id: str, rows: int) -> int:
    """The bucket of an utterance in a table of so many rows."""
    name = utterance_id.rpartition("/")[0] if rows >= BY_DIALOGUE else utterance_id
    return hashlib.sha256(name.encode()).digest()[0] % BUCKETS


def assemble(
    store: Store,
    rows: Sequence[Row],
    pooled_dim: int,
    dim: int,
    destination: Path,
    metadata: Mapping[str, str],
) -> None:
    """Write the bucket files of ``rows`` as folder ``destination``, all or nothing.

    Args:
        store: holds every key of ``rows``.
        rows: one per utterance.
        pooled_dim: width of pooled vectors.
        dim: width of the column ``dim``.
        destination: folder that is made or replaced.
        metadata: goes into every file's schema.
    """
    schema = feature_schema(pooled_dim).with_metadata(dict(sorted(metadata.items())))
    buckets: dict[int, list[Row]] = {} if rows else {0: []}
    for row in sorted(rows, key=lambda row: row.utterance_id):
        buckets.setdefault(bucket_of(row.utterance_id, len(rows)), []).append(row)
    with replacing_folder(destination) as folder:
        for number, members in sorted(buckets.items()):
            path = folder / f"bucket-{number:02d}.parquet"
            _write_bucket(store, members, schema, pooled_dim, dim, path)


def feature_schema(pooled_dim: int) -> pa.Schema:
    """Columns of a table of features whose summaries are this wide."""
    return pa.schema(
        [
            ("utterance_id", pa.large_string()),
            ("status", pa.large_string()),
            ("reason", pa.large_string()),
            ("frames", pa.int32()),
            ("dim", pa.int32()),
            ("hop_s", pa.float64()),
            ("pooled", pa.list_(pa.float32(), pooled_dim)),
            ("sequence", pa.large_binary()),
        ]
    )


def _write_bucket(
    store: Store,
    rows: Sequence[Row],
    schema: pa.Schema,
    pooled_dim: int,
    dim: int,
    path: Path,
) -> None:
    with (
        replacing(path) as temporary,
        pq.ParquetWriter(temporary, schema, **_WRITING) as writer,
    ):
        for start in range(0, len(rows), ROW_GROUP):
            group = _row_group(store, rows[start : start + ROW_GROUP], schema, pooled_dim, dim)
            FEATURES.check(pl.DataFrame(pl.from_arrow(group.select(_CHECKED))), str(path), _CHECKED)
            writer.write_table(group)


def _row_group(
    store: Store, rows: Sequence[Row], schema: pa.Schema, pooled_dim: int, dim: int
) -> pa.Table:
    pooled = np.zeros((len(rows), pooled_dim), np.float32)
    is_absent = np.ones(len(rows), bool)
    sequences: list[bytes | memoryview | None] = [None] * len(rows)
    places = [place for place, row in enumerate(rows) if row.key is not None]
    entries = store.read([str(rows[place].key) for place in places])
    for place, entry in zip(places, entries, strict=True):
        if "pooled" in entry.blobs:
            pooled[place] = np.frombuffer(entry.blobs["pooled"], "<f4")
            is_absent[place] = False
        sequences[place] = entry.blobs.get("sequence")
    return pa.Table.from_arrays(
        [
            pa.array([row.utterance_id for row in rows], pa.large_string()),
            pa.array([row.status for row in rows], pa.large_string()),
            pa.array([row.reason for row in rows], pa.large_string()),
            pa.array([row.frames for row in rows], pa.int32()),
            pa.array(np.full(len(rows), dim, np.int32)),
            pa.array([row.hop_s for row in rows], pa.float64()),
            pa.FixedSizeListArray.from_arrays(
                pa.array(pooled.ravel()), pooled_dim, mask=pa.array(is_absent)
            ),
            pa.array(sequences, pa.large_binary()),
        ],
        schema=schema,
    )
