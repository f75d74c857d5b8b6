"""Pooled features as one array; for readers that need no network, and so do not import torch."""

from pathlib import Path

import numpy as np
import polars as pl

from models.errors import UserError
from tasks.tables.features import FEATURES
from tasks.tables.parquet import read_table


def read_pooled(ids: pl.Series, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Pooled features of ``ids`` in their order: (N, D), 0 where absent, and (N,) presence."""
    table = read_table(FEATURES, folder, ["utterance_id", "status", "pooled"])
    widths = table.schema["pooled"]
    if not isinstance(widths, pl.Array):
        raise UserError(f"{folder}: pooled has no fixed width; rerun stage features")
    found = ids.to_frame().join(table, on="utterance_id", how="left", maintain_order="left")
    missing = found.filter(pl.col("status").is_null())
    if missing.height:
        first = missing.get_column("utterance_id")[0]
        raise UserError(
            f"{folder}: {missing.height} utterances have no row, e.g. {first}; rerun stage features"
        )
    pooled = found.get_column("pooled")
    present = pooled.is_not_null().to_numpy()
    values = np.zeros((len(ids), widths.size), np.float32)
    if present.any():
        values[present] = pooled.drop_nulls().to_numpy()  # at once: no object for each row
    bad = np.flatnonzero(~np.isfinite(values).all(1))
    if len(bad):
        raise UserError(
            f"{folder}: features of {ids[int(bad[0])]} hold NaN or infinity ({len(bad)} rows); "
            "rerun stage features or quarantine the clip"
        )
    return values, present
