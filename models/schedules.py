"""Learning rates as functions of how far training has come, and the one that a run follows."""

import math
from collections.abc import Mapping
from typing import Any

from models.train_config import TrainConfig


def cosine_to_the_end(base: float, at: int, total: int, warmup: float) -> float:
    """Rate before step ``at`` of ``total``: a linear rise, then a cosine to 1 % of ``base``.

    Args:
        base: the peak.
        at: steps made.
        total: steps of the whole training.
        warmup: share of them that the rise takes.
    """
    warm = max(1, round(warmup * total))
    if at < warm:
        return base * (at + 1) / warm
    share = min(1.0, (at - warm) / max(1, total - warm))
    return base * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * share)))


def returning_cosine(base: float, step: int, t_max: int) -> float:
    """Rate after ``step`` steps of a cosine that is 0 at ``t_max`` and comes back by twice that."""
    return base * (1 + math.cos(math.pi * step / t_max)) / 2


def staircase(base: float, done: int, start: int, every: int, factor: float) -> float:
    """Rate that is multiplied by ``factor`` for each ``every`` steps or epochs after ``start``.

    Args:
        base: rate until then.
        done: steps or epochs that have ended.
        start: how many of them leave the rate as it is.
        every: width of a stair.
        factor: height of a stair.
    """
    return base * factor ** (max(0, done - start) // every)


class Schedule:
    """The learning rate of a run.

    Attributes:
        epoch: the one that runs, from 1.
        steps: optimiser steps made.
        rate: what the schedule goes by; ``plateau`` lowers it for good.

    Args:
        config: which schedule.
        items: of the training data.
    """

    _KEPT = ("epoch", "steps", "rate", "plateau_best", "plateau_wait")

    def __init__(self, config: TrainConfig, items: int) -> None:
        self.config, self.rate = config, config.lr
        self.epoch, self.steps = 0, 0
        self.plateau_best, self.plateau_wait = -math.inf, 0
        self._batches = max(1, math.ceil(items / config.batch_size))
        self._steps_before = 0

    def begin(self, epoch: int, batches: int) -> None:
        """An epoch of so many batches begins."""
        self.epoch, self._batches, self._steps_before = epoch, max(1, batches), self.steps

    def now(self) -> float:
        """The rate of the next step."""
        config = self.config
        if config.scheduler == "step":
            done = self.steps if config.step_unit == "steps" else self.epoch - 1
            stairs = config.step_from, config.step_every, config.step_factor
            return staircase(self.rate, done, *stairs)
        if config.scheduler != "cosine":
            return self.rate
        if config.t_max == "code":
            return returning_cosine(self.rate, self.steps, config.batch_size * config.epochs)
        # counted in epochs like this one: a method may train on part of the items
        in_epoch = math.ceil(self._batches / config.accumulate)
        at = (self.epoch - 1) * in_epoch + self.steps - self._steps_before
        return cosine_to_the_end(self.rate, at, config.epochs * in_epoch, config.warmup)

    @property
    def follows_loss(self) -> bool:
        """Whether ``hear`` is to be told the negative validation loss."""
        return self.config.scheduler == "plateau" and self.config.plateau_on == "loss"

    def hear(self, score: float) -> None:
        """What ``plateau`` follows of the epoch that has ended; higher is better."""
        if self.config.scheduler != "plateau":
            return
        if score > self.plateau_best:
            self.plateau_best, self.plateau_wait = score, 0
            return
        self.plateau_wait += 1
        if self.plateau_wait > self.config.plateau_patience:
            self.rate *= self.config.plateau_factor
            self.plateau_wait = 0

    def state(self) -> dict[str, Any]:
        """Plain values to go on from after an epoch."""
        return {name: getattr(self, name) for name in self._KEPT}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take over from ``state``."""
        for name in self._KEPT:
            setattr(self, name, state[name])
