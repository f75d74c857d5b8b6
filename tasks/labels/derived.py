"""Valence, arousal and dominance that nobody judged: of words, or of another model.

They are to learn from, by a kind of their own that no score counts. A cell goes to the most trusted
of what there is for it: what people said stays, and a lexicon goes before a model, a model before
the tables and the sentiment that ``combine`` filled in.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from models.errors import UserError
from tasks.labels.lexicon import read_lexicon, vad_of_texts
from tasks.labels.params import LabelsParams
from tasks.layout import Layout
from tasks.tables.features import FEATURES
from tasks.tables.parquet import read_table
from tasks.tables.utterances import UTTERANCES
from tasks.targets import KINDS, VAD


@dataclass(frozen=True)
class Derived:
    """Labels with what was derived, and how often for the report: by kind, a few counts."""

    labels: pl.DataFrame
    counts: Mapping[str, Mapping[str, int]]


def derive(params: LabelsParams, layout: Layout, corpus: str, labels: pl.DataFrame) -> Derived:
    """Fill cells of VAD by what ``params`` names.

    Args:
        params: of labels.
        layout: where utterances, features and the lexicon lie.
        corpus: whose.
        labels: ``tables.labels``.
    """
    counts: dict[str, dict[str, int]] = {}
    if params.lexicon is not None:
        lexicon = read_lexicon(layout.project / params.lexicon.file, "labels.lexicon.file")
        texts = read_table(UTTERANCES, layout.utterances(corpus), ["utterance_id", "text"])
        found = vad_of_texts(texts, lexicon, params.lexicon.least_words)
        if not found.height:
            raise UserError(
                f"params.yaml: labels.lexicon: no utterance of {corpus} has "
                f"{params.lexicon.least_words} of the {lexicon.height} words of "
                f"{params.lexicon.file}; leave it out for this corpus, or look at its language"
            )
        labels, filled = fill(labels, found, "lexicon")
        counts["lexicon"] = {"utterances": found.height, "cells": filled}
    if params.teacher is not None:
        told = _teacher(params.teacher.encoder, layout, corpus)
        # a value off the scale is neither cut nor moved: that cell stays without
        inside = told.with_columns(pl.when(pl.col(d).is_between(-1, 1)).then(d) for d in VAD)
        labels, filled = fill(labels, inside, "model")
        outside = sum(told[d].count() - inside[d].count() for d in VAD)
        counts["model"] = {"utterances": told.height, "cells": filled, "out_of_range": outside}
    return Derived(labels, counts)


def _teacher(encoder: str, layout: Layout, corpus: str) -> pl.DataFrame:
    """Columns utterance_id, valence, arousal, dominance of the utterances that it judged."""
    folder = layout.features(corpus, encoder)
    table = read_table(FEATURES, folder, ["utterance_id", "pooled"]).drop_nulls("pooled")
    widths = table.schema["pooled"]
    width = widths.size if isinstance(widths, pl.Array) else 0
    if width != len(VAD):
        raise UserError(
            f"params.yaml: labels.teacher.encoder is '{encoder}', whose features are {width} "
            "numbers; a teacher gives three, valence, arousal and dominance: take an encoder of "
            "the family audio_vad, or imported features of that width"
        )
    return table.select(
        "utterance_id",
        *(pl.col("pooled").arr.get(i).cast(pl.Float64).alias(d) for i, d in enumerate(VAD)),
    )


def fill(labels: pl.DataFrame, found: pl.DataFrame, kind: str) -> tuple[pl.DataFrame, int]:
    """Cells that are empty or of a less trusted kind, and how many were filled.

    Args:
        labels: ``tables.labels``.
        found: columns utterance_id and VAD, with nulls where nothing is known.
        kind: of ``found``.
    """
    less = list(KINDS[KINDS.index(kind) + 1 :])
    told = {dim: f"{dim}_told" for dim in VAD}
    both = labels.join(found.rename(told), on="utterance_id", how="left", maintain_order="left")
    takes = {
        dim: pl.col(told[dim]).is_not_null()
        & (pl.col(dim).is_null() | pl.col(f"{dim}_kind").is_in(less).fill_null(False))
        for dim in VAD
    }
    filled = both.select(pl.sum_horizontal(takes.values()).sum()).item()
    changed = both.with_columns(
        *(pl.when(takes[d]).then(told[d]).otherwise(d).alias(d) for d in VAD),
        *(pl.when(~takes[d]).then(f"{d}_std").alias(f"{d}_std") for d in VAD),
        *(
            pl.when(takes[d]).then(pl.lit(kind)).otherwise(f"{d}_kind").alias(f"{d}_kind")
            for d in VAD
        ),
    )
    return changed.select(labels.columns), int(filled)
