"""Leaks between splits: what training and test share that they should not.

With several folds a thing counts once, however many folds it crosses in.
"""

from collections.abc import Sequence
from typing import cast

import numpy as np
import polars as pl

from tasks.leaks.columns import ColumnLeak, column_leaks
from tasks.leaks.finding import EXAMPLES, Finding, Severity, finding, plural
from tasks.leaks.texts import text_leaks
from tasks.leaks.unseen import absent_groups, unlearnt
from tasks.tables.words import SPLITS

__all__ = ["Finding", "absent_features", "feature_leaks", "find_leaks", "trained_on_corpus"]

#: Half the sum of the differences of the class shares; 0.1 moves weighted scores visibly.
PRIOR_DISTANCE = 0.1
#: Fewer rows make the shares of the classes meaningless.
_PRIOR_ROWS = 20


def trained_on_corpus(
    encoder: str, corpus: str, trained_on: Sequence[str], rows: pl.DataFrame
) -> list[Finding]:
    """An encoder that was trained on the corpus may have seen the rows that judge it.

    Args:
        encoder: its key.
        corpus: whose name is looked for.
        trained_on: corpora that its checkpoint says it was trained on.
        rows: with ``split`` and ``utterance_id``, of one fold.
    """
    if corpus not in trained_on:
        return []
    tested = rows.filter(pl.col("split") == "test").get_column("utterance_id").to_list()
    return [
        Finding(
            kind="encoder_trained_on_corpus",
            severity="warning",
            count=len(tested),
            folds=[],
            examples=tested[:EXAMPLES],
            sentence=f"encoder {encoder} was trained on {corpus} itself: scores on its "
            f"{len(tested)} test rows say nothing about faces or voices that are new to it",
        )
    ]


def find_leaks(
    utterances: pl.DataFrame, labels: pl.DataFrame, splits: pl.DataFrame
) -> list[Finding]:
    """Everything that crosses from one split to another, worst first.

    Args:
        utterances: columns of ``tables.utterances``.
        labels: columns of ``tables.labels``, at least utterance_id and category.
        splits: columns of ``tables.SPLIT``.
    """
    rows = splits.join(utterances, on="utterance_id", how="inner").sort("utterance_id", "fold")
    findings = [
        *_shared(rows, "dialogue_id", "same_dialogue", "error", "dialogue"),
        *_shared(rows, "media_sha256", "same_media_content", "error", "media file (by content)"),
        *_shared(rows, "speaker", "same_speaker", "warning", "speaker"),
        *_shared(rows, "session", "same_session", "warning", "session"),
        *_overlaps(rows),
        *_texts(rows),
        *_priors(rows, labels),
        *unlearnt(rows, labels),
        *absent_groups(rows),
    ]
    rank = {"error": 0, "warning": 1, "info": 2}
    return sorted(findings, key=lambda f: (rank[f["severity"]], f["kind"]))


def feature_leaks(
    matrix: np.ndarray,
    names: list[str],
    labels: list[str] | list[float],
    splits: list[str],
    threshold: float = 0.9,
    target: str = "the label",
) -> list[Finding]:
    """Columns of a feature matrix that are constant, not finite, or give the label away.

    Args:
        matrix: (N, D) numbers.
        names: D column names.
        labels: N categories, or N numbers.
        splits: N times train, validation or test.
        threshold: a column alone that reaches this score on rows it was not fitted on bears the
            label: balanced accuracy for categories, R squared for numbers.
        target: what the labels are of, for the sentence.
    """
    return [
        _column_finding(leak, target)
        for leak in column_leaks(matrix, names, labels, splits, threshold)
    ]


def absent_features(encoder: str, rows: pl.DataFrame) -> list[Finding]:
    """Utterances without features of ``encoder``, by why: NaN among them, no face, ...

    Args:
        encoder: who should have made them.
        rows: columns utterance_id, reason, fold of the utterances without.
    """
    if not rows.height:
        return []
    rows = rows.with_columns(pl.col("reason").fill_null("no reason given")).sort("utterance_id")
    reasons = rows.group_by("reason").len().sort("reason")
    told = ", ".join(f"{count:,} {reason}" for reason, count in reasons.iter_rows())
    examples = [f"{row['utterance_id']}: {row['reason']}" for row in rows.head(5).to_dicts()]
    sentence = f"without features of {encoder}: {plural(rows.height, 'utterance')} ({told})"
    return [finding("absent_features", "info", rows.height, rows["fold"], examples, sentence)]


def _shared(
    rows: pl.DataFrame, column: str, kind: str, severity: Severity, noun: str
) -> list[Finding]:
    """Values of ``column`` that occur in two splits of one fold."""
    crossing = (
        rows.filter(pl.col(column).is_not_null())
        .group_by("fold", column)
        .agg(
            splits=pl.col("split").unique(),
            dialogues=pl.col("dialogue_id").n_unique(),
            first=pl.col("utterance_id").first(),
            last=pl.col("utterance_id").last(),
        )
        .filter(pl.col("splits").list.len() > 1)
    )
    if column == "media_sha256":
        # one recording holds a whole dialogue; that is the finding same_dialogue
        crossing = crossing.filter(pl.col("dialogues") > 1)
    if not crossing.height:
        return []
    named = crossing.sort(column, "fold").unique(column, keep="first", maintain_order=True)
    examples = []
    for row in named.head(EXAMPLES).iter_rows(named=True):
        where = " and ".join(split for split in SPLITS if split in row["splits"])
        what = f"{row['first']} = {row['last']}" if column == "media_sha256" else row[column]
        examples.append(f"{what} in {where} of fold {row['fold']}")
    total = rows[column].n_unique() - int(rows[column].has_nulls())
    sentence = (
        f"in more than one split of a fold: {named.height:,} of {plural(total, noun)}, for "
        f"instance {examples[0]}"
    )
    return [finding(kind, severity, named.height, crossing["fold"], examples, sentence)]


def _overlaps(rows: pl.DataFrame) -> list[Finding]:
    """Utterances whose span of a media file overlaps one of another split."""
    spans = rows.filter(
        pl.all_horizontal(pl.col("media", "start_s", "end_s").is_not_null())
        & (pl.col("split").n_unique().over("fold", "media") > 1)
    )
    if not spans.height:
        return []
    # in order of their starts, a span overlaps an earlier one of another split exactly when the
    # latest end of that split so far lies after its start
    key = ["fold", "media"]
    spans = spans.sort(*key, "start_s", "end_s", "utterance_id").with_columns(
        pl.when(pl.col("split") == split)
        .then("end_s")
        .cum_max()
        .forward_fill()
        .shift(1)
        .over(key)
        .alias(f"end_{split}")
        for split in SPLITS
    )
    latest = pl.max_horizontal(
        pl.when(pl.col("split") != split).then(f"end_{split}") for split in SPLITS
    )
    bad = spans.filter(latest > pl.col("start_s"))
    if not bad.height:
        return []
    count = bad["utterance_id"].n_unique()
    examples = [
        f"{row['utterance_id']} ({row['start_s']:g} to {row['end_s']:g} s of {row['media']})"
        for row in bad.unique("utterance_id", keep="first", maintain_order=True)
        .head(EXAMPLES)
        .iter_rows(named=True)
    ]
    sentence = (
        f"overlap in time, within one media file, of utterances in different splits: "
        f"{plural(count, 'utterance')}, for instance {examples[0]}"
    )
    return [finding("overlapping_spans", "error", count, bad["fold"], examples, sentence)]


_TEXT_KINDS: dict[str, tuple[Severity, str]] = {
    "identical_text": ("warning", "repeat a text of the training part word for word"),
    "near_identical_text": ("warning", "nearly repeat a text of the training part"),
    "short_repeated_text": ("info", "repeat a short text of the training part"),
}


def _texts(rows: pl.DataFrame) -> list[Finding]:
    """Texts of validation and test that training holds too, and scripts played again."""
    found = text_leaks(rows.select("utterance_id", "dialogue_id", "text", "fold", "split"))
    evaluated = found.evaluated["utterance_id"].n_unique()
    findings = []
    for kind, (severity, what) in _TEXT_KINDS.items():
        bad = found.repeats.filter(pl.col("kind") == kind)
        if not bad.height:
            continue
        once = bad.unique("utterance_id", keep="first", maintain_order=True)
        # the longest say most
        shown = once.with_columns(length=pl.col("text").str.len_chars()).sort(
            "length", "utterance_id", descending=[True, False]
        )
        examples = [
            f"{row['utterance_id']} ~ {row['other']}: {_short(row['text'])}"
            for row in shown.head(EXAMPLES).iter_rows(named=True)
        ]
        sentence = (
            f"{once.height:,} of the {evaluated:,} utterances in validation and test {what}, for "
            f"instance {examples[0]}"
        )
        findings.append(finding(kind, severity, once.height, bad["fold"], examples, sentence))
    return findings + _scripts(found.scripts, found.evaluated)


def _scripts(scripts: pl.DataFrame, evaluated: pl.DataFrame) -> list[Finding]:
    if not scripts.height:
        return []
    order = scripts.with_columns(share=pl.col("repeated") / pl.col("texts")).sort(
        "share", "dialogue_id", descending=[True, False]
    )
    once = order.unique("dialogue_id", keep="first", maintain_order=True)
    dialogues = evaluated["dialogue_id"].n_unique()
    examples = [
        f"{row['dialogue_id']} repeats {row['repeated']} of its {row['texts']} longer texts, "
        f"mostly from {row['other']}"
        for row in once.head(EXAMPLES).iter_rows(named=True)
    ]
    mean = cast(float, once["share"].mean())  # of numbers
    sentence = (
        f"{once.height:,} of the {dialogues:,} dialogues in validation and test follow a script "
        f"that training holds too and repeat {mean:.0%} of their longer texts on average, for "
        f"instance {examples[0]}"
    )
    return [finding("repeated_script", "warning", once.height, scripts["fold"], examples, sentence)]


def _short(text: str, limit: int = 80) -> str:
    text = " ".join(text.split())
    return f"'{text}'" if len(text) <= limit else f"'{text[: limit - 1]}…'"


def _priors(rows: pl.DataFrame, labels: pl.DataFrame) -> list[Finding]:
    """Folds whose test or validation part has other class shares than training."""
    judged = rows.join(labels.select("utterance_id", "category"), on="utterance_id").filter(
        pl.col("category").is_not_null()
    )
    if not judged.height:
        return []
    shares = (
        judged.group_by("fold", "split", "category")
        .len()
        .with_columns(
            rows=pl.col("len").sum().over("fold", "split"),
            share=pl.col("len") / pl.col("len").sum().over("fold", "split"),
        )
    )
    full = (
        judged.select("fold", "split")
        .unique()
        .join(judged.select("category").unique(), how="cross")
        .join(shares, on=["fold", "split", "category"], how="left")
        .with_columns(
            share=pl.col("share").fill_null(0.0), rows=pl.col("rows").max().over("fold", "split")
        )
    )
    train = full.filter(pl.col("split") == "train").select(
        "fold", "category", train_share="share", train_rows="rows"
    )
    apart = (
        full.filter(pl.col("split") != "train")
        .join(train, on=["fold", "category"])
        .filter(pl.min_horizontal("rows", "train_rows") >= _PRIOR_ROWS)
        .with_columns(gap=(pl.col("share") - pl.col("train_share")).abs())
        .sort("fold", "split", "gap", "category", descending=[False, False, True, False])
        .group_by("fold", "split", maintain_order=True)
        .agg(
            pl.col("gap").sum().alias("distance") / 2,
            pl.col("category", "share", "train_share").first(),
        )
        .filter(pl.col("distance") > PRIOR_DISTANCE)
        .sort("distance", "fold", "split", descending=[True, False, False])
    )
    if not apart.height:
        return []
    examples = [
        f"fold {row['fold']}: {row['category']} is {row['train_share']:.1%} of train and "
        f"{row['share']:.1%} of {row['split']} (distance {row['distance']:.2f})"
        for row in apart.head(EXAMPLES).iter_rows(named=True)
    ]
    sentence = (
        f"class shares differ from those of training in {plural(apart.height, 'part')}, most of "
        f"all in {examples[0]}"
    )
    return [finding("class_priors_differ", "info", apart.height, apart["fold"], examples, sentence)]


_COLUMN_SENTENCES = {
    "constant_column": "hold one value only and teach nothing",
    "not_finite_column": "hold NaN or infinity",
    "label_bearing_column": "predict {} alone, as an id or a label in disguise does",
}


def _column_finding(leak: ColumnLeak, target: str) -> Finding:
    severity: Severity = "error" if leak.kind == "label_bearing_column" else "warning"
    sentence = (
        f"feature columns that {_COLUMN_SENTENCES[leak.kind].format(target)}: "
        f"{len(leak.columns):,}, for instance {leak.columns[0]}"
    )
    return finding(leak.kind, severity, len(leak.columns), [], leak.columns, sentence)
