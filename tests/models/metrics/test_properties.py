"""What holds for every input: invariances, identities, bounds, agreement with libraries."""

import math
import warnings

import numpy as np
import pytest
import sklearn.metrics as sk
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from models.errors import MetricInputError
from models.metrics import classification, multilabel, regression
from models.metrics.scoring import score_target
from models.statistics.resampling import AdditiveMetric, resamplable

N_CLASSES = 4
CLASSES = "abcd"
values = st.floats(-3, 3, allow_nan=False).map(lambda x: round(x, 3))
tied_scores = st.integers(0, 10).map(lambda tenths: tenths / 10)
pairs = st.integers(2, 40).flatmap(
    lambda n: st.tuples(*[arrays(np.float64, n, elements=values)] * 2)
)
class_pairs = st.integers(1, 40).flatmap(
    lambda n: st.tuples(*[arrays(np.int64, n, elements=st.integers(0, N_CLASSES - 1))] * 2)
)
label_pairs = st.integers(1, 25).flatmap(
    lambda n: st.tuples(
        arrays(np.bool_, (n, N_CLASSES)), arrays(np.float64, (n, N_CLASSES), elements=tied_scores)
    )
)
fast = settings(max_examples=40)


def same(a: dict[str, float], b: dict[str, float]) -> bool:
    return a.keys() == b.keys() and all(
        math.isclose(a[k], b[k], abs_tol=1e-9) or (math.isnan(a[k]) and math.isnan(b[k])) for k in a
    )


@fast
@given(class_pairs, pairs, label_pairs, st.randoms(use_true_random=False))
def test_metrics_do_not_depend_on_the_order_of_rows(classes, numbers, labels, random):
    for kind, names, (truth, prediction) in (
        ("category", CLASSES, classes),
        ("values", ["sentiment"], numbers),
        ("labels", CLASSES, labels),
    ):
        order = list(range(len(truth)))
        random.shuffle(order)
        assert same(
            score_target(kind, names, truth, prediction),
            score_target(kind, names, truth[order], prediction[order]),
        )


@fast
@given(class_pairs)
def test_classification_agrees_with_scikit_learn(pair):
    truth, prediction = pair
    scores = score_target("category", CLASSES, truth, prediction)
    options = {"labels": range(N_CLASSES), "zero_division": 0}
    f1 = sk.f1_score(truth, prediction, average=None, **options)
    assert [scores[f"f1/{c}"] for c in CLASSES] == pytest.approx(f1, abs=1e-12)
    assert scores["accuracy"] == pytest.approx(sk.accuracy_score(truth, prediction))
    weighted = sk.f1_score(truth, prediction, average="weighted", **options)
    assert scores["weighted_f1"] == pytest.approx(weighted, abs=1e-12)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert scores["uar"] == pytest.approx(sk.balanced_accuracy_score(truth, prediction))
    everything = sk.f1_score(truth, prediction, average="macro", **options)
    assert scores["macro_f1_all"] == pytest.approx(everything, abs=1e-12)


@fast
@given(class_pairs)
def test_weighted_f1_is_macro_f1_when_supports_are_equal(pair):
    _, prediction = pair
    prediction = np.resize(prediction, 4 * N_CLASSES)
    truth = np.repeat(np.arange(N_CLASSES), 4)
    scores = score_target("category", CLASSES, truth, prediction)
    assert scores["weighted_f1"] == pytest.approx(scores["macro_f1"])


@fast
@given(label_pairs)
def test_binary_identities(pair):
    truth, scores = pair
    predicted = scores >= 0.5
    for label in range(truth.shape[1]):
        t, p = truth[:, label], predicted[:, label]
        result = multilabel.binary_scores(t, p)
        assert result["accuracy"] == pytest.approx(sk.f1_score(t, p, average="micro"))
        if 0 < t.sum() < len(t):
            assert result["wa"] == pytest.approx(sk.balanced_accuracy_score(t, p))
        if t.any():
            precision = multilabel.average_precision(t, scores[:, label])
            assert precision == pytest.approx(sk.average_precision_score(t, scores[:, label]))


@fast
@given(pairs)
def test_correlations_are_bounded_and_ccc_never_exceeds_pearson(pair):
    truth, prediction = pair
    r, concordance = regression.pearson(truth, prediction), regression.ccc(truth, prediction)
    if r.is_defined:
        assert abs(r) <= 1
        assert abs(concordance) <= abs(r) + 1e-9
        assert r == pytest.approx(np.corrcoef(truth, prediction)[0, 1], abs=1e-7)


@fast
@given(pairs)
def test_area_above_the_coverage_curve_is_the_mean_absolute_error(pair):
    truth, prediction = pair
    errors = np.abs(truth - prediction)
    # Exact integral of the step function 1 - cov(e) between the sorted errors.
    steps = np.concatenate([[0.0], np.sort(errors)])
    above = np.diff(steps) @ (1 - np.arange(len(errors)) / len(errors))
    assert above == pytest.approx(regression.mae(truth, prediction), abs=1e-9)
    limit = errors.max() + 1.0
    area = regression.coverage_area(errors, limit)
    assert (1 - area) * limit == pytest.approx(regression.mae(truth, prediction), abs=1e-9)
    _, shares = regression.coverage_curve(errors)
    assert (np.diff(shares) >= 0).all()
    assert shares[-1] == 1.0
    for share in (0.5, 0.8, 0.9):
        reach = regression.coverage_quantile(errors, share)
        assert regression.coverage(errors, [reach])[0] >= share - 1e-9
        assert (errors < reach - 1e-9).mean() < share


@fast
@given(pairs)
def test_a_perfect_prediction_is_perfect(pair):
    truth, _ = pair
    assume(truth.std() > 1e-6)
    scores = score_target("values", ["sentiment"], truth, truth)
    perfect = ("pearson", "ccc", "acc7", "acc2_has0", "acc2_non0", "f1_has0", "pooled_ccc")
    for name in perfect:
        assert scores[name] == pytest.approx(1.0), name
    assert scores["mae"] == scores["rmse"] == 0.0
    classes = np.arange(len(truth)) % N_CLASSES
    scores = score_target("category", CLASSES, classes, classes)
    for name in ("accuracy", "weighted_f1", "macro_f1", "uar"):
        assert scores[name] == 1.0, name


@fast
@given(class_pairs, pairs, st.integers(1, 7))
def test_adding_up_batches_equals_scoring_everything_at_once(classes, numbers, size):
    for kind, names, metrics, (truth, prediction) in (
        ("category", CLASSES, ("accuracy", "weighted_f1", "macro_f1", "uar_all", "f1/b"), classes),
        ("values", ["sentiment"], ("mae", "rmse", "pearson", "ccc", "acc7", "f1_non0"), numbers),
    ):
        scores = score_target(kind, names, truth, prediction)
        for metric in metrics:
            form = resamplable(metric, kind, names)
            assert isinstance(form, AdditiveMetric)
            total = sum(
                form.terms(truth[i : i + size], prediction[i : i + size]).sum(axis=0)
                for i in range(0, len(truth), size)
            )
            value = float(form.finish(np.asarray(total)))
            assert value == pytest.approx(scores[metric], abs=1e-9, nan_ok=True), metric


@fast
@given(pairs, st.data())
def test_nan_anywhere_raises_and_names_the_row(pair, data):
    truth, prediction = pair
    row = data.draw(st.integers(0, len(truth) - 1))
    for side in (truth, prediction):
        broken = side.copy()
        broken[row] = math.nan
        for metric in (regression.mae, regression.rmse, regression.pearson, regression.ccc):
            arguments = (broken, prediction) if side is truth else (truth, broken)
            with pytest.raises(MetricInputError, match=f"row {row}:"):
                metric(*arguments)


@fast
@given(label_pairs, st.integers(1, 4))
def test_top_k_sets_have_k_members_and_bounds_hold(pair, k):
    truth, scores = pair
    assert (multilabel.top_k_sets(scores, k).sum(axis=1) == k).all()
    result = multilabel.top_k_scores(truth, scores, k)
    if truth.any():
        exact, contain = result[f"exact_top{k}"], result[f"contain_top{k}"]
        assert exact <= min(contain, result[f"belong_top{k}"])
        assert contain <= result[f"recall_top{k}"] <= result[f"overlap_top{k}"]


def test_single_label_top_k_agrees_with_scikit_learn():
    rng = np.random.default_rng(1)
    scores, truth = rng.normal(size=(200, 6)), rng.integers(0, 6, 200)
    for k in (1, 2, 3):
        ours = classification.top_k_accuracy(truth, scores, k)
        assert ours == pytest.approx(sk.top_k_accuracy_score(truth, scores, k=k))
