"""Steps: the optimiser in one pass, and gradients that are clipped only where they are too long."""

import math
import subprocess
import sys

import pytest
import torch
from torch import nn

from models.method import Method, Spec
from models.stepping import Steps, make_optimizer
from models.train_config import TrainConfig


class Wide(Method):
    """A matrix and a vector."""

    def __init__(self) -> None:
        super().__init__(Spec({}, ()), None)
        torch.manual_seed(0)
        self.weight = nn.Parameter(torch.randn(3, 5))
        self.bias = nn.Parameter(torch.randn(3))

    def forward(self, x):
        return nn.functional.linear(x, self.weight, self.bias)


def reference(config, parameters):
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    kind = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "sgd": torch.optim.SGD}
    momentum = {"momentum": 0.9} if config.optimizer == "sgd" else {}
    return kind[config.optimizer](groups, lr=config.lr, foreach=False, **momentum)


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
def test_the_optimiser_takes_the_steps_of_the_plain_one(name):
    config = TrainConfig(optimizer=name, lr=0.05, weight_decay=0.1)
    networks = Wide(), Wide()
    optimizers = [
        make([*network.parameters()])
        for make, network in zip(
            (lambda p: make_optimizer(config, p), lambda p: reference(config, p)), networks,
            strict=True,
        )
    ]  # fmt: skip
    start = networks[0].weight.detach().clone()
    for step in range(20):
        x = torch.randn(8, 5, generator=torch.Generator().manual_seed(step))
        for network, optimizer in zip(networks, optimizers, strict=True):
            optimizer.zero_grad()
            network(x).square().sum().backward()
            optimizer.step()
    for mine, theirs in zip(*(network.parameters() for network in networks), strict=True):
        torch.testing.assert_close(mine, theirs)
    assert not torch.allclose(networks[0].weight, start)


@pytest.mark.parametrize(("limit", "scale"), [(0.0, 1.0), (6.0, 1.0), (2.5, 0.5)])
def test_a_gradient_is_shortened_only_where_it_is_too_long(limit, scale):
    network = Wide()
    steps = Steps(network, TrainConfig(clip_norm=limit), 1)
    network.weight.grad = torch.zeros(3, 5)
    network.weight.grad[0, :2] = torch.tensor([3.0, 4.0])
    before = network.weight.grad.clone()
    assert steps.clip() == pytest.approx(5.0)  # the bias has none
    torch.testing.assert_close(network.weight.grad, scale * before)


def test_a_gradient_that_is_no_number_spoils_all_of_them():
    network = Wide()
    network.weight.grad = torch.full((3, 5), math.nan)
    network.bias.grad = torch.ones(3)
    assert math.isnan(Steps(network, TrainConfig(clip_norm=1.0), 1).clip())
    assert network.bias.grad.isnan().all()


def test_no_optimiser_brings_the_compiler_in():
    """Its import takes longer than many a run."""
    code = """
import sys, torch
from models.stepping import make_optimizer
from models.train_config import TrainConfig
for name in ("adamw", "adam", "sgd"):
    weight = torch.nn.Parameter(torch.ones(3, 3))
    optimizer = make_optimizer(TrainConfig(optimizer=name), [weight])
    weight.sum().backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    optimizer.load_state_dict(optimizer.state_dict())
    assert (weight != 1).all() and weight.requires_grad
print("torch._dynamo" in sys.modules)
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "False\n"
