"""How far raters agree: ICC, Krippendorff's alpha, mean pairwise Pearson and CCC.

Every function takes judgements in long form: ``item`` (R,) 0..N-1, ``rater`` (R,) 0..K-1 and the
``value`` or ``label`` code (R,); a rater judges an item at most once, missing judgements are
simply absent. A figure that is undefined on the data is None, never 0.
"""

from dataclasses import dataclass

import numpy as np
from scipy import sparse

#: Two raters' correlation means nothing on fewer common items.
MIN_COMMON = 3

Agreement = dict[str, float | int | str | None]


@dataclass(frozen=True)
class Icc:
    """Intraclass correlation.

    Attributes:
        model: which ICC, in words.
        single: reliability of one rater.
        average: reliability of the mean of the raters.
    """

    model: str
    single: float | None
    average: float | None


def describe_numbers(item: np.ndarray, rater: np.ndarray, value: np.ndarray) -> Agreement:
    """All figures for one numeric target."""
    icc = intraclass(item, rater, value)
    pairs = pairwise(item, rater, value)
    return {
        "judgements": len(value),
        "items": len(np.unique(item)),
        "raters": len(np.unique(rater)),
        "icc_model": icc.model,
        "icc_single": icc.single,
        "icc_average": icc.average,
        "alpha_interval": alpha_interval(item, value),
        "pairs_of_raters": pairs.pairs,
        "mean_pairwise_pearson": pairs.pearson,
        "mean_pairwise_ccc": pairs.ccc,
    }


def describe_labels(item: np.ndarray, rater: np.ndarray, label: np.ndarray) -> Agreement:
    """All figures for one categorical target; ``label`` holds codes."""
    return {
        "judgements": len(label),
        "items": len(np.unique(item)),
        "raters": len(np.unique(rater)),
        "alpha_nominal": alpha_nominal(item, label),
        "agreeing_pairs": agreeing_pairs(item, label),
    }


def alpha_interval(item: np.ndarray, value: np.ndarray) -> float | None:
    """Krippendorff's alpha with squared differences; items with one judgement do not count."""
    item, value = _pairable(item, value)
    n = len(value)
    if n < 2:
        return None
    count = np.bincount(item)
    # a unit's sum of squared differences over ordered pairs is 2 m times its squared deviations
    observed = float(np.sum(2 * count * _within(item, value) / (count - 1))) / n
    expected = 2 * float(np.sum((value - value.mean()) ** 2)) / (n - 1)
    return _finite(1 - observed / expected) if np.ptp(value) > 0 else None


def alpha_nominal(item: np.ndarray, label: np.ndarray) -> float | None:
    """Krippendorff's alpha for codes without order; items with one judgement do not count."""
    item, label = _pairable(item, label)
    n = len(label)
    if n < 2:
        return None
    _, label = np.unique(label, return_inverse=True)
    count = np.bincount(item)
    observed = float(np.sum((count**2 - _same(item, label)) / (count - 1))) / n
    totals = np.bincount(label).astype(float)
    expected = float(n**2 - np.sum(totals**2)) / (n * (n - 1))
    return _finite(1 - observed / expected) if expected > 0 else None


def agreeing_pairs(item: np.ndarray, label: np.ndarray) -> float | None:
    """Mean over items of the share of pairs of raters that give the same label."""
    item, label = _pairable(item, label)
    if not len(label):
        return None
    _, label = np.unique(label, return_inverse=True)
    count = np.bincount(item)
    return float(np.mean((_same(item, label) - count) / (count * (count - 1))))


def intraclass(item: np.ndarray, rater: np.ndarray, value: np.ndarray) -> Icc:
    """ICC(2,1) and ICC(2,k) where every rater judged every item, else one-way ICC(1,1), ICC(1,k).

    ICC(2,·) is two-way random, absolute agreement. The one-way figures use the mean number of
    raters per item that unbalanced analysis of variance prescribes.
    """
    _, item = np.unique(item, return_inverse=True)
    _, rater = np.unique(rater, return_inverse=True)
    n, k, total = len(np.unique(item)), len(np.unique(rater)), len(value)
    if total == n * k and n > 1 and k > 1:
        return _two_way(item, rater, value, n, k)
    return _one_way(item, value)


def _two_way(item: np.ndarray, rater: np.ndarray, value: np.ndarray, n: int, k: int) -> Icc:
    model = "two-way random, absolute agreement: ICC(2,1) and ICC(2,k)"
    grand = value.mean()
    rows = np.bincount(item, value) / k
    columns = np.bincount(rater, value) / n
    between = k * np.sum((rows - grand) ** 2) / (n - 1)
    raters = n * np.sum((columns - grand) ** 2) / (k - 1)
    rest = value - rows[item] - columns[rater] + grand
    error = np.sum(rest**2) / ((n - 1) * (k - 1))
    single = between + (k - 1) * error + k * (raters - error) / n
    average = between + (raters - error) / n
    return Icc(model, _ratio(between - error, single), _ratio(between - error, average))


def _one_way(item: np.ndarray, value: np.ndarray) -> Icc:
    model = "one-way random, raters incomplete: ICC(1,1) and ICC(1,k)"
    item, value = _pairable(item, value)
    if not len(value):
        return Icc(model, None, None)
    count = np.bincount(item)
    n, total = len(count), len(value)
    if n < 2:
        return Icc(model, None, None)
    means = np.bincount(item, value) / count
    between = np.sum(count * (means - value.mean()) ** 2) / (n - 1)
    within = np.sum(_within(item, value)) / (total - n)
    k = (total - np.sum(count.astype(float) ** 2) / total) / (n - 1)
    single = _ratio(between - within, between + (k - 1) * within)
    return Icc(model, single, _ratio(between - within, between))


@dataclass(frozen=True)
class Pairwise:
    """Mean over pairs of raters with at least ``MIN_COMMON`` common items and some spread."""

    pairs: int
    pearson: float | None
    ccc: float | None


def pairwise(item: np.ndarray, rater: np.ndarray, value: np.ndarray) -> Pairwise:
    """Mean Pearson correlation and mean CCC (population variances) over pairs of raters."""
    if not len(value):
        return Pairwise(0, None, None)
    _, item = np.unique(item, return_inverse=True)
    _, rater = np.unique(rater, return_inverse=True)
    centred = value - value.mean()  # keeps the differences of large sums exact
    shape = (int(item.max()) + 1, int(rater.max()) + 1)

    def table(entries: np.ndarray) -> sparse.csr_array:
        return sparse.csr_array((entries, (item, rater)), shape=shape)

    has, x, xx = table(np.ones(len(value))), table(centred), table(centred**2)
    common = sparse.triu(has.T @ has, k=1).tocoo()
    enough = common.data >= MIN_COMMON
    a, b, n = common.row[enough], common.col[enough], common.data[enough]
    if not len(n):
        return Pairwise(0, None, None)

    def sums(left: sparse.csr_array, right: sparse.csr_array) -> np.ndarray:
        return np.asarray((left.T @ right).tocsr()[a, b]).ravel()

    mean_a, mean_b = sums(x, has) / n, sums(has, x) / n
    var_a = np.maximum(sums(xx, has) / n - mean_a**2, 0)
    var_b = np.maximum(sums(has, xx) / n - mean_b**2, 0)
    cov = sums(x, x) / n - mean_a * mean_b
    spread = (var_a > 1e-12) & (var_b > 1e-12)
    pearson = cov[spread] / np.sqrt(var_a[spread] * var_b[spread])
    gap = (mean_a - mean_b)[spread] ** 2
    ccc = 2 * cov[spread] / (var_a[spread] + var_b[spread] + gap)
    if not len(pearson):
        return Pairwise(0, None, None)
    return Pairwise(len(pearson), float(pearson.mean()), float(ccc.mean()))


def _pairable(item: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows of items with two judgements or more, items renumbered without gaps."""
    _, item, count = np.unique(item, return_inverse=True, return_counts=True)
    keep = count[item] > 1
    _, item = np.unique(item[keep], return_inverse=True)
    return item, other[keep]


def _within(item: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Sum of squared deviations from the item's mean, per item."""
    mean = np.bincount(item, value) / np.bincount(item)
    return np.bincount(item, (value - mean[item]) ** 2)


def _same(item: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Sum over labels of the squared number of judgements, per item."""
    width = int(label.max()) + 1
    cells, counts = np.unique(item.astype(np.int64) * width + label, return_counts=True)
    return np.bincount(cells // width, counts.astype(float) ** 2)


def _ratio(top: float, bottom: float) -> float | None:
    return float(top / bottom) if bottom > 0 else None


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
