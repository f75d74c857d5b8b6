"""The table of utterances: who says what, when and in which file."""

import polars as pl

from tasks.tables.contract import UTTERANCE_ID, Column, RowRule, Table
from tasks.tables.words import SPLITS

SEXES = ("female", "male", "other")

UTTERANCES = Table(
    "utterances",
    {
        "utterance_id": UTTERANCE_ID,
        "dialogue_id": Column(pl.String, "<corpus>/<dialogue>"),
        "turn": Column(pl.Int32, "position in the dialogue, from 0", minimum=0),
        "speaker": Column(pl.String, "who speaks; unique within the corpus", nullable=True),
        "start_s": Column(pl.Float64, "start within media", nullable=True, minimum=0),
        "end_s": Column(pl.Float64, "end within media", nullable=True, minimum=0),
        "media": Column(pl.String, "file, relative to data/raw", nullable=True),
        "media_sha256": Column(pl.String, "hash of the file's bytes", nullable=True),
        "text": Column(pl.String, "what is said; null where none exists", nullable=True),
        "language": Column(pl.String, "BCP 47 tag", nullable=True),
        "sex": Column(pl.String, "of the speaker", True, choices=SEXES, optional=True),
        "age": Column(pl.Float64, "of the speaker, in years", True, 0, 150, optional=True),
        "dataset": Column(
            pl.String, "which part of a union of corpora, else the corpus", True, optional=True
        ),
        "region": Column(
            pl.List(pl.Float64),
            "x0, y0, x1, y1 of the part of the picture to use, as fractions; null = all",
            nullable=True,
        ),
        "session": Column(
            pl.String, "recording session or other group that must not be split", nullable=True
        ),
        "published_split": Column(
            pl.String, "split of the corpus's own protocol", nullable=True, choices=SPLITS
        ),
    },
    key=("utterance_id",),
    made_by="stage ingest",
    part_rows=32_768,
    checks=(
        RowRule(
            "end_s must be after start_s",
            ("start_s", "end_s"),
            pl.col("end_s") <= pl.col("start_s"),
        ),
        RowRule(
            "a media file needs its hash",
            ("media", "media_sha256"),
            pl.col("media").is_not_null() & pl.col("media_sha256").is_null(),
        ),
    ),
)
