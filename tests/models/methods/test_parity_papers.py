"""Ada2I, CORECT and MultiDAG+CL against their published code; see ``parity/papers.md``."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from models.batch import Batch, Target
from models.method import Method, Spec, configure, find_method
from models.train_config import TrainConfig

FOLDER = Path(__file__).parent / "parity"
DIMS = {"audio": 10, "video": 4, "text": 6}
SIX = Target("category", "category", ("happy", "sad", "neutral", "angry", "excited", "frustrated"))


@dataclass(frozen=True)
class Case:
    """A published network, small.

    Attributes:
        method: ours.
        options: of it.
        spread: weights are uniform in plus minus this, around 1 where they scale a norm.
    """

    method: str
    options: dict[str, object] = field(default_factory=dict)
    spread: float = 0.3


_CORECT = {"width": 8, "graph_heads": 2, "dropout": 0.0}
CASES = {
    "ada2i": Case("ada2i", {"hidden": 6, "rank": 3, "afw_target": "output", "dropout": 0.0}),
    "ada2i_plain": Case("ada2i", {"hidden": 6, "rank": 3, "dropout": 0.0, "has_amw": False}),
    "corect": Case("corect", {**_CORECT, "pair_layers": 1, "self_layers": 2, "window": (2, 3)}),
    "corect_whole": Case(
        "corect", {**_CORECT, "pair_layers": 2, "self_layers": 1, "window": (-1, -1)}
    ),
    "multidag_cl": Case("multidag_cl", {"width": 7, "layers": 2, "dropout": 0.0}),
    "multidag_cl_window": Case(
        "multidag_cl", {"width": 7, "layers": 3, "dropout": 0.0, "window": 2}, 0.6
    ),
}


def seeded(case: Case) -> Method:
    """The network with weights that depend on nothing but their names and shapes."""
    kind = find_method(case.method)
    method = kind(Spec(DIMS, (SIX,), 2), configure(kind.config_type, case.options, case.method))
    draw = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, weight in sorted(method.named_parameters()):
            values = (torch.rand(weight.shape, generator=draw) * 2 - 1) * case.spread
            scales_norm = "norm" in name and name.endswith("weight")
            weight.copy_(values + float(scales_norm))
    return method


def dialogue(features: dict[str, Tensor], speakers: Tensor) -> Batch:
    """One dialogue without padding, features (U, D), speakers (U,)."""
    mask = torch.ones(1, len(speakers), dtype=torch.bool)
    return Batch(
        mask=mask,
        speakers=speakers[None],
        features={name: x[None] for name, x in features.items()},
        present=dict.fromkeys(features, mask),
        targets={SIX.name: torch.zeros(mask.shape, dtype=torch.long)},
        index=torch.arange(mask.shape[1])[None],
    )


@pytest.mark.parametrize("name", CASES)
def test_logits_are_those_of_the_published_code(name):
    stored = load_file(FOLDER / f"{name}.safetensors")
    method = seeded(CASES[name]).eval()
    for number in ("0", "1"):
        features = {m: stored[f"{number}.{m}"] for m in DIMS}
        batch = dialogue(features, stored[f"{number}.speakers"])
        with torch.no_grad():
            found = method.predict(batch.without_labels())[SIX.name][0]
        torch.testing.assert_close(found, stored[f"{number}.logits"], atol=5e-6, rtol=1e-5)
        assert float(found.std()) > 0.01


@pytest.mark.parametrize("name", ["ada2i", "corect"])
def test_the_rate_follows_the_validation_loss_as_in_the_published_code(name):
    train = configure(TrainConfig, find_method(name).recipe, name)
    assert (train.scheduler, train.plateau_on) == ("plateau", "loss")
    assert (train.plateau_factor, train.plateau_patience) == (0.1, 10)


def test_the_alignment_loss_is_that_of_the_published_code():
    stored = load_file(FOLDER / "ada2i.safetensors")
    method = seeded(CASES["ada2i"]).train()
    for number in ("0", "1"):
        batch = dialogue({m: stored[f"{number}.{m}"] for m in DIMS}, stored[f"{number}.speakers"])
        found = method.losses(batch)["feature"]
        torch.testing.assert_close(found, stored[f"{number}.feature"], atol=5e-6, rtol=1e-5)


def test_disparity_ratios_are_those_of_the_published_code():
    stored = load_file(FOLDER / "ada2i.safetensors")
    method = seeded(CASES["ada2i"]).train()
    for number in ("0", "1"):
        batch = dialogue({m: stored[f"{number}.{m}"] for m in DIMS}, stored[f"{number}.speakers"])
        method.losses(batch)
        ratios = method.scores / method.scores.min()
        torch.testing.assert_close(ratios, stored[f"{number}.ratios"], atol=5e-6, rtol=1e-5)
