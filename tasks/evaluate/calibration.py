"""Temperatures and residuals of the validation rows, and what they make of test.

A temperature scales the logits of one network and never changes which class is likeliest. That of a
network is fitted on the validation rows of its own fold: those of another are its test rows. The
file beside the scores also has one of all networks together, for media that are not of the corpus.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from models.batch import Target
from models.metrics.calibration import fit_temperature, residual_quantiles, risk_curve
from models.metrics.classification import (
    brier_score,
    calibration_bins,
    expected_calibration_error,
    log_loss,
)
from models.metrics.inputs import Metric
from tasks.batches.dataset import is_labelled
from tasks.evaluate.grids import probabilities
from tasks.evaluate.predictions import Predicted, scored_truth
from tasks.score_files import Bins

#: Ends of the scores of scaled probabilities.
CALIBRATED = "_calibrated"
#: Shares of residuals below each quantile: ranges of 50, 80, 90 and 95 % and the middle.
SHARES = (0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.975)


@dataclass(frozen=True)
class _Known:
    """Validation rows with a label, of one network."""

    seed: int
    fold: int
    truth: np.ndarray
    values: np.ndarray


def _validated(target: Target, predicted: Sequence[Predicted]) -> list[_Known]:
    found = []
    for one in predicted:
        if one.split != "validation" or target.name not in one.outputs:
            continue
        truth = scored_truth(one.data, target)
        keep = is_labelled(target, truth)
        values = probabilities(target, one.outputs[target.name])
        if keep.any():
            found.append(_Known(one.run.seed, one.run.fold, truth[keep], values[keep]))
    return found


def temperatures(target: Target, predicted: Sequence[Predicted]) -> dict[tuple[int, int], float]:
    """Seed and fold to the temperature of that network; empty where classes are not predicted."""
    if target.kind != "category":
        return {}
    return {
        (one.seed, one.fold): fit_temperature(one.truth, one.values)
        for one in _validated(target, predicted)
    }


def calibrations(targets: Sequence[Target], predicted: Sequence[Predicted]) -> dict[str, Any]:
    """Content of ``<method>.calibration.json``: of classes a temperature, of values residuals."""
    found: dict[str, Any] = {}
    for target in targets:
        known = _validated(target, predicted)
        if target.kind == "labels" or not known:
            continue
        truth, values = (np.concatenate(parts) for parts in _columns(known))
        entry: dict[str, Any] = {"kind": target.kind, "names": list(target.names)}
        if target.kind == "category":
            entry |= {"temperature": fit_temperature(truth, values), "n": len(truth)}
            entry["networks"] = [
                {"seed": seed, "fold": fold, "temperature": temperature}
                for (seed, fold), temperature in temperatures(target, predicted).items()
            ]
        else:
            entry["residuals"] = {
                name: _residuals(truth[:, i], values[:, i])
                for i, name in enumerate(target.names)
                if not np.isnan(truth[:, i]).all()
            }
        found[target.name] = entry
    return {"fitted_on": "validation", "targets": found}


def _columns(known: Sequence[_Known]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    return [one.truth for one in known], [one.values for one in known]


def _residuals(truth: np.ndarray, values: np.ndarray) -> dict[str, Any]:
    there = ~np.isnan(truth)
    ends = residual_quantiles(truth[there], values[there], SHARES)
    shares = [f"{share:g}" for share in SHARES]
    return {"n": int(there.sum()), "quantiles": dict(zip(shares, ends, strict=True))}


def calibrated_scores(truth: np.ndarray, scaled: np.ndarray) -> Mapping[str, Metric]:
    """What a temperature changes: calibration error, Brier score and log loss."""
    return {
        f"ece{CALIBRATED}": expected_calibration_error(truth, scaled),
        f"brier{CALIBRATED}": brier_score(truth, scaled),
        f"log_loss{CALIBRATED}": log_loss(truth, scaled),
    }


def reliability(truth: np.ndarray, shares: np.ndarray) -> Bins:
    """Bins of confidence with their accuracy, and the error rate of the most confident rows."""
    bins = calibration_bins(truth, shares)
    return {
        "count": bins.count.astype(int).tolist(),
        "confidence": _rounded(bins.confidence),
        "accuracy": _rounded(bins.accuracy),
        "risk": _rounded(np.array(risk_curve(truth, shares))),
    }


def _rounded(values: np.ndarray) -> list[float | None]:
    return [round(float(v), 5) if np.isfinite(v) else None for v in values]
