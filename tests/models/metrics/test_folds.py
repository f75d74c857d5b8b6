"""Correlations and average precision over several folds."""

import math

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from models.metrics.folds import by_fold, fold_groups
from models.metrics.regression import ccc, pearson
from models.metrics.scoring import score_target, selection_score
from models.statistics.resampling import resamplable

# two folds whose training means lie on the other side: what a constant predicts
TRUTH = np.tile([0.0, 1.0, 2.0, 3.0], 5)
CONSTANT = np.tile([2.5, 2.5, 0.5, 0.5], 5)
FOLDS = np.tile([0, 0, 1, 1], 5)


def test_a_constant_per_fold_has_no_correlation_but_a_negative_one_over_all_rows():
    scores = score_target("values", ["x"], TRUTH[:, None], CONSTANT[:, None], folds=FOLDS)
    assert scores["pearson"] == scores["ccc"] == 0
    assert scores["pearson_all_rows"] == pytest.approx(-0.894, abs=5e-4)
    assert scores["ccc_all_rows/x"] == pytest.approx(-0.889, abs=5e-4)
    assert scores["mae"] == pytest.approx(2.0)  # errors are of all rows together


def test_folds_count_by_their_rows():
    rng = np.random.default_rng(0)
    folds = np.repeat([0, 1, 2], [10, 25, 40])
    t, p = rng.normal(size=(2, 75))
    parts = [pearson(t[folds == f], p[folds == f]) for f in range(3)]
    found = by_fold(pearson, folds)(t, p)
    assert found == pytest.approx(np.average(parts, weights=[10, 25, 40]))
    assert (found.n, found.reason) == (75, "mean of 3 folds")


def test_one_fold_is_scored_as_ever():
    t, p = np.random.default_rng(0).normal(size=(2, 30, 2))
    plain = score_target("values", ["x", "y"], t, p)
    assert score_target("values", ["x", "y"], t, p, folds=np.zeros(30)) == plain
    nothing = score_target("values", ["x"], t[:, :1], np.zeros((30, 1)), folds=np.zeros(30))
    assert math.isnan(nothing["pearson"])


@pytest.mark.parametrize(
    ("sizes", "constant", "groups"),
    [
        ((20, 20, 20), (), [0, 1, 2]),
        ((5, 20, 20), (), [0, 0, 1]),
        ((20, 20, 5), (), [0, 1, 1]),  # the last joins the one before
        ((20, 20, 20), (1,), [0, 1, 1]),
        ((4, 4, 4), (), [0, 0, 0]),
        ((20, 20), (0, 1), [0, 0]),
    ],
)
def test_small_and_constant_folds_join_the_next(sizes, constant, groups):
    folds = np.repeat(np.arange(len(sizes)), sizes)
    truth = np.random.default_rng(0).normal(size=len(folds))
    truth[np.isin(folds, constant)] = 1.0
    if len(constant) == len(sizes):
        truth[folds == 1] = 2.0
    found = fold_groups(folds, truth)
    assert [int(found[folds == f][0]) for f in range(len(sizes))] == groups


def test_average_precision_is_a_mean_over_folds():
    rng = np.random.default_rng(1)
    truth, scores = rng.random((60, 2)) < 0.4, rng.random((60, 2))
    folds = np.repeat([0, 1], [20, 40])
    wanted = [
        sum(len(truth[folds == f]) / 60
            * average_precision_score(truth[folds == f, k], scores[folds == f, k]) for f in (0, 1))
        for k in (0, 1)
    ]  # fmt: skip
    found = score_target("labels", ["a", "b"], truth.astype(float), scores, folds=folds)
    assert [found["ap/a"], found["ap/b"]] == pytest.approx(wanted)
    assert found["map"] == pytest.approx(np.mean(wanted))
    everything = average_precision_score(truth, scores, average="macro")
    assert found["map_all_rows"] == pytest.approx(everything)
    assert selection_score(
        "categories", "labels", ["a", "b"], truth.astype(float), scores, folds=folds
    ) == pytest.approx(np.mean(wanted))


@pytest.mark.parametrize(
    "metric",
    ["ccc", "pearson", "ccc/a", "pearson/b", "mae", "rmse", "pooled_ccc", "pooled_mae", "map"],
)
def test_resampled_forms_agree_with_the_scores(metric):
    rng = np.random.default_rng(2)
    folds, clusters = np.repeat([0, 1, 2], [40, 32, 8]), np.arange(80) // 4
    if metric == "map":
        truth, guess = (rng.random((80, 2)) < 0.5).astype(float), rng.random((80, 2))
    else:
        truth, guess = rng.normal(size=(2, 80, 2)) + folds[:, None]
        truth[rng.random((80, 2)) < 0.1] = np.nan
    kind = "labels" if metric == "map" else "values"
    form = resamplable(metric, kind, ["a", "b"], folds)
    found = form.weighted(truth, guess, clusters, np.ones((1, 20)))
    wanted = score_target(kind, ["a", "b"], truth, guess, folds=folds)
    assert found[0] == pytest.approx(float(wanted[metric]))


def test_a_repeated_cluster_counts_as_often_as_it_is_drawn():
    rng = np.random.default_rng(3)
    folds, clusters = np.repeat([0, 1], 40), np.arange(80) // 8
    truth, guess = rng.normal(size=(2, 80, 1))
    weights = rng.integers(1, 4, 10).astype(float)
    often = np.repeat(np.arange(80), weights[clusters].astype(int))
    found = resamplable("ccc", "values", ["x"], folds).weighted(
        truth, guess, clusters, weights[None]
    )
    wanted = by_fold(ccc, folds[often])(truth[often, 0], guess[often, 0])
    assert found[0] == pytest.approx(float(wanted))


def test_constants_that_differ_by_fold_are_no_worse_than_nothing_in_resamples():
    form = resamplable("ccc", "values", ["x"], FOLDS)
    weights = np.random.default_rng(0).multinomial(20, np.full(20, 0.05), size=50).astype(float)
    found = form.weighted(TRUTH[:, None], CONSTANT[:, None], np.arange(20), weights)
    assert found == pytest.approx(0.0)
