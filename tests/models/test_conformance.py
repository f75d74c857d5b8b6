"""What every method promises, checked for every file in models/methods."""

from dataclasses import replace

import pytest
import torch

from models.batch import LabelsHidden
from models.errors import UserError
from models.method import Spec, configure, find_method, method_names, total
from models.training import TrainConfig, fit, predict, seed_everything
from tests.factories import CATEGORY, DIMS, LABELS, VAD_TARGET, ToyData, subsets_of

#: Baselines that learn nothing by gradient.
CONSTANT = {"constant"}
#: SPCL selects nothing of some batches at first; with this threshold it selects all.
ALL_SELECTED = {"spcl": {"spcl_threshold": 60.0}}
NAMES = [name for name in method_names() if "pooled" in find_method(name).needs]
TARGETS = [CATEGORY, VAD_TARGET, LABELS]


def build(name: str, targets=(CATEGORY,), dims=None, speakers: int = 2, seed: int = 0, **options):
    seed_everything(seed)
    method = find_method(name)
    config = configure(method.config_type, options, name)
    return method(Spec(DIMS if dims is None else dims, tuple(targets), speakers), config)


def prepared(name: str, data: ToyData, **options):
    method = build(name, data.targets, data.dims, **options)
    method.prepare(data)
    return method.eval()


def outputs(method, batch):
    with torch.no_grad():
        return method.predict(method.normalise(batch).without_labels())


def can(name: str, target) -> bool:
    return target.kind in find_method(name).kinds


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.kind)
@pytest.mark.parametrize("name", NAMES)
def test_outputs_have_the_width_of_the_target(name, target):
    if not can(name, target):
        with pytest.raises(UserError):
            build(name, [target])
        return
    data = ToyData(targets=[target])
    found = outputs(prepared(name, data), data.batch([0, 1, 3]))
    assert found[target.name].shape == (3, 4, target.width)
    assert torch.isfinite(found[target.name]).all()


@pytest.mark.parametrize("name", NAMES)
def test_predicting_never_looks_at_labels(name):
    data = ToyData()
    batch = data.batch([0, 1]).without_labels()
    method = prepared(name, data)
    assert set(outputs(method, batch)) == {"category"}
    with pytest.raises(LabelsHidden):
        method.losses(method.normalise(batch))


@pytest.mark.parametrize("name", NAMES)
def test_padding_and_batch_mates_do_not_change_an_output(name):
    data = ToyData(lengths=(3, 9, 1, 6), speakers=3)
    method = prepared(name, data, speakers=3)
    together = outputs(method, data.batch([0, 1, 2, 3]))["category"]
    for row, dialogue in enumerate([0, 1, 2, 3]):
        alone = outputs(method, data.batch([dialogue]))["category"][0]
        length = data.lengths[dialogue]
        torch.testing.assert_close(together[row, :length], alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_values_of_an_absent_modality_do_not_matter(name):
    data = ToyData(absent=0.5)
    method = prepared(name, data)
    batch = data.batch(range(len(data)))
    before = outputs(method, batch)["category"]
    scrambled = {
        m: torch.where(batch.present[m].unsqueeze(-1), v, torch.full_like(v, 7.0))
        for m, v in batch.features.items()
    }
    after = outputs(method, replace(batch, features=scrambled))["category"]
    torch.testing.assert_close(before[batch.mask], after[batch.mask])


@pytest.mark.parametrize("dims", subsets_of(), ids=lambda d: "+".join(d))
@pytest.mark.parametrize("name", NAMES)
def test_any_subset_of_modalities_trains(name, dims):
    data = ToyData(dims=dims)
    if name == "spcl" and len(dims) == 1:
        with pytest.raises(UserError, match="modal"):
            build(name, dims=dims)
        return
    try:
        method = build(name, dims=dims)
    except UserError as error:  # a method may refuse a subset, but only in so many words
        assert "modal" in str(error)  # noqa: PT017
        return
    method.prepare(data)
    batch = method.normalise(data.batch([0, 2, 3]))
    loss = total(method.losses(batch))
    assert torch.isfinite(loss)
    if name not in CONSTANT:
        loss.backward()


@pytest.mark.parametrize("name", [n for n in NAMES if n not in CONSTANT])
def test_every_parameter_gets_gradient(name):
    data = ToyData(lengths=(8, 12, 5), speakers=2, absent=0.3)
    method = build(name, **ALL_SELECTED.get(name, {}))
    method.prepare(data)
    method.train()
    missing = None
    for _ in range(4):  # dropout may hide a unit once
        total(method.losses(method.normalise(data.batch([0, 1, 2])))).backward()
        missing = [n for n, p in method.named_parameters() if p.requires_grad and p.grad is None]
    zero = [
        n for n, p in method.named_parameters() if p.grad is not None and not p.grad.abs().sum() > 0
    ]
    assert not missing
    assert not zero


@pytest.mark.parametrize("name", NAMES)
def test_single_utterances_and_many_speakers_are_fine(name):
    data = ToyData(lengths=(1, 1, 7), speakers=6)
    method = prepared(name, data, speakers=2)  # fewer in training than appear here
    assert torch.isfinite(outputs(method, data.batch([0, 1, 2]))["category"]).all()


@pytest.mark.parametrize("name", NAMES)
def test_same_seed_same_history_and_state_survives_saving(name):
    train, validation = ToyData(seed=1), ToyData(seed=2)
    config = TrainConfig(epochs=2, patience=0, batch_size=3)

    def run():
        method = build(name)
        return method, fit(method, train, validation, accuracy(validation), config, seed=3)

    (first, a), (_, b) = run(), run()
    assert a.history == b.history
    other = build(name, seed=9)
    other.load_state_dict(a.state)
    expected = predict(first, validation)["category"]
    torch.testing.assert_close(predict(other, validation)["category"], expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in NAMES if n not in CONSTANT])
def test_overfits_twelve_dialogues(name):
    train = ToyData(lengths=(5,) * 12, noise=0.05)
    recipe = dict(find_method(name).recipe) | {
        "epochs": 150, "patience": 0, "batch_size": 4, "lr": 2e-3, "weight_decay": 0.0,
        "scheduler": "none",
    }  # fmt: skip
    config = configure(TrainConfig, recipe, name)
    fitted = fit(build(name), train, train, accuracy(train), config, seed=0)
    assert fitted.score > 0.9


def accuracy(data: ToyData):
    def score(found):
        truth = data.truth(CATEGORY)
        return float((found["category"].argmax(-1) == truth).float().mean())

    return score
