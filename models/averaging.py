"""Weights averaged over the steps of a training, and the statistics that go with them."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from models.train_config import TrainConfig


def averaged_parts(method: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """What is averaged: parameters, and the running statistics of batch normalisation.

    Statistics of the last weights would not fit the averaged ones.
    """
    yield from method.named_parameters()
    for place, module in method.named_modules():
        if isinstance(module, _BatchNorm):
            for name in ("running_mean", "running_var"):
                if (values := getattr(module, name)) is not None:
                    yield f"{place}.{name}", values


class Average:
    """Exponential moving average of ``averaged_parts``; as a context, swaps them in."""

    def __init__(self, method: nn.Module, config: TrainConfig) -> None:
        self.method, self.config, self.t = method, config, 0
        self.shadow = {n: p.detach().clone() for n, p in averaged_parts(method)}
        self.kept: dict[str, Tensor] = {}

    def update(self) -> None:
        """s <- d s + (1 - d) w, after each optimiser step."""
        self.t += 1
        decay = self.config.ema_decay
        if self.config.ema_warmup:
            decay = min(decay, (1 + self.t) / (10 + self.t))
        with torch.no_grad():
            for name, parameter in averaged_parts(self.method):
                self.shadow[name].lerp_(parameter.detach(), 1 - decay)

    def __enter__(self) -> None:
        self.kept = {n: p.detach().clone() for n, p in averaged_parts(self.method)}
        self._put(self.shadow)

    def __exit__(self, *_) -> None:
        self._put(self.kept)

    def _put(self, values: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            for name, parameter in averaged_parts(self.method):
                parameter.copy_(values[name])

    def state(self) -> dict[str, Any]:
        """Steps so far and averaged weights."""
        return {"t": self.t, "shadow": {n: s.clone() for n, s in self.shadow.items()}}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take over from ``state``."""
        self.t = state["t"]
        for name, value in state["shadow"].items():
            self.shadow[name].copy_(value)
