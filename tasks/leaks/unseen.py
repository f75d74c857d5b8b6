"""What a fold judges and never trains on: categories, and groups of people."""

import polars as pl

from tasks.leaks.finding import Finding, finding, plural
from tasks.tables.people import GROUPED_BY

#: New speakers are what a split by speaker is for.
_BY = tuple(name for name in GROUPED_BY if name != "speaker")


def unlearnt(rows: pl.DataFrame, labels: pl.DataFrame) -> list[Finding]:
    """Categories of validation or test that the training part of the fold never shows.

    Args:
        rows: ``tables.utterances`` with fold and split.
        labels: columns utterance_id and category.
    """
    judged = rows.join(labels.select("utterance_id", group="category"), on="utterance_id")
    return _findings(_absent(judged), "unlearnt_category", "categories")


def absent_groups(rows: pl.DataFrame) -> list[Finding]:
    """Groups of people in validation or test that the training part of the fold never shows.

    Args:
        rows: ``tables.utterances`` with fold and split.
    """
    absent = pl.concat(
        _absent(rows.with_columns(group=GROUPED_BY[by])).with_columns(
            group=pl.concat_str(pl.lit(f"{by} "), "group")
        )
        for by in _BY
    )
    return _findings(absent, "absent_group", "groups of people")


def _findings(absent: pl.DataFrame, name: str, what: str) -> list[Finding]:
    if not absent.height:
        return []
    examples = _told(absent)
    count = absent["group"].n_unique()
    sentence = f"{what} that training never shows: {count:,}, for instance {examples[0]}"
    return [finding(name, "warning", count, absent["fold"], examples, sentence)]


def _absent(rows: pl.DataFrame) -> pl.DataFrame:
    """Columns group, fold, split, len: rows of each group that a fold judges and does not train on.

    A fold whose training rows tell nothing of the kind cannot lack one of it.
    """
    named = rows.filter(pl.col("group").is_not_null())
    trained = named.filter(pl.col("split") == "train").select("fold", "group").unique()
    return (
        named.filter(pl.col("split") != "train")
        .join(trained, on=["fold", "group"], how="anti")
        .join(trained.select("fold").unique(), on="fold", how="semi")
        .group_by("group", "fold", "split")
        .len()
        .sort("group", "fold", "split")
    )


def _told(absent: pl.DataFrame) -> list[str]:
    return [
        f"{row['group']}: {plural(row['len'], 'utterance')} in {row['split']} of fold "
        f"{row['fold']}, none in train"
        for row in absent.iter_rows(named=True)
    ]
