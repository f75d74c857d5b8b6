"""Stage ``ingest``: a corpus folder becomes three tables; the only reader of the raw folder.

The adapter says what the corpus holds. This stage gives ids their corpus, hashes the media, sets
aside what cannot be used with a reason, and compares the counts with the published ones. Every
row of the adapter ends as an utterance or in quarantine.
"""

import itertools
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from models.errors import UserError
from tasks.context import Context
from tasks.corpora.adapter import Corpus, ProtocolCard, find_adapter
from tasks.ingest.checks import (
    Checked,
    check_utterances,
    complete,
    count_findings,
)
from tasks.ingest.judgements import Judgements
from tasks.ingest.links import find_leaving
from tasks.layout import Layout
from tasks.media.hashes import hash_media
from tasks.tables.annotations import ANNOTATIONS
from tasks.tables.parquet import write_table
from tasks.tables.quarantine import QUARANTINE
from tasks.tables.utterances import UTTERANCES


class IngestParams(BaseModel):
    """How a corpus is read (``params.yaml: corpora.<corpus>``).

    Attributes:
        adapter: module of ``tasks.corpora.adapters`` that reads it.
        options: what the adapter itself may be told.
        media: folders outside the corpus's own that its media may be links to.
        max_quarantine_fraction: a larger share of utterances set aside fails the stage; below 1
            so do judgements of which none is usable.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    adapter: str
    options: dict[str, object] = {}
    media: tuple[str, ...] = ()
    max_quarantine_fraction: float = Field(0.2, ge=0, le=1)


def run(params: IngestParams, layout: Layout, ctx: Context, corpus: str) -> Path:
    """Read ``data/raw/<corpus>`` into its tables; returns the table of utterances."""
    root = layout.raw(corpus)
    if not root.is_dir():
        raise UserError(f"{root} does not exist; put or link the corpus's folder there")
    found = find_adapter(params.adapter)(root, params.options)
    where = f"adapter {params.adapter}"
    rows = complete(found.utterances, UTTERANCES, where, without=("media_sha256",))
    unread = complete(found.quarantine, QUARANTINE, where)

    checked = check_utterances(rows, corpus)
    hashed = _add_hashes(layout, checked.kept, corpus, ctx, params.media)
    aside = pl.concat([checked.aside, hashed.aside])
    judged = Judgements(corpus, hashed.kept, layout.annotations(corpus).parent)
    for part in itertools.chain([found.annotations], found.further_annotations):
        judged.add(complete(part, ANNOTATIONS, where, text_values=True))
    unusable = pl.concat([judged.aside(), judged.orphans(aside)])
    unread = unread.with_columns(utterance_id=pl.format(corpus + "/{}", "utterance_id"))
    quarantine = pl.concat([unread, judged.with_theirs(aside), unusable])

    _check_account(rows.height, hashed.kept.height, aside.height)
    counts = _counts(found, corpus, hashed.kept, quarantine)
    metadata = {
        "card": json.dumps(_card(found.card), sort_keys=True),
        "counts": json.dumps(counts, sort_keys=True),
    }
    write_table(QUARANTINE, quarantine.unique(), layout.quarantine(corpus), metadata)
    _stop_if_too_many(layout, params, corpus, rows.height, aside)
    _stop_without_judgements(layout, params, corpus, judged, unusable)
    judged.write(layout.annotations(corpus), metadata)
    write_table(UTTERANCES, hashed.kept, layout.utterances(corpus), metadata)
    for message in count_findings(found.card, corpus, hashed.kept, quarantine):
        ctx.log(message)
    reasons = quarantine.group_by("reason").len("count").sort("reason")
    ctx.table("quarantined", reasons.to_dicts())
    return layout.utterances(corpus)


def _add_hashes(
    layout: Layout, rows: pl.DataFrame, corpus: str, ctx: Context, allowed: Sequence[str]
) -> Checked:
    """Fill ``media_sha256``; utterances whose media are of no use are set aside."""
    media = rows["media"].drop_nulls().unique().sort().to_list()
    leaving = find_leaving(media, layout.media_root, layout.raw(corpus), allowed)
    gone = set(leaving["media"])
    hashes = hash_media(layout, [name for name in media if name not in gone], ctx, corpus)
    hashes = pl.concat([hashes, leaving], how="diagonal")
    if media and hashes["sha256"].null_count() == len(media):
        raise UserError(
            f"{layout.raw(corpus)}: none of the {len(media)} media files can be used; the first: "
            f"{hashes['detail'][0]}"
        )
    joined = rows.drop("media_sha256").join(hashes, on="media", how="left", maintain_order="left")
    usable = pl.col("media").is_null() | pl.col("sha256").is_not_null()
    aside = joined.filter(~usable).select(
        "utterance_id", stage=pl.lit("ingest"), reason="reason", detail="detail"
    )
    kept = joined.filter(usable).rename({"sha256": "media_sha256"})
    return Checked(kept.select(list(UTTERANCES.columns)), aside)


def _card(card: ProtocolCard) -> dict[str, object]:
    fields = asdict(card)
    for name in ("label_map", "scales", "kinds"):
        fields[name] = dict(fields[name]) if fields[name] is not None else None
    return fields


def _counts(
    found: Corpus, corpus: str, kept: pl.DataFrame, quarantine: pl.DataFrame
) -> dict[str, object]:
    """What came in and what became of it, for the report."""
    reasons = quarantine.group_by("reason").len().sort("reason")
    return {
        "adapter_rows": found.utterances.height,
        "utterances": kept.height,
        "dialogues": kept["dialogue_id"].n_unique(),
        "quarantined": dict(zip(reasons["reason"], reasons["len"], strict=True)),
        "expected_utterances": found.card.expected_utterances,
        "expected_dialogues": found.card.expected_dialogues,
        "findings": count_findings(found.card, corpus, kept, quarantine),
    }


def _check_account(rows: int, kept: int, aside: int) -> None:
    """Every row of the adapter must be accounted for; a gap is a defect of this stage."""
    if rows != kept + aside:
        raise RuntimeError(f"ingest: {rows} rows in, {kept} kept and {aside} set aside")


def _stop_if_too_many(
    layout: Layout, params: IngestParams, corpus: str, rows: int, aside: pl.DataFrame
) -> None:
    if not rows:
        raise UserError(
            f"{layout.raw(corpus)}: adapter {params.adapter} found no utterance there; check that "
            "the folder is the corpus's own and the adapter the right one"
        )
    share = aside.height / rows
    if share > params.max_quarantine_fraction:
        first = aside.sort(QUARANTINE.key).row(0, named=True)
        raise UserError(
            f"{layout.quarantine(corpus)}: {aside.height} of {rows} utterances ({share:.1%}) are "
            f"unusable, more than max_quarantine_fraction allows "
            f"({params.max_quarantine_fraction:.1%}); for instance {first['utterance_id']}: "
            f"{first['reason']}: {first['detail']}"
        )


def _stop_without_judgements(
    layout: Layout, params: IngestParams, corpus: str, judged: Judgements, unusable: pl.DataFrame
) -> None:
    """Judgements that are all unusable are a mistake in how they are read, not bad rows."""
    allowed = params.max_quarantine_fraction >= 1
    if unusable.height and not judged.kept_rows and not allowed:
        first = unusable.sort(QUARANTINE.key).row(0, named=True)
        raise UserError(
            f"{layout.quarantine(corpus)}: none of the {judged.rows} judgements is usable; for "
            f"instance {first['utterance_id']}: {first['reason']}: {first['detail']}"
        )
