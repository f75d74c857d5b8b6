"""Stage ``transfer``: the runs trained on one corpus, scored on the test rows of another.

Both corpora have to read the same encoders and share a target. Values are on the project's mapped
scales on both sides. Of categories and label sets only the names that both corpora have count: the
networks choose among those, test rows of other classes are left out, and the result says which and
how many. Nothing is trained or chosen here.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import torch
from pydantic import BaseModel, ConfigDict, Field

from models.batch import Target
from models.errors import UserError
from models.metrics.scoring import CONVENTION, HEADLINE, score_target
from models.statistics.bootstrap import confidence_interval, resample
from models.statistics.resampling import resamplable
from models.training import best_device, compute_steadily, predict
from tasks.atomic import write_json
from tasks.batches.dataset import Dataset, first_of, is_labelled
from tasks.batches.source import Source
from tasks.clusters import COLUMNS, clusters_of
from tasks.context import Context, ForMethod, Progress
from tasks.evaluate.grids import probabilities
from tasks.evaluate.networks import Run, load_runs, sources_of
from tasks.evaluate.predictions import scored_truth
from tasks.evaluate.scores import libraries, spread
from tasks.layout import Layout
from tasks.report.error_curves import absolute_errors, curves
from tasks.score_files import Transfer, TransferTarget
from tasks.tables.parquet import read_table
from tasks.tables.utterances import UTTERANCES

_FEWEST_CLASSES = 2
_METHOD = "this"


class TransferParams(BaseModel):
    """Whether corpora are tested on each other, and how sure the scores are.

    Attributes:
        enabled: False leaves the stages out.
        resamples: of the cluster bootstrap behind the intervals.
        seed: of the bootstrap.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    enabled: bool = True
    resamples: int = Field(default=2_000, ge=100)
    seed: int = 0


@dataclass(frozen=True)
class Shared:
    """What two corpora have in common of one target.

    Attributes:
        trained: the target as the networks predict it.
        tested: the target as the other corpus has it.
        names: classes, columns or labels of both, in the order of ``trained``.
    """

    trained: Target
    tested: Target
    names: tuple[str, ...]

    def of_output(self, output: torch.Tensor) -> torch.Tensor:
        """(N, C) outputs of a network to those of the shared names."""
        return output[:, [self.trained.names.index(name) for name in self.names]]

    def of_truth(self, truth: np.ndarray) -> np.ndarray:
        """Labels of the other corpus in terms of the shared names; -1 or NaN where it has none."""
        if self.trained.kind != "category":
            return truth[:, [self.tested.names.index(name) for name in self.names]]
        return self.of_codes(truth)

    def of_codes(self, codes: np.ndarray) -> np.ndarray:
        """(N,) classes or labels of the other corpus by place in ``names``; -1 has none."""
        places = [self.tested.names.index(name) for name in self.names]
        shared = np.full(len(self.tested.names) + 1, -1)  # the last entry is for "no label", -1
        shared[places] = np.arange(len(places))
        return shared[codes]


def run(
    asked: ForMethod[TransferParams],
    layout: Layout,
    ctx: Context,
    corpus: str,
    method: str,
    onto: str,
) -> None:
    """Score the runs of ``method`` on ``corpus`` on the test rows of ``onto``.

    Args:
        asked: parameters of the intervals, and the encoders of ``onto``.
        layout: where the tables and runs lie.
        ctx: progress.
        corpus: what the runs were trained on.
        method: key under ``methods`` in params.yaml.
        onto: the corpus whose test rows are predicted.
    """
    params, inputs = asked.own, asked.inputs
    compute_steadily()
    runs = load_runs(layout, corpus, method)
    sources = sources_of(layout, runs, onto, inputs)
    source = sources[0]  # all have the same rows and labels
    _check_widths(runs[0], source, corpus, onto)
    shared, unshared = find_shared(runs, source.targets, corpus, onto)
    parts = _test_parts(source, runs[0], list(shared.values()))
    every = np.concatenate([part.rows for part in parts]) if parts else np.zeros(0, np.int64)
    rows, first = np.unique(every, return_index=True)  # a row may be test in several folds
    outputs: dict[str, list[torch.Tensor]] = {name: [] for name in shared}
    for done, (one, seen) in enumerate(zip(runs, sources, strict=True)):
        if shared and parts:
            mine = parts if seen is source else _test_parts(seen, one, list(shared.values()))
            views = [part.seen_through(one.method.view, one.method.shots) for part in mine]
            found = [predict(one.method, view, device=best_device()) for view in views]
            for target in one.targets:
                if target.name in shared:
                    outputs[target.name].append(torch.cat([f[target.name] for f in found])[first])
        ctx.progress(Progress(done + 1, len(runs), "runs"))
    utterances = read_table(UTTERANCES, layout.utterances(onto), COLUMNS)
    places = pl.DataFrame({"utterance_id": source.ids}).join(
        utterances, on="utterance_id", how="left", maintain_order="left"
    )
    content: Transfer = {
        "trained_on": corpus,
        "tested_on": onto,
        "method": method,
        "convention": CONVENTION,
        "libraries": libraries(),
        "targets": {
            name: _score(one, _truth(parts, one.tested, first), outputs[name], params, places[rows])
            for name, one in shared.items()
        },
        "unshared": unshared,
        "shared_media": _shared_media(layout, corpus, onto, source.ids[rows]),
    }
    write_json(layout.transfer(corpus, method, onto), content)


def find_shared(
    runs: Sequence[Run], tested: Sequence[Target], corpus: str, onto: str
) -> tuple[dict[str, Shared], dict[str, str]]:
    """Targets that both corpora have by name, and why each other one cannot be tested."""
    theirs = {target.name: target for target in tested}
    shared: dict[str, Shared] = {}
    unshared: dict[str, str] = {}
    for target in {t.name: t for one in runs for t in one.targets}.values():
        other = theirs.get(target.name)
        if other is None:
            unshared[target.name] = f"{onto} has no labels for it"
            continue
        names = tuple(name for name in target.names if name in other.names)
        if len(names) < (_FEWEST_CLASSES if target.kind == "category" else 1):
            unshared[target.name] = (
                f"{corpus} has {', '.join(target.names)} and {onto} has {', '.join(other.names)}"
            )
            continue
        shared[target.name] = Shared(target, other, names)
    return shared, unshared


def _check_widths(one: Run, source: Source, corpus: str, onto: str) -> None:
    spec = one.method.spec
    dims = {**spec.dims, **{f"{name} frames": dim for name, dim in spec.frame_dims.items()}}
    found = {**source.dims, **{f"{name} frames": dim for name, dim in source.frame_dims.items()}}
    theirs = {name: found.get(name) for name in dims}
    if theirs != dims:
        raise UserError(
            f"{one.folder}: trained on {corpus} with features of width {dims}, but {onto} has "
            f"{theirs}; let both read the same encoders (params.yaml: inputs)"
        )


def _test_parts(source: Source, one: Run, shared: Sequence[Shared]) -> list[Dataset]:
    """Test rows of every fold that has some which no fold before had."""
    targets = tuple(s.tested for s in shared)
    parts: list[Dataset] = []
    for fold in source.folds:
        part = source.part(fold, "test", one.method.level, targets, labelled=False)
        if not np.isin(part.rows, [row for known in parts for row in known.rows]).all():
            parts.append(part)
    return parts


@dataclass(frozen=True)
class _Truth:
    """What was said of the tested rows, in terms of the other corpus.

    Attributes:
        labels: of raters or speakers, as ``scored_truth`` has them.
        first: place of the label that was listed first (n,), where there are label sets.
    """

    labels: np.ndarray
    first: np.ndarray | None


def _truth(parts: Sequence[Dataset], target: Target, chosen: np.ndarray) -> _Truth:
    """Labels of the rows at ``chosen`` of all parts together."""
    if not parts:
        shape = (0,) if target.kind == "category" else (0, len(target.names))
        return _Truth(np.zeros(shape, np.int64 if target.kind == "category" else np.float32), None)
    labels = np.concatenate([scored_truth(part, target) for part in parts])[chosen]
    firsts = [part.first for part in parts if part.first is not None]
    return _Truth(labels, np.concatenate(firsts)[chosen] if firsts else None)


def _score(
    shared: Shared,
    known: _Truth,
    outputs: Sequence[torch.Tensor],
    params: TransferParams,
    places: pl.DataFrame,
) -> TransferTarget:
    """Mean and sd over networks, with an interval for fresh people and fresh networks."""
    kind, names = shared.trained.kind, shared.names
    headline, sign = HEADLINE[shared.trained.name]
    everything = known.labels
    truth = shared.of_truth(everything)
    target = Target(shared.trained.name, kind, names, shared.trained.lower, shared.trained.upper)
    keep = is_labelled(target, truth)
    found: TransferTarget = {
        "headline": headline,
        "higher_is_better": sign > 0,
        "kind": kind,
        "names": list(names),
        "only_trained": [n for n in shared.trained.names if n not in names],
        "only_tested": [n for n in shared.tested.names if n not in names],
        "n": int(keep.sum()),
        "rows_left_out": int(is_labelled(shared.tested, everything).sum() - keep.sum()),
        "networks": len(outputs),
        "metrics": {},
        "remark": "no test row has a shared label",
    }
    if not keep.any():
        return found
    values = [probabilities(target, shared.of_output(output))[keep] for output in outputs]
    guesses = np.stack([v.argmax(1) if kind == "category" else v for v in values])
    first = known.first[keep] if kind == "labels" and known.first is not None else None
    first = first_of(target, truth[keep], None if first is None else shared.of_codes(first))
    shares = values if kind == "category" else [None] * len(values)
    scores = [
        score_target(kind, names, truth[keep], guess, share, first_labels=first)
        for guess, share in zip(guesses, shares, strict=True)
    ]
    clusters = clusters_of(places[np.flatnonzero(keep)])
    drawn = resample(
        headline,
        resamplable(headline, kind, names),
        truth[keep],
        {_METHOD: guesses},
        clusters.codes,
        n_resamples=params.resamples,
        seed=params.seed,
    )
    interval = confidence_interval(drawn, _METHOD)
    if kind == "values":
        everyone = np.concatenate([truth[keep]] * len(guesses))
        found["coverage"] = curves(absolute_errors(everyone, np.concatenate(guesses), names))
    return {
        **found,
        "metrics": {name: spread([float(s[name]) for s in scores]) for name in scores[0]},
        "ci_low": _plain(interval.low),
        "ci_high": _plain(interval.high),
        "n_dialogues": clusters.n_dialogues,
        "n_clusters": drawn.n_clusters,
        "remark": "; ".join(filter(None, (interval.remark, clusters.remark))),
    }


def _plain(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _shared_media(layout: Layout, corpus: str, onto: str, tested: pl.Series) -> int:
    """Test rows of ``onto`` whose media ``corpus`` holds too: such a score is no transfer."""
    columns = ["utterance_id", "media_sha256", "start_s", "end_s"]
    mine, theirs = (
        read_table(UTTERANCES, layout.utterances(name), columns).drop_nulls("media_sha256")
        for name in (corpus, onto)
    )
    theirs = theirs.filter(pl.col("utterance_id").is_in(tested.implode()))
    return theirs.join(mine, on=columns[1:], how="semi", nulls_equal=True).height
