"""Stage ``labels``: judgements of many raters on many scales become one row per utterance.

Where rater weights are learnt it is one for each fold: weights that had seen the ratings of test
rows would carry them into the labels that methods are trained on.

Values are checked on their raw scale, mapped exactly to the project's scale and merged. What is
wrong goes to quarantine with a typed reason, what is merely odd is counted in the agreement
report; nothing is clipped, guessed or dropped in silence.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from models.errors import UserError
from tasks.atomic import write_json
from tasks.context import Context
from tasks.labels.card import Card, read_card
from tasks.labels.combine import combine, count_by
from tasks.labels.derived import derive
from tasks.labels.gather import RANGE, in_ranges
from tasks.labels.notices import check_some_label, notices, turned_scales
from tasks.labels.params import LabelsParams
from tasks.labels.report import describe, sign_flags
from tasks.labels.tables import count_kinds
from tasks.layout import Layout
from tasks.tables.annotations import ANNOTATIONS
from tasks.tables.label_rows import labels_in
from tasks.tables.labels import LABELS
from tasks.tables.parquet import read_metadata, read_ranges, read_table, write_table
from tasks.tables.quarantine import QUARANTINE
from tasks.tables.splits import SPLIT
from tasks.tables.utterances import UTTERANCES
from tasks.targets import VAD

#: Parts of the rule that the report tells in places of their own.
_TOLD_APART = {"scales", "prior", "lexicon", "teacher"}


@dataclass(frozen=True)
class Result:
    """Merged labels, judgements set aside, and the report."""

    labels: pl.DataFrame
    quarantine: pl.DataFrame
    report: dict[str, object]


def run(params: LabelsParams, layout: Layout, ctx: Context, corpus: str) -> Path:
    """Merge the judgements of ``corpus``; returns the table of labels."""
    known = read_table(UTTERANCES, layout.utterances(corpus), ["utterance_id"])
    ranges = read_ranges(ANNOTATIONS, layout.annotations(corpus), RANGE)
    card = read_card(read_metadata(layout.annotations(corpus)))
    splits = read_table(SPLIT, layout.splits(corpus)) if params.learns_by_fold else None
    result = _merge(params, known["utterance_id"], ranges, card, splits)
    write_table(QUARANTINE, result.quarantine, layout.labels_quarantine(corpus))
    _stop_if_too_many(layout, result, params, corpus)
    lost = _lost(result)
    derived = derive(params, layout, corpus, result.labels)
    check_some_label(corpus, derived.labels, _judgements(result), lost)
    mapped = replace(card, label_map={**card.label_map, **params.aliases})
    again = read_ranges(ANNOTATIONS, layout.annotations(corpus), RANGE)
    odd = notices(corpus, again, mapped, lost)
    for sentence in odd + turned_scales(corpus, labels_in(result.labels)):
        ctx.log(sentence)
    write_table(LABELS, derived.labels, layout.labels(corpus))
    report = {"corpus": corpus, **result.report}
    if derived.counts:
        kinds = count_kinds(labels_in(derived.labels))
        report |= {"kinds": kinds, "derived": derived.counts}
    write_json(layout.agreement(corpus), report)
    return layout.labels(corpus)


def merge(
    params: LabelsParams,
    utterance_ids: pl.Series,
    annotations: pl.DataFrame,
    card: Card,
    splits: pl.DataFrame | None = None,
) -> Result:
    """Merge judgements; a pure function of its arguments, whatever the order of the rows.

    Args:
        params: the rules.
        utterance_ids: the utterances that exist.
        annotations: columns of ``tables.annotations``, with or without the optional ones.
        card: scales, label map and kinds of the corpus; ``params`` goes before it.
        splits: columns of ``tables.SPLIT``, for weights that are learnt in each fold.
    """
    return _merge(params, utterance_ids, in_ranges(annotations, RANGE), card, splits)


def _merge(
    params: LabelsParams,
    utterance_ids: pl.Series,
    ranges: Iterable[pl.DataFrame],
    card: Card,
    splits: pl.DataFrame | None,
) -> Result:
    done = combine(params, utterance_ids, ranges, card, splits)
    labels, gathered, quarantine = done.labels, done.gathered, done.gathered.quarantine()
    flags, _ = sign_flags(labels_in(labels), params.signs, params.zero_tol)
    if params.enforce_signs:
        _, broken = sign_flags(labels, params.signs, params.zero_tol)
        # what contradicts itself in one fold is set aside in all
        broken = broken.unique("utterance_id", keep="first", maintain_order=True)
        quarantine = pl.concat([quarantine, broken])
        gone = pl.col("utterance_id").is_in(broken["utterance_id"].implode())
        labels = labels.with_columns(
            pl.when(~gone).then(name).alias(name)
            for dim in VAD
            for name in (dim, f"{dim}_std", f"{dim}_kind")
        )
    first = labels_in(labels)
    report = describe(gathered, first)
    report |= {
        "rule": {**params.model_dump(mode="json", exclude=_TOLD_APART)},
        "rows": {
            "in": done.rows,
            "used": gathered.kept,
            "quarantined": sum(gathered.quarantined_rows.values()),
            "collapsed": gathered.collapsed,
            "left_out": sum(done.left_out.values()),
        },
        "quarantined_rows": dict(sorted(gathered.quarantined_rows.items())),
        "quarantined_judgements": count_by(quarantine, "reason"),
        "left_out": dict(sorted(done.left_out.items())),
        "snapped": gathered.snapped,
        "scales": {
            target: {"min": s.low, "max": s.high, "sign": s.sign}
            for target, s in sorted(done.rules.scales.items())
        },
        "flags": {**done.flags, "signs": flags},
        "rater_weights": done.weights,
        "kinds": count_kinds(first),
        "proxy_valence": done.proxies,
        "prior": {"name": params.prior.name if params.prior else None, "utterances": done.priors},
    }
    _check_account(report["rows"])
    return Result(labels, quarantine.unique().sort(QUARANTINE.key), report)


def _judgements(result: Result) -> int:
    """How many there were."""
    rows = result.report["rows"]
    assert isinstance(rows, dict)
    return rows["in"]


def _lost(result: Result) -> dict[str, int]:
    """Judgements that did not become labels, by why."""
    found: dict[str, int] = {}
    for part in ("left_out", "quarantined_rows"):
        counts = result.report[part]
        assert isinstance(counts, dict)
        found |= counts
    return found


def _check_account(rows: object) -> None:
    """Every judgement must be accounted for; a gap is a defect of this stage."""
    assert isinstance(rows, dict)
    parts = rows["used"] + rows["quarantined"] + rows["collapsed"] + rows["left_out"]
    if rows["in"] != parts:
        raise RuntimeError(f"labels: {rows['in']} judgements in, {parts} accounted for: {rows}")


def _stop_if_too_many(layout: Layout, result: Result, params: LabelsParams, corpus: str) -> None:
    rows = result.report["rows"]
    assert isinstance(rows, dict)
    share = rows["quarantined"] / rows["in"] if rows["in"] else 0.0
    if share > params.max_quarantine_fraction:
        first = result.quarantine.row(0, named=True)
        raise UserError(
            f"{layout.labels_quarantine(corpus)}: {rows['quarantined']} of {rows['in']} judgements "
            f"({share:.1%}) are unusable, more than labels.max_quarantine_fraction allows "
            f"({params.max_quarantine_fraction:.1%}); for instance {first['utterance_id']}: "
            f"{first['reason']}: {first['detail']}"
        )
