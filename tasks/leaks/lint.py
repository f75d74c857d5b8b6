"""What `affectloom lint` and the page tell: leaks in a corpus's tables, and in its features."""

import polars as pl

from tasks.batches.pooled import read_pooled
from tasks.layout import Layout
from tasks.leaks.findings import (
    Finding,
    absent_features,
    feature_leaks,
    find_leaks,
    trained_on_corpus,
)
from tasks.tables.features import FEATURES
from tasks.tables.label_rows import labels_in
from tasks.tables.labels import LABELS
from tasks.tables.parquet import read_metadata, read_table
from tasks.tables.splits import SPLIT
from tasks.tables.utterances import UTTERANCES
from tasks.targets import NUMBERS

#: Columns of the labels that a feature could give away.
_TARGETS = ("category", *NUMBERS)


def lint_corpus(
    layout: Layout, corpus: str, encoders: list[str], threshold: float
) -> list[Finding]:
    """Findings in the tables of a corpus and in the features of ``encoders`` that exist.

    Args:
        corpus: its name.
        encoders: keys of ``params.yaml: encoders``.
        threshold: see ``leaks.feature_leaks``.
    """
    utterances = read_table(UTTERANCES, layout.utterances(corpus))
    labels = read_table(LABELS, layout.labels(corpus))
    splits = read_table(SPLIT, layout.splits(corpus))
    found = find_leaks(utterances, labels_in(labels), splits)
    return found + lint_features(layout, corpus, encoders, threshold)


def lint_features(
    layout: Layout, corpus: str, encoders: list[str], threshold: float = 0.9
) -> list[Finding]:
    """Findings in those features of ``encoders`` that exist; arguments as of ``lint_corpus``."""
    labels = read_table(LABELS, layout.labels(corpus))
    splits = read_table(SPLIT, layout.splits(corpus))
    # a column that gives the label away does so in every fold
    first = splits.filter(pl.col("fold") == splits.get_column("fold").min())
    rows = first.join(labels_in(labels), on="utterance_id", how="inner").sort("utterance_id")
    found: list[Finding] = []
    for encoder in encoders:
        if rows.height and any(layout.features(corpus, encoder).glob("*.parquet")):
            found += _lint_features(layout, corpus, encoder, rows, threshold)
    return found


def _lint_features(
    layout: Layout, corpus: str, encoder: str, rows: pl.DataFrame, threshold: float
) -> list[Finding]:
    """Columns of one encoder against every target that has labels."""
    folder = layout.features(corpus, encoder)
    values, present = read_pooled(rows.get_column("utterance_id"), folder)
    names = [f"{encoder}[{i}]" for i in range(values.shape[1])]
    reasons = read_table(FEATURES, folder, ["utterance_id", "reason"])
    found = absent_features(
        encoder, rows.filter(~pl.Series(present)).join(reasons, on="utterance_id")
    )
    found += trained_on_corpus(
        encoder, corpus, read_metadata(folder).get("trained_on", "").split(", "), rows
    )
    rows, values = rows.filter(pl.Series(present)), values[present]
    splits = rows.get_column("split")
    # whatever is predicted, the same columns are constant
    nothing = [0.0] * rows.height
    found += feature_leaks(values, names, nothing, splits.to_list(), threshold)
    for target in _TARGETS:
        known = rows.get_column(target).is_not_null()
        if known.any():
            leaks = feature_leaks(
                values[known.to_numpy()],
                names,
                rows.get_column(target).filter(known).to_list(),
                splits.filter(known).to_list(),
                threshold,
                target,
            )
            found += [leak for leak in leaks if leak["kind"] == "label_bearing_column"]
    return found
