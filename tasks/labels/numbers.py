"""Gathered judgements to the labels table of one fold, or of all."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from tasks.labels.gather import Gathered
from tasks.labels.merge import merge_numbers
from tasks.labels.params import LabelsParams
from tasks.tables.labels import LABELS
from tasks.targets import NUMBERS


@dataclass(frozen=True)
class MergedLabels:
    """The labels table, utterances by target that fell back on the mean, and rater weights."""

    labels: pl.DataFrame
    fallbacks: dict[str, int]
    weights: dict[str, dict[str, float]]


def merge_labels(
    params: LabelsParams,
    gathered: Gathered,
    trusted: pl.Series | None = None,
    fold: int | None = None,
) -> MergedLabels:
    """One row of ``tables.labels`` per utterance; null where nobody judged.

    Args:
        params: the rules.
        gathered: judgements that passed the checks.
        trusted: utterances that rater weights are learnt from; None: all.
        fold: in which the rows hold; None: in every one.
    """
    items = gathered.items
    is_trusted = None if trusted is None else items["utterance_id"].is_in(trusted.implode())
    columns: dict[str, pl.Series] = {}
    fallbacks: dict[str, int] = {}
    weights: dict[str, dict[str, float]] = {}
    for target in NUMBERS:
        given = gathered.judgements(target)
        merged = merge_numbers(
            given.item,
            given.rater,
            given.value,
            items.height,
            params.merge,
            params.leave_one_out,
            None if is_trusted is None else is_trusted.to_numpy()[given.item],
        )
        columns[target] = _nullable(merged.value)
        columns[f"{target}_std"] = _nullable(merged.std)
        if merged.is_fallback.any():
            fallbacks[target] = int(merged.is_fallback.sum())
        if params.merge == "ewe" and len(given.item):
            present = np.unique(given.rater)
            names = gathered.raters()[present]
            weights[target] = dict(zip(names, merged.weights[present].tolist(), strict=True))
    table = items.with_columns(
        columns[name].alias(name) for name in LABELS.columns if name in columns
    ).join(gathered.words(), on="item", how="left", maintain_order="left")
    table = table.with_columns(pl.col("n_raters").fill_null(0), fold=pl.lit(fold, pl.Int32)).select(
        list(LABELS.columns)
    )
    return MergedLabels(table.cast(pl.Schema(LABELS.schema)), fallbacks, weights)


def _nullable(values: np.ndarray) -> pl.Series:
    return pl.Series(values).fill_nan(None)
