"""``affectloom compare``: is the difference between two sets of runs real, and where is it from?

Both sides have to have been judged on the same test rows with the same labels; anything else is
refused with the reason. Causes come from what was recorded: dvc.lock for code, data and
parameters, the runs for seeds and options.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import polars as pl

from models.errors import UserError
from models.statistics.bootstrap import compare, resample
from models.statistics.comparison import Comparison, verdict
from models.statistics.permutation import permutation_test
from models.statistics.resampling import resamplable
from tasks.dvc_lock import Cause, Locked, flatten
from tasks.layout import Layout
from tasks.report.compare_refs import Ref, resolve
from tasks.report.tested import SELECTED, Tested, align, check_conventions, columns_of

_CAUSES: tuple[Cause, ...] = ("data", "split", "features", "code")
_MOST_FILES = 8


@dataclass(frozen=True)
class Difference:
    """Something that the two sides do not have in common.

    Attributes:
        kind: method, data, split, features, code, seed or parameters.
        what: file or parameter.
        first: its value or hash on the first side, empty if it is absent.
        second: the same of the second side.
    """

    kind: str
    what: str
    first: str
    second: str


@dataclass(frozen=True)
class Delta:
    """A metric of both sides, mean over seeds, and first minus second."""

    metric: str
    first: float
    second: float
    difference: float


@dataclass(frozen=True)
class TargetVerdict:
    """The outcome on one target.

    Attributes:
        target: its name.
        comparison: the paired test of the two methods, for fresh dialogues and fresh trainings;
            None where their epochs were chosen on the rows at hand.
        p_models: of the permutation test, whether these very models differ; None where the numbers
            of seeds differ or the metric is too dear to permute.
        sentence: the outcome in words.
        deltas: every metric of both sides.
    """

    target: str
    comparison: Comparison | None
    p_models: float | None
    sentence: str
    deltas: tuple[Delta, ...]


@dataclass(frozen=True)
class PairVerdict:
    """The outcome for one method, or pair of methods, on one corpus."""

    corpus: str
    first: str
    second: str
    targets: tuple[TargetVerdict, ...]
    causes: tuple[Difference, ...]
    unrecorded: tuple[str, ...]


def compare_refs(
    layout: Layout, first: str, second: str, *, resamples: int = 10_000, seed: int = 0
) -> list[PairVerdict]:
    """Compare everything that two names have in common.

    Args:
        first: method, corpus/method, run folder, revision or revision:method.
        second: the same.
        resamples: of the cluster bootstrap.
        seed: of the bootstrap.
    """
    a, b = resolve(layout, first), resolve(layout, second)
    found = []
    for corpus, mine, theirs in _pairs(a, b):
        found.append(_compare_pair(corpus, (a, mine), (b, theirs), resamples, seed))
    return found


def _pairs(a: Ref, b: Ref) -> list[tuple[str, str, str]]:
    mine, theirs = a.methods(), b.methods()
    if a.method and not b.method:
        theirs = [(c, m) for c, m in theirs if m == a.method]
    if b.method and not a.method:
        mine = [(c, m) for c, m in mine if m == b.method]
    corpora = [c for c in dict.fromkeys(c for c, _ in mine) if c in {c for c, _ in theirs}]
    if not corpora:
        of = [", ".join(sorted({c for c, _ in found})) or "none" for found in (mine, theirs)]
        raise UserError(
            f"{a.label} and {b.label} have no corpus and method in common (corpora: {of[0]} "
            f"against {of[1]}), so there is nothing to compare them on"
        )
    if a.method and b.method:
        return [(corpus, a.method, b.method) for corpus in corpora]
    return [(c, m, m) for c, m in mine if (c, m) in theirs]


def _compare_pair(
    corpus: str, first: tuple[Ref, str], second: tuple[Ref, str], resamples: int, seed: int
) -> PairVerdict:
    (a, method_a), (b, method_b) = first, second
    one, other = a.tested(corpus, method_a), b.tested(corpus, method_b)
    names = _name(a, method_a), _name(b, method_b)
    check_conventions(dict(zip(names, (one, other), strict=True)))
    if names[0] == names[1]:
        raise UserError(f"{a.label} and {b.label} are the same runs; name two different ones")
    shared = [t for t in one.targets if t in other.targets]
    for ref in (a, b):
        shared = [t for t in shared if ref.targets is None or t in ref.targets]
    if not shared:
        raise UserError(f"{names[0]} and {names[1]} predict no common target on {corpus}")
    verdicts = []
    for target in shared:
        check_protocol(target, (names[0], one), (names[1], other))
        verdicts.append(
            _compare_target(a.places(corpus), target, names, (one, other), resamples, seed)
        )
    causes, unrecorded = find_causes(corpus, (a, method_a, one), (b, method_b, other), shared)
    return PairVerdict(corpus, *names, tuple(verdicts), tuple(causes), tuple(unrecorded))


def _name(ref: Ref, method: str) -> str:
    return ref.label if ref.method else f"{ref.label}:{method}"


def check_protocol(target: str, first: tuple[str, Tested], second: tuple[str, Tested]) -> None:
    """Refuse sides that were not judged on the same rows and labels, with the reason."""
    (name_a, a), (name_b, b) = first, second
    refusal = f"{name_a} and {name_b} cannot be compared on {target}:"
    mine, theirs = a.targets[target], b.targets[target]
    if list(mine["names"]) != list(theirs["names"]):
        raise UserError(
            f"{refusal} their label sets differ ({', '.join(mine['names'])} against "
            f"{', '.join(theirs['names'])})"
        )
    if mine["headline"] != theirs["headline"]:
        raise UserError(
            f"{refusal} they are ranked by {mine['headline']} and {theirs['headline']}; evaluate "
            "both with the same version"
        )
    split = a.split(target)
    if split != b.split(target):
        raise UserError(
            f"{refusal} the first is scored on {split} and the second on {b.split(target)}; "
            "evaluate both on the same labels"
        )
    keys = ["utterance_id", "fold"]
    truths, _ = columns_of(target, mine)
    rows = [one.rows(target).select(*keys, *truths).unique(keys).sort(keys) for one in (a, b)]
    only_a, only_b = (
        rows[i].join(rows[1 - i], on=keys, how="anti").get_column("utterance_id") for i in (0, 1)
    )
    if len(only_a) or len(only_b):
        example = only_a[0] if len(only_a) else only_b[0]
        raise UserError(
            f"{refusal} their {split} splits differ, {len(only_a)} rows are only in the first and "
            f"{len(only_b)} only in the second, e.g. {example}; train both on the same splits"
        )
    if not rows[0].equals(rows[1]):
        joined = rows[0].join(rows[1], on=keys, suffix="_other")
        bad = joined.filter(
            pl.any_horizontal(pl.col(t).ne_missing(pl.col(f"{t}_other")) for t in truths)
        )
        raise UserError(
            f"{refusal} {bad.height} {split} rows have other labels, e.g. "
            f"{bad.get_column('utterance_id')[0]}; evaluate both on the same labels"
        )


def _compare_target(
    places: pl.DataFrame,
    target: str,
    names: tuple[str, str],
    sides: tuple[Tested, Tested],
    resamples: int,
    seed: int,
) -> TargetVerdict:
    found = sides[0].targets[target]
    rows = align(target, dict(zip(names, sides, strict=True)), places)
    metric = found["headline"]
    means = [_means(one, target, rows.seeds[n]) for n, one in zip(names, sides, strict=True)]
    deltas = tuple(
        Delta(metric, means[0][metric], means[1][metric], means[0][metric] - means[1][metric])
        for metric in means[0]
        if metric in means[1]
    )
    if sides[0].split(target) != "test":
        sentence = (
            f"No test: the labels of test are hidden, and these scores were {SELECTED}, so a "
            "difference between them may come from choosing."
        )
        return TargetVerdict(target, None, None, sentence, deltas)
    form = resamplable(metric, found["kind"], found["names"], rows.folds)
    drawn = resample(
        metric,
        form,
        rows.truth,
        rows.predictions,
        rows.clusters.codes,
        n_resamples=resamples,
        seed=seed,
    )
    comparison = compare(drawn, *names)
    sentence = verdict(comparison, higher_is_better=found["higher_is_better"])
    if rows.clusters.remark:
        sentence = f"{sentence} Mind: {rows.clusters.remark}."
    p_models = None
    a, b = (rows.predictions[name] for name in names)
    if len(a) == len(b) and form.most_resamples is None:
        p_models = permutation_test(
            form, rows.truth, a, b, rows.clusters.codes, n_permutations=resamples, seed=seed
        )
    return TargetVerdict(target, comparison, p_models, sentence, deltas)


def _means(one: Tested, target: str, seeds: Sequence[int]) -> dict[str, float]:
    """Mean over the compared seeds of every whole-target metric that is defined in all."""
    by_seed = one.scores(target)["by_seed"]
    chosen = [by_seed[str(seed)] for seed in seeds]
    values = {
        name: [value for found in chosen if (value := found.get(name)) is not None]
        for name in chosen[0]
        if "/" not in name
    }
    return {
        name: sum(found) / len(found) for name, found in values.items() if len(found) == len(chosen)
    }


def find_causes(
    corpus: str, first: tuple[Ref, str, Tested], second: tuple[Ref, str, Tested], targets: list[str]
) -> tuple[list[Difference], list[str]]:
    """What differs between two sides, and what nobody recorded."""
    (a, method_a, one), (b, method_b, other) = first, second
    found: list[Difference] = []
    unrecorded = []
    if method_a != method_b:
        found.append(Difference("method", "name", method_a, method_b))
    locked = [
        _locked(ref, corpus, method, tested)
        for ref, method, tested in ((a, method_a, one), (b, method_b, other))
    ]
    for cause in _CAUSES:
        mine, theirs = (side.by_cause(cause) for side in locked)
        if cause == "code" and not (mine and theirs):
            unrecorded.append("code (dvc.lock has no entry of the training)")
            continue
        found += _unequal(cause, mine, theirs, is_hash=True)
    seeds = [
        ", ".join(map(str, side.table.get_column("seed").unique().sort())) for side in (one, other)
    ]
    if seeds[0] != seeds[1]:
        found.append(Difference("seed", "seeds", *seeds))
    options = [
        _options(ref, side, corpus, method, targets)
        for ref, side, method in ((a, locked[0], method_a), (b, locked[1], method_b))
    ]
    if not all(options):
        unrecorded.append("parameters")
    return found + _unequal("parameters", *options, is_hash=False), unrecorded


def _locked(ref: Ref, corpus: str, method: str, tested: Tested) -> Locked:
    """What trained and scored a side; without dvc.lock, the hashes that the runs recorded."""
    stages = ref.lock()
    train = stages.get(f"train@{corpus}-{method}")
    if train is None:
        files = {}
        for run in tested.details["runs"]:
            files |= run["data"]
        return Locked(files, {})
    scoring = stages.get(f"evaluate@{corpus}-{method}")
    code = scoring.by_cause("code") if scoring else {}
    return Locked({**train.files, **code}, train.parameters)


def _options(
    ref: Ref, locked: Locked, corpus: str, method: str, targets: list[str]
) -> dict[str, str]:
    """Parameters by name, without the method's own name in them."""
    values = {
        key.replace(f"methods.{method}", "method", 1): value
        for key, value in locked.parameters.items()
        if key != f"methods.{method}"
    }
    values |= flatten(ref.options(corpus, method, targets))
    return {key: str(value) for key, value in values.items()}


def _unequal(
    kind: str, first: Mapping[str, str], second: Mapping[str, str], *, is_hash: bool
) -> list[Difference]:
    def show(value: str | None) -> str:
        return "" if value is None else value[:10] if is_hash else value

    return [
        Difference(kind, name, show(first.get(name)), show(second.get(name)))
        for name in sorted({*first, *second})
        if first.get(name) != second.get(name)
    ]


def to_text(found: Sequence[PairVerdict]) -> str:
    """The outcome for a terminal."""
    lines = []
    for pair in found:
        lines.append(f"{pair.first} against {pair.second} on {pair.corpus}")
        for one in pair.targets:
            lines += ["", f"  {one.target}: {one.sentence}"]
            if one.p_models is not None and math.isfinite(one.p_models):
                lines.append(f"    Of these very models (permutation test): p = {one.p_models:.3g}")
            width = max((len(d.metric) for d in one.deltas), default=0)
            for d in one.deltas:
                values = f"{d.first:>10.4f}  {d.second:>10.4f}  {d.difference:>+10.4f}"
                lines.append(f"    {d.metric:<{width}}  {values}")
        lines += ["", "  What differs:"]
        lines += _cause_lines(pair.causes) or ["    nothing that was recorded"]
        lines += [f"    not recorded: {what}" for what in pair.unrecorded]
        lines.append("")
    return "\n".join(lines)


def _cause_lines(causes: Sequence[Difference]) -> list[str]:
    lines = []
    for kind in dict.fromkeys(cause.kind for cause in causes):
        mine = [cause for cause in causes if cause.kind == kind]
        for cause in mine[:_MOST_FILES]:
            values = f"{cause.first or 'absent'} against {cause.second or 'absent'}"
            lines.append(f"    {kind}: {cause.what} ({values})")
        if len(mine) > _MOST_FILES:
            lines.append(f"    {kind}: and {len(mine) - _MOST_FILES} more")
    return lines


def to_json(found: Sequence[PairVerdict]) -> list[dict[str, Any]]:
    """The outcome for other programs; undefined numbers are null."""
    return [_plain(asdict(pair)) for pair in found]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
