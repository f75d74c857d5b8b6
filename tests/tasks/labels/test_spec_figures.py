"""What the specification of labels says in figures: every scale, every map, every class mean."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.metrics.regression import ccc
from tasks.labels.scales import SCALES, SIGN_ALIASES, SIGNS, from_unit, to_unit
from tasks.labels.stage import LabelsParams, run
from tasks.tables.annotations import ANNOTATIONS
from tasks.tables.parquet import write_table
from tasks.tables.utterances import UTTERANCES
from tests.places import QUIET, here
from tests.tasks.labels.test_labels import merged, number

# maps -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "low", "high", "a", "b"),
    [
        ("affectnet", -1, 1, 1, 0),
        ("affwild2", -1, 1, 1, 0),
        ("emotic", 1, 10, 2 / 9, -11 / 9),
        ("iemocap", 1, 5, 1 / 2, -3 / 2),
        ("msp_podcast", 1, 7, 1 / 3, -4 / 3),
        ("msp_improv", 1, 5, 1 / 2, -3 / 2),
        ("emobank", 1, 5, 1 / 2, -3 / 2),
        ("fer_vad", -2, 2, 1 / 2, 0),
        ("nrc_vad", 0, 1, 2, -1),
        ("speech_model", 0, 1, 2, -1),
        ("mosi_sentiment", -3, 3, 1 / 3, 0),
        ("mosei_sentiment", -3, 3, 1 / 3, 0),
    ],
)
def test_every_scale_has_the_slope_and_offset_of_the_spec(name, low, high, a, b):
    scale = SCALES[name]
    assert (scale.low, scale.high, scale.sign) == (low, high, 1)
    values = np.linspace(low, high, 37)
    unit = to_unit(values, scale.low, scale.high, scale.sign)
    np.testing.assert_allclose(unit, a * values + b, atol=1e-12)
    assert (unit[0], unit[-1]) == (-1, 1)
    np.testing.assert_allclose(from_unit(unit, low, high, 1), values, atol=1e-12)


@pytest.mark.parametrize(("name", "sentinel"), [("affectnet", -2.0), ("affwild2", -5.0)])
def test_what_means_not_annotated_is_no_value_out_of_range(name, sentinel):
    row = number("a", sentinel, scale_min=None, scale_max=None)
    result = merged([row], scales={"valence": name})
    assert result.quarantine["reason"].to_list() == ["sentinel"]


@given(st.floats(-50, 50), st.floats(0.5, 100), st.sampled_from([1, -1]), st.integers(0, 99))
def test_errors_scale_with_the_map_and_agreement_does_not(low, width, sign, seed):
    raw = np.random.default_rng(seed).uniform(low, low + width, (2, 40))
    unit = to_unit(raw, low, low + width, sign)
    slope = 2 / width
    error, mapped = raw[0] - raw[1], unit[0] - unit[1]
    assert np.mean(mapped**2) == pytest.approx(slope**2 * np.mean(error**2))
    assert np.abs(mapped).mean() == pytest.approx(slope * np.abs(error).mean())
    assert unit[0].std(ddof=1) == pytest.approx(slope * raw[0].std(ddof=1))
    assert np.corrcoef(unit)[0, 1] == pytest.approx(np.corrcoef(raw)[0, 1], abs=1e-9)
    assert ccc(unit[0], unit[1]) == pytest.approx(ccc(raw[0], raw[1]), abs=1e-9)


def test_copies_within_a_millionth_are_one_judgement_and_beyond_it_a_conflict():
    same = [number("a", 3.0), number("a", 3.0 + 1e-6)]  # half of it after mapping 1 to 5
    assert merged(same).report["rows"]["collapsed"] == 1
    other = [number("a", 3.0), number("a", 3.0 + 4e-6)]
    assert merged(other).quarantine["reason"].to_list() == ["duplicate_conflict"]


@pytest.mark.parametrize(("second", "is_kept"), [(3.09, True), (3.11, False)])
def test_sources_may_differ_by_a_twentieth_of_the_common_scale(second, is_kept):
    result = merged([number("a", 3.0), number("a", second, source="t")])
    assert (result.labels["valence"][0] is not None) == is_kept


# signs ------------------------------------------------------------------------------------------


def test_the_signs_of_the_papers_table():
    assert {name: "".join(signs) for name, signs in SIGNS["table1"].items()} == {
        "happy": "+++",
        "disgust": "-++",
        "angry": "-+*",
        "fear": "---",
        "sad": "--*",
        "surprise": "*+-",
        "neutral": "000",
    }
    assert set(SIGN_ALIASES) == {
        *("happiness", "joy", "excited", "anger", "sadness", "fearful", "surprised"),
    }
    assert not {"frustrated", "contempt", "other"} & {*SIGNS["table1"], *SIGN_ALIASES}


# bytes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [[3, 1, 0, 2, 5, 4], [5, 4, 3, 2, 1, 0]])
def test_the_same_judgements_in_any_order_give_the_same_bytes(order, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [
        number("u0", 4, "r1"), number("u0", 2, "r2"), number("u1", 5, "r1"),
        number("u1", 5, "r2"), number("u0", 1, "r1", "arousal"), number("u9", 3, "r1"),
    ]  # fmt: skip
    told = LabelsParams(max_quarantine_fraction=1.0)
    utterances = [
        {"utterance_id": name, "dataset": "toy", "dialogue_id": "d", "turn": turn}
        for turn, name in enumerate(("u0", "u1"))
    ]
    found = []
    for chosen in (rows, [rows[place] for place in order]):
        write_table(UTTERANCES, UTTERANCES.frame(utterances), here().utterances("toy"))
        write_table(ANNOTATIONS, ANNOTATIONS.frame(chosen), here().annotations("toy"))
        run(told, here(), QUIET, "toy")
        places = (here().labels("toy"), here().labels_quarantine("toy"), here().agreement("toy"))
        found.append([place.read_bytes() for place in places])
    assert found[0] == found[1]
