"""Intervals, paired tests and verdicts: exact cases, invariances, and a small simulation."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from benchmarks import interval_coverage
from models.errors import MetricInputError, UserError
from models.metrics.scoring import score_target
from models.statistics.bootstrap import (
    Resamples,
    compare,
    compare_all,
    confidence_interval,
    resample,
    scale_of,
)
from models.statistics.comparison import Comparison, verdict
from models.statistics.permutation import permutation_test
from models.statistics.resampling import resamplable
from models.statistics.significance import cohens_d, holm, seeds_needed, win_rate

DIMENSIONS = ("valence", "arousal", "dominance")
CLASSES = "abcd"
ROWS, DIALOGUES = 120, 15
DIALOGUE = np.repeat([f"d{index:02d}" for index in range(DIALOGUES)], ROWS // DIALOGUES)


def category_case(seed: int = 0, seeds: int = 3) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 4, ROWS)
    noise = rng.integers(0, 4, (3, seeds, ROWS))
    right = rng.random((3, seeds, ROWS)) < np.array([0.75, 0.7, 0.35])[:, None, None]
    runs = np.where(right, truth, noise)
    return truth, dict(zip(("good", "near", "poor"), runs, strict=True))


def value_case(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = np.clip(rng.normal(0, 0.4, (ROWS, 3)), -1, 1)
    prediction = 0.5 * truth + 0.1 + rng.normal(0, 0.2, (ROWS, 3))
    truth[rng.random((ROWS, 3)) < 0.1] = math.nan
    return truth, prediction


def drawn(metric: str = "weighted_f1", **options) -> Resamples:
    truth, runs = category_case(**options)
    form = resamplable(metric, "category", CLASSES)
    return resample(metric, form, truth, runs, DIALOGUE, n_resamples=400)


class SlowPath:
    """Any function of (truth, prediction), on rows repeated and exchanged as drawn."""

    def __init__(self, function):
        self.function = function

    def weighted(self, truth, prediction, codes, weights):
        drawn = [np.repeat(np.arange(len(codes)), w[codes].astype(int)) for w in weights]
        return np.array([self.function(truth[rows], prediction[rows]) for rows in drawn])

    def swapped(self, truth, first, second, codes, swaps):
        found = []
        for swap in swaps:
            moved = swap[codes].reshape(-1, *([1] * (first.ndim - 1)))
            sides = np.where(moved, second, first), np.where(moved, first, second)
            found.append([self.function(truth, side) for side in sides])
        return np.array(found)


class TestFastFormsEqualTheSlowPath:
    """The fast form has to be the metric of the rows as drawn, resample by resample."""

    def check(self, metric: str, kind, names, truth: np.ndarray, prediction: np.ndarray) -> None:
        codes = np.repeat(np.arange(DIALOGUES), ROWS // DIALOGUES)
        rng = np.random.default_rng(3)
        weights = rng.multinomial(DIALOGUES, np.full(DIALOGUES, 1 / DIALOGUES), size=12)
        weights = weights.astype(float)
        top = {"top_k": int(metric[-1])} if "_top" in metric else {}
        slow = SlowPath(lambda t, p: score_target(kind, names, t, p, **top)[metric])
        fast = resamplable(metric, kind, names)
        expected = slow.weighted(truth, prediction, codes, weights)
        assert np.ptp(expected) > 0
        assert fast.weighted(truth, prediction, codes, weights) == pytest.approx(expected, abs=1e-9)
        other, swaps = prediction[::-1], rng.random((12, DIALOGUES)) < 0.5
        assert fast.swapped(truth, prediction, other, codes, swaps) == pytest.approx(
            slow.swapped(truth, prediction, other, codes, swaps), abs=1e-9
        )

    @pytest.mark.parametrize(
        "metric",
        ["accuracy", "weighted_precision", "weighted_f1", "macro_precision", "macro_f1",
         "macro_f1_all", "uar", "uar_all", "f1/b", "recall/a", "precision/d"],
    )  # fmt: skip
    def test_category(self, metric: str):
        truth, runs = category_case()
        self.check(metric, "category", CLASSES, truth, runs["near"][0])

    @pytest.mark.parametrize(
        "metric",
        ["mse", "rmse", "mae", "pearson", "ccc", "ccc/arousal", "mae/dominance", "ccc_va",
         "pooled_mse", "pooled_mae", "pooled_rmse", "pooled_ccc"],
    )  # fmt: skip
    def test_values_with_gaps(self, metric: str):
        self.check(metric, "values", DIMENSIONS, *value_case())

    def test_valence_and_arousal_pooled_leave_dominance_out(self):
        truth, prediction = value_case()
        weights, codes = np.ones((1, 1)), np.zeros(len(truth), dtype=int)
        form = resamplable("pooled_va_ccc", "values", DIMENSIONS)
        exact = score_target("values", DIMENSIONS[:2], truth[:, :2], prediction[:, :2])
        assert form.weighted(truth, prediction, codes, weights) == pytest.approx(
            exact["pooled_ccc"], abs=1e-9
        )

    @pytest.mark.parametrize(
        "metric", ["acc7", "acc5", "acc3", "acc2_has0", "f1_has0", "acc2_non0", "f1_non0"]
    )
    def test_sentiment(self, metric: str):
        truth, prediction = value_case()
        truth = np.round(6 * truth[:, 0]) / 2
        self.check(metric, "values", ["sentiment"], truth, 3 * prediction[:, 0])

    def test_labels_with_tied_scores(self):
        rng = np.random.default_rng(0)
        truth = rng.random((ROWS, 5)) < [0.5, 0.3, 0.1, 0.02, 0.0]
        scores = np.round(rng.random((ROWS, 5)) + 0.3 * truth, 1)
        self.check("map", "labels", "abcde", truth, scores)

    @pytest.mark.parametrize("metric", ["belong_top3", "recall_top3", "overlap_top2"])
    def test_labels_with_their_best_scored(self, metric: str):
        rng = np.random.default_rng(0)
        truth = rng.random((ROWS, 5)) < [0.5, 0.3, 0.4, 0.2, 0.1]
        truth[::7] = False  # a row without a label has no score
        self.check(metric, "labels", "abcde", truth, rng.random((ROWS, 5)))

    def test_the_first_listed_label_is_told_by_row(self):
        rng = np.random.default_rng(1)
        truth = np.eye(5)[rng.integers(5, size=ROWS)].astype(bool)
        scores, first = rng.random((ROWS, 5)), truth.argmax(1)
        form = resamplable("first_label_top2", "labels", "abcde", None, first)
        found = form.weighted(truth, scores, np.zeros(ROWS, int), np.ones((1, 1)))
        exact = score_target("labels", [*"abcde"], truth, scores, top_k=2, first_labels=first)
        assert found == pytest.approx(exact["first_label_top2"], abs=1e-9)
        with pytest.raises(UserError, match="first_label_top2 needs the label"):
            resamplable("first_label_top2", "labels", "abcde")

    @pytest.mark.parametrize("metric", ["mse", "rmse", "mae", "pearson", "ccc"])
    def test_float32_counts_as_exactly_as_float64(self, metric: str):
        truth, prediction = (100 + a[:, 0].astype(np.float32) for a in value_case())
        kept = ~np.isnan(truth)
        truth, prediction = truth[kept], prediction[kept]
        weights, codes = np.ones((1, 1)), np.zeros(len(truth), dtype=int)
        fast = resamplable(metric, "values", ["v"]).weighted(truth, prediction, codes, weights)
        exact = score_target("values", ["v"], truth, prediction)[metric]
        assert fast == pytest.approx(exact, abs=1e-9)

    def test_unknown_metrics_and_columns_name_the_known_ones(self):
        with pytest.raises(UserError, match=r"f1/<class>"):
            resamplable("f1/z", "category", CLASSES)
        with pytest.raises(UserError, match="ece cannot be resampled"):
            resamplable("ece", "category", CLASSES)
        with pytest.raises(UserError, match="no column 'joy' among valence"):
            resamplable("ccc/joy", "values", DIMENSIONS)
        with pytest.raises(UserError, match="column sentiment"):
            resamplable("acc7", "values", DIMENSIONS)
        with pytest.raises(UserError, match="wa of a labels target cannot be resampled"):
            resamplable("wa", "labels", CLASSES)


class TestIntervals:
    def test_an_interval_surrounds_the_mean_and_counts_what_it_rests_on(self):
        interval = confidence_interval(drawn(), "near")
        truth, runs = category_case()
        scores = [score_target("category", CLASSES, truth, r)["weighted_f1"] for r in runs["near"]]
        assert interval.mean == pytest.approx(np.mean(scores))
        assert interval.std == pytest.approx(np.std(scores, ddof=1))
        assert interval.low < interval.mean < interval.high
        assert (interval.seeds, interval.n_rows, interval.n_clusters) == (3, ROWS, DIALOGUES)

    def test_the_same_seed_gives_the_same_bytes(self):
        first, second = drawn(), drawn()
        for method in first.bootstrap:
            assert first.bootstrap[method].tobytes() == second.bootstrap[method].tobytes()

    def test_rows_may_come_in_any_order(self):
        truth, runs = category_case()
        form = resamplable("macro_f1", "category", CLASSES)
        order = np.random.default_rng(4).permutation(ROWS)
        shuffled = {name: run[:, order] for name, run in runs.items()}
        a = resample("macro_f1", form, truth, runs, DIALOGUE, n_resamples=50)
        b = resample("macro_f1", form, truth[order], shuffled, DIALOGUE[order], n_resamples=50)
        for name in runs:
            assert confidence_interval(a, name) == confidence_interval(b, name)

    def test_mean_of_independent_rows_has_the_textbook_standard_error(self):
        rng = np.random.default_rng(0)
        n = 400
        errors = np.abs(rng.normal(1.0, 0.2, n))
        form = resamplable("mae", "values", ["v"])
        draws = resample(
            "plain_mae", form, np.zeros(n), {"m": errors[None]}, np.arange(n), n_resamples=4000
        )
        interval = confidence_interval(draws, "m")
        reach = stats.t.ppf(0.975, n - 1) * errors.std(ddof=1) / math.sqrt(n)
        assert interval.high - interval.mean == pytest.approx(reach, rel=0.04)

    def test_dialogues_that_agree_within_widen_the_interval(self):
        rng = np.random.default_rng(0)
        dialogue = np.repeat(np.arange(40), 10)
        prediction = np.repeat(rng.random(40) < 0.6, 10).astype(int)[None]
        form = resamplable("accuracy", "category", "ab")
        truth = np.ones(400, dtype=int)

        def width(clusters: np.ndarray) -> float:
            draws = resample("accuracy", form, truth, {"m": prediction}, clusters, n_resamples=500)
            interval = confidence_interval(draws, "m")
            return interval.high - interval.low

        # Ten rows that always agree are worth one, so the error grows by the square root of 10.
        assert width(dialogue) / width(np.arange(400)) == pytest.approx(math.sqrt(10), rel=0.15)

    def test_seeds_that_disagree_widen_the_interval(self):
        calm = drawn()
        jumpy = replace(calm, estimates={"near": calm.estimates["near"] + np.array([-0.1, 0, 0.1])})
        a, b = confidence_interval(calm, "near"), confidence_interval(jumpy, "near")
        assert a.mean == pytest.approx(b.mean)
        assert b.high - b.low > 1.5 * (a.high - a.low)

    def test_chance_in_single_rows_counts_once(self):
        # Runs that differ in nothing but independent errors: the spread over seeds is all theirs.
        form = resamplable("mae", "values", ["v"])
        halves = []
        for seed in range(10):
            runs = {"a": np.random.default_rng(seed).normal(size=(5, ROWS))}
            draws = resample("mae", form, np.zeros(ROWS), runs, np.arange(ROWS), n_resamples=500)
            interval = confidence_interval(draws, "a")
            halves.append((interval.high - interval.low) / 2)
        standard_error = math.sqrt((1 - 2 / math.pi) / (5 * ROWS))
        assert np.mean(halves) == pytest.approx(2 * standard_error, rel=0.2)

    def test_one_seed_is_remarked(self):
        interval = confidence_interval(drawn(seeds=1), "good")
        assert math.isnan(interval.std)
        assert "one seed" in interval.remark
        assert interval.low < interval.high

    def test_intervals_stay_in_the_range_of_the_metric(self):
        truth = np.zeros(40, dtype=int)
        prediction = np.zeros((1, 40), dtype=int)
        prediction[0, 0] = 1
        form, dialogue = resamplable("accuracy", "category", "ab"), np.repeat(np.arange(8), 5)
        draws = resample("accuracy", form, truth, {"m": prediction}, dialogue, n_resamples=200)
        interval = confidence_interval(draws, "m")
        assert interval.high == 1.0
        assert 0.8 < interval.low < interval.mean

    def test_a_single_dialogue_and_an_undefined_metric_give_no_interval(self):
        truth, runs = category_case()
        form = resamplable("weighted_f1", "category", CLASSES)
        lone = resample("weighted_f1", form, truth, runs, ["d"] * ROWS, n_resamples=10)
        interval = confidence_interval(lone, "good")
        assert math.isnan(interval.low)
        assert interval.remark == "the split has a single dialogue"
        constant = {"m": np.zeros((2, ROWS))}
        flat = resample(
            "pearson", resamplable("pearson", "values", ["v"]), np.arange(ROWS) / ROWS, constant,
            DIALOGUE, n_resamples=10,
        )  # fmt: skip
        assert "undefined on this split" in confidence_interval(flat, "m").remark

    def test_often_undefined_resamples_are_counted_and_leave_no_interval(self):
        # Only two of fifteen dialogues vary, so many resamples hold a constant prediction.
        prediction = np.zeros((1, ROWS))
        prediction[0, :16] = np.arange(16)
        truth = np.arange(ROWS, dtype=float)
        form = resamplable("pearson", "values", ["v"])
        draws = resample("pearson", form, truth, {"m": prediction}, DIALOGUE, n_resamples=400)
        interval = confidence_interval(draws, "m")
        assert interval.undefined_resamples > 20
        assert math.isnan(interval.low)
        assert f"undefined in {interval.undefined_resamples} of 400" in interval.remark

    @pytest.mark.parametrize(
        ("metric", "scale"),
        [("weighted_f1", "share"), ("f1/joy", "share"), ("map", "share"), ("acc2_has0", "share"),
         ("ccc/valence", "correlation"), ("pooled_ccc", "correlation"), ("mae", "error"),
         ("ece", "plain"), ("mean_cost_pred_code", "plain"), ("support/a", "plain")],
    )  # fmt: skip
    def test_scale_follows_the_name(self, metric: str, scale: str):
        assert scale_of(metric) == scale


class TestComparisons:
    def test_a_clear_difference_is_found_and_a_small_one_is_not(self):
        draws = drawn()
        clear, small = compare(draws, "good", "poor"), compare(draws, "good", "near")
        assert clear.is_significant()
        assert clear.low > 0
        assert clear.win_rate == 1.0
        assert not small.is_significant()
        assert small.low < 0 < small.high

    def test_comparing_the_other_way_round_mirrors_everything(self):
        draws = drawn()
        a, b = compare(draws, "good", "near"), compare(draws, "near", "good")
        assert a.difference == pytest.approx(-b.difference)
        assert a.p_value == pytest.approx(b.p_value)
        assert (a.low, a.high) == pytest.approx((-b.high, -b.low))
        assert a.effect_size == pytest.approx(-b.effect_size)
        assert a.win_rate == pytest.approx(1 - b.win_rate)
        turned = b.turned()
        assert (turned.first, turned.second, turned.means) == ("good", "near", a.means)
        assert turned.difference == pytest.approx(a.difference)
        assert (turned.low, turned.high) == pytest.approx((a.low, a.high))
        assert turned.win_rate == pytest.approx(a.win_rate)

    def test_equal_predictions_have_p_1(self):
        truth, runs = category_case(seeds=1)
        form = resamplable("accuracy", "category", CLASSES)
        twins = {"a": runs["good"], "b": runs["good"]}
        draws = resample("accuracy", form, truth, twins, DIALOGUE, n_resamples=100)
        result = compare(draws, "a", "b")
        assert (result.difference, result.p_value) == (0.0, 1.0)
        assert "their scores are equal" in verdict(replace(result, seeds=(2, 2), remark=""))

    def test_predictions_that_differ_by_rounding_have_p_1(self):
        truth = np.random.default_rng(0).normal(size=ROWS)
        runs = np.random.default_rng(1).normal(size=(1, ROWS))
        form = resamplable("mae", "values", ["v"])
        twins = {"a": runs, "b": runs + 3e-16}
        result = compare(resample("mae", form, truth, twins, DIALOGUE, n_resamples=100), "a", "b")
        assert (result.difference, result.p_value) == (0.0, 1.0)

    def test_pairing_beats_two_separate_intervals(self):
        # Both methods fail on the same dialogues; one is a little better everywhere.
        rng = np.random.default_rng(0)
        level = np.repeat(rng.uniform(0.2, 1.8, DIALOGUES), ROWS // DIALOGUES)
        errors = level + rng.normal(0, 0.02, (2, 3, ROWS))
        runs = {"a": errors[0], "b": errors[1] + 0.05}
        form = resamplable("mae", "values", ["v"])
        draws = resample("mae", form, np.zeros(ROWS), runs, DIALOGUE, n_resamples=400)
        a, b = confidence_interval(draws, "a"), confidence_interval(draws, "b")
        assert a.high > b.low
        assert compare(draws, "a", "b").is_significant()

    def test_more_seeds_help_where_runs_differ_by_chance_in_single_rows(self):
        # The dialogues are not to blame: all that hides the difference is chance in single rows.
        rng, dialogue = np.random.default_rng(0), np.repeat(np.arange(40), 10)
        form, found = resamplable("mae", "values", ["v"]), []
        for seed in range(12):
            shared = 1 + rng.normal(0, 0.1, 40)[dialogue]
            runs = {
                name: shared + gap + rng.normal(0, 0.12, (5, 400))
                for name, gap in (("a", 0.0), ("b", 0.008))
            }
            draws = resample("mae", form, np.zeros(400), runs, dialogue, n_resamples=200, seed=seed)
            found.append(compare(draws, "a", "b").seeds_needed)
        assert found.count(None) <= 3
        assert 8 < np.median([seeds for seeds in found if seeds]) < 40

    def test_all_pairs_share_holms_correction(self):
        results = compare_all(drawn())
        assert [(r.first, r.second) for r in results] == [
            ("good", "near"), ("good", "poor"), ("near", "poor")
        ]  # fmt: skip
        assert [r.p_holm for r in results] == pytest.approx(holm([r.p_value for r in results]))
        assert {r.family for r in results} == {3}
        chosen = compare_all(drawn(), [("near", "poor")])
        assert chosen[0].p_holm == chosen[0].p_value

    def test_unknown_methods_are_named(self):
        with pytest.raises(UserError, match="no method 'best': known are good, near, poor"):
            compare(drawn(), "best", "good")

    def test_permutation_agrees_with_the_exact_sign_test(self):
        # One row per dialogue, first always right and second always wrong: only the two extreme
        # exchanges of 2^8 are as large.
        truth = np.zeros(8, dtype=int)
        form = resamplable("accuracy", "category", "ab")
        sides = (truth[None], truth[None] + 1, np.arange(8))
        assert permutation_test(form, truth, *sides, n_permutations=256) == 2 / 256
        drawn_p = permutation_test(form, truth, *sides, n_permutations=255)
        assert drawn_p == pytest.approx(2 / 256, abs=0.02)

    def test_permutation_counts_rounded_ties_of_large_values(self):
        # Without the exchange that changes nothing but the order of sums, p would be too small.
        truth = np.zeros(6)
        first, second = np.array([[1e4, 1e4 / 3, 1e4 / 7]]), np.array([[0.1, 0.2, 0.3]])
        first, second = np.tile(first, 2), np.tile(second, 2)
        form = resamplable("mse", "values", ["v"])
        p = permutation_test(form, truth, first, second, [0, 0, 0, 1, 1, 1])
        assert p == 0.5

    def test_permutation_separates_clear_from_equal(self):
        truth, runs = category_case()
        form = resamplable("weighted_f1", "category", CLASSES)
        options = {"clusters": DIALOGUE, "n_permutations": 400}
        assert permutation_test(form, truth, runs["good"], runs["poor"], **options) < 0.01
        assert permutation_test(form, truth, runs["good"], runs["good"], **options) == 1.0

    def test_permutation_needs_as_many_seeds_on_both_sides(self):
        truth, runs = category_case()
        form = resamplable("accuracy", "category", CLASSES)
        with pytest.raises(MetricInputError, match="3 and 2 seeds"):
            permutation_test(form, truth, runs["good"], runs["near"][:2], DIALOGUE)


class TestErrors:
    def test_bad_runs_are_named(self):
        truth, runs = category_case()
        form = resamplable("mae", "values", ["v"])
        broken = runs["good"].astype(float)
        broken[1, 7] = math.nan
        with pytest.raises(MetricInputError, match=r"Prediction of good, run 1, .* row 7"):
            resample("mae", form, truth, {"good": broken}, DIALOGUE)
        with pytest.raises(MetricInputError, match=r"good need the shape \(seeds, 120\)"):
            resample("mae", form, truth, {"good": broken[0]}, DIALOGUE)
        with pytest.raises(MetricInputError, match="Each of the 120 rows needs its dialogue"):
            resample("mae", form, truth, runs, DIALOGUE[:-1])
        with pytest.raises(MetricInputError, match="nothing to resample"):
            resample("mae", form, truth, {}, DIALOGUE)


class TestNumbers:
    def test_holm_by_hand(self):
        assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
        assert holm([0.6, 0.7]) == pytest.approx([1.0, 1.0])
        adjusted = holm([0.02, math.nan, 0.01])
        assert adjusted[[0, 2]] == pytest.approx([0.02, 0.02])
        assert math.isnan(adjusted[1])

    @settings(max_examples=50)
    @given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
    def test_holm_keeps_order_and_lies_between_p_and_bonferroni(self, p_values: list[float]):
        adjusted, p = holm(p_values), np.asarray(p_values)
        assert (adjusted >= p).all()
        assert (adjusted <= np.minimum(p * len(p), 1) + 1e-12).all()
        assert (np.diff(adjusted[np.argsort(p, kind="stable")]) >= 0).all()

    def test_effect_sizes_by_hand(self):
        assert cohens_d([3, 4, 5], [1, 2, 3]) == pytest.approx(2.0)
        assert math.isnan(cohens_d([3], [1, 2]))
        assert math.isnan(cohens_d([1, 1], [2, 2]))
        assert win_rate([2, 3], [1, 2]) == pytest.approx(0.875)

    def test_seeds_needed_finds_the_wanted_power(self):
        # Many dialogues: reduces to the two-sample t-test over seeds, d = 1 needs 17 per group.
        assert seeds_needed(1.0, 0.0, (1.0, 1.0), 1e6) == pytest.approx(17, abs=1)
        assert seeds_needed(2.0, 0.0, (1.0, 1.0), 1e6) < 8
        assert seeds_needed(0.01, 1.0, (1.0, 1.0), 30) is None
        assert seeds_needed(0.0, 0.1, (1.0, 1.0), 30) is None
        assert seeds_needed(1.0, 0.1, (math.nan, 1.0), 30) is None


class TestVerdicts:
    base = Comparison(
        metric="weighted_f1", first="corect", second="mmgcn", means=(0.65, 0.62), difference=0.03,
        low=-0.01, high=0.07, confidence=0.95, p_value=0.12, p_holm=0.36, family=3,
        effect_size=1.0, win_rate=0.8, seeds=(5, 5), seeds_needed=22, n_clusters=30,
    )  # fmt: skip

    def test_no_significant_difference_is_said_in_words(self):
        assert verdict(self.base) == (
            "No significant difference in weighted_f1 between corect and mmgcn (difference "
            "+0.0300, 95 % interval -0.0100 to +0.0700, p = 0.36 after Holm's correction over 3 "
            "comparisons); if the difference is real, about 22 seeds each would show it."
        )

    def test_a_difference_that_is_lost_to_the_correction_says_so(self):
        several = replace(self.base, low=0.001, p_value=0.04, p_holm=0.4, family=10)
        assert "but not as one of 10 comparisons" in verdict(several)

    def test_too_few_dialogues_and_too_few_seeds_are_said(self):
        assert "so few test dialogues" in verdict(replace(self.base, seeds_needed=None))
        assert "more seeds are needed" in verdict(replace(self.base, seeds=(1, 5)))

    def test_the_better_method_depends_on_the_direction_of_the_metric(self):
        found = replace(self.base, low=0.01, p_holm=0.01)
        assert verdict(found).startswith("corect is significantly better than mmgcn")
        assert verdict(found, higher_is_better=False).startswith("mmgcn is significantly better")

    def test_what_cannot_be_compared_says_why(self):
        lone = replace(self.base, p_holm=math.nan, remark="the split has a single dialogue")
        assert verdict(lone) == (
            "corect and mmgcn cannot be compared in weighted_f1: the split has a single dialogue."
        )


@pytest.mark.slow
@pytest.mark.parametrize(("metric", "kind"), [("weighted_f1", "category"), ("ccc", "values")])
def test_intervals_cover_and_equal_methods_are_rarely_told_apart(metric: str, kind: str):
    scenario = interval_coverage.Scenario(metric, kind, 30, 5, 0.1)
    rates = interval_coverage.simulate(scenario, 400, 400, seed=11)
    # 400 experiments: bounds three standard errors beyond 93 to 97 % and 5.5 %.
    assert 0.90 <= rates.coverage <= 0.995
    assert rates.false_positives <= 0.09
    # The interval that ignores seeds fails the same experiments, so the simulation can tell.
    assert rates.percentile_false_positives > 0.09


@pytest.mark.slow
@pytest.mark.parametrize(("metric", "kind"), [("weighted_f1", "category"), ("ccc", "values")])
def test_intervals_hold_for_fresh_speakers(metric: str, kind: str):
    scenario = interval_coverage.Scenario(metric, kind, 24, 1, 0.0, has_speakers=True)
    rates = interval_coverage.simulate(scenario, 300, 300, seed=11)
    assert 0.91 <= rates.coverage <= 0.99
    assert rates.coverage_by_dialogue < 0.91  # clips drawn singly promise too much


@pytest.mark.parametrize("metric", ["accuracy", "weighted_f1"])
def test_leaving_out_each_dialogue_equals_scoring_without_it(metric):
    rng = np.random.default_rng(3)
    truth, said = rng.integers(0, 3, 60), rng.integers(0, 3, (1, 60))
    dialogues = np.repeat([f"d{i}" for i in range(12)], 5)
    form = resamplable(metric, "category", ["a", "b", "c"])
    found = resample(metric, form, truth, {"m": said}, dialogues, n_resamples=10)
    for place, name in enumerate(np.unique(dialogues)):
        rest = dialogues != name
        alone = resample(metric, form, truth[rest], {"m": said[:, rest]}, dialogues[rest])
        assert found.jackknife["m"][place, 0] == pytest.approx(alone.estimates["m"][0], abs=1e-12)
