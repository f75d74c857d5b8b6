"""Groups of people that a method is judged on and never trained on."""

from dataclasses import dataclass

import polars as pl

from tasks.people import GROUPED_BY

#: New speakers are what a split by speaker is for.
_BY = tuple(name for name in GROUPED_BY if name != "speaker")


@dataclass(frozen=True)
class AbsentGroup:
    """A group of validation or test rows of which a fold's training part has none."""

    by: str
    group: str
    fold: int
    split: str
    rows: int


def absent_groups(rows: pl.DataFrame) -> list[AbsentGroup]:
    """Every group that some fold judges and does not train on.

    Args:
        rows: ``tables.utterances`` with fold and split.
    """
    found = []
    for by in _BY:
        named = rows.with_columns(group=GROUPED_BY[by]).filter(pl.col("group").is_not_null())
        trained = named.filter(pl.col("split") == "train").select("fold", "group").unique()
        absent = (
            named.filter(pl.col("split") != "train")
            .join(trained, on=["fold", "group"], how="anti")
            # a fold whose training rows tell nothing of the kind cannot lack one of it
            .join(trained.select("fold").unique(), on="fold", how="semi")
            .group_by("group", "fold", "split")
            .len()
            .sort("group", "fold", "split")
        )
        found += [AbsentGroup(by, *row) for row in absent.iter_rows()]
    return found
