"""Baseline ``constant``: what a method that looks at nothing would score.

Predicts the class priors, the mean of each value column and the frequency of each label in the
training split. Every other method must beat it before its score means anything.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from models.batch import Batch, Target
from models.method import Data, Method, Spec


@dataclass(frozen=True)
class Config:
    """The constant has no options."""


class Constant(Method):
    """Outputs log priors (``category``), means (``values``) or log odds (``labels``)."""

    level = "utterance"
    is_blind = True
    config_type = Config
    recipe: ClassVar[Mapping[str, object]] = {"batch_size": 256}

    def __init__(self, spec: Spec, config: Config) -> None:
        super().__init__(spec, config)
        for target in spec.targets:
            self.register_buffer(f"output_{target.name}", torch.zeros(target.width))

    def prepare(self, train: Data) -> None:
        """Count classes and average values over the training split."""
        batch = train.batch(range(len(train)))
        for target in self.spec.targets:
            self.get_buffer(f"output_{target.name}").copy_(_summary(target, batch))

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        """(B, U, C) or (B, U, K), the same row everywhere."""
        return {
            target.name: self.get_buffer(f"output_{target.name}").expand(*batch.mask.shape, -1)
            for target in self.spec.targets
        }


def _summary(target: Target, batch: Batch) -> Tensor:
    truth = batch.targets[target.name][batch.mask]
    if target.kind == "category":
        counts = torch.bincount(truth[truth >= 0], minlength=target.width).double()
        # one pseudo-count per class keeps the log of an absent class finite
        return ((counts + 1) / (counts + 1).sum()).log().float()
    mean = truth.double().nanmean(0).nan_to_num(0.0)
    if target.kind == "values":
        return mean.float()
    share = mean.clamp(1e-3, 1 - 1e-3)
    return torch.logit(share).float()


METHOD = Constant
