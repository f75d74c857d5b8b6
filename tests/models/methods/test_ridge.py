"""The solved baseline; what every method promises is in test_conformance.py."""

import numpy as np
import pytest
import torch

from models.method import Spec
from models.methods.ridge import Config, Ridge
from models.training import Hooks, TrainConfig, fit, predict
from tests.factories import CATEGORY, LABELS, VAD_TARGET, ToyData

CONFIG = TrainConfig(epochs=9, patience=0, batch_size=64, scheduler="none")


def data(target, seed=0, utterances=80, **options) -> ToyData:
    return ToyData((1,) * utterances, targets=[target], seed=seed, **options)


def build(found: ToyData) -> Ridge:
    return Ridge(Spec(found.dims, found.targets), Config())


def solve(method: Ridge, found: ToyData, epoch: int) -> None:
    method.prepare(found)
    method.on_epoch(epoch, found)


def inputs(method: Ridge, found: ToyData) -> np.ndarray:
    """Standardised features, and a cell for each modality that is absent."""
    batch = method.normalise(found.batch(range(len(found))))
    values = [v[batch.mask] for v in batch.features.values()]
    absent = [~v[batch.mask].unsqueeze(1) for v in batch.present.values()]
    return torch.cat([*values, *(a.float() for a in absent)], 1).double().numpy()


def direct(x: np.ndarray, y: np.ndarray, penalty: float) -> np.ndarray:
    """Ridge regression as least squares with one more row for each weight; (D + 1,)."""
    centre = x.mean(0)
    rows = np.concatenate([x - centre, np.sqrt(penalty * len(x)) * np.eye(x.shape[1])])
    values = np.concatenate([y - y.mean(), np.zeros(x.shape[1])])
    weights = np.linalg.lstsq(rows, values, rcond=None)[0]
    return np.append(weights, y.mean() - centre @ weights)


def found_by(method: Ridge, target: str, column: int) -> np.ndarray:
    head = method.heads[target]
    weight, bias = head.weight[column], head.bias[column : column + 1]  # type: ignore[index]
    return torch.cat([weight, bias]).detach().double().numpy()


@pytest.mark.parametrize(("epoch", "penalty"), [(1, 1e3), (4, 10**1.5), (11, 1e-2), (40, 1e-8)])
def test_solution_is_that_of_least_squares_with_a_penalty(epoch, penalty):
    toy = data(VAD_TARGET, absent=0.3)
    method = build(toy)
    solve(method, toy, epoch)
    x, y = inputs(method, toy), toy.truth(VAD_TARGET).double().numpy()
    for column in range(VAD_TARGET.width):
        wanted = direct(x, y[:, column], penalty)
        np.testing.assert_allclose(found_by(method, "vad", column), wanted, atol=2e-5)


def test_each_column_is_solved_on_the_rows_that_know_it():
    toy = data(VAD_TARGET)
    labels = toy._labels["vad"]
    labels[::3, 0] = float("nan")
    labels[:, 2] = float("nan")
    method = build(toy)
    solve(method, toy, 9)
    x, y = inputs(method, toy), labels.double().numpy()
    known = ~np.isnan(y[:, 0])
    wanted = direct(x[known], y[known, 0], 0.1)
    np.testing.assert_allclose(found_by(method, "vad", 0), wanted, atol=1e-5)
    np.testing.assert_allclose(found_by(method, "vad", 1), direct(x, y[:, 1], 0.1), atol=1e-5)
    assert not found_by(method, "vad", 2).any()


@pytest.mark.parametrize("target", [CATEGORY, LABELS], ids=lambda t: t.kind)
def test_probabilities_are_the_regressed_values_where_these_are_some(target):
    toy = data(target)
    method = build(toy)
    solve(method, toy, 9)
    method.eval()
    found = predict(method, toy)[target.name]
    x = inputs(method, toy)
    y = toy.truth(target)
    y = torch.nn.functional.one_hot(y, target.width) if target is CATEGORY else y
    values = torch.stack(
        [
            torch.from_numpy(np.c_[x, np.ones(len(x))] @ direct(x, column, 0.1))
            for column in y.double().numpy().T
        ],
        1,
    )
    if target is CATEGORY:
        wanted = values.clamp(min=1e-3)
        wanted = wanted / wanted.sum(1, keepdim=True)
        torch.testing.assert_close(found.softmax(1).double(), wanted, atol=1e-4, rtol=0.0)
    else:
        wanted = values.clamp(1e-3, 1 - 1e-3)
        torch.testing.assert_close(found.sigmoid().double(), wanted, atol=1e-4, rtol=0.0)


def fitted(train: ToyData, validation: ToyData, **options):
    truth = validation.truth(VAD_TARGET)

    def score(found):
        return -float((found["vad"] - truth).square().mean())

    return fit(build(train), train, validation, score, CONFIG, seed=0, **options)


def test_validation_chooses_the_penalty_and_training_changes_nothing_else():
    train, validation = data(VAD_TARGET, 1, 20, noise=2.0), data(VAD_TARGET, 2, noise=2.0)
    found = fitted(train, validation)
    assert 1 < found.chosen_epoch < CONFIG.epochs
    method = build(train)
    solve(method, train, found.chosen_epoch)
    for name, value in method.state_dict().items():
        torch.testing.assert_close(found.state[name], value, rtol=0.0, atol=0.0)


def test_a_resumed_run_goes_on_with_the_next_penalty():
    train, validation = data(VAD_TARGET, 1, 20, noise=2.0), data(VAD_TARGET, 2, noise=2.0)
    states = []
    whole = fitted(train, validation, hooks=Hooks(save=lambda make: states.append(make())))
    resumed = fitted(train, validation, resume=states[3])
    assert resumed.history == whole.history
    assert resumed.chosen_epoch == whole.chosen_epoch
