"""The table of features: what one encoder makes of each utterance."""

import polars as pl

from tasks.tables.contract import UTTERANCE_ID, Column, Table
from tasks.tables.words import STATUSES

FEATURES = Table(
    "features",
    {
        "utterance_id": UTTERANCE_ID,
        "status": Column(pl.String, "ok, degraded or quarantined", choices=STATUSES),
        "reason": Column(pl.String, "why not ok, e.g. no_audio", nullable=True),
        "frames": Column(pl.Int32, "rows of the sequence, 0 without one", minimum=0),
        "dim": Column(pl.Int32, "width of the features", minimum=1),
        "hop_s": Column(pl.Float64, "seconds between frames", nullable=True),
        "pooled": Column(
            pl.Array(pl.Float32, 0), "fixed-size summary of the utterance", nullable=True
        ),
        "sequence": Column(pl.Binary, "fp16 bytes, frames x dim, row by row", nullable=True),
    },
    key=("utterance_id",),
    made_by="stage features",
    row_group=128,
)
