"""Cells are pooled over folds; the oracle chooses an epoch for each fold."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score

from models.batch import Target
from models.metrics.scoring import score_target
from tasks.batches.hiding import draw_masks
from tasks.evaluate.cells import Masks
from tasks.evaluate.grids import Grids, headline
from tasks.evaluate.scores import cell_details, masked_details, score

CATEGORY = Target("category", "category", ("a", "b"))
TRUTHS = [np.array([0, 0, 0, 1]), np.array([1, 1, -1, 0])]


def logits(*classes):
    return {"category": torch.eye(2)[list(classes)]}


def pooled(guesses, truths=TRUTHS):
    truth, guess = np.concatenate(truths), np.concatenate(guesses)
    return f1_score(truth[truth >= 0], guess[truth >= 0], average="weighted")


def test_a_cell_is_scored_over_the_folds_of_a_seed_together():
    grids = Grids()
    guesses = [[0, 0, 1, 1], [1, 0, 0, 0]]
    for truth, guess in zip(TRUTHS, guesses, strict=True):
        grids.add(0, {CATEGORY: truth}, {"all": logits(*guess)}, [])
        grids.add(1, {CATEGORY: truth}, {"all": logits(0, 0, 0, 0)}, [])
    found = grids.scores(CATEGORY, ["all", "none of these"], score)
    assert set(found) == {"all"}
    weighted = [scores["weighted_f1"] for scores in found["all"]]
    assert weighted == pytest.approx([pooled(guesses), pooled([[0] * 4, [0] * 4])])
    apart = [pooled([g], [t]) for g, t in zip(guesses, TRUTHS, strict=True)]
    assert weighted[0] != pytest.approx(np.mean(apart))


def test_a_cell_has_every_metric_of_the_leaderboard():
    sentiment = Target("sentiment", "values", ("sentiment",))
    truth, guess = np.random.default_rng(0).uniform(-3, 3, (2, 30, 1)).astype(np.float32)
    output = {"sentiment": torch.from_numpy(guess)}
    grids = Grids()
    grids.add(0, {sentiment: truth}, {"0.4": output, "text": output}, [])
    found = grids.scores(sentiment, ["0.4", "text"], score)
    assert found["text"][0] is found["0.4"][0]  # hides the same, so it is scored once
    cell = cell_details("mae", found["0.4"])
    wanted = score_target("values", ["sentiment"], truth, guess)
    assert cell["mean"] == pytest.approx(np.abs(truth - guess).mean())
    assert set(cell["metrics"]) == set(wanted)
    assert cell["metrics"]["f1_has0"]["mean"] == pytest.approx(wanted["f1_has0"])


def test_a_cell_without_labels_is_undefined():
    grids = Grids()
    grids.add(0, {CATEGORY: np.array([-1, -1])}, {"0": logits(0, 1)}, [])
    cell = cell_details("weighted_f1", grids.scores(CATEGORY, ["0"], score)["0"])
    assert cell == {"mean": None, "std": None, "metrics": {}}


def test_the_oracle_takes_the_best_epoch_of_each_fold_and_is_never_below_the_chosen_one():
    grids = Grids()
    worse, right = logits(1, 1, 1, 0), logits(0, 0, 0, 1)
    grids.add(0, {CATEGORY: TRUTHS[0]}, {"chosen": logits(0, 0, 1, 1)}, [worse, right])
    grids.add(0, {CATEGORY: TRUTHS[1]}, {"chosen": logits(1, 1, 0, 0)}, [logits(0, 0, 0, 1)])
    assert grids.oracle(CATEGORY, "chosen") == [1.0]
    assert grids.epochs_tried(CATEGORY) == 2


def test_without_kept_epochs_there_is_no_oracle():
    grids = Grids()
    grids.add(0, {CATEGORY: TRUTHS[0]}, {"chosen": logits(0, 0, 1, 1)}, [])
    assert grids.oracle(CATEGORY, "chosen") == []
    assert grids.epochs_tried(CATEGORY) == 0


def test_the_oracle_of_an_error_is_the_smallest():
    target = Target("sentiment", "values", ("sentiment",), -3, 3)
    truth = np.array([[1.0], [-1.0]])
    grids = Grids()
    epochs = [{"sentiment": torch.tensor([[x], [-x]])} for x in (3.0, 0.8)]
    grids.add(0, {target: truth}, {"chosen": {"sentiment": torch.zeros(2, 1)}}, epochs)
    assert grids.oracle(target, "chosen") == pytest.approx([0.2])


def test_an_undefined_headline_is_nan():
    target = Target("emi", "values", ("joy",), 0, 1)
    assert math.isnan(headline(target, np.array([[0.1], [0.9]]), torch.zeros(2, 1)))


def test_a_rate_is_the_mean_over_its_masks_and_says_how_far_they_lie_apart():
    masks = [[{"ccc": 0.2, "rmse": 1.0}, {"ccc": 0.4, "rmse": 1.0}],
             [{"ccc": 0.4, "rmse": 2.0}, {"ccc": 0.8, "rmse": 2.0}]]  # fmt: skip
    cell = masked_details("ccc", masks)
    seeds = [0.3, 0.6]
    assert cell["mean"] == pytest.approx(np.mean(seeds))
    assert cell["std"] == pytest.approx(np.std(seeds, ddof=1))
    assert cell.get("metrics", {})["rmse"] == {
        "mean": pytest.approx(1.5),
        "std": pytest.approx(0.0),
    }
    of_each = np.std([0.2, 0.4], ddof=1), np.std([0.4, 0.8], ddof=1)
    assert cell.get("over_masks") == pytest.approx(np.mean(of_each))


def test_masks_that_hide_the_same_have_no_spread():
    scores = [{"ccc": 0.2}, {"ccc": 0.4}]
    assert masked_details("ccc", [scores, scores]) == cell_details("ccc", scores)


def test_a_mask_without_labels_leaves_no_score():
    cell = masked_details("ccc", [[{"ccc": 0.2}], [{}]])
    assert (cell["mean"], cell.get("metrics")) == (None, {})


def test_the_first_mask_is_that_of_the_seed_and_the_others_differ():
    masks, dialogues = Masks([0.4], seed=3), np.repeat(np.arange(20), 5)
    drawn = [masks.draw(0.4, number, dialogues, 3) for number in range(3)]
    np.testing.assert_array_equal(drawn[0], draw_masks(100, 0.4, 3))
    assert len({one.tobytes() for one in drawn}) == len(masks.cells(0.4)) == 3
    assert len(masks.cells(0.0)) == 1  # nothing is hidden, in one way


def test_a_modality_is_hidden_from_a_whole_dialogue():
    dialogues = np.repeat(np.arange(3000), 3)
    drawn = Masks([0.4], by_dialogue=True).draw(0.4, 1, dialogues, 3).reshape(3000, 3, 3)
    assert (drawn == drawn[:, :1]).all()
    assert drawn.any(2).all()
    assert drawn.mean((0, 1)) == pytest.approx([0.6] * 3, abs=0.03)
