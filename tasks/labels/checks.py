"""Strict checks of single judgements: what is wrong goes to quarantine with a typed reason.

A *judgement* is what one rater says about one utterance in one family of targets (see
``targets.FAMILIES``); it is kept or set aside whole.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import polars as pl

from models.errors import UserError
from tasks.labels.scales import Scale, to_unit
from tasks.tables.quarantine import QUARANTINE
from tasks.tables.row_checks import JUDGEMENT, RowCheck, is_blank, judge
from tasks.targets import FAMILIES, WORDS

#: Reasons in the order in which they are looked for; the first that holds is given.
REASONS = (
    "missing_key",
    "scale_undeclared",
    "sentinel",
    "missing_value",
    "not_numeric",
    "not_finite",
    "out_of_range",
    "not_integer",
    "unknown_category",
    "duplicate_conflict",
    "source_conflict",
    "too_few_raters",
    "orphan_label",
)

#: Absorbs the noise of decimal numbers only; beyond it a value is out of range.
TOLERANCE = 1e-9
#: Two judgements that differ by less, on [-1, 1], are the same judgement.
SAME = 1e-6


@dataclass(frozen=True)
class Rules:
    """What the checks need to know, already resolved.

    Attributes:
        scales: declared scale by target; judgements may also carry theirs.
        labels: allowed labels by target (``category``, ``categories``); absent allows any.
        required: targets that every judgement of their family must have.
        released: raters that stand for a released average, which need not be a whole number.
        min_raters: judgements an utterance needs in a family.
        source_tolerance: how far two sources may differ on [-1, 1] about one rater's judgement.
        precedence: sources in order of trust; the first that has a judgement wins.
        one_category: a rater who gives several labels for ``category`` contradicts himself.
    """

    scales: Mapping[str, Scale] = field(default_factory=dict)
    labels: Mapping[str, frozenset[str]] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    released: tuple[str, ...] = ("released",)
    min_raters: int = 1
    source_tolerance: float = 0.05
    precedence: tuple[str, ...] = ()
    one_category: bool = True


@dataclass(frozen=True)
class Screened:
    """Judgements after the checks.

    Attributes:
        kept: rows that passed, with columns family, unit (value on [-1, 1]) and the scale used.
        quarantine: ``tables.quarantine`` rows, one for each judgement set aside.
        quarantined_rows: annotation rows set aside, by reason.
        collapsed: exact repetitions folded into one row.
        snapped: values moved onto the end of their scale, all within ``TOLERANCE``.
    """

    kept: pl.DataFrame
    quarantine: pl.DataFrame
    quarantined_rows: dict[str, int]
    collapsed: int
    snapped: int


def screen(annotations: pl.DataFrame, utterance_ids: pl.Series, rules: Rules) -> Screened:
    """Apply every check; rows in = rows kept + rows quarantined + rows collapsed.

    Args:
        annotations: columns of ``tables.annotations`` with targets of ``FAMILIES``, any order.
        utterance_ids: the utterances that exist.
        rules: what to hold the rows to.
    """
    rows = annotations.sort(
        "utterance_id", "target", "rater", "source", "label", "value", "position", nulls_last=True
    ).with_columns(family=pl.col("target").replace_strict(FAMILIES, return_dtype=pl.String))
    rows = _with_scales(rows, rules.scales)
    is_label = pl.col("target").is_in(WORDS)
    # values of rows that leave their scale go to quarantine with the value they came with
    near = (pl.col("value") >= pl.col("low") - TOLERANCE) & (
        pl.col("value") <= pl.col("high") + TOLERANCE
    )
    bounded = pl.col("value").clip("low", "high")
    rows = rows.with_columns(
        snapped=(
            ((pl.col("value") < pl.col("low")) | (pl.col("value") > pl.col("high")))
            & near
            & ~is_label
        ).fill_null(False)
    ).with_columns(value=pl.when("snapped").then(bounded).otherwise("value"))
    unit = to_unit(pl.col("value"), pl.col("low"), pl.col("high"), pl.col("sign"))
    # the raw value was checked; what this takes away is the last bit's rounding
    rows = rows.with_columns(unit=pl.when(~is_label).then(unit.clip(-1.0, 1.0)))
    sieve = _Sieve(rows)
    sieve.set_aside(judge(rows, _row_checks(rules)).bad)
    sieve.set_aside(_incomplete(sieve.rows, rules.required))
    collapsed = sieve.collapse(["utterance_id", "rater", "target", "source"])
    sieve.set_aside(_duplicates(sieve.rows, rules))
    sieve.set_aside(_source_conflicts(sieve.rows, rules))
    collapsed += sieve.collapse_sources(rules.precedence)
    sieve.set_aside(_too_few(sieve.rows, rules.min_raters))
    sieve.set_aside(_orphans(sieve.rows, utterance_ids))
    kept = sieve.rows.drop("is_integer", "sentinels").rename(
        {"low": "scale_low", "high": "scale_high", "sign": "scale_sign"}
    )
    return Screened(
        kept.drop("snapped"),
        sieve.quarantine(),
        sieve.quarantined_rows,
        collapsed,
        int(kept["snapped"].sum()),
    )


class _Sieve:
    """Rows that are still good, and the judgements set aside so far."""

    def __init__(self, rows: pl.DataFrame) -> None:
        self.rows = rows
        self.quarantined_rows: dict[str, int] = {}
        self._aside: list[pl.DataFrame] = []

    def set_aside(self, bad: pl.DataFrame) -> None:
        """Remove the whole judgements that ``bad`` rows (with reason, detail) belong to."""
        if not bad.height:
            return
        order = pl.col("reason").replace_strict({r: i for i, r in enumerate(REASONS)})
        first = (
            bad.with_columns(order=order)
            .sort(*JUDGEMENT, "order", "target", nulls_last=True)
            .unique(JUDGEMENT, keep="first", maintain_order=True)
            .select(*JUDGEMENT, "reason", "detail")
        )
        gone = self.rows.select(JUDGEMENT).join(first, on=JUDGEMENT, nulls_equal=True)
        for reason, count in gone.group_by("reason").len().rows():
            self.quarantined_rows[reason] = self.quarantined_rows.get(reason, 0) + count
        self.rows = self.rows.join(
            first, on=JUDGEMENT, how="anti", nulls_equal=True, maintain_order="left"
        )
        self._aside.append(first)

    def collapse(self, key: list[str]) -> int:
        """Fold exact repetitions into one row; returns how many rows went."""
        before = self.rows.height
        self.rows = self.rows.unique([*key, "label", "value"], keep="first", maintain_order=True)
        return before - self.rows.height

    def collapse_sources(self, precedence: tuple[str, ...]) -> int:
        """Keep one source where several agree about a rater's judgement."""
        trust = _trust(precedence)
        kept = self.rows.filter(
            trust == trust.min().over("utterance_id", "rater", "family"),
        )
        kept = kept.filter(
            pl.col("source") == pl.col("source").min().over("utterance_id", "rater", "family")
        )
        # copies that differ by less than SAME are one judgement; the smallest is kept
        kept = kept.unique(
            ["utterance_id", "rater", "target", "label"], keep="first", maintain_order=True
        )
        gone, self.rows = self.rows.height - kept.height, kept
        return gone

    def quarantine(self) -> pl.DataFrame:
        """One row for each judgement set aside."""
        if not self._aside:
            return QUARANTINE.empty()
        return (
            pl.concat(self._aside)
            .with_columns(
                utterance_id=pl.col("utterance_id").fill_null("?"), stage=pl.lit("labels")
            )
            .select(list(QUARANTINE.columns))
            .unique()
            .sort(QUARANTINE.key)
        )


def _trust(precedence: tuple[str, ...]) -> pl.Expr:
    """Rank of a row's source, 0 for the most trusted; unlisted sources come last."""
    ranks = {source: rank for rank, source in enumerate(precedence)}
    return pl.col("source").replace_strict(ranks, default=len(precedence), return_dtype=pl.Int64)


def _with_scales(rows: pl.DataFrame, scales: Mapping[str, Scale]) -> pl.DataFrame:
    """Add low, high, sign, is_integer, sentinels from the declared scales or from the rows."""
    declared = pl.DataFrame(
        {
            "target": list(scales),
            "low": [float(s.low) for s in scales.values()],
            "high": [float(s.high) for s in scales.values()],
            "sign": [float(s.sign) for s in scales.values()],
            "is_integer": [s.is_integer for s in scales.values()],
            "sentinels": [list(s.sentinels) for s in scales.values()],
        },
        schema={
            "target": pl.String,
            "low": pl.Float64,
            "high": pl.Float64,
            "sign": pl.Float64,
            "is_integer": pl.Boolean,
            "sentinels": pl.List(pl.Float64),
        },
    )
    rows = rows.join(declared, on="target", how="left", maintain_order="left")
    clash = rows.filter(
        (pl.col("low") != pl.col("scale_min")) | (pl.col("high") != pl.col("scale_max"))
    )
    if clash.height:
        row = clash.row(0, named=True)
        raise UserError(
            f"{row['source']}: {row['utterance_id']}: {row['target']} is declared on "
            f"{row['low']:g}..{row['high']:g} but its judgements say "
            f"{row['scale_min']:g}..{row['scale_max']:g}; correct labels.scales in params.yaml"
        )
    return rows.with_columns(
        low=pl.coalesce("low", "scale_min"),
        high=pl.coalesce("high", "scale_max"),
        sign=pl.col("sign").fill_null(1.0),
        is_integer=pl.col("is_integer").fill_null(False),
    )


def _row_checks(rules: Rules) -> list[RowCheck]:
    """What may be wrong with a row by itself."""
    value, low, high = pl.col("value"), pl.col("low"), pl.col("high")
    is_label = pl.col("target").is_in(WORDS)
    is_whole = (value - value.round()).abs() <= TOLERANCE
    is_unknown = pl.any_horizontal(
        pl.lit(False),
        *(
            (pl.col("target") == target) & ~pl.col("label").is_in(sorted(allowed))
            for target, allowed in sorted(rules.labels.items())
        ),
    )
    nothing = pl.when(is_label).then(is_blank("label")).otherwise(value.is_null() | value.is_nan())
    numbers = {
        "scale_undeclared": low.is_null() | high.is_null() | (low >= high),
        "sentinel": pl.col("sentinels").list.contains(value),
        "missing_value": nothing,
        "not_finite": value.is_infinite(),
        "out_of_range": (value < low - TOLERANCE) | (value > high + TOLERANCE),
        "not_integer": pl.col("is_integer") & ~pl.col("rater").is_in(rules.released) & ~is_whole,
    }
    of_numbers = {
        reason: bad if reason == "missing_value" else ~is_label & bad
        for reason, bad in numbers.items()
    }
    found = {
        "missing_key": is_blank("utterance_id"),
        **of_numbers,
        "unknown_category": is_label & is_unknown,
    }
    return [RowCheck(reason, is_bad, _detail(reason)) for reason, is_bad in found.items()]


_REMEDIES = {
    "missing_key": "has no utterance id; mend the source",
    "scale_undeclared": "has no declared scale; add it to labels.scales in params.yaml",
    "sentinel": "means 'not annotated' on this scale",
    "missing_value": "is empty; mend the source",
    "not_finite": "is not a finite number; mend the source",
    "out_of_range": "leaves its scale; mend the source or declare the right scale",
    "not_integer": "is no whole number on a scale of whole numbers; mend the source",
    "unknown_category": "is no declared category; add it to labels.categories or labels.aliases",
}


def _detail(reason: str) -> pl.Expr:
    shown = pl.coalesce(pl.col("value").cast(pl.String), "label", pl.lit("(nothing)"))
    scale = pl.format(" ({}..{})", "low", "high").fill_null("")
    return pl.format(
        "source {}, rater {}: {} = {}{} {}",
        "source",
        "rater",
        "target",
        shown,
        scale if reason == "out_of_range" else pl.lit(""),
        pl.lit(_REMEDIES[reason]),
    )


def _incomplete(rows: pl.DataFrame, required: tuple[str, ...]) -> pl.DataFrame:
    """Judgements that lack a required target."""
    bad = []
    for target in required:
        family = rows.filter(pl.col("family") == FAMILIES[target])
        having = family.filter(pl.col("target") == target)
        lacking = family.join(having, on=JUDGEMENT, how="anti")
        bad.append(
            lacking.with_columns(
                reason=pl.lit("missing_value"),
                detail=pl.format(
                    "source {}, rater {}: " + target + " is required but missing; mend the source",
                    "source",
                    "rater",
                ),
            )
        )
    return pl.concat(bad) if bad else rows.clear().with_columns(detail=pl.lit(""))


def _duplicates(rows: pl.DataFrame, rules: Rules) -> pl.DataFrame:
    """Judgements of one rater, in one source, that contradict each other."""
    rows = rows.filter((pl.col("family") != "categories") | _is_denied_too())
    if not rules.one_category:
        rows = rows.filter(pl.col("family") != "category")
    again = rows.filter(
        pl.struct("utterance_id", "rater", "source", "target").is_duplicated()
    ).sort("utterance_id", "rater", "source", "target", "value", "label")
    clashes = again.group_by("utterance_id", "rater", "source", "family", "target").agg(
        spread=pl.col("unit").max() - pl.col("unit").min(),
        labels=pl.col("label").n_unique(),
        shown=pl.coalesce(pl.col("value").cast(pl.String), "label").str.join(" and "),
    )
    differs = (pl.col("spread") > SAME) | (pl.col("labels") > 1)
    return clashes.filter(differs | (pl.col("family") == "categories")).with_columns(
        reason=pl.lit("duplicate_conflict"),
        detail=pl.format(
            "source {}, rater {} judges {} more than once and differently ({}); keep one",
            "source",
            "rater",
            "target",
            "shown",
        ),
    )


def _is_denied_too() -> pl.Expr:
    """Rows of ``categories`` whose label the same rater both gives and denies by the value 0."""
    is_absent = (pl.col("value") == 0).fill_null(False)
    of = ["utterance_id", "rater", "source", "target", "label"]
    return is_absent.any().over(of) & ~is_absent.all().over(of)


def _source_conflicts(rows: pl.DataFrame, rules: Rules) -> pl.DataFrame:
    """Judgements of one rater that two sources report differently."""
    key = ["utterance_id", "rater", "family"]
    if rows["source"].n_unique() < 2:
        return rows.clear().with_columns(detail=pl.lit(""))
    shared = rows.filter(pl.col("source").n_unique().over(key) > 1)
    numbers = shared.group_by(*key, "target").agg(
        differs=(pl.col("unit").max() - pl.col("unit").min()) > rules.source_tolerance
    )
    named = (
        shared.filter(pl.col("label").is_not_null())
        .group_by(*key, "target", "source")
        .agg(labels=pl.col("label").sort().str.join("|"))
        .group_by(*key, "target")
        .agg(differs=pl.col("labels").n_unique() > 1)
    )
    clash = pl.concat([numbers, named]).filter("differs").unique(key, maintain_order=False)
    bad = shared.join(clash.select(key), on=key, how="semi", maintain_order="left")
    trust = _trust(rules.precedence)
    best = trust.min().over(key)
    # with a precedence rule the most trusted source stays; without, nobody knows who is right
    bad = bad.filter((trust > best) | (best == len(rules.precedence)))
    return bad.with_columns(
        reason=pl.lit("source_conflict"),
        detail=pl.format(
            "source {} disagrees with another source about rater {}'s {}; "
            "set labels.precedence in params.yaml",
            "source",
            "rater",
            "family",
        ),
    )


def _too_few(rows: pl.DataFrame, min_raters: int) -> pl.DataFrame:
    if min_raters <= 1:
        return rows.clear().with_columns(detail=pl.lit(""))
    raters = pl.col("rater").n_unique().over("utterance_id", "family")
    return (
        rows.with_columns(raters=raters)
        .filter(pl.col("raters") < min_raters)
        .with_columns(
            reason=pl.lit("too_few_raters"),
            detail=pl.format(
                "{}: {} raters, labels.min_raters asks for {}",
                "family",
                "raters",
                pl.lit(min_raters),
            ),
        )
    )


def _orphans(rows: pl.DataFrame, utterance_ids: pl.Series) -> pl.DataFrame:
    known = pl.DataFrame({"utterance_id": utterance_ids})
    lost = rows.join(known, on="utterance_id", how="anti", maintain_order="left")
    return lost.with_columns(
        reason=pl.lit("orphan_label"),
        detail=pl.format(
            "source {}, rater {}: {} of an utterance that does not exist; mend the id",
            "source",
            "rater",
            "family",
        ),
    )
