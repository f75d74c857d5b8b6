"""Agreement figures against their formulas written naively."""

from itertools import combinations

import numpy as np
import pytest

from tasks.labels.agreement import (
    agreeing_pairs,
    alpha_interval,
    alpha_nominal,
    describe_labels,
    describe_numbers,
    intraclass,
    pairwise,
)

# Shrout and Fleiss's six targets and four judges, whose ICCs they print
SHROUT = np.array(
    [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], float
)
# Krippendorff's reliability data of four observers and twelve units, nan: missing
N = np.nan
KRIPPENDORFF = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, N, N, N],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, N, 3],
        [N, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, N],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, N],
    ]
).T


def long(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Item, rater, value of the cells (items x raters) that are there."""
    item, rater = np.nonzero(~np.isnan(matrix))
    return item, rater, matrix[item, rater]


def random_matrix(seed: int, items: int = 12, raters: int = 5, missing: float = 0.3) -> np.ndarray:
    rng = np.random.default_rng(seed)
    matrix = np.rint(rng.normal(3, 1, (items, 1)) + rng.normal(0, 0.7, (items, raters)))
    matrix[rng.random(matrix.shape) < missing] = N
    return matrix


def naive_alpha(matrix: np.ndarray, is_interval: bool) -> float:
    """Observed over expected disagreement, pair by pair."""

    def differ(a: float, b: float) -> float:
        return (a - b) ** 2 if is_interval else float(a != b)

    units = [row[~np.isnan(row)] for row in matrix]
    units = [unit for unit in units if len(unit) > 1]
    values = np.concatenate(units)
    n = len(values)
    observed = sum(
        2 * sum(differ(a, b) for a, b in combinations(unit, 2)) / (len(unit) - 1) for unit in units
    )
    expected = 2 * sum(differ(a, b) for a, b in combinations(values, 2)) / (n - 1)
    return 1 - observed / expected


def test_krippendorffs_own_example():
    item, _, value = long(KRIPPENDORFF)
    assert alpha_nominal(item, value) == pytest.approx(0.743, abs=5e-4)
    assert alpha_interval(item, value) == pytest.approx(0.849, abs=5e-4)


@pytest.mark.parametrize("seed", range(8))
def test_alpha_equals_the_naive_formula(seed):
    matrix = random_matrix(seed)
    item, _, value = long(matrix)
    assert alpha_interval(item, value) == pytest.approx(naive_alpha(matrix, True))
    assert alpha_nominal(item, value) == pytest.approx(naive_alpha(matrix, False))


def test_icc_of_complete_data_is_that_of_shrout_and_fleiss():
    found = intraclass(*long(SHROUT))
    assert "ICC(2,1)" in found.model
    assert found.single == pytest.approx(0.29, abs=5e-3)
    assert found.average == pytest.approx(0.62, abs=5e-3)


def test_icc_of_incomplete_data_is_one_way_and_says_so():
    matrix = SHROUT.copy()
    found = intraclass(*long(matrix[:, :1]))
    assert found.single is None
    matrix[0, 0] = N
    found = intraclass(*long(matrix))
    assert "ICC(1,1)" in found.model
    units = [row[~np.isnan(row)] for row in matrix]
    values, n = np.concatenate(units), len(units)
    between = sum(len(u) * (u.mean() - values.mean()) ** 2 for u in units) / (n - 1)
    within = sum(((u - u.mean()) ** 2).sum() for u in units) / (len(values) - n)
    k = (len(values) - sum(len(u) ** 2 for u in units) / len(values)) / (n - 1)
    assert found.single == pytest.approx((between - within) / (between + (k - 1) * within))
    assert found.average == pytest.approx((between - within) / between)


def test_the_one_way_icc_of_shrout_and_fleiss():
    # one more rater of one item makes the data incomplete without changing the six by four
    item, rater, value = long(SHROUT)
    found = intraclass(np.append(item, 9), np.append(rater, 9), np.append(value, 5.0))
    assert found.single == pytest.approx(0.17, abs=5e-3)
    assert found.average == pytest.approx(0.44, abs=5e-3)


@pytest.mark.parametrize("seed", range(8))
def test_pairwise_figures_equal_the_naive_ones(seed):
    matrix = random_matrix(seed) * 100 + 1e6  # a large offset must not cost precision
    pearson, ccc = [], []
    for a, b in combinations(range(matrix.shape[1]), 2):
        both = ~np.isnan(matrix[:, a]) & ~np.isnan(matrix[:, b])
        x, y = matrix[both, a], matrix[both, b]
        if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
            continue
        pearson.append(np.corrcoef(x, y)[0, 1])
        cov = np.mean((x - x.mean()) * (y - y.mean()))
        ccc.append(2 * cov / (x.var() + y.var() + (x.mean() - y.mean()) ** 2))
    found = pairwise(*long(matrix))
    assert found.pairs == len(pearson)
    assert found.pearson == pytest.approx(np.mean(pearson))
    assert found.ccc == pytest.approx(np.mean(ccc))


def test_agreeing_pairs_is_the_mean_share_of_equal_pairs():
    item, label = np.array([0, 0, 0, 1, 1, 2]), np.array([4, 4, 7, 1, 1, 9])
    assert agreeing_pairs(item, label) == pytest.approx((1 / 3 + 1) / 2)


def test_rater_and_row_order_change_nothing():
    item, rater, value = long(random_matrix(3))
    order = np.random.default_rng(0).permutation(len(item))
    one = describe_numbers(item, rater, value)
    two = describe_numbers(item[order], 7 - rater[order], value[order])
    assert one.keys() == two.keys()
    for key, figure in one.items():
        assert two[key] == pytest.approx(figure)


def test_perfect_agreement_is_one():
    item, rater = np.repeat(np.arange(4), 2), np.tile([0, 1], 4)
    value = np.repeat([1.0, 2.0, 3.0, 5.0], 2)
    found = describe_numbers(item, rater, value)
    for key in ("icc_single", "alpha_interval", "mean_pairwise_ccc", "mean_pairwise_pearson"):
        assert found[key] == pytest.approx(1)
    assert describe_labels(item, rater, value)["alpha_nominal"] == pytest.approx(1)


def test_what_is_undefined_is_none():
    one_rater = describe_numbers(np.arange(5), np.zeros(5, int), np.arange(5.0))
    constant = describe_numbers(np.repeat(np.arange(4), 2), np.tile([0, 1], 4), np.ones(8))
    for found in (one_rater, constant):
        figures = ("icc_single", "alpha_interval", "mean_pairwise_ccc", "mean_pairwise_pearson")
        assert all(found[key] is None for key in figures)
    assert one_rater["items"] == 5
    empty = np.array([], int)
    assert describe_numbers(empty, empty, np.array([]))["icc_single"] is None
    assert describe_labels(empty, empty, empty)["alpha_nominal"] is None
