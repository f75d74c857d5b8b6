"""Pooled features as one array; for readers that need no network, and so do not import torch."""

import os
import tempfile
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from models.errors import UserError
from tasks.store.spool import Places
from tasks.tables.contract import TableError
from tasks.tables.features import FEATURES
from tasks.tables.parquet import read_batches, table_files

#: Rows that are read together.
_ROWS = 8_192
#: Larger arrays lie in a file that is mapped, so that the system can do without parts of them.
_HELD_BYTES = 1 << 31


def read_pooled(ids: pl.Series, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Pooled features of ``ids`` in their order: (N, D), 0 where absent, and (N,) presence.

    Nothing but the result and a few thousand rows is held.
    """
    places = Places(ids)
    values, present = _zeros((len(ids), _width(folder)), folder), np.zeros(len(ids), bool)
    is_bad, has_row = np.zeros(len(ids), bool), np.zeros(len(ids), bool)
    for frame in read_batches(FEATURES, folder, ["utterance_id", "pooled"], _ROWS):
        names, pooled = frame.get_column("utterance_id"), frame.get_column("pooled")
        place = places.of(names)
        again = has_row[place] & (place >= 0)
        if again.any():
            raise TableError(
                f"{folder}: rows share a key; the first is {names[int(again.argmax())]}; "
                "keep one row per utterance_id (made by stage features)"
            )
        has_row[place[place >= 0]] = True
        is_used = (place >= 0) & pooled.is_not_null().to_numpy()
        if is_used.any():
            place, found = place[is_used], pooled.filter(pl.Series(is_used)).to_numpy()
            values[place], present[place] = found, True
            is_bad[place] = ~np.isfinite(found).all(1)
    if not has_row.all():
        missing = np.flatnonzero(~has_row)
        raise UserError(
            f"{folder}: {len(missing)} utterances have no row, e.g. {ids[int(missing[0])]}; "
            "rerun stage features"
        )
    if is_bad.any():
        raise UserError(
            f"{folder}: features of {ids[int(np.flatnonzero(is_bad)[0])]} hold NaN or infinity "
            f"({is_bad.sum()} rows); rerun stage features or quarantine the clip"
        )
    return values, present


def _width(folder: Path) -> int:
    """Of the first file's vectors; 0 where they have none, which a look at its rows refuses."""
    schema = pq.read_schema(table_files(folder, FEATURES)[0])
    kind = schema.field("pooled").type if "pooled" in schema.names else pa.null()
    return kind.list_size if pa.types.is_fixed_size_list(kind) else 0


def _zeros(shape: tuple[int, int], folder: Path) -> np.ndarray:
    """Room for float32; where it is much, in a file without a name beside ``folder``."""
    size = 4 * shape[0] * shape[1]
    if size <= _HELD_BYTES:
        return np.zeros(shape, np.float32)
    try:
        with tempfile.TemporaryFile(dir=folder.parent) as file:
            os.posix_fallocate(file.fileno(), 0, size)  # a full disk must not kill the process
            return np.memmap(file, np.float32, "r+", shape=shape)
    except OSError as error:
        raise UserError(
            f"{folder.parent}: no room for {size / 1e9:.1f} GB of features "
            f"({error.strerror or error}); free space there"
        ) from error
