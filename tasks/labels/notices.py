"""What a person should hear of the judgements of a corpus: nothing is set aside in silence."""

from collections.abc import Iterable, Mapping

import polars as pl

from models.errors import UserError
from tasks.labels.card import Card
from tasks.targets import FAMILIES


def check_some_label(
    corpus: str, labels: pl.DataFrame, judgements: int, lost: Mapping[str, int]
) -> None:
    """Judgements that all come to nothing are a mistake in what was asked.

    Args:
        corpus: for the message.
        labels: ``tables.labels``.
        judgements: how many there were.
        lost: how many did not become labels, by why.
    """
    columns = [name for name in FAMILIES if name in labels.columns]
    if judgements and not any(labels[name].count() for name in columns):
        why = "; ".join(f"{reason} ({count})" for reason, count in _largest(lost))
        raise UserError(
            f"corpus {corpus}: none of its {judgements} judgements became a label: {why}; mend "
            "labels in params.yaml, or the corpus's label_map"
        )


def notices(
    corpus: str, ranges: Iterable[pl.DataFrame], card: Card, lost: Mapping[str, int]
) -> list[str]:
    """A sentence for each thing to look at; empty where there is none.

    Args:
        corpus: for the sentences.
        ranges: columns of ``tables.annotations``; all rows of an utterance in one range.
        card: with the corpus's label map and the user's own aliases.
        lost: as for ``check_some_label``.
    """
    lines = [f"{corpus}: {count} judgements set aside: {why}" for why, count in _largest(lost)]
    known = {*card.label_map, *card.label_map.values()}
    counted, utterances = [], 0
    for part in ranges:
        named = part.filter(pl.col("target") == "category").drop_nulls("label")
        utterances += named["utterance_id"].n_unique()
        counted.append(
            named.group_by("label").agg(
                pl.col("utterance_id").n_unique().alias("utterances"), pl.col("utterance_id").min()
            )
        )
    # of a handful of rows every category occurs once, and nothing can be told
    if utterances < 10:
        return lines
    once = (
        pl.concat(counted)
        .group_by("label")
        .agg(pl.col("utterances").sum(), pl.col("utterance_id").min())
        .filter((pl.col("utterances") == 1) & ~pl.col("label").is_in([k for k in known if k]))
        .sort("label")
    )
    return lines + [
        f"{corpus}: the category '{row['label']}' occurs once, at {row['utterance_id']}; if it is "
        "misspelt or too rare, give it another name in labels.aliases"
        for row in once.to_dicts()
    ]


def _largest(lost: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(((why, n) for why, n in lost.items() if n), key=lambda one: (-one[1], one[0]))
