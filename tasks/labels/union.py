"""Stage ``labels`` of a union: the labels of its parts, each merged by its own settings.

A target or a dimension that a part was not judged on stays null there, and losses and scores leave
such cells out. Equal ranges are not equal distributions, so the report has the mean and deviation
of every part before and after its values were mapped.
"""

import json
from pathlib import Path
from typing import Any

import polars as pl

from models.errors import UserError
from tasks.atomic import write_json
from tasks.context import Context
from tasks.labels.combine import check_spelling
from tasks.labels.tables import count_kinds
from tasks.layout import Layout
from tasks.params.unions import UnionParams
from tasks.tables.label_rows import labels_in
from tasks.tables.labels import LABELS
from tasks.tables.parquet import read_table, write_table
from tasks.tables.quarantine import QUARANTINE
from tasks.tables.splits import SPLIT
from tasks.tables.utterances import UTTERANCES
from tasks.targets import FAMILIES, NUMBERS


def run(params: UnionParams, layout: Layout, ctx: Context, corpus: str) -> Path:
    """Join the labels of the parts; returns the table of labels."""
    parts = {part: read_table(LABELS, layout.labels(part)) for part in params.of}
    aside = {part: read_table(QUARANTINE, layout.labels_quarantine(part)) for part in params.of}
    for part in params.of:
        _check_part(layout, corpus, part, parts[part], aside[part])
    folds = read_table(SPLIT, layout.splits(corpus), ["fold"])["fold"].unique()
    # a part whose rater weights are learnt in each fold has rows for folds that the union lacks
    labels = pl.concat(
        one.filter(pl.col("fold").is_null() | pl.col("fold").is_in(folds.implode()))
        for one in parts.values()
    )
    check_spelling(_words(labels))
    write_table(QUARANTINE, pl.concat(aside.values()), layout.labels_quarantine(corpus))
    write_table(LABELS, labels, layout.labels(corpus))
    known = read_table(UTTERANCES, layout.utterances(corpus), ["utterance_id"])
    write_json(
        layout.agreement(corpus), {"corpus": corpus, **_report(layout, known, labels, parts)}
    )
    return layout.labels(corpus)


def _check_part(
    layout: Layout, corpus: str, part: str, labels: pl.DataFrame, aside: pl.DataFrame
) -> None:
    undeclared = aside.filter(pl.col("reason") == "scale_undeclared").sort(QUARANTINE.key)
    if undeclared.height:
        raise UserError(
            f"{layout.labels_quarantine(part)}: {undeclared.height} judgements of {part} have no "
            f"declared scale, so nobody knows where they lie in the space of {corpus}; for "
            f"instance {undeclared['utterance_id'][0]}: {undeclared['detail'][0]}; declare it in "
            f"corpora.{part}.labels.scales of params.yaml"
        )
    if not any(labels[column].count() for column in FAMILIES):
        raise UserError(
            f"{layout.labels(part)}: {part} has no label of any target, so {corpus} can learn "
            f"nothing from it; leave it out of corpora.{corpus}.of in params.yaml"
        )


def _words(labels: pl.DataFrame) -> pl.DataFrame:
    """Every category and label that occurs, with its target."""
    single = labels.select("category").drop_nulls().unique()["category"]
    several = labels.select("categories").explode("categories").drop_nulls().unique()["categories"]
    return pl.concat(
        pl.DataFrame({"label": words.sort()}).with_columns(target=pl.lit(target))
        for target, words in (("category", single), ("categories", several))
    )


def _report(
    layout: Layout, known: pl.DataFrame, labels: pl.DataFrame, parts: dict[str, pl.DataFrame]
) -> dict[str, object]:
    """The parts' own reports in brief, and how differently their values are distributed."""
    own = {part: json.loads(layout.agreement(part).read_text(encoding="utf-8")) for part in parts}
    first = labels_in(labels)
    judged = first.filter(pl.col("n_raters") > 0).height
    return {
        "agreement": {},  # nobody judged two parts
        "parts": {part: _in_brief(one, parts[part]) for part, one in own.items()},
        "rows": {
            key: sum(one["rows"][key] for one in own.values())
            for key in ("in", "used", "quarantined", "collapsed", "left_out")
        },
        "kinds": count_kinds(first),
        "utterances": {
            "all": known.height,
            "labelled": judged,
            "no_label": known.height - judged,
            "by_target": {name: first[name].count() for name in FAMILIES},
        },
    }


def _in_brief(report: dict[str, Any], labels: pl.DataFrame) -> dict[str, Any]:
    """Moments of a part's judgements on their raw scale and of its labels on ours."""
    values = {
        name: {"raw": report["values"][name]["raw"], "mapped": report["values"][name]["merged"]}
        for name in NUMBERS
        if name in report["values"]
    }
    return {
        "utterances": labels["utterance_id"].n_unique(),
        "scales": report["scales"],
        "kinds": report["kinds"],
        "values": values,
        "categories": report["categories"],
        "agreement": report["agreement"],
    }
