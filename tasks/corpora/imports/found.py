"""What a reader finds in a file of somebody else, before it becomes tables."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from tasks.corpora.adapter import ProtocolCard
from tasks.corpora.files import UTTERANCE_COLUMNS
from tasks.tables.annotations import ANNOTATIONS
from tasks.tables.contract import Column, Table
from tasks.tables.quarantine import QUARANTINE
from tasks.tables.utterances import UTTERANCES

#: Utterances of an import: as ingest wants them from an adapter, before media have a hash.
UTTERANCES_OF_IMPORT = Table(
    "imported utterances",
    {
        name: Column(column.dtype, column.meaning, nullable=True)
        for name, column in UTTERANCES.columns.items()
        if name in UTTERANCE_COLUMNS
    },
    key=("utterance_id",),
    made_by="affectloom import",
    is_unique=False,  # ingest sets repetitions aside by name
)


@dataclass(frozen=True, eq=False)
class Block:
    """Features of one kind.

    Attributes:
        name: of the block in its file: ``text``, ``audio``, ``roberta1``.
        modality: audio, video or text.
        ids: utterances that the file has features of, without the corpus.
        get: features of the n-th id: (D,) for the whole utterance, (T, D) frame by frame; None
            where there are none. Called once for each, so it may read from the disk.
        dim: D, the width.
        hop_s: seconds between frames; None where frames are words or unknown.
    """

    name: str
    modality: str
    ids: Sequence[str]
    get: Callable[[int], np.ndarray | None]
    dim: int
    hop_s: float | None = None


@dataclass(frozen=True, eq=False)
class Found:
    """Contents of a file.

    Attributes:
        format: the reader's name for it.
        blocks: features.
        utterances: ``UTTERANCE_COLUMNS``, ids without the corpus; empty where the file has none.
        annotations: ``tables.annotations``, raw scale.
        quarantine: ``tables.quarantine``: what could not be read.
        label_map: of the protocol card.
        scales: of the protocol card: target to lowest, highest, direction.
        splits: how the split came about, one sentence.
        left_out: parts of the file that are no features or labels, with the reason.
    """

    format: str
    blocks: Sequence[Block]
    utterances: pl.DataFrame = field(default_factory=lambda: utterance_frame([]))
    annotations: pl.DataFrame = field(default_factory=ANNOTATIONS.empty)
    quarantine: pl.DataFrame = field(default_factory=QUARANTINE.empty)
    label_map: Mapping[str, str | None] | None = None
    scales: Mapping[str, tuple[float, float, int]] | None = None
    splits: str = "as the file has them"
    left_out: Mapping[str, str] = field(default_factory=dict)

    def card(self, corpus: str, source: str) -> ProtocolCard:
        """The protocol card of the imported corpus."""
        return ProtocolCard(
            name=corpus,
            citation=f"imported from {source} ({self.format})",
            licence="the terms of the file's makers",
            label_map=self.label_map,
            scales=self.scales,
            splits=self.splits,
        )


def utterance_frame(rows: Sequence[Mapping[str, object]]) -> pl.DataFrame:
    """Rows as utterances; absent keys become null."""
    return pl.DataFrame(
        {name: [row.get(name) for row in rows] for name in UTTERANCE_COLUMNS},
        schema={name: UTTERANCES.schema[name] for name in UTTERANCE_COLUMNS},
        strict=False,
    )


def aside(where: str, reason: str, detail: str) -> dict[str, object]:
    """A quarantine row of the import."""
    return {"utterance_id": where, "stage": "import", "reason": reason, "detail": detail}


def text_of(value: object) -> str:
    """Text as it stands, from text, bytes of Python 2 or a list of words."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, list | tuple | np.ndarray):
        return " ".join(text_of(part) for part in np.ravel(np.asarray(value, object)))
    return str(value)


def trimmed(frames: np.ndarray) -> np.ndarray:
    """Frames without those at both ends that are all zero: padding, not data; (T, D)."""
    is_filled = np.flatnonzero((frames != 0).any(axis=1))
    return frames[is_filled[0] : is_filled[-1] + 1] if len(is_filled) else frames[:0]
