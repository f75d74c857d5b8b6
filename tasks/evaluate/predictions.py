"""What networks predict of validation and test rows, as a table."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import polars as pl
import torch

from models.batch import Target
from tasks.batches.dataset import Dataset
from tasks.batches.source import Source
from tasks.evaluate.grids import probabilities
from tasks.evaluate.networks import Run
from tasks.layout import Layout
from tasks.tables.parquet import write_table
from tasks.tables.predictions import predictions_table

Split = Literal["validation", "test"]
SCORED_SPLITS: tuple[Split, ...] = get_args(Split)


@dataclass(frozen=True)
class Predicted:
    """One network's outputs on one split.

    Attributes:
        run: the network.
        split: which rows.
        data: these rows as the network sees them.
        outputs: target name to what it says, in the order of ``data.rows``.
    """

    run: Run
    split: Split
    data: Dataset
    outputs: Mapping[str, torch.Tensor]


def scored_truth(data: Dataset, target: Target) -> np.ndarray:
    """``Dataset.truth`` with only what raters or the speakers gave: all that is ever scored.

    A value that came from a table, a lexicon or another model would score how well a method knows
    that source.
    """
    truth, scored = data.truth(target).numpy(), data.scored(target)
    return np.where(scored, truth, -1 if target.kind == "category" else np.float32("nan"))


def write_predictions(
    layout: Layout,
    corpus: str,
    method: str,
    targets: Sequence[Target],
    predicted: Sequence[Predicted],
    source: Source,
) -> pl.DataFrame:
    """All predictions on validation and test, one row for each utterance, seed and fold."""
    schema: dict[str, Any] = {}
    for target in targets:
        kind = {"category": pl.String, "labels": pl.List(pl.String)}.get(target.kind, pl.Float64)
        for name in target.names if target.kind == "values" else (target.name,):
            schema |= {f"target_{name}": kind, f"prediction_{name}": kind}
        if target.kind == "labels":
            schema[f"scores_{target.name}"] = pl.List(pl.Float64)
    table = predictions_table(schema)
    keys = ["utterance_id", "seed", "fold", "split"]
    merged: dict[tuple[int, int, str], pl.DataFrame] = {}
    for one in predicted:
        frame = pl.DataFrame(
            {"utterance_id": source.ids[one.data.rows]}, schema={"utterance_id": pl.String}
        ).with_columns(
            pl.lit(one.run.seed, pl.Int32).alias("seed"),
            pl.lit(one.run.fold, pl.Int32).alias("fold"),
            pl.lit(one.split).alias("split"),
        )
        for target in one.run.targets:
            values = probabilities(target, one.outputs[target.name])
            frame = frame.with_columns(_columns(target, scored_truth(one.data, target), values))
        place = (one.run.seed, one.run.fold, one.split)
        old = merged.get(place)
        merged[place] = (
            frame if old is None else old.join(frame, on=keys, how="full", coalesce=True)
        )
    frames = [
        frame.with_columns(
            pl.lit(None, column.dtype).alias(name)
            for name, column in table.columns.items()
            if name not in frame.columns
        ).select(list(table.columns))
        for frame in merged.values()
    ]
    classes = next((list(t.names) for t in targets if t.kind == "category"), [])
    rows = pl.concat(frames)
    write_table(table, rows, layout.predictions(corpus, method), {"classes": json.dumps(classes)})
    return rows


def _columns(target: Target, truth: np.ndarray, values: np.ndarray) -> list[pl.Series]:
    if target.kind == "category":
        names = np.asarray([*target.names, None], dtype=object)
        return [
            pl.Series(f"target_{target.name}", names[truth].tolist(), pl.String),
            pl.Series(f"prediction_{target.name}", names[values.argmax(1)].tolist(), pl.String),
            pl.Series("probabilities", values.tolist(), pl.List(pl.Float64)),
        ]
    if target.kind == "values":
        columns = []
        for i, name in enumerate(target.names):
            known = pl.Series(f"target_{name}", truth[:, i].astype(np.float64)).fill_nan(None)
            columns += [known, pl.Series(f"prediction_{name}", values[:, i])]
        return columns
    names = np.asarray(target.names, dtype=object)
    known = ~np.all(np.isnan(truth), axis=1)
    sets = [sorted(names[row > 0.5]) if k else None for row, k in zip(truth, known, strict=True)]
    guessed = [sorted(names[row >= 0.5]) for row in values]
    return [
        pl.Series(f"target_{target.name}", sets, pl.List(pl.String)),
        pl.Series(f"prediction_{target.name}", guessed, pl.List(pl.String)),
        pl.Series(f"scores_{target.name}", values.tolist(), pl.List(pl.Float64)),
    ]
