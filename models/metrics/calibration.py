"""How far probabilities and values can be believed, learned from rows that were not trained on."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from models.errors import MetricInputError
from models.metrics.inputs import Floats

#: A temperature beyond these says that there is nothing to be learned from the rows.
TEMPERATURES = (0.05, 20.0)
_SMALLEST = 1e-30  # of a probability, so that its logarithm is finite


def tempered(probabilities: ArrayLike, temperature: float) -> Floats:
    """Probabilities (n, C) as of logits divided by ``temperature``; the order in a row stays."""
    scores = np.log(np.maximum(np.asarray(probabilities, np.float64), _SMALLEST)) / temperature
    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)


def fit_temperature(truth: ArrayLike, probabilities: ArrayLike) -> float:
    """The temperature under which the true classes are likeliest.

    Args:
        truth: class indices (n,), all known.
        probabilities: (n, C).
    """
    from scipy.optimize import minimize_scalar  # 40 MB, wanted when networks have predicted

    t = np.asarray(truth)
    if len(t) == 0:
        raise MetricInputError("There is no row to fit a temperature on.")
    scores = np.log(np.maximum(np.asarray(probabilities, np.float64), _SMALLEST))

    def loss(log_temperature: float) -> float:
        scaled = scores / np.exp(log_temperature)
        top = scaled.max(axis=1)
        total = top + np.log(np.exp(scaled - top[:, None]).sum(axis=1))
        return float((total - scaled[np.arange(len(t)), t]).mean())

    bounds = np.log(TEMPERATURES)
    found = minimize_scalar(loss, bounds=tuple(bounds), method="bounded", options={"xatol": 1e-4})
    return float(np.exp(found.x))


def residual_quantiles(
    truth: ArrayLike, prediction: ArrayLike, shares: Sequence[float]
) -> list[float]:
    """Quantiles of truth minus prediction (n,), so that adding them to a prediction gives a range.

    Ends are those of conformal prediction: of n + 1 places, so that a fresh residual lies beyond
    one at most as often as promised. With few rows the outermost are the extremes.
    """
    residual = np.sort(np.asarray(truth, np.float64) - np.asarray(prediction, np.float64))
    n = len(residual)
    if n == 0:
        raise MetricInputError("There is no row to take residuals of.")
    found = []
    for share in shares:
        place = share * (n + 1)
        rank = np.floor(place) if share < 0.5 else np.ceil(place)
        if share == 0.5:
            found.append(float(np.median(residual)))
        else:
            found.append(float(residual[int(np.clip(rank, 1, n)) - 1]))
    return found


def risk_curve(truth: ArrayLike, probabilities: ArrayLike, steps: int = 20) -> list[float]:
    """Share of errors among the most confident 1/steps, 2/steps, ... of the rows.

    Rows of equal confidence count alike: each with the mean error of all of them.
    """
    p = np.asarray(probabilities, np.float64)
    wrong = (p.argmax(axis=1) != np.asarray(truth)).astype(np.float64)
    confidence = p.max(axis=1)
    _, level = np.unique(-confidence, return_inverse=True)
    mean = np.bincount(level, weights=wrong) / np.bincount(level)
    order = np.argsort(level, kind="stable")
    total = np.cumsum(mean[level][order])
    counts = [max(1, round(len(p) * step / steps)) for step in range(1, steps + 1)]
    return [float(total[count - 1] / count) for count in counts]
