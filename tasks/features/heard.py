"""Features of text where a corpus is listened to: heard words stand in where none were written.

Rows of heard words are marked ``degraded`` with the reason ``asr``.
"""

from pathlib import Path

import polars as pl

from tasks.context import Context
from tasks.features import stage
from tasks.features.inputs import read_utterances
from tasks.features.params import EncoderParams
from tasks.layout import Layout
from tasks.tables.parquet import read_table
from tasks.tables.transcripts import TRANSCRIPTS

#: What is said of a row whose words a network heard.
ASR = "asr"


def run(params: EncoderParams, layout: Layout, ctx: Context, corpus: str, encoder: str) -> Path:
    """See ``stage.run``."""
    heard = read_table(
        TRANSCRIPTS, layout.transcripts(corpus), ["utterance_id", "text", "status", "reason"]
    )
    words = with_heard(read_utterances(layout, corpus), heard)
    return stage.run(params, layout, ctx, corpus, encoder, words)


def with_heard(utterances: pl.DataFrame, heard: pl.DataFrame) -> pl.DataFrame:
    """Utterances with words from either, in the same order, and ``noted`` of those not written.

    Args:
        utterances: with ``utterance_id`` and ``text``.
        heard: of table ``transcripts``.
    """
    found = heard.select("utterance_id", pl.col("text").alias("_heard"), pl.col("reason"))
    joined = utterances.join(found, on="utterance_id", how="left", maintain_order="left")
    is_written = pl.col("text").fill_null("").str.strip_chars() != ""
    noted = pl.when(is_written).then(None).when(pl.col("_heard").is_not_null()).then(pl.lit(ASR))
    return joined.with_columns(
        pl.when(is_written).then(pl.col("text")).otherwise(pl.col("_heard")).alias("text"),
        noted.otherwise(pl.col("reason")).alias("noted"),
    ).drop("_heard", "reason")
