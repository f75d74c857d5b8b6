"""Judgements to labels, whatever is told of it: renamed, checked, merged, and filled by name."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import polars as pl

from models.errors import UserError
from tasks.labels.card import Card, rules_of
from tasks.labels.checks import Rules
from tasks.labels.gather import Gathered
from tasks.labels.numbers import merge_labels
from tasks.labels.params import Kind, LabelsParams, PriorParams
from tasks.labels.tables import apply_prior, apply_proxy
from tasks.tables.annotations import ANNOTATIONS
from tasks.targets import FAMILIES

#: Sources whose name says what they hold.
_KNOWN_KINDS: dict[str, Kind] = {"self_report": "self_report"}


@dataclass(frozen=True)
class Combined:
    """Labels, and what became of every judgement.

    Attributes:
        labels: ``tables.labels``.
        gathered: judgements after the checks.
        rows: annotations that came in.
        left_out: rows that were not meant to be merged, by why.
        rules: what the judgements were held to.
        flags: what was noticed in merging; by fold where weights are learnt in each.
        weights: rater weights by target, likewise; empty unless the rule is ``ewe``.
        proxies: utterances whose valence is their sentiment.
        priors: utterances whose VAD is their category's.
    """

    labels: pl.DataFrame
    gathered: Gathered
    rows: int
    left_out: dict[str, int]
    rules: Rules
    flags: dict[str, object]
    weights: Mapping[str, object]
    proxies: int
    priors: int


def combine(
    params: LabelsParams,
    utterance_ids: pl.Series,
    ranges: Iterable[pl.DataFrame],
    card: Card,
    splits: pl.DataFrame | None = None,
) -> Combined:
    """Labels of all utterances; a pure function of its arguments, however ranges are cut.

    Args:
        params: how to merge.
        utterance_ids: the utterances that exist.
        ranges: columns of ``tables.annotations``, with or without the optional ones; in the order
            of the utterances, all rows of one in one range, whatever their order there.
        card: scales, label map and kinds of the corpus; ``params`` goes before it.
        splits: columns of ``tables.SPLIT``, for weights that are learnt in each fold.
    """
    aliases = {**card.label_map, **params.aliases}
    kinds: dict[str, Kind] = {**_KNOWN_KINDS, **card.kinds, **params.kinds}
    rules = rules_of(params, card)
    gathered = Gathered(params, rules, utterance_ids)
    rows, left_out = 0, Counter[str]()
    for part in ranges:
        asked, out = _leave_out(ANNOTATIONS.completed(part), params, kinds, aliases)
        rows += part.height
        left_out.update(out)
        gathered.add(asked)
    check_spelling(gathered.spellings())
    merged = [
        merge_labels(params, gathered, trusted, fold)
        for fold, trusted in _learning_rows(params, splits).items()
    ]
    labels, proxies, priors = pl.concat(part.labels for part in merged), 0, 0
    if params.allow_proxy:
        labels, proxies = apply_proxy(labels)
    if params.prior is not None:
        _check_prior(params.prior, labels)
        labels, priors = apply_prior(labels, params.prior.vad)
    fallbacks: Mapping[str, object] = merged[0].fallbacks
    weights: Mapping[str, object] = merged[0].weights
    if params.learns_by_fold:
        folds = labels["fold"].unique().sort().to_list()
        told = {str(fold): part for fold, part in zip(folds, merged, strict=True)}
        fallbacks = {fold: part.fallbacks for fold, part in told.items()}
        weights = {fold: part.weights for fold, part in told.items()}
    flags: dict[str, object] = {"ewe_fallback": fallbacks, "category_ties": gathered.tied}
    return Combined(labels, gathered, rows, dict(left_out), rules, flags, weights, proxies, priors)


def _learning_rows(
    params: LabelsParams, splits: pl.DataFrame | None
) -> dict[int | None, pl.Series | None]:
    """Fold to the utterances that rater weights are learnt from; None: no fold, and all."""
    if not params.learns_by_fold:
        return {None: None}
    if splits is None:
        raise UserError("labels.merge: ewe learns rater weights in each fold, but has no splits")
    training = splits.filter(pl.col("split") == "train").sort("fold", "utterance_id")
    parts = training.partition_by("fold", maintain_order=True)
    return {part["fold"][0]: part["utterance_id"] for part in parts}


def combine_plainly(
    params: LabelsParams, utterance_ids: pl.Series, ranges: Iterable[pl.DataFrame], card: Card
) -> pl.DataFrame:
    """Labels with every rater at one weight, whatever ``params.merge`` says; see ``combine``.

    For what must be known before there are folds to learn weights in.
    """
    plain = params.model_copy(update={"merge": "mean"})
    return combine(plain, utterance_ids, ranges, card).labels.drop("fold")


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
    return rows.filter(pl.col("why").is_null()).drop("why"), count_by(
        rows.filter(pl.col("why").is_not_null()), "why"
    )


def check_spelling(labels: pl.DataFrame) -> None:
    """Two spellings of one category would become two classes without anybody's wish."""
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


def count_by(frame: pl.DataFrame, column: str) -> dict[str, int]:
    """Rows by value of ``column``, sorted by it."""
    counts = frame.group_by(column).len().sort(column)
    return dict(zip(counts[column].to_list(), counts["len"].to_list(), strict=True))
