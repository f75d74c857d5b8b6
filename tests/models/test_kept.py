"""Batches of evaluation are made once, and are those that the data make."""

from dataclasses import fields

import pytest
import torch

from models.kept import Kept
from models.method import Spec, configure, find_method
from models.training import TrainConfig, fit, predict, seed_everything
from tests.factories import CATEGORY, DIMS, ToyData

GROUPS = [range(0, 3), range(3, 5)]


class Counting(ToyData):
    """Counts the batches that it makes."""

    made = 0

    def batches(self, groups, key=None):
        for batch in super().batches(groups, key):
            self.made += 1
            yield batch


@pytest.fixture
def data():
    return Counting(lengths=(4, 2, 3, 1, 5), seed=1)


def network():
    seed_everything(0)
    kind = find_method("linear")
    return kind(Spec(DIMS, (CATEGORY,)), configure(kind.config_type, {}, "linear"))


def test_the_same_groups_are_made_once(data):
    kept = Kept(data)
    looks = [list(kept.batches(GROUPS)) for _ in range(3)]
    assert data.made == 2
    for look in looks:
        for batch, other in zip(look, data.batches(GROUPS), strict=True):
            for name in ("mask", "speakers", "index"):
                assert torch.equal(getattr(batch, name), getattr(other, name))
            assert batch.features.keys() == other.features.keys()
            assert all(torch.equal(batch.features[m], other.features[m]) for m in other.features)


def test_other_groups_and_those_of_training_are_made_anew(data):
    kept = Kept(data)
    list(kept.batches(GROUPS))
    (whole,) = kept.batches([range(5)])
    assert len(whole.mask) == 5
    made = data.made
    list(kept.batches([range(5)], key=7))
    assert data.made == made + 1


def test_what_is_too_large_is_not_kept_and_no_part_of_it(data):
    first, second = data.batches(GROUPS)
    for room, made in ((first.nbytes + second.nbytes, 2), (first.nbytes + second.nbytes - 1, 4)):
        kept, data.made = Kept(data, room), 0
        for _ in range(2):
            assert len(list(kept.batches(GROUPS))) == 2
        assert data.made == made


def test_a_look_that_was_broken_off_keeps_nothing(data):
    kept = Kept(data)
    next(kept.batches(GROUPS))
    assert len(list(kept.batches(GROUPS))) == 2


def test_a_batch_takes_what_its_tensors_take(data):
    (batch,) = data.batches([range(5)])
    told = [getattr(batch, field.name) for field in fields(batch)]
    alone = [value for value in told if isinstance(value, torch.Tensor)]
    groups = [value for value in told if isinstance(value, dict)]
    inner = [value for group in groups for value in group.values()]
    tensors = [*alone, *inner]
    values = sum(tensor.nbytes for tensor in tensors)
    assert values + 500 * len(tensors) < batch.nbytes < values + 1000 * len(tensors)


def test_outputs_are_those_of_the_data(data):
    method, kept = network(), Kept(data)
    plain = predict(method, data, 2)
    for _ in range(2):
        found = predict(method, kept, 2)
        assert all(torch.equal(found[name], plain[name]) for name in plain)


def test_training_makes_validation_batches_once(data):
    config = TrainConfig(epochs=4, patience=0, batch_size=2)
    train = ToyData(lengths=(5,) * 8, seed=2)
    fit(network(), train, data, lambda outputs: 0.0, config, seed=0)
    assert data.made == 3
