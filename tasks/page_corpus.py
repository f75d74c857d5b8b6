"""What the page shows of a corpus: how labels are spread over the splits, and clip accounting."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from tasks import paths
from tasks.tables import LABELS, QUARANTINE, SPLITS, UTTERANCES, VAD, read_table

_BINS = 10
_MOST_POINTS = 1_500
_MOST_ROWS = 50


def overview(corpus: str, splits: pl.DataFrame) -> dict[str, Any]:
    """Counts of categories, histograms of VAD by split, and VAD points with their category.

    Args:
        corpus: whose labels to read.
        splits: its splits table.
    """
    labels = read_table(LABELS, paths.labels(corpus))
    utterances = read_table(
        UTTERANCES, paths.utterances(corpus), ["utterance_id", "dialogue_id", "speaker"]
    )
    # with several folds a row is test in one and training in others: the first fold is shown
    first = splits.filter(pl.col("fold") == pl.col("fold").min())
    rows = first.join(labels, on="utterance_id", how="left").join(utterances, on="utterance_id")
    classes = rows.get_column("category").drop_nulls().unique().sort().to_list()
    return {
        "splits": [
            {
                "split": split,
                "utterances": part.height,
                "dialogues": part.get_column("dialogue_id").n_unique(),
                "speakers": part.get_column("speaker").drop_nulls().n_unique(),
            }
            for split in SPLITS
            if (part := rows.filter(pl.col("split") == split)).height
        ],
        "categories": {
            split: _counts(rows.filter(pl.col("split") == split), classes) for split in SPLITS
        },
        "classes": classes,
        "histograms": {
            name: {
                split: _histogram(rows.filter(pl.col("split") == split), name) for split in SPLITS
            }
            for name in VAD
            if rows.get_column(name).drop_nulls().len()
        },
        "bins": _BINS,
        "points": _points(rows, classes),
        "folds": splits.get_column("fold").n_unique(),
    }


def _counts(rows: pl.DataFrame, classes: list[str]) -> list[int]:
    column = rows.get_column("category")
    return [int((column == name).sum()) for name in classes]


def _histogram(rows: pl.DataFrame, name: str) -> list[int]:
    values = rows.get_column(name).drop_nulls().to_numpy()
    return np.histogram(values, bins=_BINS, range=(-1.0, 1.0))[0].tolist()


def _points(rows: pl.DataFrame, classes: list[str]) -> dict[str, Any]:
    """Valence and arousal in hundredths with the code of the category (-1: none)."""
    known = rows.filter(pl.all_horizontal(pl.col(VAD[:2]).is_not_null())).sort("utterance_id")
    stride = max(1, -(-known.height // _MOST_POINTS))
    shown = known.gather_every(stride)
    codes = shown.get_column("category").replace_strict(
        classes, list(range(len(classes))), default=-1, return_dtype=pl.Int64
    )
    valence, arousal = (
        (shown.get_column(name) * 100).round().cast(pl.Int64).to_list() for name in VAD[:2]
    )
    return {
        "valence": valence,
        "arousal": arousal,
        "category": codes.to_list(),
        "of": known.height,
    }


def clips(corpus: str, account: Mapping[str, Any]) -> dict[str, Any]:
    """Clips by stage and status with reasons, and the first rows that were set aside."""
    aside = pl.concat(
        [
            read_table(QUARANTINE, paths.quarantine(corpus)),
            read_table(QUARANTINE, paths.labels_quarantine(corpus)),
        ]
    )
    order = {"ingest": 0, "faces": 1}
    stages = sorted(account, key=lambda stage: (order.get(stage, 2), stage))
    return {
        "stages": [{"stage": stage, **account[stage]} for stage in stages],
        "set_aside": aside.height,
        "examples": aside.head(_MOST_ROWS).to_dicts(),
    }
