"""Parts of the labels table: own scales, votes, label sets, kinds, named fallbacks."""

from collections.abc import Mapping

import numpy as np
import polars as pl

from models.errors import UserError
from tasks.labels.merge import count_votes
from tasks.labels.params import LabelsParams
from tasks.labels.scales import from_unit, to_unit
from tasks.tables.quarantine import QUARANTINE
from tasks.targets import KINDS, ROW_OF, TARGETS, VAD


def own_scale(part: pl.DataFrame, target: str) -> np.ndarray:
    """Values (R,) in the range that the labels table keeps for ``target``.

    What was given in that range stays as it was, to the last bit.
    """
    row = ROW_OF[target]
    has_range = (pl.col("scale_low") == row.low) & (pl.col("scale_high") == row.high)
    other = part.filter(~has_range)
    if other.height and not row.is_mapped:
        first = other.row(0, named=True)
        raise UserError(
            f"{first['source']}: {first['utterance_id']}: {target} is given on "
            f"{first['scale_low']:g}..{first['scale_high']:g}, but {row.name.upper()} intensities "
            f"stay on {row.low:g}..{row.high:g} and are never mapped; let the adapter give them on "
            f"{row.low:g}..{row.high:g}"
        )
    mapped = from_unit(pl.col("unit"), pl.lit(row.low), pl.lit(row.high), pl.lit(1.0))
    is_own = has_range & (pl.col("scale_sign") == 1)
    own = pl.when(is_own | pl.lit(not row.is_mapped)).then("value").otherwise(mapped)
    return part.select(own).to_series().to_numpy()


def vote(
    params: LabelsParams, votes: pl.DataFrame, items: pl.DataFrame
) -> tuple[pl.DataFrame, int, pl.DataFrame]:
    """Category and shares by item, number of ties, and utterances set aside for a tie."""
    several = "each" if params.several_votes == "each" else "split"
    shares = count_votes(_votes(votes), several)
    order = {label: rank for rank, label in enumerate(params.categories)}
    rank = pl.col("label").replace_strict(order, default=len(order), return_dtype=pl.Int64)
    shares = shares.with_columns(
        rank=rank, is_top=pl.col("share") >= pl.col("share").max().over("item") - 1e-12
    )
    tops = shares.filter("is_top").sort("item", "rank", "label")
    winners = tops.group_by("item", maintain_order=True).agg(
        category=pl.col("label").first(),
        share=pl.col("share").first(),
        tied=pl.len() > 1,
        shown=pl.col("label").str.join(", "),
    )
    tied = int(winners["tied"].sum())
    lacks = pl.col("share") < params.min_share - 1e-12
    if params.category == "majority" and params.ties != "first":
        lacks |= pl.col("tied")
    quarantine = QUARANTINE.empty()
    if params.category == "majority" and params.ties == "quarantine":
        quarantine = (
            winners.filter(lacks)
            .join(items, on="item")
            .select(
                "utterance_id",
                stage=pl.lit("labels"),
                reason=pl.lit("no_majority"),
                detail=pl.format(
                    "category: no winner among {}; set labels.ties in params.yaml", "shown"
                ),
            )
        )
        winners = winners.filter(~lacks)
    winners = winners.with_columns(category=pl.when(~lacks).then("category"))
    soft = shares.group_by("item", maintain_order=True).agg(
        category_shares=pl.struct("label", "share").sort_by("label")
    )
    merged = winners.select("item", "category").join(soft, on="item", how="left")
    return merged, tied, quarantine


def choose_sets(votes: pl.DataFrame, threshold: float) -> pl.DataFrame:
    """Sorted labels that at least ``threshold`` of an item's raters gave; maybe none of them.

    A row of value 0 says that its rater looked for the label and found it absent: it makes him
    one of the item's raters, but is no vote. The one among them that was listed first is there too,
    where lists are known: of several raters the first listed by any, by the first of these.
    """
    asked = votes.group_by("item").agg(raters=pl.col("rater_code").n_unique()).sort("item")
    given = count_votes(_votes(votes.filter(is_present())), "each").drop("raters")
    counted = asked.join(given, on="item", how="left", maintain_order="left_right")
    is_chosen = pl.col("votes") >= threshold * pl.col("raters") - 1e-9
    chosen = counted.filter(is_chosen.fill_null(False)).select("item", "label")
    listed = votes.filter(is_present() & pl.col("position").is_not_null())
    firsts = (
        listed.join(chosen, on=["item", "label"], how="semi")
        .sort("item", "position", "rater_code", "label")
        .group_by("item", maintain_order=True)
        .agg(first_category=pl.col("label").first())
    )
    sets = counted.group_by("item", maintain_order=True).agg(
        categories=pl.col("label").filter(is_chosen.fill_null(False)).sort()
    )
    return sets.join(firsts, on="item", how="left", maintain_order="left")


def is_present() -> pl.Expr:
    """Whether a row of ``categories`` gives its label rather than denying it by the value 0."""
    return pl.col("value").is_null() | (pl.col("value") != 0)


def apply_proxy(labels: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """Sentiment as valence where valence is missing, and how often."""
    takes = pl.col("valence").is_null() & pl.col("sentiment").is_not_null()
    count = labels.filter(takes)["utterance_id"].n_unique()
    low, high = TARGETS["sentiment"].low, TARGETS["sentiment"].high
    proxy = to_unit(pl.col("sentiment"), pl.lit(low), pl.lit(high), pl.lit(1.0))
    valence = pl.when(takes).then(proxy).otherwise("valence")
    kind = pl.when(takes).then(pl.lit("proxy")).otherwise("valence_kind")
    return labels.with_columns(valence=valence, valence_kind=kind), count


def apply_prior(
    labels: pl.DataFrame, vad: Mapping[str, tuple[float, float, float]]
) -> tuple[pl.DataFrame, int]:
    """The category's VAD where an utterance has none at all, and how often."""
    takes = pl.all_horizontal(pl.col(VAD).is_null()) & pl.col("category").is_in(list(vad))
    count = labels.filter(takes)["utterance_id"].n_unique()
    filled = [
        pl.when(takes)
        .then(
            pl.col("category").replace_strict(
                {name: values[i] for name, values in vad.items()},
                default=None,
                return_dtype=pl.Float64,
            )
        )
        .otherwise(dim)
        .alias(dim)
        for i, dim in enumerate(VAD)
    ]
    kinds = [
        pl.when(takes).then(pl.lit("prior")).otherwise(f"{dim}_kind").alias(f"{dim}_kind")
        for dim in VAD
    ]
    return labels.with_columns(*filled, *kinds), count


def count_kinds(labels: pl.DataFrame) -> dict[str, dict[str, int]]:
    """How many cells of each dimension came to be in which way."""
    return {
        dim: {kind: n for kind in KINDS if (n := int((labels[f"{dim}_kind"] == kind).sum()))}
        for dim in VAD
    }


def kinds_of(rows: pl.DataFrame, dim: str) -> pl.DataFrame:
    """Kind of each item's cell: that of the least trusted judgement in it."""
    rank = pl.col("kind").replace_strict(
        {kind: place for place, kind in enumerate(KINDS)}, return_dtype=pl.Int32
    )
    least = rows.filter(pl.col("target") == dim).group_by("item").agg(rank.max().alias("rank"))
    kind = pl.col("rank").replace_strict(dict(enumerate(KINDS)), return_dtype=pl.String)
    return least.select("item", kind.alias(f"{dim}_kind"))


def _votes(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.select("item", pl.col("rater_code").alias("rater"), "label").sort(
        "item", "rater", "label"
    )
