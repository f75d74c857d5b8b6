import math
from dataclasses import replace

import pytest
import torch

from models.hiding import Masked, hide, kept_cells, most_hidden
from models.method import Spec, configure, find_method
from models.training import TrainConfig, fit, seed_everything
from tests.factories import CATEGORY, DIMS, ToyData

TRAIN, VALIDATION = ToyData(lengths=(5,) * 8, seed=1), ToyData(lengths=(40,) * 30, seed=2)
ROWS = 1200
SHORT = TrainConfig(epochs=1, patience=0, batch_size=8)


def share_hidden(rate, present):
    order, draws = torch.rand(2, *present.shape, generator=torch.Generator().manual_seed(0))
    kept = kept_cells(present, rate, order, draws)
    assert not (kept & ~present).any()
    assert (kept.any(-1) == present.any(-1)).all()
    return 1 - float(kept.sum() / present.sum())


@pytest.mark.parametrize("rate", [0.0, 0.3, 0.6, 0.7, 1.0])
@pytest.mark.parametrize("modalities", [1, 2, 3])
def test_the_asked_share_is_hidden_up_to_its_limit_and_never_all(rate, modalities):
    present = torch.ones(40_000, modalities, dtype=torch.bool)
    expected = min(rate, most_hidden(modalities))
    assert share_hidden(rate, present) == pytest.approx(expected, abs=0.01)


def test_of_what_there_is_the_share_is_hidden():
    present = torch.tensor([[True, False, True], [False, False, True]]).repeat(20_000, 1)
    # half of the rows have two cells, of which .4 are hidden, the others one, which stays
    assert share_hidden(0.4, present) == pytest.approx(0.4 * 2 / 3, abs=0.01)


def test_a_modality_is_hidden_from_a_whole_dialogue():
    batch = VALIDATION.batch(range(30))
    order, draws = torch.rand(2, 30, 40, 3)
    seen = hide(batch, 0.5, order, draws, by_dialogue=True).present
    for mask in seen.values():
        assert (mask.all(1) | ~mask.any(1)).all()
    kept = torch.stack([mask.any(1) for mask in seen.values()])
    assert kept.any(0).all()
    assert not kept.all()


def test_masks_of_a_data_set_stay_and_differ_by_seed():
    def seen(seed, groups):
        data = Masked(VALIDATION, ROWS, 0.4, seed, by_dialogue=False)
        batches = list(data.batches(groups))
        return torch.cat([torch.stack([*b.present.values()], -1)[b.mask] for b in batches])

    whole = seen(0, [range(30)])
    assert torch.equal(whole, seen(0, [[i] for i in range(30)]))
    assert not torch.equal(whole, seen(1, [range(30)]))
    assert 1 - whole.float().mean() == pytest.approx(0.4, abs=0.03)
    assert whole.any(-1).all()


# what epochs are chosen on ------------------------------------------------------------------------


def validated(monkeypatch, name="early_fusion", options=None, **settings):
    """The share of cells that is hidden at each look at the validation data."""
    seed_everything(0)
    kind = find_method(name)
    method = kind(Spec(DIMS, (CATEGORY,)), configure(kind.config_type, options or {}, name))
    shares, plain = [], method.predict

    def noted(batch):
        cells = torch.stack([batch.present[m] for m in DIMS], -1)[batch.mask]
        shares.append(1 - float(cells.float().mean()))
        return plain(batch)

    def score(outputs):
        assert len(outputs["category"]) == ROWS
        return 0.5

    method.eval()
    monkeypatch.setattr(method, "predict", noted)
    monkeypatch.setattr(
        method, "losses", lambda batch: {"none": plain(batch)["category"].sum() * 0}
    )
    fit(method, TRAIN, VALIDATION, score, replace(SHORT, batch_size=30, **settings), seed=0)
    return shares


@pytest.mark.parametrize(("settings", "shares"), [
    ({}, [0.0]),
    ({"modality_dropout": 0.4}, [0.4] * 3),
    ({"modality_dropout": 0.4, "validation_masks": 2}, [0.4] * 2),
    ({"modality_dropout": 0.4, "validation_rate": 0.0}, [0.0]),
    ({"validation_rate": 0.2}, [0.2] * 3),
    ({"modality_dropout": 0.6, "hide_rate": "random"}, [0.1, 0.3, 0.5]),
], ids=str)  # fmt: skip
def test_epochs_are_chosen_with_the_share_hidden_that_training_hides(monkeypatch, settings, shares):
    assert validated(monkeypatch, **settings) == pytest.approx(shares, abs=0.03)


def test_mi_cga_is_chosen_with_the_share_hidden_that_it_hides(monkeypatch):
    found = validated(monkeypatch, "mi_cga", {"missing_rate": 0.5})
    assert found == pytest.approx([0.5] * 3, abs=0.03)


@pytest.mark.parametrize(("settings", "share"), [
    ({"modality_dropout": 0.6}, 0.6),
    ({"modality_dropout": 1.0}, 2 / 3),
    ({"modality_dropout": 0.6, "hide_unit": "dialogue"}, 0.6),
    ({"modality_dropout": 0.6, "hide_rate": "random"}, 0.3),
], ids=str)  # fmt: skip
def test_training_hides_the_share(monkeypatch, settings, share):
    seed_everything(0)
    kind = find_method("linear")
    method = kind(Spec(DIMS, (CATEGORY,)), kind.config_type())
    shares, plain = [], method.losses

    def noted(batch):
        cells = torch.stack([batch.present[m] for m in DIMS], -1)
        shares.append(1 - float(cells[batch.mask].float().mean()))
        return plain(batch)

    monkeypatch.setattr(method, "losses", noted)
    train = ToyData(lengths=(2,) * 3000, seed=1)
    config = replace(SHORT, batch_size=3000, validation_rate=0.0, **settings)
    fit(method, train, TRAIN, lambda _: 0.5, config, seed=0)
    assert math.fsum(shares) == pytest.approx(share, abs=0.03)


@pytest.mark.parametrize("unit", ["utterance", "dialogue"])
def test_mi_cga_hides_by_what_training_is_told(monkeypatch, unit):
    kind = find_method("mi_cga")
    method = kind(Spec(DIMS, (CATEGORY,)), kind.config_type(missing_rate=0.5))
    masks, plain = [], method.hide

    def noted(present, dialogues):
        masks.append(plain(present, dialogues))
        return masks[-1]

    monkeypatch.setattr(method, "hide", noted)
    train = ToyData(lengths=(200,), seed=1)
    fit(method, train, TRAIN, lambda _: 0.5, replace(SHORT, epochs=1, hide_unit=unit), seed=0)
    assert bool((masks[0] == masks[0][:1]).all()) == (unit == "dialogue")
