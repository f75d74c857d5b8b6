"""Stage ``ingest`` of a union: its parts' tables as one, with ids, media and hashes as they were.

Speakers, sessions and raters get their part before them: nobody says that two corpora mean the
same person by one name. The same file in two parts is refused, for it would stand in training by
the one and in test by the other.
"""

import json
from pathlib import Path

import polars as pl

from models.errors import UserError
from tasks.context import Context
from tasks.layout import Layout
from tasks.params.unions import UnionParams
from tasks.tables.annotations import ANNOTATIONS
from tasks.tables.parquet import read_metadata, read_table, write_table
from tasks.tables.quarantine import QUARANTINE
from tasks.tables.utterances import UTTERANCES


def run(params: UnionParams, layout: Layout, ctx: Context, corpus: str) -> Path:
    """Join the tables of the parts; returns the table of utterances."""
    utterances = pl.concat(
        read_table(UTTERANCES, layout.utterances(part)).with_columns(
            _of(part, "speaker"), _of(part, "session"), dataset=pl.lit(part)
        )
        for part in params.of
    )
    _check_ids(corpus, utterances)
    _check_media(corpus, utterances)
    annotations = pl.concat(
        read_table(ANNOTATIONS, layout.annotations(part)).with_columns(_of(part, "rater"))
        for part in params.of
    )
    quarantine = pl.concat(read_table(QUARANTINE, layout.quarantine(part)) for part in params.of)
    metadata = _metadata(layout, params.of, corpus)
    write_table(QUARANTINE, quarantine.unique(), layout.quarantine(corpus), metadata)
    write_table(ANNOTATIONS, annotations, layout.annotations(corpus), metadata)
    write_table(UTTERANCES, utterances, layout.utterances(corpus), metadata)
    sizes = utterances.group_by("dataset").len("utterances").sort("dataset")
    ctx.table("parts", sizes.to_dicts())
    return layout.utterances(corpus)


def _of(part: str, column: str) -> pl.Expr:
    """A name that is unique within the part, as one that is unique within the union."""
    return pl.format(part + "/{}", column).alias(column)


def _check_ids(corpus: str, utterances: pl.DataFrame) -> None:
    again = utterances.filter(pl.col("utterance_id").is_duplicated()).sort("utterance_id")
    if again.height:
        parts = again.filter(pl.col("utterance_id") == again["utterance_id"][0])["dataset"]
        raise UserError(
            f"corpus {corpus}: the id '{again['utterance_id'][0]}' stands in its parts "
            f"{' and '.join(sorted(parts))}; rename it in one of them, or leave one out of "
            f"corpora.{corpus}.of in params.yaml"
        )


def _check_media(corpus: str, utterances: pl.DataFrame) -> None:
    both = (
        utterances.filter(pl.col("media_sha256").is_not_null())
        .unique(["media_sha256", "dataset"], keep="first", maintain_order=True)
        .filter(pl.col("media_sha256").is_duplicated())
        .sort("media_sha256", "dataset")
    )
    if both.height:
        first, second = both["media"][0], both["media"][1]
        raise UserError(
            f"corpus {corpus}: {first} and {second} are the same file in two of its parts "
            f"({both['media_sha256'].n_unique():,} such files), so one part could be trained on "
            "what the other tests; take them out of one part, or leave one out of "
            f"corpora.{corpus}.of in params.yaml"
        )


def _metadata(layout: Layout, parts: tuple[str, ...], corpus: str) -> dict[str, str]:
    """The parts' cards side by side, and their counts added up."""
    found = {part: read_metadata(layout.utterances(part)) for part in parts}
    cards = {part: json.loads(one.get("card", "{}")) for part, one in found.items()}
    counts = [json.loads(one.get("counts", "{}")) for one in found.values()]
    quarantined: dict[str, int] = {}
    for one in counts:
        for reason, number in one.get("quarantined", {}).items():
            quarantined[reason] = quarantined.get(reason, 0) + number
    sums = {
        key: sum(one.get(key, 0) for one in counts)
        for key in ("adapter_rows", "utterances", "dialogues")
    }
    findings = [sentence for one in counts for sentence in one.get("findings", [])]
    card = {
        "name": corpus,
        **{key: _told(cards, key) for key in ("citation", "licence", "splits")},
        "synthetic": all(one.get("synthetic", False) for one in cards.values()),
        "parts": cards,
    }
    return {
        "card": json.dumps(card, sort_keys=True),
        "counts": json.dumps(
            {**sums, "quarantined": dict(sorted(quarantined.items())), "findings": findings},
            sort_keys=True,
        ),
    }


def _told(cards: dict[str, dict[str, str]], key: str) -> str:
    return "; ".join(f"{part}: {card[key]}" for part, card in cards.items() if card.get(key))
