"""Average precision without one cluster after the other, against leaving out its rows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.statistics import precision
from models.statistics.precision import precision_without_each, weighted_precision
from models.statistics.resampling import MeanAveragePrecision


def one_by_one(positive, score, codes, n_clusters):
    """What it was before: weights of 0 and 1, the square of the clusters."""
    return weighted_precision(positive, score, codes, 1.0 - np.eye(n_clusters))


@pytest.mark.parametrize("short", [0, 2, 64])
@pytest.mark.parametrize("levels", [2, 7, 10**9])
@pytest.mark.parametrize("sizes", ["equal", "one", "uneven", "whole"])
def test_equals_leaving_out_one_by_one(monkeypatch, short, levels, sizes):
    monkeypatch.setattr(precision, "_SHORT", short)
    rng = np.random.default_rng(levels + short)
    n = 1_500
    codes = {
        "equal": np.arange(n) // 20,
        "one": np.arange(n),
        "uneven": np.minimum(rng.geometric(0.01, n), 500) - 1,
        "whole": np.zeros(n, np.int64),
    }[sizes].astype(np.int64)
    n_clusters = int(codes.max()) + 3  # the last have no row in this label's part
    score = rng.integers(0, levels, n) / levels
    positive = rng.random(n) < 0.3 * score + 0.05
    found, is_there = precision_without_each(positive, score, codes, n_clusters)
    wanted, was_there = one_by_one(positive, score, codes, n_clusters)
    np.testing.assert_array_equal(is_there, was_there)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-12)


rows = st.lists(st.tuples(st.booleans(), st.integers(0, 4), st.integers(0, 5)), min_size=1)


@settings(max_examples=200)
@given(rows)
def test_equals_leaving_out_one_by_one_whatever_the_rows(drawn):
    positive, score, codes = (np.array(column) for column in zip(*drawn, strict=True))
    positive[0] = True
    found, is_there = precision_without_each(positive, score / 4, codes, 6)
    wanted, was_there = one_by_one(positive, score / 4, codes, 6)
    np.testing.assert_array_equal(is_there, was_there)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("has_folds", [False, True])
def test_map_without_each_equals_its_weights(has_folds):
    rng = np.random.default_rng(3)
    codes = rng.integers(0, 40, 600)
    score = rng.random((600, 5))
    truth = rng.random((600, 5)) < score / 3
    truth[:, 4] = False
    truth[:, 3] = codes == 7  # without this dialogue it has no positive row
    metric = MeanAveragePrecision(rng.integers(0, 3, 600) if has_folds else None)
    found = metric.without_each(truth, score, codes, 40)
    wanted = metric.weighted(truth, score, codes, 1.0 - np.eye(40))
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-12)


def test_nothing_grows_with_the_square_of_the_clusters():
    codes = np.arange(200_000)  # their square is 300 GB of weights
    positive = codes % 9 == 0
    score = (codes * 7_919 % 200_000) / 200_000
    value, is_there = precision_without_each(positive, score, codes, len(codes))
    assert is_there.all()
    some = [0, 1, 9, 123_456, 199_999]
    for code in some:
        kept = codes != code
        alone, _ = weighted_precision(
            positive[kept], score[kept], np.zeros(kept.sum(), np.int64), np.ones((1, 1))
        )
        assert value[code] == pytest.approx(alone[0], abs=1e-12)
