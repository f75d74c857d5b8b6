"""Only labels that raters or speakers gave are scored."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from models.batch import Target
from tasks.evaluate.predictions import Predicted, scored_truth
from tasks.evaluate.scores import target_details

VAD = Target("vad", "values", ("valence", "arousal"), -1.0, 1.0)


class Data:
    """Rows of which the arousal of the first two comes from a table."""

    first = None
    rows = np.arange(6)

    def truth(self, target):
        return torch.linspace(-1, 1, 12).reshape(6, 2)

    def scored(self, target):
        found = np.ones((6, 2), bool)
        found[:2, 1] = False
        return found

    def own(self, target):
        found = np.zeros((6, 2), bool)
        found[3:, 0] = True
        return found


def test_derived_values_are_no_truth():
    truth = scored_truth(Data(), VAD)
    assert np.isnan(truth).sum() == 2
    assert np.isnan(truth[:2, 1]).all()


def test_a_derived_category_is_no_truth():
    data = SimpleNamespace(
        truth=lambda _: torch.tensor([1, 0, -1]), scored=lambda _: np.array([True, False, False])
    )
    target = Target("category", "category", ("a", "b"))
    assert scored_truth(data, target).tolist() == [1, -1, -1]


def test_scores_are_of_what_was_given_and_the_others_are_counted():
    output = {"vad": Data().truth(VAD) + 0.25}
    output["vad"][:2, 1] = 9.0  # far from what a table says
    run = SimpleNamespace(seed=0, fold=0)
    found = target_details(VAD, [Predicted(run, "test", Data(), output)], {}, {})["test"]
    assert found["by_seed"]["0"]["mae/arousal"] == pytest.approx(0.25)
    assert found["by_seed"]["0"]["n/arousal"] == 4
    assert found["derived"] == 2
    assert found["kinds"] == {"rated": 7, "self_report": 3}


CLASSES = Target("category", "category", ("a", "b"))


def voted(shares, labels, scored=None):
    """Rows of which raters chose two classes by these shares."""
    labels = np.array(labels)
    return SimpleNamespace(
        first=None,
        rows=np.arange(len(labels)),
        truth=lambda _: torch.from_numpy(labels),
        scored=lambda _: labels >= 0 if scored is None else np.array(scored),
        shares=lambda _: np.array(shares, np.float32),
    )


def class_scores(*data, split="test"):
    """Scores of seed 0 whose networks give class a three quarters everywhere, a network a fold."""
    likely = torch.log(torch.tensor([0.75, 0.25]))
    predicted = [
        Predicted(
            SimpleNamespace(seed=0, fold=fold), split, one,
            {"category": likely.repeat(len(one.rows), 1)},
        )
        for fold, one in enumerate(data)
    ]  # fmt: skip
    return target_details(CLASSES, predicted, {}, {})[split]["by_seed"]["0"]


@pytest.mark.parametrize("split", ["validation", "test"])
def test_what_raters_said_is_scored_beside_the_label(split):
    first = voted([[0.75, 0.25], [0.5, 0.5]], [0, 1])
    second = voted([[0.0, 1.0]], [1])
    found = class_scores(first, second, split=split)
    assert found["accuracy"] == pytest.approx(1 / 3)
    assert found["vote_accuracy"] == pytest.approx((0.75 + 0.5 + 0) / 3)
    assert found["vote_accuracy_chance"] == pytest.approx((0.625 + 0.5 + 1) / 3)
    one, other = -np.log(0.75), -np.log(0.25)
    assert found["vote_cross_entropy"] == pytest.approx(
        (0.75 * one + 0.25 * other + 0.5 * (one + other) + other) / 3
    )


def test_votes_count_on_scored_rows_that_have_any():
    shares = [[0.75, 0.25], [np.nan, np.nan], [0.1, 0.9], [0.2, 0.8]]
    data = voted(shares, [0, 0, -1, 1], scored=[True, True, False, False])
    assert class_scores(data)["vote_accuracy"] == pytest.approx(0.75)


def test_one_vote_a_row_says_nothing_beside_the_label():
    assert not any("vote" in name for name in class_scores(voted([[1, 0], [0, 1]], [0, 1])))
