"""What networks predict of validation and test rows, as a table."""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
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
from tasks.tables.contract import Table
from tasks.tables.parquet import write_ranges
from tasks.tables.predictions import predictions_table

Split = Literal["validation", "test"]
SCORED_SPLITS: tuple[Split, ...] = get_args(Split)
_KEYS = ["utterance_id", "seed", "fold", "split"]
#: Utterances whose rows are written together.
_ROWS = 65_536
#: What it is of, truth, and probabilities or values.
_Answer = tuple[Target, np.ndarray, np.ndarray]


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
    kept: Collection[str],
) -> pl.DataFrame:
    """All predictions on validation and test, one row for each utterance, seed and fold.

    Returns:
        All rows, with those of the columns ``kept`` that there are.
    """
    schema: dict[str, Any] = {}
    for target in targets:
        kind = {"category": pl.String, "labels": pl.List(pl.String)}.get(target.kind, pl.Float64)
        for name in target.names if target.kind == "values" else (target.name,):
            schema |= {f"target_{name}": kind, f"prediction_{name}": kind}
        if target.kind == "labels":
            schema[f"scores_{target.name}"] = pl.List(pl.Float64)
    table = predictions_table(schema)
    classes = next((list(t.names) for t in targets if t.kind == "category"), [])
    own = [name for name in table.columns if name in kept]
    found = [table.empty().select(own)]

    def ranges() -> Iterator[pl.DataFrame]:
        for rows in _ranges(table, predicted, source):
            found.append(rows.select(own))
            yield rows

    said = {"classes": json.dumps(classes)}
    write_ranges(table, ranges(), layout.predictions(corpus, method), said)
    return pl.concat(found)


def _ranges(table: Table, predicted: Sequence[Predicted], source: Source) -> Iterator[pl.DataFrame]:
    """All rows of the table, some utterances after the other in the order of their ids."""
    answers = [_answers(one) for one in predicted]
    rank = source.ids.rank("ordinal").to_numpy()  # from 1
    ranks = [rank[one.data.rows] - 1 for one in predicted]
    for begin in range(0, max(len(rank), 1), _ROWS):
        merged: dict[tuple[int, int, str], pl.DataFrame] = {}
        for one, said, mine in zip(predicted, answers, ranks, strict=True):
            at = np.flatnonzero((mine >= begin) & (mine < begin + _ROWS))
            frame = _frame(one, said, at, source.ids)
            place = (one.run.seed, one.run.fold, one.split)
            old = merged.get(place)
            merged[place] = (
                frame if old is None else old.join(frame, on=_KEYS, how="full", coalesce=True)
            )
        yield pl.concat([_whole(frame, table) for frame in merged.values()])


def _answers(one: Predicted) -> list[_Answer]:
    return [
        (target, scored_truth(one.data, target), probabilities(target, one.outputs[target.name]))
        for target in one.run.targets
    ]


def _frame(
    one: Predicted, answers: Sequence[_Answer], at: np.ndarray, ids: pl.Series
) -> pl.DataFrame:
    """Rows of the table for the rows (n,) ``at`` of a network's outputs."""
    return pl.DataFrame({"utterance_id": ids.gather(one.data.rows[at])}).with_columns(
        pl.lit(one.run.seed, pl.Int32).alias("seed"),
        pl.lit(one.run.fold, pl.Int32).alias("fold"),
        pl.lit(one.split).alias("split"),
        *(
            column
            for target, truth, values in answers
            for column in _columns(target, truth[at], values[at])
        ),
    )


def _whole(frame: pl.DataFrame, table: Table) -> pl.DataFrame:
    """The same rows with null in what their network does not predict."""
    absent = {name: c for name, c in table.columns.items() if name not in frame.columns}
    columns = [pl.lit(None, column.dtype).alias(name) for name, column in absent.items()]
    return frame.with_columns(columns).select(list(table.columns))


def _columns(target: Target, truth: np.ndarray, values: np.ndarray) -> list[pl.Series]:
    if target.kind == "category":
        names = pl.Series([*target.names, None], dtype=pl.String)
        known = np.where(truth < 0, len(target.names), truth)
        return [
            names.gather(known).alias(f"target_{target.name}"),
            names.gather(values.argmax(1)).alias(f"prediction_{target.name}"),
            _lists("probabilities", values),
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
        _lists(f"scores_{target.name}", values),
    ]


def _lists(name: str, values: np.ndarray) -> pl.Series:
    """(N, C) as a list a row."""
    return pl.Series(name, values, pl.Array(pl.Float64, values.shape[1])).arr.to_list()
