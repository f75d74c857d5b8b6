"""Test predictions of several methods on exactly the same rows, checked before anything is judged.

Where a corpus keeps the labels of its test part to itself, a target is scored on validation, and
every score says that it was selected on these rows.

A prediction that is missing, repeated, not finite, of another label space or of too few seeds
stops the comparison with one sentence: a score over other rows would compare nothing.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import polars as pl

from models.errors import UserError
from tasks import failures
from tasks.clusters import COLUMNS, Clusters, clusters_of
from tasks.layout import Layout
from tasks.score_files import Details, SplitScores, TargetDetails, TargetScores
from tasks.tables.parquet import read_table
from tasks.tables.splits import SPLIT
from tasks.tables.utterances import UTTERANCES

Split = Literal["test", "validation"]
#: Marks every score of rows that took part in a choice, such as that of the epoch. Choosing makes
#: it look better than it is by an amount that nobody knows, so it has neither interval nor test.
SELECTED = "selected on these rows"
_REMEDY = "rerun stage evaluate"


@dataclass(frozen=True)
class Rows:
    """Predictions of all methods on the rows that have a truth.

    Attributes:
        ids: utterances (n,).
        truth: class codes (n,), values (n, K) with NaN where not annotated, or labels (n, L).
        predictions: method to (S, n, ...), seeds in the order of ``seeds``.
        clusters: rows that intervals and tests draw together.
        folds: in which each row was tested (n,).
        seeds: method to its seeds.
    """

    ids: pl.Series
    truth: np.ndarray
    predictions: dict[str, np.ndarray]
    clusters: Clusters
    folds: np.ndarray
    seeds: dict[str, list[int]]


@dataclass(frozen=True)
class Tested:
    """What evaluation left of one method: its details and its test predictions, checked.

    Attributes:
        details: content of ``<method>.details.json``.
        table: test rows of ``<method>.predictions.parquet``, with or without a truth.
        where: file of the predictions, for messages.
        validation: validation rows of the same file.
        partial: targets of which it predicts other columns than the method that has most, and what
            to say of it: its scores are in its details, but over other columns they rank nothing.
    """

    details: Details
    table: pl.DataFrame
    where: str
    validation: pl.DataFrame = field(default_factory=pl.DataFrame)
    partial: Mapping[str, str] = field(default_factory=dict)

    @property
    def targets(self) -> Mapping[str, TargetDetails]:
        """Targets with a score that compares, on validation where the labels of test are hidden."""
        found = {name: t for name, t in self.details["targets"].items() if name not in self.partial}
        return {name: t for name, t in found.items() if "test" in t or "validation" in t}

    def split(self, name: str) -> Split:
        """Where a target is judged: on validation if no test row has a label."""
        return "test" if "test" in self.targets[name] else "validation"

    def scores(self, name: str) -> SplitScores:
        """Scores of a target on the split where it is judged."""
        target = self.targets[name]
        found = target.get("test", target.get("validation"))
        assert found is not None  # or it were none of the targets
        return found

    def rows(self, name: str) -> pl.DataFrame:
        """Predictions on the split where a target is judged."""
        return self.table if self.split(name) == "test" else self.validation


#: Methods that were evaluated, and the reason for each one that was not.
Loaded = tuple[Mapping[str, Tested], Mapping[str, str]]


def load_tested(
    layout: Layout, corpus: str, methods: Sequence[str]
) -> tuple[dict[str, Tested], dict[str, str]]:
    """Everything evaluated of ``methods``, and the reason for each one that failed before that.

    Args:
        corpus: whose files to read.
        methods: keys under ``methods`` in params.yaml.
    """
    found: dict[str, Tested] = {}
    failed: dict[str, str] = {}
    reasons = failures.standing(layout)
    splits = read_table(SPLIT, layout.splits(corpus))
    for method in methods:
        # scores that outlived a failed training are of older runs
        is_trained = f"train@{corpus}-{method}" not in reasons
        if is_trained and layout.details(corpus, method).exists():
            found[method] = read_tested(layout, corpus, method, splits)
        else:
            failed[method] = _why(layout, corpus, method, reasons)
    found = _part_by_columns(found)
    check_conventions(found)
    check_label_spaces(found)
    return found, failed


def _part_by_columns(tested: Mapping[str, Tested]) -> dict[str, Tested]:
    """The same with ``partial`` filled in."""
    widest: dict[str, Sequence[str]] = {}
    for one in tested.values():
        for name, target in one.targets.items():
            if target["kind"] == "values":
                widest[name] = max(widest.get(name, ()), target["names"], key=len)
    return {
        method: replace(
            one,
            partial={
                name: f"not ranked: predicts {', '.join(one.targets[name]['names'])} alone, others "
                f"{', '.join(names)}"
                for name, names in widest.items()
                if name in one.targets and list(one.targets[name]["names"]) != list(names)
            },
        )
        for method, one in tested.items()
    }


def _why(layout: Layout, corpus: str, method: str, reasons: Mapping[str, str]) -> str:
    for stage in ("train", "evaluate"):
        if reason := reasons.get(f"{stage}@{corpus}-{method}"):
            return f"{stage} failed: {reason}"
    if reason := failures.behind(layout, corpus):
        return f"not finished: {reason}"
    stage = "evaluate" if layout.runs(corpus, method).exists() else "train"
    return f"not finished: run stage {stage}@{corpus}-{method}"


def read_tested(layout: Layout, corpus: str, method: str, splits: pl.DataFrame) -> Tested:
    """One method's details and test predictions, checked against the splits table."""
    file = layout.predictions(corpus, method)
    if not file.exists():
        raise UserError(f"{file}: no such table; run stage evaluate for {corpus}-{method} first")
    details = json.loads(layout.details(corpus, method).read_text(encoding="utf-8"))
    return check_tested(details, pl.read_parquet(file), splits, str(file))


def check_tested(
    details: Details, table: pl.DataFrame, splits: pl.DataFrame | None, where: str
) -> Tested:
    """Hold predictions to what every comparison relies on.

    Args:
        details: of the method.
        table: its predictions on all splits.
        splits: folds and splits that the test rows must equal; None where they are not at hand.
        where: file name for messages.
    """
    nameless = table.filter(pl.col("utterance_id").is_null())
    if nameless.height:
        seed = nameless.get_column("seed")[0]
        raise UserError(f"{where}: {nameless.height} rows of seed {seed} have no id; {_REMEDY}")
    test, validation = (table.filter(pl.col("split") == s) for s in ("test", "validation"))
    one = Tested(details, test, where, validation)
    used: dict[Split, pl.DataFrame] = {"test": test}
    if any(one.split(name) == "validation" for name in one.targets):
        used["validation"] = validation
    for split, rows in used.items():
        _check_rows(rows, where)
        _check_seeds(details, rows, where)
        if splits is not None:
            _check_complete(rows, splits.filter(pl.col("split") == split), split, where)
    return one


def _check_rows(rows: pl.DataFrame, where: str) -> None:
    """No row twice, and every number finite."""
    repeated = rows.filter(pl.struct("utterance_id", "seed", "fold").is_duplicated())
    if repeated.height:
        first = repeated.sort("utterance_id", "seed").row(0, named=True)
        raise UserError(
            f"{where}: seed {first['seed']} predicts {first['utterance_id']} twice; {_REMEDY}"
        )
    for name in rows.columns:
        if not name.startswith(("prediction_", "scores_", "probabilities")):
            continue
        kind = rows.schema[name]
        if kind.is_float():
            broken = pl.col(name).is_not_null() & ~pl.col(name).is_finite()
        elif isinstance(kind, pl.List) and kind.inner.is_float():
            broken = (
                pl.col(name).is_not_null()
                & ~pl.col(name)
                .list.eval(pl.element().is_not_null() & pl.element().is_finite())
                .list.all()
            )
        else:
            continue
        bad = rows.filter(broken).sort("utterance_id", "seed")
        if bad.height:
            first = bad.row(0, named=True)
            raise UserError(
                f"{where}: {name} of {first['utterance_id']}, seed {first['seed']}, is not finite "
                f"({bad.height} such rows); train the method again, for instance with a lower "
                "learning rate"
            )


def _check_seeds(details: Details, rows: pl.DataFrame, where: str) -> None:
    trained = sorted({run["seed"] for run in details["runs"]})
    present = rows.get_column("seed").unique().sort().to_list()
    missing = [seed for seed in trained if seed not in present]
    if missing:
        raise UserError(f"{where}: there is no prediction of seed {missing[0]}; {_REMEDY}")


def _check_predicted(name: str, target: TargetScores, rows: pl.DataFrame, where: str) -> None:
    """Every column of a target is there, and has a value of the right length beside every truth."""
    truths, guesses = columns_of(name, target)
    kind = {"category": pl.String, "labels": pl.List(pl.Float64)}.get(target["kind"], pl.Float64)
    wanted = {guess: kind for guess in guesses}
    if target["kind"] == "category":
        wanted["probabilities"] = pl.List(pl.Float64)
    lost = [column for column in (*truths, *wanted) if column not in rows.columns]
    if lost:
        raise UserError(f"{where}: there is no column {lost[0]}; {_REMEDY}")
    known = rows.filter(pl.any_horizontal(pl.col(truths).is_not_null()))
    for column, expected in wanted.items():
        if not _same_kind(rows.schema[column], expected):
            raise UserError(
                f"{where}: {column} holds {rows.schema[column]} where {expected} belongs; {_REMEDY}"
            )
        broken = pl.col(column).is_null()
        if isinstance(expected, pl.List):
            broken |= pl.col(column).list.len() != len(target["names"])
        bad = known.filter(broken).sort("utterance_id", "seed")
        if bad.height:
            first = bad.row(0, named=True)
            many = f" with {len(target['names'])} numbers" if isinstance(expected, pl.List) else ""
            raise UserError(
                f"{where}: {first['utterance_id']}, seed {first['seed']}, has a {name} but no "
                f"{column}{many} ({bad.height} such rows); {_REMEDY}"
            )


def _same_kind(found: pl.DataType, expected: Any) -> bool:
    """Equal but for the width of numbers."""
    if isinstance(found, pl.List) and isinstance(expected, pl.List):
        return found.inner.is_numeric()
    return found == expected or (expected == pl.Float64 and found.is_numeric())


def _check_complete(rows: pl.DataFrame, expected: pl.DataFrame, split: Split, where: str) -> None:
    keys = ["utterance_id", "fold"]
    wanted = expected.select(keys).join(rows.select("seed").unique(), how="cross")
    lost = wanted.join(rows, on=["seed", *keys], how="anti").sort("utterance_id", "seed")
    if lost.height:
        first = lost.row(0, named=True)
        raise UserError(
            f"{where}: seed {first['seed']} lacks {lost.height} {split} rows, e.g. "
            f"{first['utterance_id']}; {_REMEDY}"
        )
    extra = rows.join(expected, on=keys, how="anti").sort("utterance_id", "seed")
    if extra.height:
        first = extra.row(0, named=True)
        raise UserError(
            f"{where}: {first['utterance_id']} is predicted as a {split} row, but the splits table "
            f"does not have it there ({extra.height} such rows); {_REMEDY}"
        )


def check_conventions(tested: Mapping[str, Tested]) -> None:
    """Raise if scores were computed under different definitions of the metrics."""
    known = {m: c for m, one in tested.items() if (c := one.details.get("convention"))}
    for method, convention in known.items():
        first, other = next(iter(known.items()))
        if convention != other:
            raise UserError(
                f"{tested[method].where}: {method} was scored under {convention}, but {first} "
                f"under {other}; {_REMEDY} for both with the same version"
            )


def check_label_spaces(tested: Mapping[str, Tested]) -> None:
    """Raise unless all methods judge the same classes, columns or labels on the same split."""
    first: dict[str, str] = {}
    for method, one in tested.items():
        for name, target in one.targets.items():
            other = first.setdefault(name, method)
            theirs = tested[other].targets[name]
            if list(target["names"]) != list(theirs["names"]) or target["kind"] != theirs["kind"]:
                raise UserError(
                    f"{one.where}: target {name} has the labels {', '.join(target['names'])}, but "
                    f"{other} has {', '.join(theirs['names'])}; rerun stages train and evaluate "
                    "for both"
                )
            if one.split(name) != tested[other].split(name):
                raise UserError(
                    f"{one.where}: target {name} was scored on {one.split(name)}, but {other} on "
                    f"{tested[other].split(name)}; {_REMEDY} for both"
                )


def check_seeds(rows: Rows, where: Mapping[str, str]) -> None:
    """Raise unless every method was trained with the same seeds."""
    everything = sorted({seed for seeds in rows.seeds.values() for seed in seeds})
    for method, seeds in rows.seeds.items():
        missing = [seed for seed in everything if seed not in seeds]
        if missing:
            other = next(m for m, s in rows.seeds.items() if missing[0] in s)
            raise UserError(
                f"{where[method]}: {method} lacks seed {missing[0]}, which {other} has; rerun "
                "stages train and evaluate"
            )


def align(name: str, tested: Mapping[str, Tested], utterances: pl.DataFrame) -> Rows:
    """The rows of one target that have a truth, in order of their ids.

    Args:
        name: the target.
        tested: methods that predict it; keys become the names in the result.
        utterances: utterance_id, dialogue_id and speaker.
    """
    target = next(iter(tested.values())).targets[name]
    truths, guesses = columns_of(name, target)
    known = pl.any_horizontal(pl.col(column).is_not_null() for column in truths)
    reference: pl.DataFrame | None = None
    predictions: dict[str, np.ndarray] = {}
    seeds: dict[str, list[int]] = {}
    for method, one in tested.items():
        _check_predicted(name, target, one.rows(name), one.where)
        mine = one.rows(name).filter(known).sort("utterance_id", "fold", "seed")
        seeds[method] = mine.get_column("seed").unique().sort().to_list()
        parts = []
        for seed in seeds[method]:
            rows = mine.filter(pl.col("seed") == seed)
            truth = rows.select("utterance_id", "fold", *truths)
            _check_same(truth, reference, one.where, seed)
            reference = truth if reference is None else reference
            parts.append(encode(rows.select(guesses), target, one.where))
        if not parts:
            raise UserError(f"{one.where}: no {one.split(name)} row has a {name}; {_REMEDY}")
        predictions[method] = np.stack(parts)
    assert reference is not None
    place = reference.join(utterances, on="utterance_id", how="left", maintain_order="left")
    return Rows(
        ids=reference.get_column("utterance_id"),
        truth=encode(reference.select(truths), target, next(iter(tested.values())).where, True),
        predictions=predictions,
        clusters=clusters_of(place),
        folds=reference.get_column("fold").to_numpy(),
        seeds=seeds,
    )


def read_places(layout: Layout, corpus: str) -> pl.DataFrame:
    """utterance_id, dialogue_id and speaker of every utterance."""
    return read_table(UTTERANCES, layout.utterances(corpus), COLUMNS)


def columns_of(name: str, target: TargetScores) -> tuple[list[str], list[str]]:
    """Columns of truth and of predictions of a target."""
    if target["kind"] == "values":
        names = target["names"]
        return [f"target_{n}" for n in names], [f"prediction_{n}" for n in names]
    guess = f"scores_{name}" if target["kind"] == "labels" else f"prediction_{name}"
    return [f"target_{name}"], [guess]


def _check_same(truth: pl.DataFrame, reference: pl.DataFrame | None, where: str, seed: int) -> None:
    if reference is None or truth.equals(reference):
        return
    ids, expected = truth.get_column("utterance_id"), reference.get_column("utterance_id")
    missing = expected.filter(~expected.is_in(ids.implode()))
    extra = ids.filter(~ids.is_in(expected.implode()))
    if len(missing):
        raise UserError(
            f"{where}: seed {seed} lacks {len(missing)} test rows that the others have, "
            f"e.g. {missing[0]}; {_REMEDY}"
        )
    if len(extra):
        raise UserError(
            f"{where}: seed {seed} has {len(extra)} test rows that the others lack, "
            f"e.g. {extra[0]}; {_REMEDY}"
        )
    raise UserError(
        f"{where}: seed {seed} was scored against other labels than the others; "
        f"{_REMEDY} for all methods"
    )


def encode(
    frame: pl.DataFrame, target: TargetScores, where: str, is_truth: bool = False
) -> np.ndarray:
    """Columns of a target as numbers: class codes (n,), values (n, K) or labels (n, L)."""
    names = list(target["names"])
    if target["kind"] == "values":
        return frame.cast(pl.Float64).fill_null(float("nan")).to_numpy()
    column = frame.to_series()
    if target["kind"] == "category":
        codes = column.replace_strict(
            names, list(range(len(names))), default=-1, return_dtype=pl.Int64
        )
        if (codes < 0).any():
            stranger = column.filter(codes < 0)[0]
            raise UserError(
                f"{where}: {column.name} holds {stranger!r}, which is none of "
                f"{', '.join(names)}; rerun stages train and evaluate"
            )
        return codes.to_numpy()
    if not is_truth:
        return np.array(column.to_list(), float)
    found = column.to_frame("set").select(
        pl.col("set").list.contains(name).cast(pl.Float64).alias(name) for name in names
    )
    return found.to_numpy()
