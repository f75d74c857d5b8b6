"""Temperatures, residuals and the risk of the most confident rows."""

import numpy as np
import pytest

from models.errors import MetricInputError
from models.metrics.calibration import (
    fit_temperature,
    residual_quantiles,
    risk_curve,
    tempered,
)


def drawn(n, scale, seed=0):
    """Classes drawn from the softmax of logits, and the softmax of these times ``scale``."""
    rng = np.random.default_rng(seed)
    logits = 1.5 * rng.standard_normal((n, 4))
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    truth = (rng.random((n, 1)) > shares.cumsum(1)).sum(1)
    louder = np.exp(scale * logits)
    return truth, shares, louder / louder.sum(1, keepdims=True)


@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0])
def test_the_temperature_undoes_what_was_too_loud(scale):
    truth, shares, louder = drawn(20_000, scale)
    temperature = fit_temperature(truth, louder)
    assert temperature == pytest.approx(scale, rel=0.05)
    assert tempered(louder, scale) == pytest.approx(shares)
    assert (tempered(louder, temperature).argmax(1) == louder.argmax(1)).all()


def test_certain_and_wrong_has_a_finite_temperature():
    assert fit_temperature([0, 1], [[0.0, 1.0], [0.0, 1.0]]) == pytest.approx(20, rel=0.01)


def test_nothing_cannot_be_fitted():
    with pytest.raises(MetricInputError, match="no row to fit"):
        fit_temperature([], np.zeros((0, 3)))


def test_ranges_of_residuals_hold_for_fresh_ones():
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(400):
        residual = rng.standard_normal(60)
        low, middle, high = residual_quantiles(residual, np.zeros(60), (0.05, 0.5, 0.95))
        assert low < middle < high
        inside += low <= rng.standard_normal() <= high
    assert inside / 400 == pytest.approx(0.9, abs=0.05)


def test_few_residuals_give_their_extremes():
    assert residual_quantiles([1.0, 2.0, 4.0], [0.0] * 3, (0.025, 0.5, 0.975)) == [1.0, 2.0, 4.0]


def test_risk_is_the_error_of_the_most_confident():
    shares = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4]])
    assert risk_curve([0, 1, 0, 1], shares, steps=4) == pytest.approx([0, 1 / 2, 1 / 3, 1 / 2])
    even = np.full((4, 2), 0.5)  # no row is more confident than another
    assert risk_curve([0, 1, 0, 1], even, steps=4) == pytest.approx([0.5] * 4)
