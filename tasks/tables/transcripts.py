"""The table of transcripts: what a network heard said in utterances that came without words."""

import polars as pl

from tasks.tables.contract import UTTERANCE_ID, Column, Table
from tasks.tables.words import STATUSES

TRANSCRIPTS = Table(
    "transcripts",
    {
        "utterance_id": UTTERANCE_ID,
        "text": Column(pl.String, "what was heard; null where nothing was", nullable=True),
        "language": Column(pl.String, "code of its language, as en", nullable=True),
        "language_confidence": Column(
            pl.Float64, "probability of that language", True, minimum=0, maximum=1
        ),
        "confidence": Column(
            pl.Float64, "geometric mean of the tokens' probabilities", True, minimum=0, maximum=1
        ),
        "words": Column(
            pl.List(
                pl.Struct(
                    {
                        "word": pl.String,
                        "start_s": pl.Float64,
                        "end_s": pl.Float64,
                        "confidence": pl.Float64,
                    }
                )
            ),
            "each with its times within media and its confidence",
            nullable=True,
        ),
        "status": Column(pl.String, "ok, degraded or quarantined", choices=STATUSES),
        "reason": Column(
            pl.String, "why not ok, e.g. no_speech; has_words: the corpus has some", nullable=True
        ),
    },
    key=("utterance_id",),
    made_by="stage transcribe",
)
