"""The numbers of the metrics specification, the undefined cases and the errors."""

import copy
import json
import math
import pickle

import numpy as np
import pytest

from models.errors import MetricInputError, UserError
from models.metrics import classification, multilabel, regression, votes
from models.metrics.inputs import Metric, mean_over_columns, undefined
from models.metrics.scoring import (
    HEADLINE,
    SELECTION,
    UNDEFINED_SCORE,
    score_target,
    selection_score,
    undefined_reasons,
)

R1_TRUTH = [0, 0, 0, 1, 1, 2, 2, 2, 2, 3]
R1_PREDICTION = [0, 0, 1, 1, 2, 2, 2, 2, 0, 2]
R2_TRUTH = [-0.5, 0, 0.2, 0.8]
R2_PREDICTION = [-0.3, 0.1, 0.1, 0.6]
R3_TRUTH = [-2.6, -1.0, -0.2, 0.0, 0.4, 1.6, 3.0, 0.0, -3.0, 2.4]
R3_PREDICTION = [-2.2, -1.7, 0.1, -0.1, 0.6, 1.4, 2.2, 0.3, -3.4, 0.4]
R4_TRUTH = [1, 0, 0, 0, 1, 0, 0, 0, 0, 1]
R4_PREDICTION = [1, 0, 0, 1, 0, 0, 0, 0, 0, 1]
CAGE_CONFUSION = [
    [279, 12, 33, 47, 8, 19, 36, 66],
    [15, 360, 2, 19, 1, 12, 3, 88],
    [64, 5, 314, 14, 20, 29, 38, 16],
    [40, 27, 15, 304, 65, 26, 12, 11],
    [12, 8, 35, 83, 308, 29, 22, 3],
    [26, 8, 31, 17, 15, 302, 81, 20],
    [60, 3, 25, 23, 19, 58, 289, 23],
    [65, 45, 10, 10, 4, 29, 18, 318],
]


def near(value: object, tolerance: float = 6e-7) -> object:
    return pytest.approx(value, abs=tolerance)


class TestClassification:
    def test_confusion_has_truth_in_rows(self):
        expected = [[2, 1, 0, 0], [0, 1, 1, 0], [1, 0, 3, 0], [0, 0, 1, 0]]
        assert classification.confusion_matrix(R1_TRUTH, R1_PREDICTION, 4).tolist() == expected

    def test_per_class_scores_of_the_running_example(self):
        scores = classification.class_scores(
            classification.confusion_matrix(R1_TRUTH, R1_PREDICTION, 4)
        )
        assert scores.precision == near([2 / 3, 0.5, 0.6, 0])
        assert scores.recall == near([2 / 3, 0.5, 0.75, 0])
        assert scores.f1 == near([2 / 3, 0.5, 2 / 3, 0])

    def test_averages_of_the_running_example(self):
        scores = score_target("category", "abcd", R1_TRUTH, R1_PREDICTION)
        assert scores["accuracy"] == near(0.6)
        assert scores["weighted_f1"] == near(0.566667)
        assert scores["macro_f1"] == near(0.458333)
        assert scores["uar"] == near(0.479167)
        assert scores["weighted_recall"] == near(0.6)
        assert scores["n"] == 10

    def test_a_class_that_never_occurs_only_lowers_the_averages_over_all_classes(self):
        scores = score_target("category", "abcde", R1_TRUTH, R1_PREDICTION)
        assert scores["macro_f1"] == near(0.458333)
        assert scores["uar"] == near(0.479167)
        assert scores["macro_f1_all"] == near(0.366667)
        assert scores["uar_all"] == near(0.383333)

    def test_a_class_that_is_only_predicted_hurts_through_the_others(self):
        scores = score_target("category", "abcde", R1_TRUTH, [4, *R1_PREDICTION[1:]])
        assert scores["macro_f1_all"] == near(0.313333)
        assert scores["uar_all"] == near(0.316667)
        assert scores["uar"] == near(0.395833)
        assert scores["macro_f1"] == near(0.313333 * 5 / 4)

    @pytest.mark.parametrize(("prediction", "expected"), [(1, 1.0), (0, 0.0)])
    def test_one_row_scores_0_or_1(self, prediction: int, expected: float):
        scores = score_target("category", "abc", [1], [prediction])
        assert scores["accuracy"] == scores["weighted_f1"] == scores["uar"] == expected

    def test_a_constant_prediction_is_scored_and_remarked(self):
        scores = score_target("category", "abc", [0, 1, 2, 0], [0, 0, 0, 0])
        assert scores["accuracy"] == 0.5
        assert scores["predicted_classes"] == 1
        assert scores["predicted_classes"].reason == "the prediction is constant"

    def test_cage_confusion_matrix(self):
        summary = classification.summarise_confusion(CAGE_CONFUSION)
        assert np.trace(CAGE_CONFUSION) == 2474
        assert summary["accuracy"] == near(0.618655)
        assert summary["weighted_precision"] == near(0.623971)
        assert summary["weighted_f1"] == near(0.620380)
        assert summary["macro_f1"] == near(0.620378)
        assert summary["uar"] == near(0.618659)
        f1 = [0.5259, 0.7438, 0.6508, 0.5978, 0.6553, 0.6016, 0.5786, 0.6092]
        assert classification.class_scores(CAGE_CONFUSION).f1 == near(f1, 5e-5)

    def test_corect_columns_are_f1_per_class_weighted_by_support(self):
        support = np.array([144, 245, 384, 170, 299, 381])
        f1 = np.array([59.30, 80.53, 66.94, 69.59, 72.69, 68.50])
        assert support.sum() == 1623
        assert support @ f1 / support.sum() == near(70.02, 5e-3)

    def test_top_k_breaks_ties_by_the_lower_index(self):
        scores = [[0.4, 0.3, 0.3], [0.4, 0.3, 0.3], [0.2, 0.4, 0.4]]
        assert classification.top_k_accuracy([1, 2, 2], scores, 2) == near(2 / 3)
        assert classification.top_k_accuracy([1, 2, 2], scores, 1) == 0.0

    def test_calibration_by_hand(self):
        probabilities = [[0.9, 0.1], [0.8, 0.2], [0.35, 0.65], [0.3, 0.7]]
        truth = [0, 1, 1, 1]
        # Two bins of width 0.5: all confidences 0.9 0.8 0.65 0.7 lie in the upper one.
        ece = classification.expected_calibration_error(truth, probabilities, n_bins=2)
        assert ece == near(abs(0.7625 - 0.75))
        brier = (0.02 + 1.28 + 2 * 0.35**2 + 2 * 0.3**2) / 4
        assert classification.brier_score(truth, probabilities) == near(brier)
        expected = -np.log([0.9, 0.2, 0.65, 0.7]).mean()
        assert classification.log_loss(truth, probabilities) == near(expected)
        bins = classification.calibration_bins(truth, probabilities, n_bins=2)
        assert bins.count.tolist() == [0, 4]
        assert math.isnan(bins.accuracy[0])

    def test_log_loss_of_an_impossible_truth_is_undefined_not_clipped(self):
        loss = classification.log_loss([1], [[1.0, 0.0]])
        assert math.isnan(loss)
        assert loss.reason == "the true class has probability 0 in 1 rows"


class TestRegression:
    def test_running_example(self):
        scores = score_target("values", ["valence"], R2_TRUTH, R2_PREDICTION)
        assert scores["mse"] == near(0.025)
        assert scores["rmse/valence"] == near(0.158114)
        assert scores["mae"] == near(0.15)
        assert scores["pearson"] == near(0.988119)
        assert scores["ccc"] == near(0.921569)

    def test_ccc_is_invariant_only_when_both_sides_are_mapped(self):
        t, p = np.array(R2_TRUTH), np.array(R2_PREDICTION)
        assert regression.ccc(3 * t - 2, 3 * p - 2) == near(0.921569)
        assert regression.ccc(t, p + 0.5) == near(0.516484)
        assert regression.ccc(t, 2 * p) == near(0.917969)

    def test_cage_script_exceeds_the_true_ccc(self):
        assert regression.ccc_cage_script(R2_TRUTH, R2_PREDICTION) == near(1.228758)
        assert regression.ccc(R2_TRUTH, R2_PREDICTION) != near(1.228758)

    def test_pooled_and_per_dimension_ccc_differ(self):
        truth = np.array([[-0.8, 0.3], [-0.4, 0.5], [0, 0.6], [0.2, 0.9]])
        prediction = np.array([[-0.5, 0.5], [-0.4, 0.5], [-0.1, 0.5], [-0.1, 0.7]])
        scores = score_target("values", ["valence", "arousal"], truth, prediction)
        assert scores["ccc/valence"] == near(0.736111)
        assert scores["ccc/arousal"] == near(0.590909)
        assert scores["ccc"] == scores["ccc_va"] == near(0.663510)
        assert scores["pooled_ccc"] == near(0.923549)

    def test_valence_and_arousal_are_pooled_without_dominance(self):
        truth = np.array([[-0.8, 0.3], [-0.4, 0.5], [0, 0.6], [0.2, 0.9]])
        prediction = np.array([[-0.5, 0.5], [-0.4, 0.5], [-0.1, 0.5], [-0.1, 0.7]])
        alone = score_target("values", ["valence", "arousal"], truth, prediction)
        names = ["dominance", "valence", "arousal"]
        both = [
            np.column_stack([column, part])
            for column, part in (([0.9, -0.9, 0.1, np.nan], truth), ([0.0] * 4, prediction))
        ]
        scores = score_target("values", names, *both)
        for metric in ("mse", "mae", "rmse", "ccc"):
            assert scores[f"pooled_va_{metric}"] == alone[f"pooled_{metric}"]
            assert scores[f"pooled_{metric}"] != alone[f"pooled_{metric}"]
        assert scores["pooled_va_ccc"] == near(0.923549)
        assert scores["pooled_va_rmse"] == near(math.sqrt(scores["pooled_va_mse"]))
        only = score_target("values", names, [[0.5, np.nan, np.nan]] * 2, [[0.1] * 3] * 2)
        assert not any(name.startswith("pooled_va_") for name in only)

    @pytest.mark.parametrize(("raw", "mapped"), [(1.15, 0.255556), (1.209, 0.268667)])
    def test_rmse_follows_the_scale(self, raw: float, mapped: float):
        values = 2 / 9 * np.array([raw, -raw])
        assert score_target("values", ["v"], [0.0, 0.0], values)["rmse"] == near(mapped)

    @pytest.mark.parametrize(
        ("truth", "prediction", "ccc", "side"),
        [
            ([1, 2, 3], [2, 2, 2], 0.0, "prediction"),
            ([2, 2, 2], [1, 2, 3], 0.0, "truth"),
            ([2, 2, 2], [1, 1, 1], 0.0, "truth"),
            ([2, 2, 2], [2, 2, 2], 1.0, "truth"),
        ],
    )
    def test_constants_leave_pearson_undefined_and_ccc_defined(
        self, truth: list, prediction: list, ccc: float, side: str
    ):
        r = regression.pearson(truth, prediction)
        assert math.isnan(r)
        assert r.reason == f"the {side} is constant"
        assert regression.ccc(truth, prediction) == ccc

    def test_one_row_has_no_correlation_and_two_rows_are_flagged(self):
        assert math.isnan(regression.pearson([1], [2]))
        assert math.isnan(regression.ccc([1], [2]))
        r = regression.pearson([1, 2], [5, 3])
        assert r == near(-1.0)
        assert "only two rows" in r.reason

    def test_small_but_real_variance_is_not_constant(self):
        t = 0.5 + 6e-4 * np.array([1.0, -1.0, 0.5, -0.5])
        assert regression.pearson(t, 2 * t) == near(1.0)

    def test_emi_score_is_the_mean_over_columns_of_the_whole_split(self):
        truth = np.array([[0, 0.2, 0.9], [0.5, 0.1, 0.4], [1, 0.6, 0.1], [0.2, 0.9, 0.3]])
        prediction = np.array([[0.1, 0.3, 0.7], [0.4, 0.2, 0.5], [0.8, 0.5, 0.2], [0.3, 0.7, 0.5]])
        scores = score_target("values", ["a", "b", "c"], truth, prediction)
        columns = [scores[f"pearson/{name}"] for name in "abc"]
        assert columns == near([0.989268, 0.996273, 0.914531])
        assert scores["pearson"] == near(0.966690)
        halves = [
            score_target("values", ["a", "b", "c"], truth[i : i + 2], prediction[i : i + 2])
            for i in (0, 2)
        ]
        halves = [half["pearson"] for half in halves]
        assert np.mean(halves) == near(1.0)  # why correlations are never averaged over batches

    def test_an_undefined_column_counts_0_in_the_mean_and_is_counted(self):
        truth = np.array([[0.0, 0.1], [0.5, 0.3], [1.0, 0.2]])
        prediction = np.array([[0.0, 0.2], [0.5, 0.2], [1.0, 0.2]])
        scores = score_target("values", ["a", "b"], truth, prediction)
        assert scores["pearson"] == near(0.5)
        assert scores["pearson"].reason == "1 of 2 columns undefined, counted as 0"
        assert scores["pearson_undefined"] == 1
        assert undefined_reasons(scores) == {"pearson/b": "the prediction is constant"}

    def test_unannotated_cells_are_masked_column_by_column(self):
        nan = math.nan
        truth = [[0.1, nan, nan], [0.5, 0.2, nan], [0.9, 0.4, nan]]
        prediction = [[0.2, 9.0, 9.0], [0.5, 0.2, 9.0], [0.9, 0.5, 9.0]]
        scores = score_target("values", ["a", "b", "c"], truth, prediction)
        assert (scores["n/a"], scores["n/b"], scores["n/c"]) == (3, 2, 0)
        assert scores["mae/a"] == near(0.1 / 3)
        assert scores["mae/b"] == near(0.05)
        assert math.isnan(scores["mae/c"])
        assert scores["mae"] == near((0.1 / 3 + 0.05) / 2)
        assert scores["mae"].reason == "1 columns without annotation left out"


class TestSentiment:
    def test_running_example(self):
        scores = score_target("values", ["sentiment"], R3_TRUTH, R3_PREDICTION)
        assert scores["mae"] == near(0.54)
        assert scores["pearson"] == near(0.928574)
        assert (scores["acc7"], scores["acc5"], scores["acc3"]) == near((0.4, 0.6, 0.8))
        assert scores["acc2_non0"] == near(0.875)
        assert scores["acc2_non0"].n == 8
        assert scores["f1_non0"] == near(0.873016)
        assert scores["acc2_has0"] == near(0.8)
        assert scores["f1_has0"] == near(0.8)

    def test_f1_takes_truth_first(self):
        t, p = np.array(R3_TRUTH), np.array(R3_PREDICTION)
        kept = t != 0
        swapped = classification.weighted_f1((p[kept] > 0) * 1, (t[kept] > 0) * 1, 2)
        assert swapped == near(0.876984)

    def test_classes_round_half_to_even_after_clipping(self):
        values = np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, -7.0, 4.0])
        classes = regression.sentiment_classes(values, 3.0)
        assert classes.tolist() == [-2, -2, 0, 0, 2, 2, -3, 3]

    def test_only_neutral_truth_leaves_the_non0_metrics_undefined(self):
        scores = regression.sentiment_scores([0.0, 0.0], [0.5, -0.5])
        assert math.isnan(scores["acc2_non0"])
        assert scores["f1_non0"].reason == "every true sentiment is 0"
        assert scores["acc2_has0"] == 0.5

    def test_other_columns_have_no_sentiment_metrics(self):
        assert "acc7" not in score_target("values", ["valence"], R2_TRUTH, R2_PREDICTION)


class TestCoverage:
    errors = (0.05, 0.1, 0.2, 0.3, 0.45)

    def test_shares_within_thresholds(self):
        thresholds = [0, 0.05, 0.1, 0.25, 0.3, 0.5]
        expected = [0, 0.2, 0.4, 0.6, 0.8, 1]
        assert regression.coverage(self.errors, thresholds) == near(expected)

    def test_area_and_reach(self):
        assert regression.coverage_area(self.errors, 0.5) == near(0.56)
        assert regression.coverage_quantile(self.errors, 0.5) == near(0.2)
        assert regression.coverage_quantile(self.errors, 0.8) == near(0.3)
        assert regression.coverage_quantile(self.errors, 0.9) == near(0.45)

    def test_curve_starts_at_0_and_ends_at_1(self):
        thresholds, shares = regression.coverage_curve(self.errors)
        assert thresholds[0] == 0
        assert thresholds[-1] == near(0.45)
        assert len(thresholds) == 46
        assert shares[-1] == 1.0

    def test_joint_curve_takes_the_worst_dimension(self):
        errors = np.array([[0.1, 0.3], [0.2, 0.1], [0.4, 0.1]])
        joint = regression.joint_errors(np.zeros((3, 2)), errors)
        shares = regression.coverage(joint, [0.1, 0.2, 0.3, 0.4])
        assert shares == near([0, 1 / 3, 2 / 3, 1])
        scores = score_target("values", ["valence", "arousal"], np.zeros((3, 2)), errors)
        assert scores["within_0.2/joint"] == near(1 / 3)
        assert scores["within_0.2/valence"] == near(2 / 3)


class TestLabels:
    scores = ((0.9, 0.8, 0.7, 0.1, 0), (0.1, 0.9, 0.2, 0.8, 0.3), (0.5, 0.4, 0.3, 0.2, 0.1),
              (0.1, 0.2, 0.3, 0.4, 0.5))  # fmt: skip
    truth = ((1, 1, 1, 0, 0), (0, 1, 0, 0, 0), (1, 1, 1, 1, 0), (1, 0, 0, 1, 0))

    def test_every_meaning_of_top_3(self):
        scores = multilabel.top_k_scores(self.truth, self.scores, 3, first_labels=[0, 1, 0, 0])
        assert {name: float(value) for name, value in scores.items()} == {
            "exact_top3": near(0.25),
            "hamming_top3": near(0.70),
            "overlap_top3": near(1.0),
            "contain_top3": near(0.5),
            "belong_top3": near(0.5),
            "recall_top3": near(0.8125),
            "precision_top3": near(2 / 3),
            "first_label_top3": near(0.75),
        }

    def test_chance_and_upper_bounds_on_emotic_are_those_of_the_specification(self):
        persons = dict(enumerate([97, 581, 1363, 1879, 1632, 1025, 435, 150, 29, 11, 1], start=1))
        sizes = np.repeat(list(persons), list(persons.values()))
        truth = np.arange(26) < sizes[:, None]  # which labels they are does not matter to chance
        best = multilabel.top_k_scores(truth, truth.astype(float), 3)
        bounds = {"exact": 0.1892, "contain": 0.2834, "belong": 0.9059, "overlap": 1.0}
        for name, value in bounds.items():
            assert best[f"{name}_top3"] == near(value, 5e-5)
        random = np.random.default_rng(0)
        many, first = np.tile(truth, (10, 1)), random.integers(np.tile(sizes, 10))
        found = multilabel.top_k_scores(many, random.random(many.shape), 3, first_labels=first)
        chance = {
            "first_label": 0.1154,
            "exact": 0.0001,
            "contain": 0.0024,
            "belong": 0.0039,
            "overlap": 0.4331,
            "hamming": 0.754,
            "recall": 0.1154,
            "precision": 0.1698,
        }
        for name, value in chance.items():
            deviation = math.sqrt(value * (1 - value) / len(many))
            assert found[f"{name}_top3"] == near(value, 4 * deviation + 5e-5), name

    def test_rows_without_a_label_are_left_out_and_counted(self):
        truth = (*self.truth, (0, 0, 0, 0, 0))
        scores = score_target("labels", "abcde", truth, (*self.scores, (1, 1, 1, 0, 0)))
        assert scores["recall_top3"] == near(0.8125)
        assert scores["recall_top3"].n == 4
        assert scores["recall_top3"].reason == "1 rows without a true label left out"
        assert scores["rows_without_label"] == 1

    def test_a_first_label_has_to_be_true(self):
        with pytest.raises(MetricInputError, match="not one of the true labels in row 1"):
            multilabel.top_k_scores(self.truth, self.scores, 3, first_labels=[0, 2, 0, 0])

    def test_average_precision_by_hand(self):
        # Positives at ranks 1 and 3: (1/1 + 2/3) / 2; the tie at 0.5 forms a single step.
        assert multilabel.average_precision([1, 0, 1, 0], [0.9, 0.8, 0.7, 0.1]) == near(5 / 6)
        assert multilabel.average_precision([1, 0, 1], [0.5, 0.5, 0.9]) == near(
            0.5 * 1 + 0.5 * 2 / 3
        )

    def test_labels_without_a_positive_are_left_out_of_map_and_counted(self):
        truth = np.array([[1, 0], [0, 0], [1, 0]])
        scores = score_target("labels", "ab", truth, [[0.9, 0.1], [0.8, 0.2], [0.7, 0.3]])
        assert scores["map"] == near(5 / 6)
        assert scores["map"].reason == "1 labels without a positive row left out"
        assert scores["labels_without_positive"] == 1
        assert math.isnan(scores["ap/b"])

    def test_mosei_running_example(self):
        scores = multilabel.binary_scores(R4_TRUTH, R4_PREDICTION)
        assert scores["accuracy"] == near(0.8)
        assert scores["weighted_f1"] == near(0.8)
        assert scores["f1"] == near(0.666667)
        assert scores["wa"] == near(0.761905)

    def test_all_negative_predictor_looks_good_in_weighted_f1_only(self):
        scores = multilabel.binary_scores(R4_TRUTH, [0] * 10)
        assert scores["accuracy"] == near(0.7)
        assert scores["weighted_f1"] == near(0.576471)
        assert scores["wa"] == near(0.5)
        assert scores["f1"] == 0.0

    @pytest.mark.parametrize(("rate", "printed"), [(0.083, 87.79), (0.095, 86.05)])
    def test_recurring_published_values_are_an_all_negative_predictor(
        self, rate: float, printed: float
    ):
        truth = np.arange(1000) < 1000 * rate
        wf1 = multilabel.binary_scores(truth, np.zeros(1000))["weighted_f1"]
        q = 1 - rate
        assert wf1 == near(2 * q * q / (1 + q))
        assert 100 * wf1 == near(printed, 0.08)  # the rates are rounded to 0.1 %

    def test_a_label_that_never_occurs_has_no_weighted_accuracy(self):
        wa = multilabel.weighted_accuracy([0, 0], [0, 1])
        assert math.isnan(wa)
        assert wa.reason == "the label is never present"

    def test_logits_are_cut_at_0(self):
        truth = np.array([R4_TRUTH]).T
        logits = np.where(np.array([R4_PREDICTION]).T == 1, 0.0, -0.1)
        scores = score_target("labels", ["fear"], truth, logits, threshold=0.0)
        assert scores["wa"] == scores["wa/fear"] == near(0.761905)


class TestVotes:
    def test_soft_labels_by_hand(self):
        shares, prediction = [[0.5, 0.5], [1.0, 0.0]], [[0.25, 0.75], [0.8, 0.2]]
        cross = (-0.5 * math.log(0.25) - 0.5 * math.log(0.75) - math.log(0.8)) / 2
        assert votes.soft_cross_entropy(shares, prediction) == near(cross)
        assert votes.soft_cross_entropy(shares, shares) == near(-math.log(0.5) / 2)
        assert math.isnan(votes.soft_cross_entropy([[0.5, 0.5]], [[1.0, 0.0]]))

    def test_agreement_with_the_votes_stands_between_chance_and_the_most_frequent_vote(self):
        shares = [[0.75, 0.25, 0.0], [0.0, 0.5, 0.5], [0.0, 0.0, 1.0]]
        prediction = [[0.2, 0.7, 0.1], [0.1, 0.6, 0.3], [0.1, 0.2, 0.7]]
        found = votes.vote_scores(shares, prediction)
        assert found["vote_accuracy"] == near((0.25 + 0.5 + 1) / 3)
        assert found["vote_accuracy_chance"] == near((0.625 + 0.5 + 1) / 3)
        assert found["vote_accuracy_limit"] == near((0.75 + 0.5 + 1) / 3)
        cross = -(0.75 * math.log(0.2) + 0.25 * math.log(0.7) + math.log(0.7))
        cross -= 0.5 * (math.log(0.6) + math.log(0.3))
        assert found["vote_cross_entropy"] == near(cross / 3)
        assert found["vote_entropy"] < found["vote_cross_entropy"]


class TestErrors:
    def test_non_finite_predictions_name_their_rows(self):
        prediction = np.zeros(9)
        prediction[[2, 7]] = math.nan, math.inf
        with pytest.raises(MetricInputError, match=r"prediction is not a finite.* rows 2, 7"):
            score_target("values", ["v"], np.zeros(9), prediction)

    def test_many_bad_rows_are_counted(self):
        with pytest.raises(MetricInputError, match=r"rows 0, 1, 2, 3, 4 and 95 more"):
            regression.mae(np.zeros(100), np.full(100, math.nan))

    def test_rows_keep_their_position_under_a_mask(self):
        mask = np.array([False, True, True])
        with pytest.raises(MetricInputError, match="row 2"):
            score_target("values", ["v"], np.zeros(3), [math.nan, 0, math.nan], mask=mask)
        with pytest.raises(MetricInputError, match=r"outside the 2 classes .* row 2"):
            score_target("category", "ab", [0, 0, 5], [0, 0, 0], mask=mask)
        with pytest.raises(MetricInputError, match="not in row 2"):
            score_target("labels", "ab", [[0, 2], [0, 1], [2, 0]], np.zeros((3, 2)), mask=mask)

    def test_a_mask_excludes_rows_of_every_kind(self):
        mask = [True, True, False]
        assert score_target("category", "ab", [0, 1, -1], [0, 1, 1], mask=mask)["accuracy"] == 1.0
        values = score_target("values", ["v"], [0, 1, 2], [0, 1, math.nan], mask=mask)
        assert (values["mae"], values["n"]) == (0.0, 2)
        labels = score_target("labels", "a", [[1], [0], [1]], [[1], [0], [0]], mask=mask)
        assert labels["map"] == 1.0
        with pytest.raises(MetricInputError, match="excludes every row"):
            regression.mae([1], [1], mask=[False])
        with pytest.raises(MetricInputError, match="3 booleans"):
            regression.mae([1, 2, 3], [1, 2, 3], mask=[1, 0, 1])

    def test_lengths_have_to_agree_and_rows_to_exist(self):
        with pytest.raises(MetricInputError, match="truth has 2, prediction has 3 rows"):
            regression.mae([1, 2], [1, 2, 3])
        with pytest.raises(MetricInputError, match="no row to score"):
            score_target("category", "ab", [], [])

    def test_class_indices_are_whole_and_known(self):
        with pytest.raises(MetricInputError, match="not a whole class index in row 1"):
            score_target("category", "ab", [0, 1], [0, 0.5])
        with pytest.raises(MetricInputError, match=r"outside the 2 classes \(0 to 1\) in row 0"):
            score_target("category", "ab", [0, 1], [-1, 0])

    def test_probabilities_are_a_distribution_per_row(self):
        with pytest.raises(MetricInputError, match="do not sum to 1 in row 1"):
            score_target("category", "ab", [0, 1], [0, 1], [[0.5, 0.5], [2.0, 1.0]])
        with pytest.raises(MetricInputError, match="2 columns"):
            score_target("category", "ab", [0, 1], [0, 1], [[1.0], [1.0]])
        with pytest.raises(MetricInputError, match="scores has 1 rows"):
            score_target("category", "ab", [0, 1], [0, 1], [[0.5, 0.5]])

    @pytest.mark.parametrize(
        ("call", "sentence"),
        [
            (lambda: classification.top_k_accuracy([0], [[0.5, 0.5]], 0), "k has to be above 0"),
            (lambda: classification.calibration_bins([0], [[1.0]], 0), "n_bins has to be above 0"),
            (lambda: regression.coverage_curve([0.1], 0.0), "step has to be above 0"),
            (lambda: regression.coverage_area([0.1], 0.0), "limit has to be above 0"),
            (lambda: regression.coverage_quantile([0.1], 1.5), r"lies in \(0, 1\]"),
            (lambda: classification.accuracy(1, 1), "one truth per row, but it is a single value"),
        ],
    )
    def test_arguments_out_of_range_are_named(self, call, sentence: str):
        with pytest.raises(MetricInputError, match=sentence):
            call()

    def test_names_match_columns(self):
        with pytest.raises(MetricInputError, match="2 columns to score but 1 names"):
            score_target("values", ["v"], np.zeros((3, 2)), np.zeros((3, 2)))
        with pytest.raises(MetricInputError, match="same columns"):
            score_target("values", ["v"], np.zeros((3, 2)), np.zeros((3, 1)))

    def test_unknown_kind_and_target_name_the_known_ones(self):
        with pytest.raises(UserError, match="category, values or labels"):
            score_target("colour", "ab", [0], [0])  # type: ignore[arg-type]
        with pytest.raises(UserError, match="category, vad, sentiment, emi, categories"):
            selection_score("valence", "values", ["valence"], [0.0], [0.0])
        with pytest.raises(UserError, match="selected by ccc, which a category target lacks"):
            selection_score("vad", "category", "ab", [0], [0])


class TestSelection:
    def test_selection_equals_the_judges_metric(self):
        rng = np.random.default_rng(0)
        classes, predicted = rng.integers(0, 4, 50), rng.integers(0, 4, 50)
        values, guesses = rng.normal(size=(50, 3)), rng.normal(size=(50, 3))
        values[:9, 1] = math.nan
        labels, scores = rng.random((50, 5)) < 0.3, rng.random((50, 5))
        cases = {
            "category": ("category", "abcd", classes, predicted),
            "vad": ("values", ("valence", "arousal", "dominance"), values, guesses),
            "sentiment": ("values", ("sentiment",), values[:, :1], guesses[:, :1]),
            "emi": ("values", "abc", values, guesses),
            "categories": ("labels", "abcde", labels, scores),
        }
        assert set(cases) == set(SELECTION) == set(HEADLINE)
        for target, case in cases.items():
            metric, sign = SELECTION[target]
            expected = sign * score_target(*case)[metric]
            assert selection_score(target, *case) == pytest.approx(expected, abs=1e-15)

    def test_a_smaller_error_selects(self):
        good = selection_score("sentiment", "values", ["sentiment"], [1.0, 2.0], [1.1, 2.1])
        bad = selection_score("sentiment", "values", ["sentiment"], [1.0, 2.0], [2.0, 3.0])
        assert good > bad

    def test_undefined_is_the_worst_finite_score(self):
        score = selection_score("vad", "values", "vad", np.full((4, 3), math.nan), np.zeros((4, 3)))
        assert score == UNDEFINED_SCORE
        assert selection_score("categories", "labels", "a", [[0]], [[0.5]]) == UNDEFINED_SCORE
        assert json.loads(json.dumps(score)) == score

    def test_a_constant_column_counts_0_for_emi(self):
        truth = np.array([[0.0, 0.0], [1.0, 1.0], [0.5, 0.2]])
        prediction = np.array([[0.0, 0.3], [1.0, 0.3], [0.5, 0.3]])
        assert selection_score("emi", "values", "ab", truth, prediction) == near(0.5)


class TestMetric:
    def test_is_a_float_that_survives_copies_and_json(self):
        metric = Metric(0.25, 7, "remark")
        for twin in (copy.deepcopy(metric), pickle.loads(pickle.dumps(metric))):
            assert (float(twin), twin.n, twin.reason) == (0.25, 7, "remark")
        assert json.dumps({"a": metric}) == '{"a": 0.25}'

    def test_mean_over_no_annotated_column_is_undefined(self):
        mean = mean_over_columns([undefined(0, "no row is annotated")])
        assert math.isnan(mean)
        assert mean.reason == "no row is annotated"

    def test_a_single_column_stays_undefined(self):
        assert math.isnan(score_target("values", ["v"], [1.0, 2.0], [1.0, 1.0])["pearson"])
