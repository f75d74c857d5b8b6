"""From what a reader found to files below ``data/raw/<corpus>/imported``, one group at a time.

A features file has the columns of ``tables.features`` with ids without the corpus. Its rows stand
in the order of the buckets that they will become, so that the stage features reads it from front to
back once.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.atomic import replacing
from tasks.corpora.imports.found import Block
from tasks.store.buckets import bucket_of, feature_schema
from tasks.tables.parquet import ROW_GROUP

_FP16_MAX = 65504.0


def write_features(
    block: Block,
    rename: Mapping[str, str | None],
    corpus: str,
    path: Path,
    metadata: Mapping[str, str],
    keep_sequences: bool,
    progress: Callable[[int, int], None],
) -> Counter[tuple[str, str]]:
    """Write one block; returns how many utterances have which status and reason.

    Args:
        block: features; each utterance's are asked for once.
        rename: id in the file to id in the corpus; None for one that the corpus does not have.
        corpus: decides the order.
        path: the file to write.
        metadata: provenance for the file's schema.
        keep_sequences: keep frames, not only their mean.
        progress: hears how many of how many are written.
    """
    places: dict[str, list[int]] = {}
    for place, name in enumerate(block.ids):
        known = rename.get(name, name)
        if known is not None:
            places.setdefault(known, []).append(place)
    order = sorted(places, key=lambda name: (bucket_of(f"{corpus}/{name}", len(places)), name))
    schema = feature_schema(block.dim).with_metadata(dict(sorted(metadata.items())))
    counts: Counter[tuple[str, str]] = Counter()
    plain = [name for name in schema.names if name not in ("pooled", "sequence")]
    # features hardly repeat: compressing them costs time and saves nothing
    how: Any = {
        "compression": {name: "zstd" for name in plain}
        | {"pooled.list.element": "none", "sequence": "none"},
        "use_dictionary": ["status", "reason"],
        "write_statistics": ["utterance_id"],
    }
    with (
        replacing(path) as temporary,
        pq.ParquetWriter(temporary, schema, **how) as writer,
    ):
        for start in range(0, len(order), ROW_GROUP):
            group = order[start : start + ROW_GROUP]
            rows = [_row(block, places[name], keep_sequences) for name in group]
            counts.update((row.status, row.reason or "") for row in rows)
            writer.write_table(_table(group, rows, schema, block))
            progress(min(start + ROW_GROUP, len(order)), len(order))
    return counts


class _Row:
    """One utterance's features, or why there are none."""

    __slots__ = ("frames", "pooled", "reason", "sequence", "status")

    def __init__(
        self,
        pooled: np.ndarray | None,
        reason: str | None = None,
        sequence: bytes | None = None,
        frames: int = 0,
    ) -> None:
        self.pooled, self.reason, self.sequence, self.frames = pooled, reason, sequence, frames
        self.status = "quarantined" if pooled is None else "degraded" if reason else "ok"


def _row(block: Block, places: Sequence[int], keep_sequences: bool) -> _Row:
    if len(places) > 1:
        return _Row(None, "duplicate_id")  # nobody knows which is right
    values = block.get(places[0])
    if values is None or not values.size:
        return _Row(None, "no_features")
    if values.ndim not in (1, 2) or values.shape[-1] != block.dim:
        return _Row(None, "wrong_shape")
    if values.dtype.kind not in "fiub":
        return _Row(None, "not_numeric")
    pooled = values if values.ndim == 1 else values.mean(axis=0, dtype=np.float64)
    with np.errstate(over="ignore"):
        pooled = pooled.astype(np.float32)
    if not np.isfinite(pooled).all():
        return _Row(None, "not_finite")
    if values.ndim == 1 or not keep_sequences:
        return _Row(pooled)
    if not (np.abs(values) <= _FP16_MAX).all():
        return _Row(pooled, "sequence_beyond_fp16")  # the mean is still exact
    return _Row(pooled, None, values.astype("<f2").tobytes(), len(values))


def _table(names: Sequence[str], rows: Sequence[_Row], schema: pa.Schema, block: Block) -> pa.Table:
    pooled = np.zeros((len(rows), block.dim), np.float32)
    for place, row in enumerate(rows):
        if row.pooled is not None:
            pooled[place] = row.pooled
    is_absent = np.array([row.pooled is None for row in rows])
    return pa.Table.from_arrays(
        [
            pa.array(names, pa.large_string()),
            pa.array([row.status for row in rows], pa.large_string()),
            pa.array([row.reason for row in rows], pa.large_string()),
            pa.array([row.frames for row in rows], pa.int32()),
            pa.array(np.full(len(rows), block.dim, np.int32)),
            pa.array([block.hop_s if row.frames else None for row in rows], pa.float64()),
            pa.FixedSizeListArray.from_arrays(
                pa.array(pooled.ravel()), block.dim, mask=pa.array(is_absent)
            ),
            pa.array([row.sequence for row in rows], pa.large_binary()),
        ],
        schema=schema,
    )
