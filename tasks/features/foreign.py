"""Features of somebody else become a features table: the same bucket files, nothing computed.

A union has the files of its parts set together, where these are of one width.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
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

#: Row groups that are held of vectors alone: where a file's order is not that of the table, its 16
#: buckets are read side by side.
_GROUPS = 32
#: Stands for the corpus in the name of a file that several have.
CORPUS = "{corpus}"


class Foreign(Protocol):
    """The part of an encoder's parameters that counts here."""

    @property
    def checkpoint(self) -> str | None:
        """The file, relative to the project; ``{corpus}`` in it stands for each corpus."""
        ...

    @property
    def corpora(self) -> tuple[str, ...] | None:
        """Those that have the file; None: all."""
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
    columns = ["utterance_id", "dataset"]
    utterances = read_table(UTTERANCES, layout.utterances(corpus), columns).with_columns(
        pl.col("dataset").fill_null(corpus)
    )
    parts = utterances["dataset"].unique().sort().to_list()
    having = [part for part in parts if params.corpora is None or part in params.corpora]
    if parts != [corpus] and CORPUS not in str(params.checkpoint):
        raise UserError(
            f"params.yaml: encoders.{encoder}.checkpoint is {params.checkpoint}, a file of one "
            f"corpus, but {corpus} is a union; write {CORPUS} in place of the corpus's name"
        )
    if not having:
        raise UserError(
            f"params.yaml: encoders.{encoder}.corpora names no part of {corpus}, so it has no "
            f"features of any; add {' or '.join(parts)}"
        )
    source = _Together(
        {part: _FeaturesFile(_path(params, layout, part), part, params.sequence) for part in having}
    )
    rows = []
    for part in parts:
        ids = utterances.filter(pl.col("dataset") == part)["utterance_id"]
        rows += source.rows(ids, part)
    destination = layout.features(corpus, encoder)
    metadata = source.metadata | {
        "encoder": encoder,
        "family": "imported",
        "checkpoint": str(params.checkpoint),
        "revision": "none",
        "libraries": "{}",
        "parameters": json.dumps({"sequence": params.sequence}),
    }
    # assemble asks its store for entries by key and for nothing else
    assemble(cast(Store, source), rows, source.dim, source.dim, destination, metadata)
    return destination


def _path(params: Foreign, layout: Layout, corpus: str) -> Path:
    return layout.project / str(params.checkpoint).replace(CORPUS, corpus)


class _Together:
    """The files of several parts as one, of which a single corpus is the simplest."""

    def __init__(self, files: Mapping[str, "_FeaturesFile"]) -> None:
        self.files = files
        widths = {part: file.dim for part, file in files.items()}
        if len(set(widths.values())) > 1:
            told = ", ".join(f"{width} in {part}" for part, width in widths.items())
            raise UserError(
                f"{next(iter(files.values())).path}: imported features of one name have different "
                f"widths ({told}), so no network can read them all; import what one program "
                "computed, or leave a part out of the encoder's corpora"
            )
        self.dim = next(iter(widths.values()))

    @property
    def metadata(self) -> dict[str, str]:
        """Of the file; of several what they agree on, each part's value where they do not."""
        if len(self.files) == 1:
            (file,) = self.files.values()
            return file.metadata | {"weights_sha256": file.metadata["source_sha256"]}
        sums = [file.metadata["source_sha256"] for file in self.files.values()]
        keys = [key for file in self.files.values() for key in file.metadata]
        return {
            **{key: self._told(key) for key in dict.fromkeys(keys)},
            "weights_sha256": hashlib.sha256(" ".join(sums).encode()).hexdigest(),
        }

    def _told(self, key: str) -> str:
        found = {part: file.metadata.get(key, "") for part, file in self.files.items()}
        if len(set(found.values())) == 1:
            return next(iter(found.values()))
        return "; ".join(f"{part}: {value}" for part, value in found.items())

    def rows(self, utterances: pl.Series, part: str) -> list[Row]:
        """Rows of a part's utterances; a part without a file has none of the features."""
        if part not in self.files:
            return [Row(name, None, "quarantined", "not_imported", 0, None) for name in utterances]
        file = self.files[part]
        rows = file.rows(utterances, part)
        if rows and not any(row.reason != "not_imported" for row in rows):
            raise UserError(
                f"{file.path}: has none of {part}'s {len(rows)} utterances; import it again for "
                "this corpus with --features-only"
            )
        return [row if row.key is None else replace(row, key=f"{part}:{row.key}") for row in rows]

    def read(self, keys: Sequence[str]) -> list[Entry]:
        """Features of ``keys``."""
        found = []
        for key in keys:
            part, _, place = key.rpartition(":")
            found += self.files[part].read([place])
        return found


class _FeaturesFile:
    """Rows of a file of ``affectloom import`` by id; holds one row group with frames, or a few."""

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
        self.path = path
        self.dim: int = self.file.schema_arrow.field("pooled").type.list_size
        self.sequence = sequence
        self.heads = pl.DataFrame(pl.from_arrow(head)).with_row_index("place")
        sizes = [self.file.metadata.row_group(n).num_rows for n in range(self.file.num_row_groups)]
        self.ends = np.cumsum(sizes)
        self.columns = ["pooled", "sequence"] if sequence else ["pooled"]
        self.groups: dict[int, pa.Table] = {}

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
        found = self._group(group)
        place = number - (int(self.ends[group - 1]) if group else 0)
        pooled = found["pooled"][place].values.to_numpy(zero_copy_only=False)
        blobs: dict[str, bytes | memoryview] = {"pooled": pooled.astype("<f4").tobytes()}
        if self.sequence and (frames := found["sequence"][place].as_py()) is not None:
            blobs["sequence"] = frames
        return Entry(key, {}, blobs)

    def _group(self, number: int) -> pa.Table:
        """A row group; those that were asked for longest ago make room."""
        found = self.groups.pop(number, None)
        if found is None:
            while len(self.groups) >= (1 if self.sequence else _GROUPS):
                del self.groups[next(iter(self.groups))]
            found = self.file.read_row_group(number, self.columns)
        self.groups[number] = found
        return found
