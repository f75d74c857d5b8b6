"""The sample corpus carries its signal where DESIGN.md section 10 says."""

import importlib
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from tasks.sample.process import CATEGORIES, CUES, SampleParams, draw_factors, judge
from tasks.targets import EMI, VAD
from tests.places import ROOT

BENCHMARKS = ROOT / "benchmarks"


@pytest.fixture(scope="module")
def signal() -> Iterator[ModuleType]:
    """``benchmarks/sample_signal.py``; that folder is no package."""
    sys.path.insert(0, str(BENCHMARKS))
    yield importlib.import_module("sample_signal")
    sys.path.remove(str(BENCHMARKS))


def check(scores: dict[str, tuple[float, float]]) -> None:
    constant, fused, context = scores["constant"], scores["all"], scores["all + context"]
    for name in ("video", "audio", "text"):
        assert scores[name][0] > constant[0] + 0.05, name
        assert scores[name][1] > constant[1] + 0.05, name
        assert fused[0] > scores[name][0] + 0.05, name
        assert fused[1] > scores[name][1] + 0.02, name
    assert context[0] > fused[0] + 0.02


def test_fusion_and_context_help_on_the_true_cues(signal: ModuleType) -> None:
    scores = signal.factor_scores(SampleParams())
    check(scores)
    assert scores["all + context"][1] > scores["all"][1] + 0.02


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 9))
def test_fusion_and_context_help_whatever_the_seed(signal: ModuleType, seed: int) -> None:
    check(signal.factor_scores(SampleParams(seed=seed)))


@pytest.mark.slow
def test_fusion_and_context_help_on_plain_features(signal: ModuleType, tmp_path: Path) -> None:
    signal.run(SampleParams(), tmp_path / "sample")
    check(signal.media_scores(tmp_path / "sample"))


def test_every_cue_stays_in_range_and_follows_its_dimension() -> None:
    factors = draw_factors(SampleParams(dialogues=60))
    truth = factors.select(VAD).to_numpy()
    assert np.abs(truth).max() <= 1
    for modality, cues in CUES.items():
        for cue in cues:
            dim = VAD.index(cue.split("_")[1])
            values = factors[cue].to_numpy()
            assert np.abs(values).max() <= (2 if modality == "text" else 1.3)
            own = abs(np.corrcoef(values, truth[:, dim])[0, 1])
            assert 0.1 < own < 0.95, f"{cue}: each modality shows a part, none shows all"


def test_moods_last_and_pass_from_speaker_to_speaker() -> None:
    factors = draw_factors(SampleParams(dialogues=60))
    truth, turn = factors.select(VAD).to_numpy(), factors["turn"].to_numpy()
    follows = turn > 0
    lag = [np.corrcoef(truth[follows, i], np.roll(truth[:, i], 1)[follows])[0, 1] for i in range(3)]
    assert lag[0] > 0.4, "valence is contagious"
    assert lag[1] > 0.4, "arousal is contagious"
    assert lag[2] < -0.2, "dominance is answered by its opposite"


def test_speakers_never_cross_sessions_and_never_follow_themselves() -> None:
    factors = draw_factors(SampleParams())
    assert factors.group_by("speaker").n_unique()["session"].max() == 1
    assert factors["session"].n_unique() == 4
    assert factors["speaker"].n_unique() == 12
    for dialogue in factors.partition_by("dialogue"):
        speakers = dialogue["speaker"].to_list()
        assert 2 <= len(set(speakers)) <= 3
        assert all(a != b for a, b in pairwise(speakers))
        assert dialogue["turn"].to_list() == list(range(dialogue.height))


def test_there_are_about_200_utterances_and_every_category_in_numbers(signal: ModuleType) -> None:
    params = SampleParams()
    factors = draw_factors(params)
    assert 180 <= factors.height <= 220
    _, category = signal.merged_targets(factors["utterance"].to_list(), judge(params, factors))
    names, counts = np.unique(category, return_counts=True)
    assert set(names) == set(CATEGORIES)
    assert counts.min() >= 12


def test_three_raters_judge_everything_on_the_declared_scales() -> None:
    params = SampleParams(dialogues=9)
    factors = draw_factors(params)
    rows = judge(params, factors)
    assert not rows.select("utterance", "rater", "target", "label").is_duplicated().any()
    single = rows.filter(rows["target"] != "categories")
    counts = single.group_by("utterance", "rater").len()
    assert counts.height == 3 * factors.height
    assert counts["len"].unique().to_list() == [3 + 1 + 1 + len(EMI)]
    numbers = rows.drop_nulls("value")
    assert (numbers["value"] >= numbers["scale_min"]).all()
    assert (numbers["value"] <= numbers["scale_max"]).all()
    vad = numbers.filter(numbers["target"].is_in(VAD))["value"]
    assert (vad == vad.round()).all()
    several = rows.filter(rows["target"] == "categories")
    per_rater = several.group_by("utterance", "rater").len()
    assert per_rater.height == 3 * factors.height
    assert per_rater["len"].max() > 1


def test_one_more_dialogue_leaves_the_others_as_they_are() -> None:
    few, many = SampleParams(dialogues=10), SampleParams(dialogues=11)
    before, after = draw_factors(few), draw_factors(many)
    assert after.head(before.height).equals(before)
    judged = judge(few, before)
    assert judge(many, after).head(judged.height).equals(judged)
