"""What ingest holds an adapter's rows to before they may become tables."""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from models.errors import UserError
from tasks.corpora.adapter import ProtocolCard
from tasks.tables import ANNOTATIONS, QUARANTINE, SEXES, SPLITS, UTTERANCES, Table
from tasks.targets import FAMILIES

_EXAMPLES = 5
_AGES = (0, 150)


@dataclass(frozen=True)
class Checked:
    """Rows that may stay, and quarantine rows for those that may not."""

    kept: pl.DataFrame
    aside: pl.DataFrame


@dataclass(frozen=True)
class Judgements:
    """Judgements that may stay, those set aside, and the utterances set aside before them.

    ``utterances_aside`` says of each utterance how many judgements went with it.
    """

    kept: pl.DataFrame
    aside: pl.DataFrame
    utterances_aside: pl.DataFrame


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
    utterance, dialogue = pl.col("utterance_id"), pl.col("dialogue_id")
    blank = utterance.is_null() | (utterance.str.strip_chars() == "")
    bad_id = (
        dialogue.is_null()
        | (dialogue.str.strip_chars() == "")
        | ~utterance.str.starts_with(pl.concat_str(dialogue, pl.lit("/")))
        | (utterance.str.count_matches("/") < 1)
        | utterance.str.ends_with("/")
    )
    media = pl.col("media")
    bad_path = media.str.starts_with("/") | media.str.split("/").list.contains("..")
    start, end = pl.col("start_s"), pl.col("end_s")
    bad_times = (end <= start) | (start < 0) | ~start.is_finite() | ~end.is_finite() | (end < 0)
    region = pl.col("region")
    bad_region = region.is_not_null() & (
        (region.list.len() != 4)
        | ~region.list.eval(pl.element().is_finite().fill_null(False)).list.all()
        | (region.list.min() < 0)
        | (region.list.max() > 1)
        | (region.list.get(0, null_on_oob=True) >= region.list.get(2, null_on_oob=True))
        | (region.list.get(1, null_on_oob=True) >= region.list.get(3, null_on_oob=True))
    )
    split = pl.col("published_split")
    shown = pl.format(
        "{} to {}", start.cast(pl.String).fill_null("?"), end.cast(pl.String).fill_null("?")
    )
    rules: list[tuple[str, pl.Expr, pl.Expr]] = [
        ("missing_key", blank, pl.lit("the utterance has no id; mend the source")),
        (
            "bad_id",
            bad_id,
            pl.format(
                "id '{}' is not <dialogue>/<utterance> of dialogue '{}'; mend the adapter",
                utterance,
                dialogue.fill_null(""),
            ),
        ),
        (
            "bad_turn",
            pl.col("turn").is_null() | (pl.col("turn") < 0),
            pl.lit("turn must be a whole number from 0; mend the source"),
        ),
        (
            "bad_path",
            bad_path,
            pl.format("media '{}' lies outside the corpus's folder; move it inside", media),
        ),
        (
            "bad_times",
            bad_times,
            pl.format("{} seconds is no span of time; mend the source", shown),
        ),
        ("bad_region", bad_region, pl.lit("region must be x0 < x1, y0 < y1 within 0 to 1")),
        (
            "unknown_split",
            split.is_not_null() & ~split.is_in(SPLITS),
            pl.format(
                "split '{}' is none of " + ", ".join(SPLITS) + "; rename it, or say what it means "
                "in the adapter's options",
                split,
            ),
        ),
        (
            "unknown_sex",
            pl.col("sex").is_not_null() & ~pl.col("sex").is_in(SEXES),
            pl.format("sex '{}' is none of " + ", ".join(SEXES) + "; rename it", "sex"),
        ),
        (
            "bad_age",
            ~pl.col("age").is_between(*_AGES),
            pl.format("an age of {} years; mend the source", "age"),
        ),
    ]
    reason, detail = pl.lit(None, pl.String), pl.lit(None, pl.String)
    for name, is_bad, sentence in reversed(rules):
        bad = is_bad.fill_null(False)
        reason = pl.when(bad).then(pl.lit(name)).otherwise(reason)
        detail = pl.when(bad).then(sentence).otherwise(detail)
    rows = rows.with_columns(reason=reason, detail=detail)
    rows = _mark_repeats(rows)
    named = (
        pl.when(pl.col("reason") == "missing_key")
        .then(pl.format("?/{}", "row"))
        .otherwise(utterance)
    )
    aside = rows.filter(pl.col("reason").is_not_null()).select(
        utterance_id=pl.format(corpus + "/{}", named),
        stage=pl.lit("ingest"),
        reason="reason",
        detail=pl.format("row {} of the adapter: {}", "row", "detail"),
    )
    kept = rows.filter(pl.col("reason").is_null()).with_columns(
        utterance_id=pl.format(corpus + "/{}", utterance),
        dialogue_id=pl.format(corpus + "/{}", dialogue),
        media=pl.when(media.is_not_null()).then(pl.format(corpus + "/{}", media.fill_null(""))),
        dataset=pl.col("dataset").fill_null(corpus),
    )
    return Checked(kept.select(list(UTTERANCES.columns)), aside)


def _mark_repeats(rows: pl.DataFrame) -> pl.DataFrame:
    """Give a reason to rows that repeat an id.

    Of equal rows the first stays; of rows that differ none does, for nobody knows which is right.
    """
    good = rows.filter(pl.col("reason").is_null())
    again = good.filter(pl.col("utterance_id").is_duplicated())
    if not again.height:
        return rows
    content = [name for name in UTTERANCES.columns if name != "utterance_id"]
    again = again.with_columns(
        versions=pl.struct(content).hash(seed=0).n_unique().over("utterance_id"),
        copy=pl.int_range(pl.len()).over("utterance_id"),
    ).filter((pl.col("versions") > 1) | (pl.col("copy") > 0))
    marked = again.select(
        "row",
        again_reason=pl.when(pl.col("versions") > 1)
        .then(pl.lit("duplicate_id"))
        .otherwise(pl.lit("duplicate_row")),
        again_detail=pl.when(pl.col("versions") > 1)
        .then(pl.lit("other rows have this id but differ; give each its own id"))
        .otherwise(pl.lit("the same row was there before; one copy is kept")),
    )
    return rows.join(marked, on="row", how="left", maintain_order="left").with_columns(
        reason=pl.coalesce("reason", "again_reason"), detail=pl.coalesce("detail", "again_detail")
    )


def check_judgements(
    rows: pl.DataFrame, corpus: str, utterances: pl.DataFrame, utterances_aside: pl.DataFrame
) -> Judgements:
    """Set aside judgements that are no number, or that belong to no utterance."""
    rows = rows.with_row_index("row", 1).with_columns(
        family=pl.col("target").replace_strict(FAMILIES, default=pl.col("target")),
        utterance_id=pl.when(pl.col("utterance_id").str.strip_chars() != "").then(
            pl.format(corpus + "/{}", "utterance_id")
        ),
    )
    raw = pl.col("value").cast(pl.String)
    if rows.schema["value"] == pl.String:
        text = pl.col("value").str.strip_chars()
        text = pl.when(~text.str.to_lowercase().is_in(["", "nan"])).then(text)
        rows = rows.with_columns(
            raw=raw, is_text=text.is_not_null(), value=text.cast(pl.Float64, strict=False)
        )
    else:
        rows = rows.with_columns(
            raw=raw, is_text=pl.col("value").is_not_null(), value=pl.col("value").fill_nan(None)
        ).with_columns(is_text=pl.col("value").is_not_null())
    nothing = pl.col("value").is_null() & pl.col("label").is_null()
    key = pl.any_horizontal(
        pl.col(name).is_null() for name in ("utterance_id", "rater", "target", "source")
    )
    rows = rows.with_columns(
        reason=pl.when(key)
        .then(pl.lit("missing_key"))
        .when(pl.col("value").is_null() & pl.col("is_text"))
        .then(pl.lit("not_numeric"))
        .when(nothing)
        .then(pl.lit("missing_value"))
        .when(~pl.col("value").is_finite())
        .then(pl.lit("not_finite"))
    )
    judgement = ("utterance_id", "rater", "source", "family")
    first = (
        rows.filter(pl.col("reason").is_not_null())
        .unique(judgement, keep="first", maintain_order=True)
        .select(
            *judgement,
            stage=pl.lit("ingest"),
            reason="reason",
            detail=pl.format(
                "row {} of the judgements: source {}, rater {}: {} = {} is unusable; "
                "mend the source",
                "row",
                *(pl.col(n).fill_null("?") for n in ("source", "rater", "target")),
                pl.col("raw").fill_null("(nothing)"),
            ),
        )
    )
    rows = rows.join(first, on=judgement, how="anti", nulls_equal=True, maintain_order="left")
    lost = rows.join(utterances.select("utterance_id"), on="utterance_id", how="anti")
    rows = rows.join(
        utterances.select("utterance_id"), on="utterance_id", how="semi", maintain_order="left"
    )
    counted = lost.group_by("utterance_id").agg(
        judgements=pl.len(), sources=pl.col("source").unique().sort().str.join(", ")
    )
    orphans = counted.join(utterances_aside, on="utterance_id", how="anti").select(
        "utterance_id",
        stage=pl.lit("ingest"),
        reason=pl.lit("orphan_label"),
        detail=pl.format(
            "source {}: {} judgements of an utterance that does not exist; mend the id",
            "sources",
            "judgements",
        ),
    )
    unusable = first.with_columns(
        utterance_id=pl.coalesce("utterance_id", pl.lit(f"{corpus}/?/judgement"))
    ).select(list(QUARANTINE.columns))
    with_them = utterances_aside.join(counted, on="utterance_id", how="left").select(
        "utterance_id",
        "stage",
        "reason",
        detail=pl.when(pl.col("judgements") > 0)
        .then(
            pl.format("{} ({} judgements go with it)", "detail", pl.col("judgements").fill_null(0))
        )
        .otherwise("detail"),
    )
    kept = rows.select(
        pl.col(name).cast(column.dtype) for name, column in ANNOTATIONS.columns.items()
    )
    return Judgements(kept, pl.concat([unusable, orphans]), with_them)


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
