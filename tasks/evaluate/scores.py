"""Every metric of a target over the folds of a seed together, and its spread over seeds."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from models.batch import Target
from models.metrics.calibration import tempered
from models.metrics.scoring import HEADLINE, score_target, undefined_reasons
from tasks.batches.dataset import Dataset, first_of, is_labelled
from tasks.evaluate.calibration import calibrated_scores, reliability
from tasks.evaluate.grids import probabilities
from tasks.evaluate.predictions import SCORED_SPLITS, Predicted, Split, scored_truth
from tasks.evaluate.votes import against_votes
from tasks.score_files import Cell, Reliability, SplitScores, Spread, TargetScores


def score(
    target: Target,
    truth: np.ndarray,
    output: torch.Tensor,
    folds: np.ndarray | None = None,
    first: np.ndarray | None = None,
) -> Mapping[str, Any]:
    """All metrics of one target over the labelled rows.

    Args:
        target: what is scored.
        truth: as ``Dataset.truth`` has it.
        output: of the network.
        folds: of each row (n,), where there are several.
        first: that of ``Dataset``.
    """
    values = probabilities(target, output)
    keep = is_labelled(target, truth)
    if target.kind == "category":
        return score_target(
            target.kind, target.names, truth[keep], values[keep].argmax(1), values[keep]
        )
    first = first_of(target, truth[keep], None if first is None else first[keep])
    return score_target(
        target.kind,
        target.names,
        truth[keep],
        values[keep],
        first_labels=first,
        folds=None if folds is None else folds[keep],
    )


def target_details(
    target: Target,
    predicted: Sequence[Predicted],
    rates: Mapping[tuple[str, int], Mapping[str, Any]],
    heat: Mapping[tuple[int, int], float],
) -> TargetScores:
    """Scores of one target.

    Args:
        target: what is scored.
        predicted: outputs of every network on every split.
        rates: further scores by split and seed.
        heat: temperature of each network, by seed and fold; empty leaves probabilities as they are.
    """
    headline, sign = HEADLINE[target.name]
    details: TargetScores = {
        "headline": headline,
        "higher_is_better": sign > 0,
        "kind": target.kind,
        "names": list(target.names),
    }
    for split in SCORED_SPLITS:
        by_seed = _pooled(target, split, predicted)
        votes = against_votes(target, split, predicted)
        scores = {
            seed: {
                **score(target, *found),
                **rates.get((split, seed), {}),
                **votes.get(seed, {}),
            }
            for seed, found in by_seed.items()
            if is_labelled(target, found[0]).any()
        }
        if not scores:
            continue  # some corpora keep the labels of their test rows to themselves
        bins: Reliability = {}
        if target.kind == "category" and split == "test":
            truth, raw, scaled = _probabilities(target, predicted, heat)
            for seed in scores if scaled else ():
                scores[seed] |= calibrated_scores(truth[seed], scaled[seed])
            everything = np.concatenate(list(truth.values()))
            if raw:
                bins["raw"] = reliability(everything, np.concatenate(list(raw.values())))
            if scaled:
                bins["calibrated"] = reliability(everything, np.concatenate(list(scaled.values())))
        names = next(iter(scores.values()))
        found: SplitScores = {
            "n": int(max(is_labelled(target, truth).sum() for truth, *_ in by_seed.values())),
            "metrics": {
                name: spread([float(found[name]) for found in scores.values()]) for name in names
            },
            "by_seed": {
                str(seed): {name: _plain(float(value)) for name, value in found.items()}
                for seed, found in scores.items()
            },
            "undefined": {
                str(seed): undefined_reasons(found)
                for seed, found in scores.items()
                if undefined_reasons(found)
            },
            "derived": _cells(target, split, predicted, lambda data: _derived(data, target)),
        }
        if target.kind == "values":
            own = _cells(target, split, predicted, lambda data: data.own(target))
            scored = _cells(target, split, predicted, lambda data: data.scored(target))
            found["kinds"] = {"rated": scored - own, "self_report": own}
        if bins:
            found["reliability"] = bins
        details[split] = found
    return details


def _cells(
    target: Target,
    split: Split,
    predicted: Sequence[Predicted],
    which: Callable[[Dataset], np.ndarray],
) -> int:
    """Labels of a split of which ``which`` is true: of one seed, all its folds."""
    mine = [one for one in predicted if one.split == split and target.name in one.outputs]
    first = [one.data for one in mine if one.run.seed == mine[0].run.seed]
    return sum(int(which(data).sum()) for data in first)


def _derived(data: Dataset, target: Target) -> np.ndarray:
    """Labelled cells that nobody gave, and that are not scored."""
    truth = data.truth(target).numpy()
    labelled = truth >= 0 if target.kind == "category" else ~np.isnan(truth)
    return labelled & ~data.scored(target)


def _pooled(
    target: Target,
    split: str,
    predicted: Iterable[Predicted],
) -> dict[int, tuple[np.ndarray, torch.Tensor, np.ndarray, np.ndarray | None]]:
    """Seed to what ``score`` gets of a target over the folds together."""
    parts: dict[int, list[tuple[int, Dataset, torch.Tensor]]] = {}
    for one in predicted:
        if one.split == split and target.name in one.outputs:
            part = (one.run.fold, one.data, one.outputs[target.name])
            parts.setdefault(one.run.seed, []).append(part)
    pooled = {}
    for seed, found in sorted(parts.items()):
        firsts = [data.first for _, data, _ in found if data.first is not None]
        pooled[seed] = (
            np.concatenate([scored_truth(data, target) for _, data, _ in found]),
            torch.cat([output for *_, output in found]),
            np.repeat([fold for fold, *_ in found], [len(data.rows) for _, data, _ in found]),
            np.concatenate(firsts) if firsts else None,
        )
    return pooled


def cell_details(headline: str, scores: Sequence[Mapping[str, float]]) -> Cell:
    """One cell of a grid: mean and deviation of the headline, and of every metric."""
    metrics = {
        name: spread([float(found[name]) for found in scores]) for name in scores[0] if all(scores)
    }
    return {**metrics.get(headline, spread([math.nan])), "metrics": metrics}


def masked_details(headline: str, masks: Sequence[Sequence[Mapping[str, float]]]) -> Cell:
    """One cell of a grid whose scores are means over masks.

    Args:
        headline: the metric that leads.
        masks: by mask, then by seed: every metric; the very same objects where masks hide the same.
    """
    seeds = list(zip(*masks, strict=True))
    if all(found is of[0] for of in seeds for found in of):
        return cell_details(headline, masks[0])
    cell = cell_details(headline, [_mean(of) for of in seeds])
    if headline in cell.get("metrics", {}):
        apart = [np.std([float(one[headline]) for one in of], ddof=1) for of in seeds]
        cell["over_masks"] = _plain(float(np.mean(apart)))
    return cell


def _mean(scores: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Every metric's mean; none where one of the masks left no label."""
    names = scores[0] if all(scores) else ()
    return {name: float(np.mean([float(one[name]) for one in scores])) for name in names}


_BySeed = dict[int, np.ndarray]


def _probabilities(
    target: Target, predicted: Iterable[Predicted], heat: Mapping[tuple[int, int], float]
) -> tuple[_BySeed, _BySeed, _BySeed]:
    """By seed: classes of the labelled test rows, their probabilities, and those by temperature.

    The last is empty where one of the networks has no temperature.
    """
    parts: dict[int, list[tuple[np.ndarray, np.ndarray, np.ndarray]]] = {}
    is_scaled = True
    for one in predicted:
        if one.split != "test" or target.name not in one.outputs:
            continue
        truth = scored_truth(one.data, target)
        keep = is_labelled(target, truth)
        raw = probabilities(target, one.outputs[target.name])[keep]
        temperature = heat.get((one.run.seed, one.run.fold))
        is_scaled &= temperature is not None
        scaled = tempered(raw, temperature or 1.0)
        parts.setdefault(one.run.seed, []).append((truth[keep], raw, scaled))
    truths, raws, scaleds = (
        {seed: np.concatenate([part[i] for part in found]) for seed, found in sorted(parts.items())}
        for i in range(3)
    )
    return truths, raws, scaleds if is_scaled else {}


def libraries() -> dict[str, str]:
    """What computed the scores."""
    return {"numpy": np.__version__, "torch": str(torch.__version__)}


def spread(values: Sequence[float]) -> Spread:
    """Mean and sample standard deviation; null where undefined."""
    array = np.asarray(values, float)
    std = float(array.std(ddof=1)) if len(array) > 1 else math.nan
    return {"mean": _plain(float(array.mean())), "std": _plain(std)}


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None
