"""The table of splits: what each utterance is for in each fold."""

import polars as pl

from tasks.tables.contract import UTTERANCE_ID, Column, Table
from tasks.tables.words import SPLITS

SPLIT = Table(
    "splits",
    {
        "utterance_id": UTTERANCE_ID,
        "fold": Column(pl.Int32, "cross-validation fold, from 0", minimum=0),
        "split": Column(pl.String, "what the row is for in this fold", choices=SPLITS),
    },
    key=("utterance_id", "fold"),
    made_by="stage splits",
    part_rows=131_072,
)
