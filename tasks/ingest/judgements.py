"""What ingest holds an adapter's judgements to before they may become a table."""

from dataclasses import dataclass

import polars as pl

from tasks.row_checks import JUDGEMENT, RowCheck, judge
from tasks.tables.annotations import ANNOTATIONS
from tasks.tables.quarantine import QUARANTINE
from tasks.targets import FAMILIES


@dataclass(frozen=True)
class Judgements:
    """Judgements that may stay, those set aside, and the utterances set aside before them.

    ``utterances_aside`` says of each utterance how many judgements went with it.
    """

    kept: pl.DataFrame
    aside: pl.DataFrame
    utterances_aside: pl.DataFrame


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
    rows = _with_numbers(rows)
    first = _unusable(rows)
    rows = rows.join(first, on=JUDGEMENT, how="anti", nulls_equal=True, maintain_order="left")
    known = utterances.select("utterance_id")
    counted = (
        rows.join(known, on="utterance_id", how="anti")
        .group_by("utterance_id")
        .agg(judgements=pl.len(), sources=pl.col("source").unique().sort().str.join(", "))
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
    rows = rows.join(known, on="utterance_id", how="semi", maintain_order="left")
    kept = rows.select(
        pl.col(name).cast(column.dtype) for name, column in ANNOTATIONS.columns.items()
    )
    return Judgements(kept, pl.concat([unusable, orphans]), _with_theirs(utterances_aside, counted))


def _with_numbers(rows: pl.DataFrame) -> pl.DataFrame:
    """``value`` as a number, ``raw`` as it came, and whether it said anything (``is_text``)."""
    rows = rows.with_columns(raw=pl.col("value").cast(pl.String))
    if rows.schema["value"] == pl.String:
        text = pl.col("value").str.strip_chars()
        text = pl.when(~text.str.to_lowercase().is_in(["", "nan"])).then(text)
        return rows.with_columns(
            is_text=text.is_not_null(), value=text.cast(pl.Float64, strict=False)
        )
    value = pl.col("value").fill_nan(None)
    return rows.with_columns(is_text=value.is_not_null(), value=value)


def _unusable(rows: pl.DataFrame) -> pl.DataFrame:
    """The first unusable row of every judgement that has one, as quarantine wants it."""
    value = pl.col("value")
    detail = pl.format(
        "row {} of the judgements: source {}, rater {}: {} = {} is unusable; mend the source",
        "row",
        *(pl.col(n).fill_null("?") for n in ("source", "rater", "target")),
        pl.col("raw").fill_null("(nothing)"),
    )
    keys = ("utterance_id", "rater", "target", "source")
    found = {
        "missing_key": pl.any_horizontal(pl.col(name).is_null() for name in keys),
        "not_numeric": value.is_null() & pl.col("is_text"),
        "missing_value": value.is_null() & pl.col("label").is_null(),
        "not_finite": ~value.is_finite(),
    }
    bad = judge(rows, [RowCheck(reason, is_bad, detail) for reason, is_bad in found.items()]).bad
    return bad.unique(JUDGEMENT, keep="first", maintain_order=True).select(
        *JUDGEMENT, "reason", "detail", stage=pl.lit("ingest")
    )


def _with_theirs(utterances_aside: pl.DataFrame, counted: pl.DataFrame) -> pl.DataFrame:
    """Utterances set aside; the detail says how many judgements go with each."""
    return utterances_aside.join(counted, on="utterance_id", how="left").select(
        "utterance_id",
        "stage",
        "reason",
        detail=pl.when(pl.col("judgements") > 0)
        .then(
            pl.format("{} ({} judgements go with it)", "detail", pl.col("judgements").fill_null(0))
        )
        .otherwise("detail"),
    )
