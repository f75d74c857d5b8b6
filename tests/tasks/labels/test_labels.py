"""Stage ``labels``: exact maps, the strict checks, merging, votes, and the numbers of the spec."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from models.errors import UserError
from tasks.labels.checks import REASONS
from tasks.labels.merge import merge_numbers, rater_correlations
from tasks.labels.scales import SCALES, SIGNS, from_unit, to_unit
from tasks.labels.stage import Card, LabelsParams, Result, merge, run
from tasks.tables.annotations import ANNOTATIONS
from tasks.tables.label_rows import labels_in
from tasks.tables.labels import LABELS
from tasks.tables.parquet import read_table, write_table
from tasks.tables.quarantine import QUARANTINE
from tasks.tables.splits import SPLIT
from tasks.tables.utterances import UTTERANCES
from tasks.targets import VAD
from tests.places import QUIET, here

SHARED = Path(os.environ.get("AFFECTLOOM_SHARED", "../shared")) / "data"
needs_data = pytest.mark.skipif(not SHARED.exists(), reason=f"no real data at {SHARED}")
NO_CARD = Card({}, {})

# item by item, three raters: the spec's example
SPEC = [[1, 2, 1], [3, 3, 4], [4, 5, 2], [5, 5, 4]]


def number(utterance: str, value: float, rater: str = "r1", target: str = "valence", **more):
    base = {"utterance_id": utterance, "rater": rater, "target": target, "value": float(value)}
    return base | {"scale_min": 1.0, "scale_max": 5.0, "source": "s"} | more


def label(utterance: str, name: str, rater: str = "r1", target: str = "category", **more):
    base = {"utterance_id": utterance, "rater": rater, "target": target, "label": name}
    return base | {"source": "s"} | more


def ids_of(*ids: str) -> pl.Series:
    return pl.Series("utterance_id", ids, dtype=pl.String)


def splits_of(*folds: str, ids: Sequence[str] = "abcdef") -> pl.DataFrame:
    """A fold for each word, whose letters are the splits of ``ids``: t, v, and x for test."""
    name = {"t": "train", "v": "validation", "x": "test"}
    rows = [
        {"utterance_id": utterance, "fold": fold, "split": name[letter]}
        for fold, word in enumerate(folds)
        for utterance, letter in zip(ids, word, strict=False)
    ]
    return SPLIT.frame(rows)


def merged(rows: list[dict], ids: str = "abcdef", card: Card = NO_CARD, **params) -> Result:
    return merge(LabelsParams(**params), ids_of(*ids), ANNOTATIONS.frame(rows), card)


def reasons(result: Result) -> dict[str, str]:
    return dict(zip(result.quarantine["utterance_id"], result.quarantine["reason"], strict=True))


def spec_rows(ratings=SPEC, skip=()) -> list[dict]:
    return [
        number("abcd"[i], value, f"r{k + 1}")
        for i, values in enumerate(ratings)
        for k, value in enumerate(values)
        if (i, k) not in skip
    ]


# maps ---------------------------------------------------------------------------------------


def test_emotic_steps_map_as_in_the_spec():
    steps = to_unit(np.arange(1.0, 11.0), 1.0, 10.0, 1.0)
    ends = [-1, -0.777778, -0.555556, -0.333333, -0.111111]
    np.testing.assert_allclose(steps, [*ends, *(-v for v in reversed(ends))], atol=5e-7)
    assert steps[0] == -1
    assert steps[-1] == 1
    assert to_unit(5.5, 1, 10, 1) == 0
    assert to_unit(17 / 3, 1, 10, 1) == pytest.approx(0.037037, abs=5e-7)


@pytest.mark.parametrize(
    ("scale", "raw", "unit"),
    [
        ("affectnet", -0.3, -0.3),
        ("iemocap", 2.5, -0.25),
        ("iemocap", 3.6667, 0.33335),
        ("msp_podcast", 4.2, 0.066667),
        ("msp_podcast", 5.4, 0.466667),
        ("emobank", 3.0, 0.0),
        ("fer_vad", -1, -0.5),
        ("nrc_vad", 0.75, 0.5),
        ("mosi_sentiment", -1.8, -0.6),
    ],
)
def test_registered_scales_map_as_in_the_spec(scale, raw, unit):
    s = SCALES[scale]
    assert to_unit(raw, s.low, s.high, s.sign) == pytest.approx(unit, abs=5e-7)


@given(st.floats(-100, 100), st.floats(0.5, 200), st.sampled_from([1, -1]), st.floats(0, 1))
def test_maps_are_invertible(low, width, sign, position):
    high = low + width
    raw = low + position * (high - low)
    unit = to_unit(raw, low, high, sign)
    assert abs(unit) <= 1 + 1e-12
    assert from_unit(unit, low, high, sign) == pytest.approx(raw, abs=1e-12 * max(1, abs(raw)) * 10)


def test_a_scale_of_direction_minus_one_is_turned_round():
    result = merged(
        [number("a", 5), number("b", 2)], scales={"valence": {"min": 1, "max": 5, "sign": -1}}
    )
    assert result.labels["valence"][:2].to_list() == [-1.0, 0.5]


def test_an_rmse_of_1_15_on_1_to_10_is_0_255556_on_the_unit_scale():
    error = to_unit(5 + 1.150, 1.0, 10.0, 1.0) - to_unit(5.0, 1.0, 10.0, 1.0)
    assert error == pytest.approx(0.255556, abs=5e-7)


# merging numbers ----------------------------------------------------------------------------


def ewe(ratings, leave_one_out=False, skip=()):
    cells = [
        (i, k, v)
        for i, values in enumerate(ratings)
        for k, v in enumerate(values)
        if (i, k) not in skip
    ]
    item, rater, value = (np.array(c) for c in zip(*cells, strict=True))
    value = value.astype(float)
    r = rater_correlations(item, rater, value, int(rater.max()) + 1, leave_one_out)
    return r, merge_numbers(item, rater, value, len(ratings), "ewe", leave_one_out)


def test_ewe_gives_the_figures_of_the_spec():
    r, found = ewe(SPEC)
    np.testing.assert_allclose(r, [0.989108, 0.887670, 0.781680], atol=1e-6)
    np.testing.assert_allclose(found.value, [1.333904, 3.294035, 3.745834, 4.705965], atol=1e-6)


def test_leave_one_out_ewe_gives_the_figures_of_the_spec():
    r, found = ewe(SPEC, leave_one_out=True)
    np.testing.assert_allclose(r, [0.969458, 0.754851, 0.562183], atol=1e-6)
    np.testing.assert_allclose(found.value, [1.330135, 3.245871, 3.838393, 4.754129], atol=1e-6)


def test_a_constant_rater_has_no_weight():
    r, found = ewe([[*values, 3] for values in SPEC])
    assert np.isnan(r[3])
    assert found.weights[3] == 0
    # the constant rater moves every item mean in the same way, which no correlation sees
    np.testing.assert_allclose(found.value, ewe(SPEC)[1].value)


def test_a_reversed_rater_has_no_weight():
    r, found = ewe([[*values, 6 - values[0]] for values in SPEC])
    np.testing.assert_allclose(r, [0.969458, 0.838870, 0.838870, -0.969458], atol=1e-6)
    assert found.weights[3] == 0
    np.testing.assert_allclose(found.value, [1.316890, 3.316890, 3.683110, 4.683110], atol=1e-6)


def test_ewe_with_a_missing_rating_gives_the_figures_of_the_spec():
    r, found = ewe(SPEC, skip={(1, 2)})
    np.testing.assert_allclose(r, [0.998381, 0.925227, 0.914273], atol=1e-6)
    np.testing.assert_allclose(found.value, [1.326027, 3.0, 3.681692, 4.677833], atol=1e-6)


def test_ewe_is_the_same_before_and_after_mapping():
    result = merged(spec_rows(), merge="ewe", weights_from="all")
    np.testing.assert_allclose(
        result.labels["valence"][:4].to_numpy(),
        [-0.833048, 0.147018, 0.372917, 0.852982],
        atol=1e-6,
    )
    assert result.report["rater_weights"]["valence"]["r1"] == pytest.approx(0.989108, abs=1e-6)


def test_ewe_falls_back_to_the_mean_and_says_so():
    result = merged(
        [number("a", 1), number("a", 2, "r2"), number("b", 4)], merge="ewe", weights_from="all"
    )
    assert result.labels["valence"][:2].to_list() == [-0.75, 0.5]
    assert result.report["flags"]["ewe_fallback"] == {"valence": 2}


def test_the_uncertainty_of_ewe_lies_about_the_weighted_mean():
    _, found = ewe(SPEC)
    about = np.array(SPEC) - found.value[:, None]
    np.testing.assert_allclose(found.std, np.sqrt((about**2).sum(1) / 2))
    assert found.std[2] == pytest.approx(1.530599, abs=1e-6)  # about the mean it is 1.527525


def test_ewe_weights_are_learnt_on_the_training_rows_of_each_fold():
    odd = [number("e", 5, "r1"), number("e", 1, "r2"), number("e", 1, "r3")]
    frame = ANNOTATIONS.frame([*spec_rows(), *odd])
    splits = splits_of("ttttx", "xtttt")
    result = merge(LabelsParams(merge="ewe"), ids_of(*"abcde"), frame, NO_CARD, splits)
    weights = result.report["rater_weights"]
    assert set(weights) == {"0", "1"}
    assert weights["0"]["valence"]["r3"] == pytest.approx(0.781680, abs=1e-6)
    assert weights["1"]["valence"]["r3"] != pytest.approx(0.781680, abs=1e-3)
    assert result.labels["fold"].to_list() == [0] * 5 + [1] * 5
    first = labels_in(result.labels, 0)
    np.testing.assert_allclose(
        first["valence"][:4].to_numpy(), [-0.833048, 0.147018, 0.372917, 0.852982], atol=1e-6
    )
    assert result.report["utterances"]["labelled"] == 5


def test_ratings_of_test_rows_move_no_label_that_training_sees():
    others = [[1, 2, 1], [3, 3, 4], [4, 5, 2], [1, 5, 5]]  # the last item is judged otherwise
    splits = splits_of("tttx")
    params = LabelsParams(merge="ewe")

    def training(ratings) -> pl.DataFrame:
        frame = ANNOTATIONS.frame(spec_rows(ratings))
        labels = merge(params, ids_of(*"abcd"), frame, NO_CARD, splits).labels
        return labels.filter(pl.col("utterance_id") != "d")

    assert training(SPEC).equals(training(others))
    known = merge(params.model_copy(update={"weights_from": "all"}), ids_of(*"abcd"),
                  ANNOTATIONS.frame(spec_rows(others)), NO_CARD).labels  # fmt: skip
    assert abs(known["valence"][2] - training(SPEC)["valence"][2]) > 0.01


def test_rows_of_a_fold_win_over_those_that_hold_in_all():
    rows = [
        {"utterance_id": "a", "valence": 0.1, "n_raters": 1},
        {"utterance_id": "b", "valence": 0.2, "n_raters": 1},
        {"utterance_id": "a", "valence": 0.3, "n_raters": 1, "fold": 1},
    ]
    labels = LABELS.frame(rows)
    assert labels_in(labels, 0)["valence"].to_list() == [0.1, 0.2]
    assert labels_in(labels, 1)["valence"].to_list() == [0.3, 0.2]


def test_mean_and_median_and_their_spread():
    rows = [number("a", v, r) for v, r in [(1, "r1"), (2, "r2"), (5, "r3")]] + [number("b", 2)]
    mean, median = merged(rows).labels, merged(rows, merge="median").labels
    assert mean["valence"][0] == pytest.approx(-1 / 6)
    assert median["valence"][0] == -0.5
    spread = np.std([-1, -0.5, 1], ddof=1)
    assert mean["valence_std"][0] == median["valence_std"][0] == pytest.approx(spread)
    assert mean["valence_std"][1] is None  # one rater has no spread, not a spread of 0
    assert mean["n_raters"].to_list() == [3, 1, 0, 0, 0, 0]


@settings(max_examples=6)
@given(st.data())
def test_rater_order_and_row_order_change_nothing(data):
    ratings = data.draw(
        st.lists(st.lists(st.integers(1, 5), min_size=3, max_size=3), min_size=4, max_size=4)
    )
    rows = spec_rows(ratings) + [
        label("abcd"[i], "happy" if v[0] > 3 else "sad", f"r{k}")
        for i, v in enumerate(ratings)
        for k in range(3)
    ]
    shuffled = data.draw(st.permutations(rows))
    rule = {"merge": "ewe", "weights_from": "all"}
    one, two = merged(rows, **rule), merged(shuffled, **rule)
    assert one.labels.equals(two.labels)
    assert one.report == two.report
    assert one.quarantine.equals(two.quarantine)


def test_merging_the_result_again_changes_nothing():
    first = merged(spec_rows()).labels
    rows = [
        number(u, v, "merged", scale_min=-1.0, scale_max=1.0)
        for u, v in zip(first["utterance_id"], first["valence"], strict=True)
        if v is not None
    ]
    assert merged(rows).labels["valence"].equals(first["valence"])


def test_utterances_without_judgements_stay_with_nulls():
    result = merged([number("a", 3)])
    assert result.labels["utterance_id"].to_list() == list("abcdef")
    assert result.labels["valence"].null_count() == 5
    assert result.report["utterances"]["no_label"] == 5
    assert result.quarantine.height == 0


def test_missing_dominance_stays_null():
    result = merged([number("a", 3), number("a", 4, target="arousal")])
    assert result.labels.row(0, named=True)["dominance"] is None
    assert result.labels["arousal"][0] == 0.5


# sentiment and EMI --------------------------------------------------------------------------


def test_sentiment_keeps_its_scale_and_is_no_valence():
    rows = [number("a", 1.7, target="sentiment", scale_min=-3.0, scale_max=3.0)]
    result = merged(rows).labels
    assert result["sentiment"][0] == 1.7
    assert result["valence"][0] is None


def test_sentiment_becomes_valence_only_on_demand_and_is_counted():
    rows = [number("a", 1.5, target="sentiment", scale_min=-3.0, scale_max=3.0), number("b", 5)]
    result = merged(rows, allow_proxy=True)
    assert result.labels["valence"][:2].to_list() == [0.5, 1.0]
    assert result.report["proxy_valence"] == 1


def test_emi_intensities_are_merged_as_they_are():
    rows = [
        number("a", v, r, target="joy", scale_min=0.0, scale_max=1.0)
        for v, r in [(0.25, "r1"), (0.75, "r2")]
    ]
    assert merged(rows).labels["joy"][0] == 0.5


def test_emi_on_another_scale_is_refused():
    with pytest.raises(UserError, match=r"joy is given on 0\.\.100.*never mapped"):
        merged([number("a", 25, target="joy", scale_min=0.0, scale_max=100.0)])


# strict checks ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "params", "reason"),
    [
        (number(" ", 3), {}, "missing_key"),
        (number("a", 3, scale_min=None, scale_max=None), {}, "scale_undeclared"),
        (number("a", 3, scale_min=5.0, scale_max=5.0), {}, "scale_undeclared"),
        (
            number("a", -2, scale_min=None, scale_max=None, target="dominance"),
            {"scales": {"dominance": "affectnet"}},
            "sentinel",
        ),
        (number("a", float("nan")), {}, "missing_value"),
        (label("a", " "), {}, "missing_value"),
        (number("a", float("inf")), {}, "not_finite"),
        (number("a", 5.5), {}, "out_of_range"),
        (number("a", 0.99), {}, "out_of_range"),
        (number("a", 2.5), {"scales": {"valence": "iemocap"}}, "not_integer"),
        (label("a", "bored"), {"categories": ["happy"]}, "unknown_category"),
        (label("a", "x", target="categories"), {"multilabels": ["y"]}, "unknown_category"),
        (number("z", 3), {}, "orphan_label"),
        (number("a", 3), {"min_raters": 2}, "too_few_raters"),
        (number("a", 3), {"required": ["arousal"]}, "missing_value"),
    ],
)
def test_each_fault_has_its_reason(row, params, reason):
    result = merged(
        [
            row,
            number("b", 3),
            number("b", 3, "r2"),
            number("b", 3, target="arousal"),
            number("b", 3, "r2", target="arousal"),
        ],
        **params,
    )
    assert result.quarantine["reason"].to_list() == [reason]
    assert reason in REASONS
    assert result.labels.filter(pl.col("utterance_id") == "a")["valence"][0] is None
    assert result.labels.filter(pl.col("utterance_id") == "b")["valence"][0] == 0


def test_a_released_average_need_not_be_whole():
    rows = [number("a", 2.5, "released")]
    assert merged(rows, scales={"valence": "iemocap"}).labels["valence"][0] == -0.25


def test_the_first_reason_in_order_is_given():
    rows = [number("z", 9.0), number("a", float("inf")), number("a", 9.0, target="arousal")]
    assert reasons(merged(rows)) == {"z": "out_of_range", "a": "not_finite"}


def test_one_bad_dimension_sets_the_whole_judgement_aside_but_not_other_raters():
    rows = [number("a", 9), number("a", 3, target="arousal"), number("a", 5, "r2")]
    rows += [number("a", 3, target="sentiment", scale_min=-3.0, scale_max=3.0)]
    result = merged(rows)
    assert result.labels.row(0, named=True)["arousal"] is None
    assert result.labels["valence"][0] == 1.0
    assert result.labels["sentiment"][0] == 3.0
    assert result.report["quarantined_rows"] == {"out_of_range": 2}
    assert result.report["quarantined_judgements"] == {"out_of_range": 1}


def test_float_noise_beyond_the_scale_is_snapped_and_counted():
    result = merged([number("a", 5 + 1e-12), number("b", 5 + 1e-6)])
    assert result.labels["valence"][0] == 1.0
    assert result.report["snapped"] == 1
    assert reasons(result) == {"b": "out_of_range"}


def test_exact_repetitions_collapse_and_are_counted():
    result = merged([number("a", 4), number("a", 4), number("a", 2, "r2")])
    assert result.labels["valence"][0] == 0
    assert result.report["rows"] == {
        "in": 3,
        "used": 2,
        "quarantined": 0,
        "collapsed": 1,
        "left_out": 0,
    }


def test_a_rater_who_contradicts_himself_is_set_aside_with_all_copies():
    rows = [number("a", 4), number("a", 2), number("a", 3, target="arousal"), number("a", 5, "r2")]
    rows += [label("b", "happy"), label("b", "sad")]
    result = merged(rows)
    assert reasons(result) == {"a": "duplicate_conflict", "b": "duplicate_conflict"}
    assert result.report["quarantined_rows"] == {"duplicate_conflict": 5}
    assert result.labels["valence"][0] == 1.0


def test_sources_that_disagree_about_one_judgement_are_both_set_aside():
    rows = [number("a", 4), number("a", 2, source="t"), number("b", 4), number("b", 4, source="t")]
    result = merged(rows)
    assert result.quarantine["reason"].to_list() == ["source_conflict"] * 2
    assert result.labels["valence"][:2].to_list() == [None, 0.5]
    assert result.report["rows"]["collapsed"] == 1


def test_precedence_decides_between_sources():
    rows = [number("a", 4), number("a", 2, source="t")]
    result = merged(rows, precedence=["t", "s"])
    assert result.labels["valence"][0] == -0.5
    assert result.quarantine["detail"][0].startswith("source s disagrees")


def test_different_raters_of_two_sources_do_not_conflict():
    result = merged([number("a", 5), number("a", 1, "r2", source="t")])
    assert result.quarantine.height == 0
    assert result.labels["valence"][0] == 0


def test_other_kinds_of_source_are_left_out_and_counted():
    rows = [number("a", 2), number("a", 5, "self", source="own")]
    result = merged(rows, kinds={"own": "self_report"})
    assert result.labels["valence"][0] == -0.5
    assert result.report["left_out"] == {"kind self_report of source own is not merged": 1}
    both = merged(rows, kinds={"own": "self_report"}, use_kinds=["rated", "self_report"])
    assert both.labels["valence"][0] == 0.25


def test_a_cell_is_of_the_kind_of_its_least_trusted_judgement():
    rows = [
        number("a", 2),
        number("a", 5, "self", source="own"),
        number("a", 3, target="arousal"),
        number("b", 5, "self", source="own"),
        number("c", 4, "net", source="net"),
    ]
    card = Card({}, {}, {"own": "self_report", "net": "self_report"})
    result = merged(
        rows, card=card, kinds={"net": "model"}, use_kinds=["rated", "self_report", "model"]
    )
    assert result.labels["valence_kind"][:4].to_list() == [
        "self_report", "self_report", "model", None,
    ]  # fmt: skip
    assert result.labels["arousal_kind"][:2].to_list() == ["rated", None]
    assert result.report["kinds"] == {
        "valence": {"self_report": 2, "model": 1}, "arousal": {"rated": 1}, "dominance": {},
    }  # fmt: skip


def test_what_stands_in_for_a_judgement_is_marked():
    rows = [
        number("a", 1.5, target="sentiment", scale_min=-3.0, scale_max=3.0),
        number("b", 5),
        label("c", "happy"),
    ]
    prior = {"name": "a lexicon", "vad": {"happy": (0.8, 0.5, 0.4)}}
    labels = merged(rows, allow_proxy=True, prior=prior).labels
    assert labels["valence_kind"][:4].to_list() == ["proxy", "rated", "prior", None]
    assert labels["dominance_kind"][:4].to_list() == [None, None, "prior", None]


def test_a_target_without_a_column_is_left_out_and_counted():
    result = merged([number("a", 2), number("a", 2, target="naturalness")])
    assert result.report["left_out"] == {"target naturalness has no column in the labels": 1}


def test_a_declared_scale_that_contradicts_the_rows_is_an_error():
    with pytest.raises(UserError, match=r"declared on 1\.\.7 but its judgements say 1\.\.5"):
        merged([number("a", 2)], scales={"valence": {"min": 1, "max": 7}})


@pytest.mark.parametrize("scales", [{"valense": "iemocap"}, {"valence": "iemocup"}])
def test_unknown_scales_and_targets_are_named(scales):
    with pytest.raises(UserError, match=r"known (targets|scales)"):
        merged([number("a", 2)], scales=scales)


@settings(max_examples=25)
@given(
    st.lists(
        st.builds(
            number,
            st.sampled_from(["a", "b", "z", ""]),
            st.sampled_from([1.0, 3.0, 5.0, 9.0, float("inf")]),
            st.sampled_from(["r1", "r2"]),
            st.sampled_from([*VAD, "sentiment", "warmth"]),
            source=st.sampled_from(["s", "t"]),
        )
        | st.builds(
            label,
            st.sampled_from("abz"),
            st.sampled_from(["happy", "sad", ""]),
            st.sampled_from(["r1", "r2"]),
        ),
        max_size=25,
    ),
    st.integers(1, 2),
)
def test_every_judgement_is_accounted_for(rows, min_raters):
    result = merged(rows, min_raters=min_raters)
    account = result.report["rows"]
    assert account["in"] == len(rows)
    assert len(rows) == sum(account.values()) - account["in"]
    LABELS.check(result.labels, "labels")
    QUARANTINE.check(result.quarantine, "quarantine")


# votes --------------------------------------------------------------------------------------


def votes(utterance: str, names: str, target: str = "category") -> list[dict]:
    words = {"h": "happy", "s": "sad", "n": "neutral"}
    return [label(utterance, words[n], f"r{k}", target) for k, n in enumerate(names)]


def test_majority_names_the_winner_and_keeps_the_shares():
    row = merged(votes("a", "hhs")).labels.row(0, named=True)
    assert row["category"] == "happy"
    assert row["category_shares"] == [
        {"label": "happy", "share": pytest.approx(2 / 3)},
        {"label": "sad", "share": pytest.approx(1 / 3)},
    ]


def test_ties_give_no_category_or_the_first_or_quarantine():
    rows = votes("a", "hs") + votes("b", "hhs")
    none = merged(rows)
    assert none.labels["category"][:2].to_list() == [None, "happy"]
    assert none.report["flags"]["category_ties"] == 1
    first = merged(rows, ties="first", categories=["sad", "happy"])
    assert first.labels["category"][0] == "sad"
    aside = merged(rows, ties="quarantine")
    assert reasons(aside) == {"a": "no_majority"}
    assert aside.labels["category"][1] == "happy"
    soft = merged(rows, category="soft")
    assert soft.labels["category"][0] == "happy"


def test_judgements_without_the_optional_column_merge_alike():
    rows = ANNOTATIONS.frame(votes("a", "hhs"))
    whole = merge(LabelsParams(), ids_of("a"), rows, NO_CARD)
    bare = merge(LabelsParams(), ids_of("a"), rows.drop("position"), NO_CARD)
    assert bare.labels.equals(whole.labels)


def test_a_winner_needs_its_share():
    rows = votes("a", "hhsn") + votes("b", "hhhs")
    assert merged(rows, min_share=0.6).labels["category"][:2].to_list() == [None, "happy"]


def test_several_categories_of_one_rater_split_the_vote_or_count_each():
    rows = [label("a", "happy", "r1"), label("a", "sad", "r1"), label("a", "sad", "r2")]
    split = merged(rows, several_votes="split").labels["category_shares"][0].to_list()
    assert [s["share"] for s in split] == [0.25, 0.75]
    each = merged(rows, several_votes="each").labels["category_shares"][0].to_list()
    assert [s["share"] for s in each] == pytest.approx([1 / 3, 2 / 3])


def test_label_sets_hold_what_enough_raters_gave():
    rows = votes("a", "hhh", "categories") + votes("a", "ss", "categories")
    rows += [label("a", "neutral", "r9", "categories"), *votes("b", "h", "categories")]
    found = merged(rows).labels["categories"]
    assert found[0].to_list() == ["happy", "sad"]  # 3 and 2 of 4 raters
    assert merged(rows, multilabel_threshold=0.6).labels["categories"][0].to_list() == ["happy"]
    assert found[2] is None


def test_the_label_that_is_listed_first_is_kept_beside_the_set():
    def listed(utterance: str, names: str, rater: str = "r1") -> list[dict]:
        full = {"h": "happy", "s": "sad", "n": "neutral"}
        return [
            label(utterance, full[name], rater, "categories", position=place)
            for place, name in enumerate(names)
        ]

    rows = [*listed("a", "sh"), *votes("b", "h", "categories"), *listed("c", "nsh", "r1")]
    rows += [*listed("c", "hs", "r2"), *listed("d", "n", "r2"), label("d", "sad", "r1", "category")]
    found = merged(rows, "abcde").labels
    assert found["categories"].to_list()[0] == ["happy", "sad"]
    # c: neutral is listed first, but by one of two raters; then happy
    assert merged(rows, "abcde", multilabel_threshold=0.6).labels["first_category"][2] == "happy"
    assert found["first_category"].to_list() == ["sad", None, "neutral", "neutral", None]


def test_a_label_set_may_be_empty_without_being_unknown():
    rows = [label("a", name, f"r{k}", "categories") for k, name in enumerate("xyz")]
    assert merged(rows).labels["categories"][0].to_list() == []


def test_a_label_judged_absent_by_value_0_is_no_vote_but_a_judgement():
    def judged(utterance: str, name: str, value: float, rater: str) -> dict:
        return {**label(utterance, name, rater, "categories"), "value": value}

    rows = [judged("a", name, 0.0, "r1") for name in ("happy", "sad")]
    rows += [judged("b", "happy", 2.0, "r1"), judged("b", "sad", 0.0, "r1")]
    rows += [judged("c", "happy", 1.0, "r1"), judged("c", "happy", 0.0, "r2")]
    rows += [judged("c", "sad", 0.0, "r2"), judged("c", "happy", 0.0, "r3")]
    found = merged(rows, "abcd")
    assert found.labels["categories"].to_list() == [[], ["happy"], [], None]  # c: 1 of 3 raters
    assert merged(rows, multilabel_threshold=0.3).labels["categories"][2].to_list() == ["happy"]
    assert found.labels["n_raters"].to_list() == [1, 1, 3, 0]
    assert found.quarantine.height == 0


def test_a_rater_who_gives_a_label_and_denies_it_contradicts_himself():
    rows = [{**label("a", "happy", "r1", "categories"), "value": v} for v in (0.0, 1.0)]
    rows += [label("a", "sad", "r2", "categories")]
    found = merged(rows)
    assert reasons(found) == {"a": "duplicate_conflict"}
    assert found.labels["categories"][0].to_list() == ["sad"]


def test_the_label_map_renames_sets_aside_and_declares():
    card = Card({}, {"hap": "happy", "xxx": None})
    rows = [label("a", "hap"), label("b", "xxx"), label("c", "fru"), label("d", "happy")]
    result = merged(rows, card=card)
    assert result.labels["category"][:4].to_list() == ["happy", None, None, "happy"]
    assert result.report["left_out"] == {"label xxx is mapped to nothing": 1}
    assert reasons(result) == {"c": "unknown_category"}
    other = merged(rows, card=card, aliases={"fru": "happy"})
    assert other.labels["category"][2] == "happy"


# signs and priors ---------------------------------------------------------------------------


def test_contradictions_of_category_and_vad_are_counted_not_removed():
    rows = [label("a", "joy"), number("a", 1), label("b", "sad"), number("b", 1)]
    result = merged(rows)
    signs = result.report["flags"]["signs"]
    assert signs["valence"]["checked"] == 2
    assert signs["valence"]["by_category"] == {"happy": 1}
    assert signs["valence"]["examples"] == ["a"]
    assert signs["arousal"]["checked"] == 0
    assert result.labels["valence"][0] == -1
    enforced = merged(rows, enforce_signs=True)
    assert reasons(enforced) == {"a": "sign_conflict"}
    assert enforced.labels["valence"][:2].to_list() == [None, -1.0]
    assert enforced.labels["valence_kind"][:2].to_list() == [None, "rated"]


def test_zero_tolerance_lets_small_values_count_as_zero():
    rows = [label("a", "neutral"), number("a", 3.1)]
    assert merged(rows).report["flags"]["signs"]["valence"]["broken"] == 1
    assert merged(rows, zero_tol=0.1).report["flags"]["signs"]["valence"]["broken"] == 0


def test_a_prior_that_names_no_category_of_the_corpus_is_an_error():
    rows = [label("a", "happy")]
    with pytest.raises(UserError, match="names hapy, but the categories are happy"):
        merged(rows, prior={"name": "a lexicon", "vad": {"hapy": (0.8, 0.5, 0.4)}})
    with pytest.raises(ValidationError, match="less than or equal to 1"):
        merged(rows, prior={"name": "a lexicon", "vad": {"happy": (8, 0.5, 0.4)}})


def test_two_spellings_of_one_category_are_an_error_until_one_is_named():
    rows = [label("a", "Joy"), label("b", "joy")]
    with pytest.raises(UserError, match="'Joy' and 'joy' differ in case only"):
        merged(rows)
    assert set(merged(rows, aliases={"Joy": "joy"}).labels["category"].drop_nulls()) == {"joy"}


def test_a_scale_runs_upwards():
    with pytest.raises(UserError, match=r"labels\.scales\.valence.*sign: -1"):
        merged([], scales={"valence": {"min": 5, "max": 1}})


def test_priors_fill_only_what_nobody_rated_and_are_named():
    rows = [label("a", "happy"), label("b", "happy"), number("b", 2)]
    prior = {"name": "a lexicon", "vad": {"happy": (0.8, 0.5, 0.4)}}
    result = merged(rows, prior=prior)
    assert result.labels.row(0, named=True)["dominance"] == 0.4
    assert result.labels["valence"][:2].to_list() == [0.8, -0.5]
    assert result.labels.row(1, named=True)["arousal"] is None
    assert result.report["prior"] == {"name": "a lexicon", "utterances": 1}
    assert merged(rows).labels["valence"][0] is None


# the stage ----------------------------------------------------------------------------------


def put_tables(rows: list[dict], card: dict | None = None) -> None:
    frame = pl.DataFrame({"utterance_id": [f"toy/d/{u}" for u in "ab"]}).with_columns(
        dialogue_id=pl.lit("toy/d"),
        turn=pl.int_range(pl.len(), dtype=pl.Int32),
        **{
            name: pl.lit(None, kind)
            for name, kind in UTTERANCES.schema.items()
            if UTTERANCES.columns[name].nullable
        },
    )
    write_table(UTTERANCES, frame.select(list(UTTERANCES.columns)), here().utterances("toy"))
    rows = [r | {"utterance_id": f"toy/d/{r['utterance_id']}"} for r in rows]
    metadata = {"card": json.dumps(card or {})}
    write_table(ANNOTATIONS, ANNOTATIONS.frame(rows), here().annotations("toy"), metadata)


def test_the_stage_writes_labels_quarantine_and_report(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [
        number("a", 1, scale_min=None, scale_max=None),
        number("b", 9, scale_min=None, scale_max=None),
    ]
    put_tables(rows, {"scales": {"valence": [1, 5, -1], "naturalness": [1, 5, 1]}})
    run(LabelsParams(max_quarantine_fraction=0.5), here(), QUIET, "toy")
    table = read_table(LABELS, here().labels("toy"))
    assert table["valence"].to_list() == [1.0, None]
    assert table["valence_kind"].to_list() == ["rated", None]
    aside = read_table(QUARANTINE, here().labels_quarantine("toy"))
    assert "valence = 9.0 (1.0..5.0) leaves its scale" in aside["detail"][0]
    report = json.loads(here().agreement("toy").read_text())
    assert report["scales"]["valence"] == {"min": 1, "max": 5, "sign": -1}
    before = here().labels("toy").read_bytes(), here().agreement("toy").read_bytes()
    run(LabelsParams(max_quarantine_fraction=0.5), here(), QUIET, "toy")
    assert before == (here().labels("toy").read_bytes(), here().agreement("toy").read_bytes())


def test_a_corpus_without_judgements_gets_a_table_of_nulls(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    put_tables([])
    write_table(SPLIT, splits_of("tv", ids=["toy/d/a", "toy/d/b"]), here().splits("toy"))
    run(LabelsParams(merge="ewe"), here(), QUIET, "toy")
    table = read_table(LABELS, here().labels("toy"))
    assert table["n_raters"].to_list() == [0, 0]
    assert table["category"].null_count() == table["joy"].null_count() == 2


def test_too_many_unusable_judgements_stop_the_stage_after_saying_which(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    put_tables([number("a", 1), number("b", 9)])
    with pytest.raises(UserError, match=r"1 of 2 judgements \(50.0%\).*out_of_range"):
        run(LabelsParams(), here(), QUIET, "toy")
    assert here().labels_quarantine("toy").exists()
    assert not here().labels("toy").exists()


# real data ----------------------------------------------------------------------------------


@pytest.mark.real
@needs_data
class TestIemocap:
    @pytest.fixture(scope="class")
    def table(self) -> pl.DataFrame:
        return pl.read_parquet(SHARED / "iemocap_text.parquet").rename({"activation": "arousal"})

    @staticmethod
    def merge(table: pl.DataFrame, **params) -> Result:
        long = table.unpivot(VAD, index="utterance_id", variable_name="target")
        numbers = long.with_columns(label=pl.lit(None, pl.String))
        named = table.select("utterance_id", "label", target=pl.lit("category"))
        rows = pl.concat([numbers, named], how="diagonal").with_columns(
            rater=pl.lit("released"),
            source=pl.lit("iemocap_text"),
            scale_min=pl.lit(None, pl.Float64),
            scale_max=pl.lit(None, pl.Float64),
        )
        known = table["utterance_id"]
        scales = dict.fromkeys(VAD, "iemocap")
        aliases = {"excited": "happy"} if params.pop("as_happy", False) else {}
        return merge(
            LabelsParams(scales=scales, aliases=aliases, **params),
            known,
            rows,
            NO_CARD,
        )

    def test_six_rows_leave_the_scale(self, table):
        result = self.merge(table)
        assert set(result.quarantine["reason"]) == {"out_of_range"}
        assert result.quarantine["utterance_id"].to_list() == [
            "Ses02M_script02_2_F046",
            "Ses03M_impro07_M003",
            "Ses03M_impro07_M010",
            "Ses03M_impro07_M013",
            "Ses03M_impro07_M021",
            "Ses04M_script03_2_M009",
        ]
        assert result.labels["valence"].count() == 7427
        assert result.report["rows"]["quarantined"] == 18

    def test_means_and_spreads_are_those_of_the_spec(self, table):
        values = self.merge(table).report["values"]
        expected = {"valence": (-0.1234, 0.4557), "arousal": (0.0526, 0.3622)}
        expected["dominance"] = (0.1040, 0.3990)
        for dim, (mean, sd) in expected.items():
            assert values[dim]["merged"]["mean"] == pytest.approx(mean, abs=5e-5)
            assert values[dim]["merged"]["sd"] == pytest.approx(sd, abs=5e-5)

    def test_class_means_are_those_of_the_spec(self, table):
        means = self.merge(table).labels.group_by("category").agg(pl.col(VAD).mean())
        found = {row[0]: row[1:] for row in means.rows()}
        expected = {
            "angry": (-0.547, 0.318, 0.475),
            "excited": (0.470, 0.287, 0.203),
            "frustrated": (-0.369, 0.092, 0.161),
            "happy": (0.481, 0.064, -0.038),
            "neutral": (-0.015, -0.137, -0.083),
            "sad": (-0.373, -0.218, -0.086),
        }
        assert set(found) == set(expected)
        for name, means in expected.items():
            assert found[name] == pytest.approx(means, abs=6e-4), name

    @pytest.mark.parametrize("zero_tol", [0.0, 0.1])
    @pytest.mark.parametrize(
        ("signs", "rates"),
        [
            ("table1", (24.8, 46.5, 37.5)),
            ("equations", (24.8, 42.2, 46.1)),
            ("code", (24.8, 43.1, 20.0)),
        ],
    )
    def test_sign_violations_are_those_of_the_spec(self, table, signs, rates, zero_tol):
        found = self.merge(table, signs=signs, zero_tol=zero_tol).report["flags"]["signs"]
        assert found["valence"]["checked"] == 5578
        shares = [100 * found[dim]["share"] for dim in VAD]
        assert shares == pytest.approx(rates, abs=0.05)


@pytest.mark.real
@needs_data
def test_emobank_statistics_are_those_of_the_spec():
    table = pl.read_parquet(SHARED / "emobank_vad.parquet")
    rows = table.unpivot(VAD, index="id", variable_name="target").select(
        utterance_id="id",
        rater=pl.lit("released"),
        target="target",
        value="value",
        label=pl.lit(None, pl.String),
        scale_min=pl.lit(1.0),
        scale_max=pl.lit(5.0),
        source=pl.lit("emobank"),
    )
    known = table["id"]
    result = merge(LabelsParams(), known, rows, NO_CARD)
    assert result.quarantine.height == 0
    values = result.report["values"]
    assert [round(values[d]["merged"]["mean"], 4) for d in VAD] == [-0.0117, 0.0209, 0.0314]
    ranges = [(values[d]["merged"]["min"], values[d]["merged"]["max"]) for d in VAD]
    assert np.array(ranges) == pytest.approx(np.array([(-0.9, 0.8), (-0.6, 0.7), (-0.61, 0.6)]))


@pytest.mark.real
@needs_data
def test_mosi_sentiment_passes_unchanged():
    table = pl.read_parquet(SHARED / "mosi_bclstm.parquet")
    rows = table.select(
        "utterance_id",
        rater=pl.lit("released"),
        target=pl.lit("sentiment"),
        value="sentiment",
        label=pl.lit(None, pl.String),
        scale_min=pl.lit(-3.0),
        scale_max=pl.lit(3.0),
        source=pl.lit("label.npz"),
    )
    known = table["utterance_id"]
    labels = merge(LabelsParams(), known, rows, NO_CARD).labels
    same = labels.join(table, on="utterance_id")
    assert same.height == 2199
    assert same["sentiment"].equals(same["sentiment_right"].alias("sentiment"))
    assert (labels["sentiment"] == 0).sum() == 96
    assert labels["valence"].null_count() == 2199


@pytest.mark.real
@needs_data
def test_cremad_majorities_match_the_published_shares():
    table = pl.read_parquet(SHARED / "cremad_human_votes.parquet")
    names = ["anger", "disgust", "fear", "happy", "neutral", "sad"]
    rows = (
        table.with_columns(utterance_id=pl.format("{}/{}", "modality", "clip"))
        .unpivot([f"n_{n}" for n in names], index="utterance_id", variable_name="label")
        .with_columns(label=pl.col("label").str.strip_prefix("n_"))
        .with_columns(vote=pl.int_ranges(0, pl.col("value")))
        .explode("vote", empty_as_null=False)
        .select(
            "utterance_id",
            rater=pl.format("{}{}", "label", "vote"),
            target=pl.lit("category"),
            value=pl.lit(None, pl.Float64),
            label="label",
            scale_min=pl.lit(None, pl.Float64),
            scale_max=pl.lit(None, pl.Float64),
            source=pl.lit("tabulatedVotes.csv"),
        )
    )
    ids = pl.format("{}/{}", "modality", "clip")
    known = table.select(ids).to_series()
    result = merge(LabelsParams(), known, rows, NO_CARD)
    intended = pl.col("intended").replace_strict(
        dict(zip(["ANG", "DIS", "FEA", "HAP", "NEU", "SAD"], names, strict=True))
    )
    judged = table.with_columns(utterance_id=ids, truth=intended).join(
        result.labels.select("utterance_id", "category"), on="utterance_id"
    )
    right = judged.group_by("modality").agg(
        100 * (pl.col("category") == pl.col("truth")).fill_null(False).mean()
    )
    found = dict(right.rows())
    assert found["audio"] == pytest.approx(41.6, abs=0.05)
    assert found["video"] == pytest.approx(66.3, abs=0.05)
    assert found["audiovisual"] == pytest.approx(72.2, abs=0.05)


def test_the_sign_tables_cover_the_same_categories():
    assert {frozenset(table) for table in SIGNS.values()} == {frozenset(SIGNS["table1"])}
