"""Answers out of what networks say: means, spread, calibrated probabilities, ranges, reasons."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from models.batch import Target
from models.errors import UserError
from models.metrics.calibration import tempered
from tasks.evaluate.grids import probabilities
from tasks.predict.answer import Classes, Value
from tasks.predict.model import Part
from tasks.predict.outputs import Said

#: Share of validation rows within the range of a value, and the quantiles at its ends.
COVERAGE = 0.9
ENDS = ("0.05", "0.95")


def classes_of(part: Part, said: Said) -> dict[str, list[Classes]]:
    """Target to the categories of each row."""
    return {
        target.name: _classes(target, said, _known(part, target))
        for target in said.targets
        if target.kind != "values"
    }


def values_of(part: Part, said: Said) -> dict[str, list[dict[str, Value]]]:
    """Target to the numbers of each row, by column."""
    return {
        target.name: _values(target, said, _known(part, target))
        for target in said.targets
        if target.kind == "values"
    }


def _known(part: Part, target: Target) -> Mapping[str, Any]:
    """What the validation rows told of a target; empty where nothing is known."""
    found = part.calibration.get(target.name, {})
    if found and tuple(found["names"]) != target.names:
        raise UserError(
            f"{part.name}: its calibration is of {', '.join(found['names'])}, but its networks "
            f"predict {', '.join(target.names)}; run stage evaluate again"
        )
    return found


def _classes(target: Target, said: Said, known: Mapping[str, Any]) -> list[Classes]:
    shares = np.stack([probabilities(target, output) for output in said.outputs[target.name]])
    if target.kind == "category" and "temperature" in known:
        shares = np.stack([tempered(one, known["temperature"]) for one in shares])
    mean, spread = _over_networks(shares, said.fair[target.name])
    best = mean.argmax(axis=1)
    return [
        Classes(
            target.names[place],
            dict(zip(target.names, mean[row].tolist(), strict=True)),
            float(spread[row, place]),
        )
        for row, place in enumerate(best.tolist())
    ]


def _values(target: Target, said: Said, known: Mapping[str, Any]) -> list[dict[str, Value]]:
    numbers = np.stack([output.double().numpy() for output in said.outputs[target.name]])
    mean, spread = _over_networks(numbers, said.fair[target.name])
    residuals = known.get("residuals", {})
    return [
        {
            name: _value(target, mean[row, column], spread[row, column], residuals.get(name))
            for column, name in enumerate(target.names)
        }
        for row in range(len(mean))
    ]


def _over_networks(values: np.ndarray, fair: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (N, C) over the networks that are fair to ask.

    Args:
        values: (networks, N, C).
        fair: (networks, N) bool.
    """
    kept = np.broadcast_to(fair[:, :, None], values.shape)
    return values.mean(axis=0, where=kept), values.std(axis=0, where=kept)


def _value(
    target: Target, mean: float, spread: float, residuals: Mapping[str, Any] | None
) -> Value:
    """A number and its range, all of it on the scale of the target."""
    low, high = target.lower, target.upper
    value = float(np.clip(mean, low, high))
    if residuals is None:
        return Value(value, None, None, float(spread))
    ends = (mean + residuals["quantiles"][share] for share in ENDS)
    start, end = (float(np.clip(found, low, high)) for found in ends)
    return Value(value, start, end, float(spread))
