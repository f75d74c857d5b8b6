"""Stage ``labels``: judgements of many raters on many scales become one row per utterance.

Values are checked on their raw scale, mapped exactly to the project's scale and merged. What is
wrong goes to quarantine with a typed reason, what is merely odd is counted in the agreement
report; nothing is clipped, guessed or dropped in silence.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from models.errors import UserError
from tasks.context import Context
from tasks.labels.checks import Rules, screen
from tasks.labels.params import Kind, LabelsParams, PriorParams, ScaleParams
from tasks.labels.report import describe, sign_flags
from tasks.labels.scales import SCALES, Scale
from tasks.labels.tables import apply_prior, apply_proxy, count_kinds, merge_labels
from tasks.layout import Layout
from tasks.tables import (
    ANNOTATIONS,
    LABELS,
    QUARANTINE,
    UTTERANCES,
    read_metadata,
    read_table,
    replacing,
    write_table,
)
from tasks.targets import FAMILIES, VAD

#: Sources whose name says what they hold.
_KNOWN_KINDS: dict[str, Kind] = {"self_report": "self_report"}


@dataclass(frozen=True)
class Card:
    """What the corpus's protocol card says about labels."""

    scales: dict[str, Scale]
    label_map: dict[str, str | None]
    kinds: dict[str, Kind] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """Merged labels, judgements set aside, and the report."""

    labels: pl.DataFrame
    quarantine: pl.DataFrame
    report: dict[str, object]


def run(params: LabelsParams, layout: Layout, ctx: Context, corpus: str) -> Path:
    """Merge the judgements of ``corpus``; returns the table of labels."""
    utterances = read_table(
        UTTERANCES, layout.utterances(corpus), ["utterance_id", "published_split"]
    )
    annotations = read_table(ANNOTATIONS, layout.annotations(corpus))
    card = _card(read_metadata(layout.annotations(corpus)))
    result = merge(params, utterances, annotations, card)
    write_table(QUARANTINE, result.quarantine, layout.labels_quarantine(corpus))
    _stop_if_too_many(layout, result, params, corpus)
    write_table(LABELS, result.labels, layout.labels(corpus))
    with replacing(layout.agreement(corpus)) as temporary:
        report = {"corpus": corpus, **result.report}
        temporary.write_text(json.dumps(report, indent=1, sort_keys=True) + "\n")
    return layout.labels(corpus)


def merge(
    params: LabelsParams, utterances: pl.DataFrame, annotations: pl.DataFrame, card: Card
) -> Result:
    """Merge judgements; a pure function of its arguments, whatever the order of the rows.

    Args:
        params: the rules.
        utterances: columns utterance_id, published_split.
        annotations: columns of ``tables.ANNOTATIONS``, with or without the optional ones.
        card: scales and label map of the corpus; ``params`` goes before it.
    """
    rows_in = annotations.height
    aliases = {**card.label_map, **params.aliases}
    kinds: dict[str, Kind] = {**_KNOWN_KINDS, **card.kinds, **params.kinds}
    rows, left_out = _leave_out(ANNOTATIONS.completed(annotations), params, kinds, aliases)
    rules = _rules(params, card)
    screened = screen(rows, utterances["utterance_id"], rules)
    _check_spelling(screened.kept)
    trusted = None
    if params.weights_from == "published_train":
        trusted = utterances.filter(pl.col("published_split") == "train")["utterance_id"]
    merged = merge_labels(params, utterances["utterance_id"], screened.kept, trusted)
    labels, quarantine = merged.labels, pl.concat([screened.quarantine, merged.quarantine])
    proxies, priors = 0, 0
    if params.allow_proxy:
        labels, proxies = apply_proxy(labels)
    if params.prior is not None:
        _check_prior(params.prior, labels)
        labels, priors = apply_prior(labels, params.prior.vad)
    flags, broken = sign_flags(labels, params.signs, params.zero_tol)
    if params.enforce_signs and broken.height:
        quarantine = pl.concat([quarantine, broken])
        gone = pl.col("utterance_id").is_in(broken["utterance_id"].implode())
        labels = labels.with_columns(
            pl.when(~gone).then(name).alias(name)
            for dim in VAD
            for name in (dim, f"{dim}_std", f"{dim}_kind")
        )
    report = describe(utterances["utterance_id"], screened, labels)
    report |= {
        "rule": {**params.model_dump(mode="json", exclude={"scales", "prior"})},
        "rows": {
            "in": rows_in,
            "used": screened.kept.height,
            "quarantined": sum(screened.quarantined_rows.values()),
            "collapsed": screened.collapsed,
            "left_out": sum(left_out.values()),
        },
        "quarantined_rows": dict(sorted(screened.quarantined_rows.items())),
        "quarantined_judgements": _count(quarantine, "reason"),
        "left_out": dict(sorted(left_out.items())),
        "snapped": screened.snapped,
        "scales": {
            target: {"min": s.low, "max": s.high, "sign": s.sign}
            for target, s in sorted(rules.scales.items())
        },
        "flags": {**merged.flags, "signs": flags},
        "rater_weights": merged.weights,
        "kinds": count_kinds(labels),
        "proxy_valence": proxies,
        "prior": {"name": params.prior.name if params.prior else None, "utterances": priors},
    }
    _check_account(report["rows"])
    return Result(labels, quarantine.unique().sort(QUARANTINE.key), report)


def _leave_out(
    annotations: pl.DataFrame,
    params: LabelsParams,
    kinds: dict[str, Kind],
    aliases: dict[str, str | None],
) -> tuple[pl.DataFrame, dict[str, int]]:
    """Rename labels, add each row's kind; take out what is not to be merged, counted by why."""
    kind = pl.col("source").replace_strict(kinds, default="rated", return_dtype=pl.String)
    dropped = [label for label, category in aliases.items() if category is None]
    renamed = {label: category for label, category in aliases.items() if category is not None}
    why = (
        pl.when(~pl.col("target").is_in(list(FAMILIES)))
        .then(pl.format("target {} has no column in the labels", "target"))
        .when(~kind.is_in(params.use_kinds))
        .then(pl.format("kind {} of source {} is not merged", kind, "source"))
        .when(pl.col("label").is_in(dropped))
        .then(pl.format("label {} is mapped to nothing", "label"))
    )
    rows = annotations.with_columns(why=why, kind=kind, label=pl.col("label").replace(renamed))
    return rows.filter(pl.col("why").is_null()).drop("why"), _count(
        rows.filter(pl.col("why").is_not_null()), "why"
    )


def _rules(params: LabelsParams, card: Card) -> Rules:
    unknown = sorted(set(params.scales) - set(FAMILIES))
    if unknown:
        raise UserError(
            f"params.yaml: labels.scales: no target is called '{unknown[0]}'; "
            f"known targets: {', '.join(FAMILIES)}"
        )
    scales = dict(card.scales)
    for target, scale in params.scales.items():
        if isinstance(scale, ScaleParams) and not scale.min < scale.max:
            raise UserError(
                f"params.yaml: labels.scales.{target}: min {scale.min:g} is not below max "
                f"{scale.max:g}; a scale that runs the other way has sign: -1"
            )
        if isinstance(scale, ScaleParams):
            scales[target] = Scale(
                scale.min, scale.max, scale.sign, scale.integer, tuple(scale.sentinels)
            )
        elif scale in SCALES:
            scales[target] = SCALES[scale]
        else:
            raise UserError(
                f"params.yaml: labels.scales.{target}: no scale is called '{scale}'; "
                f"known scales: {', '.join(SCALES)}"
            )
    required = sorted(set(params.required) - set(FAMILIES))
    if required:
        raise UserError(
            f"params.yaml: labels.required: no target is called '{required[0]}'; "
            f"known targets: {', '.join(FAMILIES)}"
        )
    mapped = {category for category in card.label_map.values() if category is not None}
    allowed = set(params.categories) or mapped
    labels = {"category": frozenset(allowed)} if allowed else {}
    if params.multilabels:
        labels["categories"] = frozenset(params.multilabels)
    return Rules(
        scales=scales,
        labels=labels,
        required=params.required,
        released=params.released_raters,
        min_raters=params.min_raters,
        source_tolerance=params.source_tolerance,
        precedence=params.precedence,
        one_category=params.several_votes == "conflict",
    )


def _check_spelling(rows: pl.DataFrame) -> None:
    """Two spellings of one category would become two classes without anybody's wish."""
    labels = rows.select("target", "label").drop_nulls().unique()
    twice = labels.with_columns(plain=pl.col("label").str.strip_chars().str.to_lowercase()).filter(
        pl.struct("target", "plain").is_duplicated()
    )
    if twice.height:
        first = twice.sort("target", "plain", "label").head(2)["label"].to_list()
        raise UserError(
            f"the categories '{first[0]}' and '{first[1]}' differ in case only; give one of them "
            "the other's name in labels.aliases of params.yaml, or in the corpus's label_map"
        )


def _check_prior(prior: PriorParams, labels: pl.DataFrame) -> None:
    """A prior of which no category occurs is misspelt, not unused."""
    has = labels["category"].drop_nulls().unique().sort().to_list()
    if has and not set(has) & set(prior.vad):
        raise UserError(
            f"params.yaml: labels.prior.vad names {', '.join(sorted(prior.vad)) or 'nothing'}, but "
            f"the categories are {', '.join(has)}; name those"
        )


def _card(metadata: dict[str, str]) -> Card:
    """Scales and label map that ingest recorded with the annotations."""
    card = json.loads(metadata.get("card", "{}"))
    scales = {
        target: SCALES[scale] if isinstance(scale, str) else Scale(*scale)
        for target, scale in (card.get("scales") or {}).items()
        if target in FAMILIES
    }
    return Card(scales, card.get("label_map") or {}, card.get("kinds") or {})


def _count(frame: pl.DataFrame, column: str) -> dict[str, int]:
    counts = frame.group_by(column).len().sort(column)
    return dict(zip(counts[column].to_list(), counts["len"].to_list(), strict=True))


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
