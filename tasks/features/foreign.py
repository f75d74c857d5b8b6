"""Features of somebody else become a features table: the same bucket files, nothing computed."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, cast

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from models.errors import UserError
from tasks.layout import Layout
from tasks.store.buckets import Row, assemble
from tasks.store.segments import Entry, Store
from tasks.tables.parquet import read_table
from tasks.tables.utterances import UTTERANCES


class Foreign(Protocol):
    """The part of an encoder's parameters that counts here."""

    @property
    def checkpoint(self) -> str | None:
        """The file, relative to the project."""
        ...

    @property
    def sequence(self) -> bool:
        """Keep frames as well as the pooled vector."""
        ...


def run(params: Foreign, layout: Layout, corpus: str, encoder: str) -> Path:
    """Features of ``corpus`` as ``affectloom import`` wrote them.

    Every utterance gets a row; one that the file does not have is quarantined ``not_imported``.

    Args:
        params: which file, and whether frames are kept beside the pooled vector.
        layout: where the tables lie.
        corpus: whose utterances.
        encoder: key in ``params.yaml: encoders``.

    Returns:
        The folder of bucket files.
    """
    path = layout.project / str(params.checkpoint)
    source = _FeaturesFile(path, corpus, params.sequence)
    ids = read_table(UTTERANCES, layout.utterances(corpus), ["utterance_id"])["utterance_id"]
    rows = source.rows(ids, corpus)
    if rows and not any(row.reason != "not_imported" for row in rows):
        raise UserError(
            f"{path}: has none of {corpus}'s {len(rows)} utterances; import it again for this "
            "corpus with --features-only"
        )
    destination = layout.features(corpus, encoder)
    metadata = source.metadata | {
        "encoder": encoder,
        "family": "imported",
        "checkpoint": str(params.checkpoint),
        "revision": "none",
        "weights_sha256": source.metadata["source_sha256"],
        "libraries": "{}",
        "parameters": json.dumps({"sequence": params.sequence}),
    }
    # assemble asks its store for entries by key and for nothing else
    assemble(cast(Store, source), rows, source.dim, source.dim, destination, metadata)
    return destination


class _FeaturesFile:
    """Rows of a file of ``affectloom import`` by id; holds one row group at a time."""

    def __init__(self, path: Path, corpus: str, sequence: bool) -> None:
        if not path.is_file():
            raise UserError(f"{path} does not exist; run `affectloom import` again")
        try:
            self.file = pq.ParquetFile(path)
            head = self.file.read(["utterance_id", "status", "reason", "frames", "hop_s"])
        except (pa.ArrowInvalid, OSError, KeyError) as error:
            raise UserError(
                f"{path}: not a file of `affectloom import` ({error}); import it again"
            ) from error
        found = self.file.schema_arrow.metadata or {}
        self.metadata = {k.decode(): v.decode() for k, v in found.items() if k != b"ARROW:schema"}
        if self.metadata.get("corpus") != corpus:
            raise UserError(
                f"{path}: holds features of {self.metadata.get('corpus')}, not of {corpus}; "
                "mend the checkpoint in params.yaml"
            )
        self.dim: int = self.file.schema_arrow.field("pooled").type.list_size
        self.sequence = sequence
        self.heads = pl.DataFrame(pl.from_arrow(head)).with_row_index("place")
        sizes = [self.file.metadata.row_group(n).num_rows for n in range(self.file.num_row_groups)]
        self.ends = np.cumsum(sizes)
        self.group, self.columns = -1, pa.table({})

    def rows(self, utterances: pl.Series, corpus: str) -> list[Row]:
        """Utterances' rows without their features; a key is a place in the file."""
        own = utterances.str.strip_prefix(f"{corpus}/").alias("utterance_id")
        found = own.to_frame().join(
            self.heads, on="utterance_id", how="left", maintain_order="left"
        )
        has_frames = (pl.col("frames") > 0) & pl.lit(self.sequence)
        told = found.select(
            utterances.alias("utterance_id"),
            key=pl.when(pl.col("status") != "quarantined").then(pl.col("place").cast(pl.String)),
            status=pl.col("status").fill_null("quarantined"),
            reason=pl.when(pl.col("place").is_null())
            .then(pl.lit("not_imported"))
            .otherwise("reason"),
            frames=pl.when(has_frames).then("frames").otherwise(0),
            hop_s=pl.when(has_frames).then("hop_s"),
        )
        return [Row(*row) for row in told.iter_rows()]

    def read(self, keys: Sequence[str]) -> list[Entry]:
        """Features of ``keys``; the file stands in the order in which they are asked for."""
        return [self._entry(key) for key in keys]

    def _entry(self, key: str) -> Entry:
        number = int(key)
        group = int(np.searchsorted(self.ends, number, side="right"))
        if group != self.group:
            self.columns = self.file.read_row_group(group, ["pooled", "sequence"])
            self.group = group
        place = number - (int(self.ends[group - 1]) if group else 0)
        pooled = self.columns["pooled"][place].values.to_numpy(zero_copy_only=False)
        blobs: dict[str, bytes | memoryview] = {"pooled": pooled.astype("<f4").tobytes()}
        frames = self.columns["sequence"][place].as_py()
        if self.sequence and frames is not None:
            blobs["sequence"] = frames
        return Entry(key, {}, blobs)
