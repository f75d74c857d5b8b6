"""What a person should hear of the judgements of a corpus: nothing is set aside in silence."""

from collections.abc import Iterable, Mapping

import numpy as np
import polars as pl

from models.errors import UserError
from tasks.labels.card import Card
from tasks.labels.scales import SIGN_ALIASES
from tasks.targets import FAMILIES

#: Utterances of a category that tell which way a scale runs.
_ENOUGH = 5


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


def turned_scales(corpus: str, labels: pl.DataFrame) -> list[str]:
    """A sentence where happy utterances are rated less pleasant than sad ones.

    Equal words on a scale that runs the other way pass every check of single values.

    Args:
        corpus: for the sentence.
        labels: ``tables.labels``; cells that people judged decide.
    """
    rated = labels.filter(pl.col("valence_kind").is_in(["rated", "self_report"]))
    named = pl.col("category").str.to_lowercase().replace(SIGN_ALIASES)
    found = {name: rated.filter(named == name)["valence"].drop_nulls() for name in ("happy", "sad")}
    if min(len(values) for values in found.values()) < _ENOUGH:
        return []
    happy, sad = (float(np.mean(values.to_numpy())) for values in found.values())
    if happy > sad:
        return []
    return [
        f"{corpus}: what is called happy has a mean valence of {happy:.2f}, what is called sad of "
        f"{sad:.2f}; if valence was rated the other way round, write its scale with sign: -1 in "
        "labels.scales.valence"
    ]


def _largest(lost: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(((why, n) for why, n in lost.items() if n), key=lambda one: (-one[1], one[0]))
