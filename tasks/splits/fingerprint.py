"""What tells two protocols apart."""

import hashlib

import polars as pl

from tasks.tables.splits import SPLIT


def fingerprint(splits: pl.DataFrame) -> str:
    """SHA-256 of the rows, whatever their order; two equal hashes mean the same protocol."""
    lines = splits.sort(SPLIT.key).select(
        pl.concat_str("utterance_id", pl.col("fold").cast(pl.String), "split", separator="\t")
    )
    return hashlib.sha256("\n".join(lines.to_series()).encode()).hexdigest()
