"""Predicted probabilities against the votes of several raters, where a corpus keeps them."""

from collections.abc import Iterable, Mapping

import numpy as np

from models.batch import Target
from models.metrics.inputs import Metric
from models.metrics.votes import vote_scores
from tasks.batches.dataset import is_labelled
from tasks.evaluate.grids import probabilities
from tasks.evaluate.predictions import Predicted, Split, scored_truth


def against_votes(
    target: Target, split: Split, predicted: Iterable[Predicted]
) -> Mapping[int, Mapping[str, Metric]]:
    """Seed to the scores against the votes, over the scored rows of its folds that have any.

    Empty where the target has no classes, or where raters of no row disagree: one vote a row says
    what the label says.
    """
    if target.kind != "category":
        return {}
    parts: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {}
    for one in predicted:
        if one.split != split or target.name not in one.outputs:
            continue
        shares = one.data.shares(target)
        keep = is_labelled(target, scored_truth(one.data, target)) & ~np.isnan(shares).any(axis=1)
        values = probabilities(target, one.outputs[target.name])
        parts.setdefault(one.run.seed, []).append((shares[keep], values[keep]))
    found = {
        seed: (np.concatenate([q for q, _ in rows]), np.concatenate([p for _, p in rows]))
        for seed, rows in sorted(parts.items())
    }
    if not any(((q > 0) & (q < 1)).any() for q, _ in found.values()):
        return {}
    return {seed: vote_scores(q, p) for seed, (q, p) in found.items() if len(q)}
