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
