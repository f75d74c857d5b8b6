"""What the page shows of a corpus: how labels are spread over the splits, and clip accounting.

``overview`` is also written as JSON and as tables for DVC's plots by the stage report; it holds
the analyses of CAGE's Figures 3 to 8.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from tasks.layout import Layout
from tasks.score_files import Account
from tasks.tables.label_rows import labels_in
from tasks.tables.labels import LABELS
from tasks.tables.parquet import read_table
from tasks.tables.quarantine import QUARANTINE
from tasks.tables.utterances import UTTERANCES
from tasks.tables.words import SPLITS
from tasks.targets import NUMBERS, ROW_OF, VAD

#: Cells of the plane of valence and arousal along each side.
_CELLS = 20
#: Ends of the scales of numbers in the labels table.
RANGES = {name: (ROW_OF[name].low, ROW_OF[name].high) for name in NUMBERS}
#: Bins of histograms by target: as in CAGE where it has them.
_BINS = {"vad": 80, "emi": 40}
_OTHER_BINS = 60
#: Whiskers end at the last value within this many interquartile ranges of the box.
_WHISKER = 1.5
_MOST_POINTS = 5_000
_POINTS_SEED = 0
_MOST_ROWS = 50


def overview(layout: Layout, corpus: str, splits: pl.DataFrame) -> dict[str, Any]:
    """Frequencies of labels and histograms of numbers by split, VAD by category and as a plane.

    Args:
        corpus: whose labels to read.
        splits: its splits table.
    """
    labels = labels_in(read_table(LABELS, layout.labels(corpus)))
    utterances = read_table(
        UTTERANCES, layout.utterances(corpus), ["utterance_id", "dialogue_id", "speaker"]
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
            for name in RANGES
            if rows.get_column(name).drop_nulls().len()
        },
        "ranges": RANGES,
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
    """Values in each bin; one on the edge of two belongs to the upper, but for the last."""
    low, high = RANGES[name]
    values = rows.get_column(name).drop_nulls().to_numpy()
    n_bins = _BINS.get(ROW_OF[name].name, _OTHER_BINS)
    width = (high - low) / n_bins
    # 0.1 is an edge of bins of 0.025 although its float lies a hair below
    place = np.floor((values - low) / width + 1e-9).astype(np.int64)
    return np.bincount(np.clip(place, 0, n_bins - 1), minlength=n_bins).tolist()


def _points(rows: pl.DataFrame, classes: list[str]) -> dict[str, Any]:
    """Valence and arousal in hundredths with the code of the category (-1: none).

    Of large corpora a sample with the same share of every category.
    """
    known = rows.filter(pl.all_horizontal(pl.col(VAD[:2]).is_not_null())).sort("utterance_id")
    shown = known[_stratified(known.get_column("category"), _MOST_POINTS)]
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


def _stratified(groups: pl.Series, most: int) -> np.ndarray:
    """Indices of at most ``most`` rows, ascending: from each group its share, drawn by a seed."""
    if len(groups) <= most:
        return np.arange(len(groups))
    random = np.random.default_rng(_POINTS_SEED)
    # a random order within each group, then every row by its rank there as a share of the group
    frame = pl.DataFrame({"group": groups, "at": np.arange(len(groups))})
    drawn = frame.with_columns(chance=pl.Series(random.random(len(groups))))
    rank = pl.col("chance").rank("ordinal").over("group")
    place = (rank - 0.5) / pl.len().over("group")
    chosen = drawn.with_columns(place=place).sort("place", "chance").head(most)
    return np.sort(chosen.get_column("at").to_numpy())


def _boxes(rows: pl.DataFrame, name: str, classes: list[str]) -> list[dict[str, Any]]:
    """How a dimension of VAD is spread within each category of every split."""
    return [
        {"category": label, "split": split, **_box(values)}
        for label in classes
        for split in SPLITS
        if len(
            values := rows.filter(category=label, split=split)
            .get_column(name)
            .drop_nulls()
            .to_numpy()
        )
    ]


def _box(values: np.ndarray) -> dict[str, float]:
    """Quartiles, whiskers and how many values lie beyond them."""
    first, median, third = np.quantile(values, (0.25, 0.5, 0.75))
    reach = _WHISKER * (third - first)
    inside = values[(values >= first - reach) & (values <= third + reach)]
    numbers = {
        "mean": values.mean(),
        "low": inside.min(),
        "first": first,
        "median": median,
        "third": third,
        "high": inside.max(),
    }
    found = {key: round(float(value), 4) for key, value in numbers.items()}
    return {"n": len(values), **found, "outside": len(values) - len(inside)}


def _density(rows: pl.DataFrame) -> dict[str, Any]:
    """Utterances in each cell of the plane: ``counts`` by valence, then by arousal, rising."""
    known = rows.filter(pl.all_horizontal(pl.col(VAD[:2]).is_not_null()))
    valence, arousal = (known.get_column(name).to_numpy() for name in VAD[:2])
    ends = [RANGES[name] for name in VAD[:2]]
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
    sizes = known.select("split", n=pl.col("categories").list.n_unique())
    most = int(sizes.get_column("n").cast(pl.Int64).max() or 0)  # type: ignore[arg-type]
    return {
        "labels": labels,
        "cardinality": {
            name: np.bincount(
                sizes.filter(split=name).get_column("n").to_numpy(), minlength=most + 1
            ).tolist()
            for name in SPLITS
        },
        "counts": {
            name: np.bincount(code[split == name], minlength=len(labels)).tolist()
            for name in SPLITS
        },
        "judged": {name: known.filter(pl.col("split") == name).height for name in SPLITS},
        "empty": known.filter(pl.col("categories").list.len() == 0).height,
        "together": (table.T @ table).tolist(),
    }


def clips(layout: Layout, corpus: str, account: Mapping[str, Account]) -> dict[str, Any]:
    """Clips by stage and status with reasons, and the first rows that were set aside."""
    aside = pl.concat(
        [
            read_table(QUARANTINE, layout.quarantine(corpus)),
            read_table(QUARANTINE, layout.labels_quarantine(corpus)),
        ]
    )
    order = {"ingest": 0, "faces": 1}
    stages = sorted(account, key=lambda stage: (order.get(stage, 2), stage))
    return {
        "stages": [{"stage": stage, **account[stage]} for stage in stages],
        "set_aside": aside.height,
        "examples": aside.head(_MOST_ROWS).to_dicts(),
    }
