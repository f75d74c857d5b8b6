"""What the page shows of a corpus: how labels are spread over the splits, and clip accounting.

``overview`` is also written as JSON by the stage report, so that others can draw it their way.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from tasks import paths
from tasks.tables import EMI, LABELS, QUARANTINE, SPLITS, UTTERANCES, VAD, read_table

_BINS = 10
#: Cells of the plane of valence and arousal along each side.
_CELLS = 20
#: Ends of the scales of numbers in the labels table.
_RANGES = {
    **dict.fromkeys(VAD, (-1.0, 1.0)),
    "sentiment": (-3.0, 3.0),
    **dict.fromkeys(EMI, (0.0, 1.0)),
}
#: Ends and quartiles of a box; a twentieth of the values lies beyond each end.
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_MOST_POINTS = 1_500
_MOST_ROWS = 50


def overview(corpus: str, splits: pl.DataFrame) -> dict[str, Any]:
    """Frequencies of labels and histograms of numbers by split, VAD by category and as a plane.

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
                # none known is not the same as none there
                "speakers": part.get_column("speaker").drop_nulls().n_unique() or None,
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
            for name in _RANGES
            if rows.get_column(name).drop_nulls().len()
        },
        "ranges": _RANGES,
        "bins": _BINS,
        "boxes": {name: _boxes(rows, name, classes) for name in VAD} if classes else {},
        "points": _points(rows, classes),
        "density": _density(rows),
        "sets": _sets(rows),
        "folds": splits.get_column("fold").n_unique(),
    }


def _counts(rows: pl.DataFrame, classes: list[str]) -> list[int]:
    column = rows.get_column("category")
    return [int((column == name).sum()) for name in classes]


def _histogram(rows: pl.DataFrame, name: str) -> list[int]:
    values = rows.get_column(name).drop_nulls().to_numpy()
    return np.histogram(values, bins=_BINS, range=_RANGES[name])[0].tolist()


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


def _boxes(rows: pl.DataFrame, name: str, classes: list[str]) -> list[dict[str, Any]]:
    """How one dimension of VAD is spread within each category; only those with values."""
    found = []
    for label in classes:
        values = rows.filter(pl.col("category") == label).get_column(name).drop_nulls().to_numpy()
        if len(values):
            low, first, median, third, high = np.quantile(values, _QUANTILES).round(4).tolist()
            found.append(
                {
                    "category": label,
                    "n": len(values),
                    "mean": round(float(values.mean()), 4),
                    "low": low,
                    "first": first,
                    "median": median,
                    "third": third,
                    "high": high,
                }
            )
    return found


def _density(rows: pl.DataFrame) -> dict[str, Any]:
    """Utterances in each cell of the plane: ``counts`` by valence, then by arousal, rising."""
    known = rows.filter(pl.all_horizontal(pl.col(VAD[:2]).is_not_null()))
    valence, arousal = (known.get_column(name).to_numpy() for name in VAD[:2])
    ends = [_RANGES[name] for name in VAD[:2]]
    counts = np.histogram2d(valence, arousal, bins=_CELLS, range=ends)[0]
    return {"cells": _CELLS, "counts": counts.astype(int).tolist() if known.height else []}


def _sets(rows: pl.DataFrame) -> dict[str, Any]:
    """Labels that stand beside others: how often each by split, and each with each other."""
    known = rows.filter(pl.col("categories").is_not_null())
    long = known.select("utterance_id", "split", label="categories").explode("label")
    long = long.drop_nulls("label").unique()
    labels = long.get_column("label").unique().sort().to_list()
    # ranks count from 1
    code = long.get_column("label").rank("dense").to_numpy().astype(int) - 1
    item = long.get_column("utterance_id").rank("dense").to_numpy().astype(int) - 1
    table = np.zeros((item.max(initial=-1) + 1, len(labels)), np.int64)
    table[item, code] = 1
    split = long.get_column("split").to_numpy()
    return {
        "labels": labels,
        "counts": {
            name: np.bincount(code[split == name], minlength=len(labels)).tolist()
            for name in SPLITS
        },
        "judged": {name: known.filter(pl.col("split") == name).height for name in SPLITS},
        "empty": known.filter(pl.col("categories").list.len() == 0).height,
        "together": (table.T @ table).tolist(),
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
