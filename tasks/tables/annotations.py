"""The table of annotations: one judgement of one rater about one target."""

import polars as pl

from tasks.tables.contract import UTTERANCE_ID, Column, RowRule, Table

ANNOTATIONS = Table(
    "annotations",
    {
        "utterance_id": UTTERANCE_ID,
        "rater": Column(pl.String, "who judged; unique within the corpus"),
        "target": Column(pl.String, "valence, category, sentiment, joy, ..."),
        "value": Column(pl.Float64, "a number on the raw scale", nullable=True),
        "label": Column(pl.String, "a category", nullable=True),
        "scale_min": Column(pl.Float64, "lowest value of the raw scale", nullable=True),
        "scale_max": Column(pl.Float64, "highest value of the raw scale", nullable=True),
        "source": Column(pl.String, "file or protocol the judgement comes from"),
        "position": Column(
            pl.Int32, "place of a label in the list it stood in, from 0", True, 0, optional=True
        ),
    },
    key=("utterance_id", "rater", "target", "label"),
    made_by="stage ingest",
    part_rows=131_072,
    is_unique=False,  # raters do judge a clip twice; the stage labels decides what that means
    checks=(
        RowRule(
            "a judgement has a value or a label",
            ("value", "label"),
            pl.col("value").is_null() & pl.col("label").is_null(),
        ),
    ),
)
