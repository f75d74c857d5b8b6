"""The agreement report: what the raters said, how far they agree, what looks odd."""

import numpy as np
import polars as pl

from tasks.labels.agreement import describe_labels, describe_numbers
from tasks.labels.gather import Gathered
from tasks.labels.scales import SIGN_ALIASES, SIGNS, SignTable, breaks_sign
from tasks.targets import NUMBERS, VAD


def describe(gathered: Gathered, labels: pl.DataFrame) -> dict[str, object]:
    """Agreement and distribution by target, on the scale of the labels table."""
    agreement: dict[str, object] = {}
    values: dict[str, object] = {}
    for target in NUMBERS:
        given = gathered.judgements(target)
        if not len(given.item):
            continue
        agreement[target] = describe_numbers(given.item, given.rater, given.value)
        values[target] = {
            "raw": _moments(given.raw),
            "judgements": _moments(given.value),
            "merged": _moments(labels[target].drop_nulls().to_numpy()),
        }
    given = gathered.judgements("category")  # sets of labels have no single code per rater
    if len(given.item):
        agreement["category"] = describe_labels(given.item, given.rater, given.value)
    utterances = gathered.items.height
    judged = labels.filter(pl.col("n_raters") > 0).height
    return {
        "agreement": agreement,
        "values": values,
        "categories": _counts(labels["category"]),
        "utterances": {
            "all": utterances,
            "labelled": judged,
            "no_label": utterances - judged,
            "by_target": {
                name: labels[name].drop_nulls().len()
                for name in ("category", "categories", *NUMBERS)
            },
        },
    }


def sign_flags(
    labels: pl.DataFrame, table: SignTable, zero_tol: float
) -> tuple[dict[str, object], pl.DataFrame]:
    """How often category and VAD contradict each other, and quarantine rows of those that do.

    Human labels break these tables often (a quarter to a half of IEMOCAP), so they are counted
    and set aside only on demand.
    """
    signs = SIGNS[table]
    category = pl.col("category").replace(SIGN_ALIASES)
    rows = labels.with_columns(named=category).filter(pl.col("named").is_in(list(signs)))
    broken = rows.with_columns(
        breaks_sign(
            pl.col(dim),
            pl.col("named").replace_strict(
                {name: demand[i] for name, demand in signs.items()}, return_dtype=pl.String
            ),
            zero_tol,
        )
        .fill_null(False)
        .alias(f"breaks_{dim}")
        for i, dim in enumerate(VAD)
    )
    found: dict[str, object] = {"table": table, "zero_tol": zero_tol}
    for dim in VAD:
        judged = broken.filter(pl.col(dim).is_not_null())
        bad = judged.filter(f"breaks_{dim}")
        found[dim] = {
            "checked": judged.height,
            "broken": bad.height,
            "share": bad.height / judged.height if judged.height else None,
            "by_category": _counts(bad["named"]),
            "examples": bad["utterance_id"].sort().head(5).to_list(),
        }
    any_broken = broken.filter(pl.any_horizontal(f"breaks_{dim}" for dim in VAD))
    aside = any_broken.select(
        "utterance_id",
        stage=pl.lit("labels"),
        reason=pl.lit("sign_conflict"),
        detail=pl.format(
            "category {} with valence {}, arousal {}, dominance {} breaks the sign table",
            "category",
            *(pl.col(dim).cast(pl.String).fill_null("unknown") for dim in VAD),
        ),
    )
    return found, aside


def _moments(values: np.ndarray) -> dict[str, float | int | None]:
    n = len(values)
    return {
        "n": n,
        "mean": float(values.mean()) if n else None,
        "sd": float(values.std(ddof=1)) if n > 1 else None,
        "min": float(values.min()) if n else None,
        "max": float(values.max()) if n else None,
    }


def _counts(values: pl.Series) -> dict[str, int]:
    counts = values.drop_nulls().value_counts().sort(values.name)
    return dict(zip(counts[values.name].to_list(), counts["count"].to_list(), strict=True))
