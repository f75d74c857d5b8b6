"""Stage ``splits``: what every utterance is for, in every fold; written once, with a hash.

Published splits where the corpus has them, otherwise groups that never cross: utterances that
share a dialogue, and a speaker or session where that is asked for, stay together. Where a wish
cannot be met the stage either says why and stops, or records what it did instead as a note.

The stage labels may fit rater weights in each fold, so it comes later: what parts are stratified
by is the plain merge of the judgements.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Self

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.errors import UserError
from tasks.atomic import write_json
from tasks.context import Context
from tasks.labels.card import read_card
from tasks.labels.combine import combine_plainly
from tasks.labels.gather import RANGE
from tasks.labels.params import LabelsParams
from tasks.layout import Layout
from tasks.leaks.findings import find_leaks
from tasks.splits.fingerprint import fingerprint
from tasks.splits.groups import assign, class_counts, link
from tasks.tables.annotations import ANNOTATIONS
from tasks.tables.parquet import read_metadata, read_ranges, read_table, write_table
from tasks.tables.splits import SPLIT
from tasks.tables.utterances import UTTERANCES

Group = Literal["speaker", "session", "dialogue"]

#: What must not cross, by the group that is promised.
_LINKS: dict[str, tuple[str, ...]] = {
    "speaker": ("dialogue_id", "speaker"),
    "session": ("dialogue_id", "session"),
    "dialogue": ("dialogue_id",),
}

#: What a protocol keeps together, where it does not depend on ``group``.
_PROMISED = {
    "published": "published",
    "leave_one_session_out": "session",
    "random_by_dialogue": "dialogue",
}


class SplitsParams(BaseModel):
    """How a corpus is split (``params.yaml: splits``).

    Attributes:
        protocol: ``published``: the corpus's own; ``group_kfold``: groups into ``folds`` parts,
            each the test part once; ``leave_one_session_out``: each session the test part once;
            ``random_by_dialogue``: dialogues into parts, whoever speaks in them.
        test_part: published part that is tested on, ``published`` only: ``validation`` where labels
            of the published test part are hidden; its rows are left out then, and the rows that
            choose are cut from training, for what chose an epoch cannot test it.
        group: what ``group_kfold`` keeps together besides dialogues, and what the validation part
            is cut by where enough groups are left.
        folds: parts of ``group_kfold`` and ``random_by_dialogue``; 1 cuts one test part.
        validation_fraction: share of the training rows that becomes validation.
        test_fraction: share of the rows that becomes test where ``folds`` is 1.
        seed: for the order of groups of about equal size.
        stratify: column of the labels whose distribution the parts share; null: sizes only.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    protocol: Literal["published", "group_kfold", "leave_one_session_out", "random_by_dialogue"] = (
        "group_kfold"
    )
    test_part: Literal["test", "validation"] = "test"
    group: Group = "speaker"
    folds: int = Field(5, ge=1)
    validation_fraction: float = Field(0.15, gt=0, lt=1)
    test_fraction: float = Field(0.2, gt=0, lt=1)
    seed: int = 0
    stratify: str | None = "category"

    @model_validator(mode="after")
    def _has_parts(self) -> Self:
        if self.test_part != "test" and self.protocol != "published":
            raise ValueError("test_part names a published part; it needs protocol: published")
        return self


@dataclass(frozen=True)
class ForSplits:
    """What the stage is asked: how to split, and how judgements become what parts share."""

    own: SplitsParams
    labels: LabelsParams


@dataclass
class Plan:
    """Folds under construction.

    Attributes:
        rows: utterances in the order of their ids, with column ``stratum``.
        notes: what was done differently from what was asked, in sentences.
        validation_by: what the validation part was cut by, fold by fold.
    """

    rows: pl.DataFrame
    notes: list[str] = field(default_factory=list)
    validation_by: list[str] = field(default_factory=list)


def run(params: ForSplits, layout: Layout, ctx: Context, corpus: str) -> Path:
    """Split ``corpus`` and look for leaks; returns the table of splits."""
    utterances = read_table(UTTERANCES, layout.utterances(corpus))
    judged = layout.annotations(corpus)
    ranges = read_ranges(ANNOTATIONS, judged, RANGE)
    card = read_card(read_metadata(judged))
    labels = combine_plainly(params.labels, utterances["utterance_id"], ranges, card)
    splits, metadata = make_splits(layout, params.own, corpus, utterances, labels)
    write_table(SPLIT, splits, layout.splits(corpus), metadata)
    report = {
        "corpus": corpus,
        **{key: metadata[key] for key in ("protocol", "seed", "sha256")},
        "notes": json.loads(metadata["notes"]),
        "findings": find_leaks(utterances, labels, splits),
    }
    write_json(layout.leaks(corpus), report)
    for note in json.loads(metadata["notes"]):
        ctx.log(f"{corpus}: {note}")
    return layout.splits(corpus)


def make_splits(
    layout: Layout,
    params: SplitsParams,
    corpus: str,
    utterances: pl.DataFrame,
    labels: pl.DataFrame,
) -> tuple[pl.DataFrame, dict[str, str]]:
    """Rows of ``tables.SPLIT`` and metadata: protocol, seed, notes, hash of the rows.

    The order of the rows of ``utterances`` and ``labels`` does not matter.
    """
    rows = utterances.sort("utterance_id")
    if not rows.height:
        raise UserError(f"corpus {corpus}: no utterances to split; see {layout.quarantine(corpus)}")
    plan = Plan(rows.with_columns(stratum=_strata(params, corpus, rows, labels)))
    if params.stratify is not None and not labels[params.stratify].count():
        plan.notes.append(
            f"no utterance has a {params.stratify}, so the parts share their sizes alone; "
            "splits.stratify may name another column of the labels"
        )
    rng = np.random.default_rng(params.seed)
    if params.protocol == "published":
        folds = [_published(params, corpus, plan, rng)]
    else:
        tests = _tests(params, corpus, plan, rng)
        folds = [_with_validation(params, corpus, plan, is_test, rng) for is_test in tests]
    table = pl.concat(
        pl.DataFrame(
            {
                "utterance_id": plan.rows["utterance_id"],
                "split": pl.Series(part.tolist(), dtype=pl.String),
            }
        ).with_columns(fold=pl.lit(number, pl.Int32))
        for number, part in enumerate(folds)
    ).filter(pl.col("split").is_not_null())
    table = table.select(list(SPLIT.columns)).sort(SPLIT.key)
    metadata = {
        "protocol": params.protocol,
        "group": _PROMISED.get(params.protocol, params.group),
        "seed": str(params.seed),
        "folds": str(len(folds)),
        "validation_by": json.dumps(plan.validation_by),
        "notes": json.dumps(plan.notes),
        "sha256": fingerprint(table),
    }
    return table, metadata


def _strata(
    params: SplitsParams, corpus: str, rows: pl.DataFrame, labels: pl.DataFrame
) -> pl.Series:
    """Code from 0 of each row's stratum; rows without a label are a stratum of their own."""
    if params.stratify is None:
        return pl.Series(np.zeros(rows.height, dtype=np.int64))
    if params.stratify not in labels.columns:
        raise UserError(
            f"params.yaml: splits.stratify: the labels of {corpus} have no column "
            f"'{params.stratify}'; known columns: {', '.join(labels.columns)}"
        )
    values = rows.join(
        labels.select("utterance_id", value=params.stratify),
        on="utterance_id",
        how="left",
        maintain_order="left",
    )["value"]
    if values.dtype.is_numeric():
        # thirds of the range of ranks: low, middle, high
        values = ((values.rank("average") - 0.5) * 3 / max(values.count(), 1)).floor()
    if values.dtype.is_nested():
        raise UserError(
            f"params.yaml: splits.stratify: column '{params.stratify}' holds lists; name a column "
            "with one value per utterance, such as category"
        )
    return values.rank("dense").cast(pl.Int64).fill_null(0)


def _published(
    params: SplitsParams, corpus: str, plan: Plan, rng: np.random.Generator
) -> np.ndarray:
    """The corpus's own split; a validation part is cut from training where it has none."""
    published = plan.rows["published_split"]
    found = set(published.drop_nulls().to_list())
    if not {"train", params.test_part} <= found:
        has = f"only {', '.join(sorted(found))}" if found else "no published split"
        raise UserError(
            f"corpus {corpus} has {has}, but the protocol 'published' needs train and "
            f"{params.test_part}; set splits.protocol in params.yaml to group_kfold"
        )
    plan.notes += _torn(plan.rows)
    missing = published.null_count()
    if missing:
        plan.notes.append(
            f"{missing} utterances have no place in the published split and are left out of it"
        )
    if params.test_part == "validation":
        hidden = published == "test"
        plan.notes.append(
            "the published validation part is the test part"
            + (f"; {hidden.sum()} utterances of the published one are left out" * hidden.any())
        )
        published = published.replace({"test": None, "validation": "test"})
    elif "validation" in found:
        plan.validation_by.append("published")
        return published.to_numpy()
    part = published.to_numpy()
    is_train = part == "train"
    chosen = _cut_validation(params, corpus, plan, is_train, rng)
    return np.where(chosen, np.array("validation", dtype=object), part)


def _torn(rows: pl.DataFrame) -> list[str]:
    """A note where dialogues stand in several published parts."""
    known = rows.drop_nulls("published_split")
    torn = known.filter(pl.col("published_split").n_unique().over("dialogue_id") > 1)
    if not torn.height:
        return []
    first = torn.filter(pl.col("dialogue_id") == torn["dialogue_id"][0])
    parts = first.unique("published_split", keep="first", maintain_order=True)
    places = " and ".join(
        f"{row['utterance_id']} in {row['published_split']}" for row in parts.to_dicts()
    )
    return [
        f"{torn['dialogue_id'].n_unique()} dialogues stand in several published parts, such as "
        f"{places}; their context crosses the parts"
    ]


def _tests(
    params: SplitsParams, corpus: str, plan: Plan, rng: np.random.Generator
) -> list[np.ndarray]:
    """Which rows (N,) are test, for each fold."""
    rows = plan.rows
    if params.protocol == "leave_one_session_out":
        unknown = rows["session"].null_count()
        sessions = rows["session"].drop_nulls().unique().sort().to_list()
        if unknown or len(sessions) < 2:
            why = f"{unknown} utterances without a session" if unknown else "only one session"
            raise UserError(
                f"corpus {corpus} has {why}, so no session can be left out; set splits.protocol "
                "in params.yaml to group_kfold or published"
            )
        crossing = rows.group_by("dialogue_id").agg(n=pl.col("session").n_unique())
        crossing = crossing.filter(pl.col("n") > 1)["dialogue_id"].sort()
        if len(crossing):
            raise UserError(
                f"corpus {corpus}: dialogue {crossing[0]} runs through several sessions; mend the "
                "sessions in the source or use group_kfold with group: session"
            )
        return [(rows["session"] == session).to_numpy() for session in sessions]
    by = "dialogue" if params.protocol == "random_by_dialogue" else params.group
    group = _groups(corpus, plan, by, np.ones(rows.height, dtype=bool))
    n_groups, n_parts = int(group.max()) + 1, max(params.folds, 2)
    # every fold needs a group each for training and validation besides its test part
    if n_groups < max(n_parts, 3):
        links = "" if by == "dialogue" else f"shared {by}s link its dialogues into "
        raise UserError(
            f"corpus {corpus}: {links}{n_groups} group{'s' if n_groups != 1 else ''}, but "
            f"{max(n_parts, 3)} are needed for {params.folds} fold(s) with validation and test; "
            "ask for fewer folds, use protocol published, or splits.group: dialogue (the leak "
            "report then names the speakers that overlap)"
        )
    counts = class_counts(group, rows["stratum"].to_numpy())
    if params.folds == 1:
        shares = np.array([params.test_fraction, 1 - params.test_fraction])
        return [assign(counts, shares, rng)[group] == 0]
    part = assign(counts, np.full(params.folds, 1 / params.folds), rng)[group]
    return [part == number for number in range(params.folds)]


def _groups(corpus: str, plan: Plan, by: str, chosen: np.ndarray) -> np.ndarray:
    """Number of the group of each chosen row."""
    rows = plan.rows.filter(pl.Series(chosen))
    for column in _LINKS[by]:
        unknown = rows[column].null_count()
        if unknown:
            note = f"{unknown} utterances have no {column}; only their dialogue keeps them together"
            if unknown == rows.height:
                raise UserError(
                    f"corpus {corpus} knows no {column}, so nothing can be kept together by it; "
                    "set splits.group in params.yaml to dialogue"
                )
            if note not in plan.notes:
                plan.notes.append(note)
    return link(rows, _LINKS[by])


def _with_validation(
    params: SplitsParams, corpus: str, plan: Plan, is_test: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    chosen = _cut_validation(params, corpus, plan, ~is_test, rng)
    return np.where(is_test, "test", np.where(chosen, "validation", "train"))


def _cut_validation(
    params: SplitsParams, corpus: str, plan: Plan, is_train: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Which rows (N,) become validation: whole groups of the training rows, else dialogues."""
    asked = "session" if params.protocol == "leave_one_session_out" else params.group
    by = "dialogue" if params.protocol == "random_by_dialogue" else asked
    if (
        by != "dialogue"
        and plan.rows.filter(pl.Series(is_train))[by].null_count() == is_train.sum()
    ):
        by = _fall_back(plan, f"no {by} is known")
    group = _groups(corpus, plan, by, is_train)
    if group.max() < 1 and by != "dialogue":
        by = _fall_back(plan, f"the training rows are linked into one {by} group")
        group = _groups(corpus, plan, by, is_train)
    if group.max() < 1:
        raise UserError(
            f"corpus {corpus}: only one dialogue is left for training and validation; ask for "
            "fewer folds in params.yaml (splits.folds)"
        )
    plan.validation_by.append(by)
    counts = class_counts(group, plan.rows.filter(pl.Series(is_train))["stratum"].to_numpy())
    shares = np.array([params.validation_fraction, 1 - params.validation_fraction])
    chosen = np.zeros(len(is_train), dtype=bool)
    chosen[np.flatnonzero(is_train)] = assign(counts, shares, rng)[group] == 0
    return chosen


def _fall_back(plan: Plan, why: str) -> str:
    note = f"validation was cut by dialogue because {why}"
    if note not in plan.notes:
        plan.notes.append(note)
    return "dialogue"
