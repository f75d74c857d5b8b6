"""The recurrent baseline; what every method promises is in test_conformance.py."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from models.batch import Frames
from models.errors import UserError
from models.method import Spec
from models.methods.gru import Config, Gru
from models.training import TrainConfig, fit, predict, seed_everything
from tests.factories import CATEGORY, ToyData

WIDTH = 6


class Rising(ToyData):
    """Frames that rise along the planted direction: as a set, without order, they tell no sign."""

    def __init__(self, utterances: int, seed: int) -> None:
        super().__init__((1,) * utterances, dims={"video": 2}, seed=seed, frame_dims={"video": 6})

    @staticmethod
    def _make_frames(
        factor: Tensor, dim: int, noise: float, made: torch.Generator, plan: torch.Generator
    ) -> Frames:
        direction = factor @ torch.randn(3, dim, generator=plan)
        count = torch.randint(2, 8, (len(factor), 1), generator=made)
        step = torch.arange(7)
        mask = step < count
        rise = (2 * step / (count - 1) - 1) * mask
        values = direction[:, None] * rise.unsqueeze(-1)
        return Frames(values + noise * torch.randn(values.shape, generator=made), mask)


def build(**options) -> Gru:
    seed_everything(0)
    return Gru(Spec({"video": 2}, (CATEGORY,), 2, {"video": WIDTH}), Config(**options))


def test_the_order_of_frames_is_learnt():
    train, validation = Rising(160, 1), Rising(80, 2)
    truth = validation.truth(CATEGORY)

    def accuracy(found):
        return float((found["category"].argmax(-1) == truth).float().mean())

    method = build(hidden=16)
    config = TrainConfig(epochs=12, patience=0, batch_size=16, lr=0.01)
    fitted = fit(method, train, validation, accuracy, config, seed=0)
    assert fitted.score > 0.75
    batch = method.normalise(validation.batch(range(80)))
    assert batch.frames is not None
    frames = batch.frames["video"]
    length = frames.mask.sum(-1, keepdim=True)
    back = torch.where(frames.mask, length - 1 - torch.arange(7), torch.arange(7))
    turned = frames.values.gather(2, back.unsqueeze(-1).expand_as(frames.values))
    there = replace(batch, frames={"video": Frames(turned, frames.mask)})
    turned_right = method.eval().predict(there)["category"].squeeze(1).argmax(-1) == truth
    assert float(turned_right.float().mean()) < 0.3
    assert predict(method, validation)["category"].shape == (80, 3)


def test_every_frame_has_a_say_and_padding_has_none():
    method = build(layers=2).eval()
    batch = Rising(3, 0).batch(range(3))
    assert batch.frames is not None
    values = batch.frames["video"].values.clone().requires_grad_()
    mask = batch.frames["video"].mask
    method.predict(replace(batch, frames={"video": Frames(values, mask)}))[
        "category"
    ].sum().backward()
    assert values.grad is not None
    assert ((values.grad != 0).any(-1) == mask).all()


def test_layers_are_an_option():
    names = [[n for n, _ in build(layers=k).named_parameters() if "weight_hh" in n] for k in (1, 3)]
    assert [len(found) for found in names] == [1, 3]
    with pytest.raises(UserError, match="gru: layers is 0; give 1 or more"):
        Config(layers=0)
