"""A tiny complete corpus on disk, ready to train on, with a planted signal in every modality."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from tasks.tables.contract import Table
from tasks.tables.features import FEATURES
from tasks.tables.labels import LABELS
from tasks.tables.parquet import write_table
from tasks.tables.splits import SPLIT
from tasks.tables.utterances import UTTERANCES
from tasks.targets import VAD
from tests.places import here
from tests.tasks.arrow_files import write_arrow

CORPUS = "tiny"
CLASSES = ("angry", "happy", "neutral")
#: Modality to encoder, and encoder to width.
INPUTS = {"audio": "ears", "video": "eyes", "text": "words"}
DIMS = {"ears": 4, "eyes": 5, "words": 3}
#: Splits by dialogue number modulo 12, for fold 0; fold 1 is half a turn further.
_SPLITS = ["train"] * 6 + ["validation"] * 3 + ["test"] * 3

Row = dict[str, Any]


@dataclass
class Corpus:
    """Rows by table, to be changed by a test before they are written.

    Attributes:
        utterances: by dialogue and turn.
        labels: of all utterances but one.
        splits: of all utterances in each fold.
        features: encoder to utterance id to pooled values, None where the modality is absent.
    """

    utterances: list[Row]
    labels: list[Row]
    splits: list[Row]
    features: dict[str, dict[str, list[float] | None]] = field(default_factory=dict)

    def ids(self, split: str, fold: int = 0) -> list[str]:
        """Utterances of one split."""
        return [r["utterance_id"] for r in self.splits if (r["split"], r["fold"]) == (split, fold)]

    def label(self, utterance_id: str) -> Row:
        """The row of one utterance in the labels."""
        return next(row for row in self.labels if row["utterance_id"] == utterance_id)

    def write(self, root: Path = Path(), order: int | None = None) -> "Corpus":
        """Write every table; with ``order``, rows stand shuffled and features in two files."""
        for table, rows, path in (
            (UTTERANCES, self.utterances, here().utterances(CORPUS)),
            (LABELS, self.labels, here().labels(CORPUS)),
            (SPLIT, self.splits, here().splits(CORPUS)),
        ):
            _write(table, table.frame(rows), root / path, order)
        for encoder, values in self.features.items():
            frame = features_frame(values, DIMS[encoder])
            folder = root / here().features(CORPUS, encoder)
            if order is None:
                _write(FEATURES, frame, folder / "0.parquet", None)
            else:
                even = pl.int_range(pl.len()) % 2 == 0
                _write(FEATURES, frame.filter(even), folder / "0.parquet", order)
                _write(FEATURES, frame.filter(~even), folder / "1.parquet", order)
        return self


def _write(table: Table, frame: pl.DataFrame, path: Path, order: int | None) -> None:
    if order is None:
        write_table(table, frame, path)
        return
    shuffled = frame.sample(fraction=1.0, shuffle=True, seed=order)
    write_arrow(shuffled.to_arrow(compat_level=pl.CompatLevel.oldest()), path)


def features_frame(values: dict[str, list[float] | None], dim: int) -> pl.DataFrame:
    """Rows of a features table."""
    absent = [pooled is None for pooled in values.values()]
    return pl.DataFrame(
        {
            "utterance_id": list(values),
            "status": ["degraded" if gone else "ok" for gone in absent],
            "reason": ["not_there" if gone else None for gone in absent],
            "frames": [0] * len(values),
            "dim": [dim] * len(values),
            "hop_s": [None] * len(values),
            "pooled": list(values.values()),
            "sequence": [None] * len(values),
        },
        schema=FEATURES.schema | {"pooled": pl.Array(pl.Float32, dim)},
    )


def make_corpus(dialogues: int = 12, turns: int = 5, folds: int = 2, seed: int = 0) -> Corpus:
    """A corpus with three classes and VAD that every modality tells something of.

    ``tiny/d00/u2`` has no video, ``tiny/d00/u1`` has a label row without any judgement and
    ``tiny/d01/u0`` has no label row.
    """
    random = np.random.default_rng(seed)
    size = dialogues * turns
    dialogue = np.repeat(np.arange(dialogues), turns)
    turn = np.tile(np.arange(turns), dialogues)
    ids = [f"{CORPUS}/d{d:02d}/u{t}" for d, t in zip(dialogue, turn, strict=True)]
    factor = random.standard_normal((size, 3))
    code = factor.argmax(1)
    vad = np.tanh(factor)
    utterances = [
        {
            "utterance_id": name,
            "dialogue_id": name.rpartition("/")[0],
            "turn": int(t),
            "speaker": f"p{d}{'ab'[t % 2]}",
            "text": "so it is",
        }
        for name, d, t in zip(ids, dialogue, turn, strict=True)
    ]
    labels: list[Row] = [
        {
            "utterance_id": name,
            "category": CLASSES[code[i]],
            **dict(zip(VAD, vad[i].tolist(), strict=True)),
            "n_raters": 1,
        }
        for i, name in enumerate(ids)
        if name != f"{CORPUS}/d01/u0"
    ]
    empty = next(row for row in labels if row["utterance_id"] == f"{CORPUS}/d00/u1")
    empty |= {"category": None, **dict.fromkeys(VAD), "n_raters": 0}
    splits = [
        {
            "utterance_id": name,
            "fold": fold,
            "split": _SPLITS[(12 * d // dialogues + 6 * fold) % 12],
        }
        for fold in range(folds)
        for name, d in zip(ids, dialogue.tolist(), strict=True)
    ]
    features: dict[str, dict[str, list[float] | None]] = {}
    for encoder, dim in DIMS.items():
        values = factor @ random.standard_normal((3, dim))
        values += 0.3 * random.standard_normal((size, dim))
        features[encoder] = dict(zip(ids, values.tolist(), strict=True))
    features["eyes"][f"{CORPUS}/d00/u2"] = None
    return Corpus(utterances, labels, splits, features)


def write_found(method: str, found: Mapping[int | None, Mapping[str, object]]) -> None:
    """What a search leaves behind: fold to the options it found, None for an only fold."""
    file = here().search(CORPUS, method) / "best.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    folds = {str(fold): {"options": dict(options)} for fold, options in found.items()}
    file.write_text(json.dumps(folds["None"] if None in found else {"folds": folds}))
