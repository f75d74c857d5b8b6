"""What ingest holds an adapter's rows to before they may become tables."""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from models.errors import UserError
from tasks.corpora.adapter import ProtocolCard
from tasks.tables.contract import Table
from tasks.tables.row_checks import RowCheck, is_blank, judge
from tasks.tables.utterances import SEXES, UTTERANCES
from tasks.tables.words import SPLITS

_EXAMPLES = 5
_AGES = (0, 150)
#: Four months: no medium is longer, but times in milliseconds or nanoseconds look so.
_LONGEST_S = 1e7
#: Bytes of a path that the system can open.
_LONGEST_PATH = 1_000
_LONGEST_NAME = 255


@dataclass(frozen=True)
class Checked:
    """Rows that may stay, and quarantine rows for those that may not."""

    kept: pl.DataFrame
    aside: pl.DataFrame


def complete(
    frame: pl.DataFrame,
    table: Table,
    where: str,
    without: Sequence[str] = (),
    text_values: bool = False,
) -> pl.DataFrame:
    """``frame`` with the columns and types of ``table``; optional columns may be absent.

    Args:
        frame: what the adapter returned.
        table: the contract.
        where: who to name in an error.
        without: columns that are filled later.
        text_values: let ``value`` be text, so that an unreadable number can be set aside by name.
    """
    absent = [name for name in table.columns if name not in frame.columns]
    needed = [n for n in absent if not table.columns[n].nullable and n not in without]
    extra = [name for name in frame.columns if name not in table.columns]
    if needed or extra:
        what = f"lacks column {needed[0]}" if needed else f"has unknown column {extra[0]}"
        raise UserError(f"{where}: its table {table.name} {what}; mend the adapter")
    frame = frame.with_columns(pl.lit(None).alias(name) for name in absent)
    try:
        return frame.select(
            pl.col(name)
            if text_values and name == "value" and frame.schema[name] == pl.String
            else pl.col(name).cast(column.dtype)
            for name, column in table.columns.items()
        )
    except pl.exceptions.PolarsError as error:
        raise UserError(
            f"{where}: its table {table.name} does not have the right types: {error}; "
            "mend the adapter"
        ) from error


def check_utterances(rows: pl.DataFrame, corpus: str) -> Checked:
    """Put the corpus before ids and media; set aside rows that no later stage could use."""
    rows = rows.with_row_index("row", 1)
    judged = judge(rows, [*_key_checks(), *_content_checks()])
    again = _repeats(judged.good)
    utterance, media = pl.col("utterance_id"), pl.col("media")
    named = (
        pl.when(pl.col("reason") == "missing_key")
        .then(pl.format("?/{}", "row"))
        .otherwise(utterance)
    )
    aside = pl.concat([judged.bad, again]).select(
        utterance_id=pl.format(corpus + "/{}", named),
        stage=pl.lit("ingest"),
        reason="reason",
        detail=pl.format("row {} of the adapter: {}", "row", "detail"),
    )
    good = judged.good.join(again, on="row", how="anti", maintain_order="left")
    kept = good.with_columns(
        utterance_id=pl.format(corpus + "/{}", utterance),
        dialogue_id=pl.format(corpus + "/{}", "dialogue_id"),
        media=pl.when(media.is_not_null()).then(pl.format(corpus + "/{}", media.fill_null(""))),
        dataset=pl.col("dataset").fill_null(corpus),
    )
    return Checked(kept.select(list(UTTERANCES.columns)), aside)


def _key_checks() -> list[RowCheck]:
    """What may be wrong with an utterance's ids and its place in the dialogue."""
    utterance, dialogue = pl.col("utterance_id"), pl.col("dialogue_id")
    bad_id = (
        is_blank("dialogue_id")
        | ~utterance.str.starts_with(pl.concat_str(dialogue, pl.lit("/")))
        | (utterance.str.count_matches("/") < 1)
        | utterance.str.ends_with("/")
    )
    shown = pl.format(
        "id '{}' is not <dialogue>/<utterance> of dialogue '{}'; mend the adapter",
        utterance,
        dialogue.fill_null(""),
    )
    turn = pl.col("turn")
    no_turn = pl.lit("turn must be a whole number from 0; mend the source")
    no_id = pl.lit("the utterance has no id; mend the source")
    return [
        RowCheck("missing_key", is_blank("utterance_id"), no_id),
        RowCheck("bad_id", bad_id, shown),
        RowCheck("bad_turn", turn.is_null() | (turn < 0), no_turn),
    ]


def _content_checks() -> list[RowCheck]:
    """What may be wrong with an utterance's file, span, region, split and speaker."""
    media, start, end = pl.col("media"), pl.col("start_s"), pl.col("end_s")
    bad_path = media.str.starts_with("/") | media.str.split("/").list.contains("..")
    parts = media.str.split("/")
    no_name = (
        media.str.contains("\0", literal=True)
        | (media.str.len_bytes() > _LONGEST_PATH)
        | parts.list.eval(pl.element().str.len_bytes() > _LONGEST_NAME).list.any()
    )
    bad_times = (end <= start) | (start < 0) | ~start.is_finite() | ~end.is_finite() | (end < 0)
    is_url = media.str.contains(r"^[A-Za-z][A-Za-z0-9+.-]*://")
    too_late = (start > _LONGEST_S) | (end > _LONGEST_S)
    outside = pl.format("media '{}' lies outside the corpus's folder; move it inside", media)
    address = pl.format(
        "media '{}' is an address; nothing is downloaded: fetch the file and name it", media
    )
    times = [time.cast(pl.String).fill_null("?") for time in (start, end)]
    span = pl.format("{} to {} seconds is no span of time; mend the source", *times)
    unit = pl.format("{} to {} seconds: no medium is so long; give times in seconds", *times)
    split, sex, age = pl.col("published_split"), pl.col("sex"), pl.col("age")
    strange_split = pl.format(
        "split '{}' is none of " + ", ".join(SPLITS) + "; rename it, or say what it means in the "
        "adapter's options",
        split,
    )
    strange_sex = pl.format("sex '{}' is none of " + ", ".join(SEXES) + "; rename it", sex)
    strange_age = pl.format("an age of {} years; mend the source", age)
    no_region = pl.lit("region must be x0 < x1, y0 < y1 within 0 to 1")
    return [
        RowCheck("bad_path", is_url, address),
        RowCheck("bad_path", bad_path, outside),
        RowCheck("bad_path", no_name, pl.lit("media is no name that a file can have; mend it")),
        RowCheck("bad_times", bad_times, span),
        RowCheck("bad_times", too_late, unit),
        RowCheck("bad_region", _is_bad_region(), no_region),
        RowCheck("unknown_split", split.is_not_null() & ~split.is_in(SPLITS), strange_split),
        RowCheck("unknown_sex", sex.is_not_null() & ~sex.is_in(SEXES), strange_sex),
        RowCheck("bad_age", ~age.is_between(*_AGES), strange_age),
    ]


def _is_bad_region() -> pl.Expr:
    region = pl.col("region")
    return region.is_not_null() & (
        (region.list.len() != 4)
        | ~region.list.eval(pl.element().is_finite().fill_null(False)).list.all()
        | (region.list.min() < 0)
        | (region.list.max() > 1)
        | (region.list.get(0, null_on_oob=True) >= region.list.get(2, null_on_oob=True))
        | (region.list.get(1, null_on_oob=True) >= region.list.get(3, null_on_oob=True))
    )


def _repeats(good: pl.DataFrame) -> pl.DataFrame:
    """Rows that repeat an id, with ``reason`` and ``detail``.

    Of equal rows the first stays; of rows that differ none does, for nobody knows which is right.
    """
    content = [name for name in UTTERANCES.columns if name != "utterance_id"]
    again = good.filter(pl.col("utterance_id").is_duplicated()).with_columns(
        versions=pl.struct(content).hash(seed=0).n_unique().over("utterance_id"),
        copy=pl.int_range(pl.len()).over("utterance_id"),
    )
    differs = RowCheck(
        "duplicate_id",
        pl.col("versions") > 1,
        pl.lit("other rows have this id but differ; give each its own id"),
    )
    repeats = RowCheck(
        "duplicate_row",
        pl.col("copy") > 0,
        pl.lit("the same row was there before; one copy is kept"),
    )
    return judge(again, [differs, repeats]).bad.drop("versions", "copy")


def count_findings(
    card: ProtocolCard, corpus: str, kept: pl.DataFrame, quarantine: pl.DataFrame
) -> list[str]:
    """Sentences on counts that differ from the published ones; empty where all agree."""
    findings = []
    pairs = (
        ("utterances", card.expected_utterances, kept.height),
        ("dialogues", card.expected_dialogues, kept["dialogue_id"].n_unique()),
    )
    for what, expected, found in pairs:
        if expected is None or expected == found:
            continue
        sentence = f"{corpus}: expected {expected:,} {what}, found {found:,}: "
        if found > expected:
            findings.append(sentence + f"{found - expected:,} more than published")
            continue
        sentence += f"missing {expected - found:,}"
        if what == "utterances":
            sentence += _missing(kept, quarantine, expected - found)
        findings.append(sentence)
    return findings


#: Reasons of utterances that the protocol leaves out, so that nobody expects them.
_ON_PURPOSE = ("outside_protocol", "unlabelled", "not_evaluated")


def _missing(kept: pl.DataFrame, quarantine: pl.DataFrame, missing: int) -> str:
    """What is known about utterances that are not there."""
    orphan = pl.col("reason") == "orphan_label"
    # judgements of kept utterances may be set aside too; those utterances are not missing
    aside = quarantine.filter(~orphan & ~pl.col("reason").is_in(_ON_PURPOSE))
    aside = aside.join(kept, on="utterance_id", how="anti")["utterance_id"]
    named = aside.unique().sort().to_list()
    unread = quarantine.filter(orphan)["utterance_id"].unique().sort().to_list()
    gaps = (
        kept.group_by("dialogue_id")
        .agg(absent=pl.col("turn").max() + 1 - pl.col("turn").n_unique())
        .filter(pl.col("absent") > 0)
        .sort("dialogue_id")
    )
    parts = []
    if named:
        parts.append(f"{len(named):,} set aside ({_some(named)})")
    if unread:
        parts.append(f"{len(unread):,} with judgements but no utterance ({_some(unread)})")
    if not parts and gaps.height:
        parts.append(f"turns are missing in {_some(gaps['dialogue_id'].to_list())}")
    rest = missing - len(named) - len(unread)
    if rest > 0 and parts:
        parts.append(f"{rest:,} nowhere in the folder")
    return ": " + "; ".join(parts) if parts else ", nowhere in the folder"


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:_EXAMPLES])
    return shown if len(names) <= _EXAMPLES else f"{shown} and {len(names) - _EXAMPLES:,} more"
