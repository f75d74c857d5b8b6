"""The table of what was set aside, and why."""

import polars as pl

from tasks.tables.contract import Column, Table

QUARANTINE = Table(
    "quarantine",
    {
        "utterance_id": Column(
            pl.String, "the clip, or <corpus>/?/<source row> without a usable id"
        ),
        "stage": Column(pl.String, "stage that set it aside"),
        "reason": Column(pl.String, "typed reason, lower_case_words"),
        "detail": Column(pl.String, "one sentence with file, row, value and remedy"),
    },
    key=("utterance_id", "stage", "reason", "detail"),
    made_by="stage ingest or labels",
    part_rows=32_768,
)
