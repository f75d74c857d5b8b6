"""Baseline ``late_fusion``: one small network per modality, their outputs averaged.

The average runs over the modalities that an utterance has, so a missing one costs nothing. Every
network is also trained on its own, so that a strong modality cannot starve a weak one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from models.batch import Batch
from models.method import Method, Spec, is_known, target_loss


@dataclass(frozen=True)
class Config:
    """Options of late fusion.

    Attributes:
        hidden: width of each modality's hidden layer.
        dropout: share of units hidden in training.
    """

    hidden: int = 64
    dropout: float = 0.3


class LateFusion(Method):
    """Average of unimodal outputs with learnt weights over the modalities that are there."""

    level = "utterance"
    config_type = Config
    recipe: ClassVar[Mapping[str, object]] = {"batch_size": 32, "epochs": 60, "patience": 12}

    def __init__(self, spec: Spec, config: Config) -> None:
        super().__init__(spec, config)
        self.bodies = nn.ModuleDict(
            {
                m: nn.Sequential(
                    nn.Linear(dim, config.hidden), nn.GELU(), nn.Dropout(config.dropout)
                )
                for m, dim in spec.dims.items()
            }
        )
        self.heads = nn.ModuleDict(
            {
                m: nn.ModuleDict({t.name: nn.Linear(config.hidden, t.width) for t in spec.targets})
                for m in spec.dims
            }
        )
        self.weights = nn.ParameterDict(
            {t.name: nn.Parameter(torch.zeros(len(spec.dims))) for t in spec.targets}
        )

    def unimodal(self, batch: Batch) -> dict[str, dict[str, Tensor]]:
        """Target name to modality to (B, U, C) or (B, U, K)."""
        hidden = {m: self.bodies[m](batch.features[m]) for m in self.spec.modalities}
        heads = {m: cast(nn.ModuleDict, self.heads[m]) for m in self.spec.modalities}
        return {
            t.name: {m: heads[m][t.name](hidden[m]) for m in self.spec.modalities}
            for t in self.spec.targets
        }

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        """(B, U, C) logits or (B, U, K) values."""
        return self._fuse(self.unimodal(batch), batch)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Loss of the average, and of each modality alone where it exists."""
        unimodal = self.unimodal(batch)
        fused = self._fuse(unimodal, batch)
        losses = {}
        for target in self.spec.targets:
            losses[target.name] = target_loss(target, fused[target.name], batch)
            for modality, output in unimodal[target.name].items():
                alone = batch.mask & batch.present[modality]
                part = target_loss(target, output, _only(batch, alone))
                losses[f"{target.name}_{modality}"] = part / len(self.spec.dims)
        return losses

    def loss_units(self, batch: Batch) -> dict[str, Tensor]:
        """Labelled cells in all, and of each modality those that have it."""
        units = super().loss_units(batch)
        for target in self.spec.targets:
            for modality in self.spec.modalities:
                seen = _only(batch, batch.mask & batch.present[modality])
                units[f"{target.name}_{modality}"] = is_known(target, seen).sum()
        return units

    def _fuse(self, unimodal: dict[str, dict[str, Tensor]], batch: Batch) -> dict[str, Tensor]:
        present = torch.stack([batch.present[m] for m in self.spec.modalities], -1)  # (B, U, M)
        # an utterance with nothing at all gets the plain average of the offsets
        usable = present | ~present.any(-1, keepdim=True)
        fused = {}
        for name, outputs in unimodal.items():
            scores = self.weights[name].masked_fill(~usable, float("-inf"))
            share = scores.softmax(-1).unsqueeze(-1)  # (B, U, M, 1)
            fused[name] = (torch.stack(list(outputs.values()), -2) * share).sum(-2)
        return fused


def _only(batch: Batch, mask: Tensor) -> Batch:
    return replace(batch, mask=mask)


METHOD = LateFusion
