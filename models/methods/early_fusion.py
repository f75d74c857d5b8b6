"""Baseline ``early_fusion``: concatenate the modalities, then a small multilayer perceptron."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from models.batch import Batch
from models.method import Method, Spec


@dataclass(frozen=True)
class Config:
    """Options of early fusion.

    Attributes:
        hidden: width of each modality's projection and of the joint layer.
        dropout: share of units hidden in training.
    """

    hidden: int = 64
    dropout: float = 0.3


class EarlyFusion(Method):
    """Project each modality, put a learnt vector where one is absent, join, predict."""

    level = "utterance"
    config_type = Config
    recipe: ClassVar[Mapping[str, object]] = {"batch_size": 32, "epochs": 60, "patience": 12}

    def __init__(self, spec: Spec, config: Config) -> None:
        super().__init__(spec, config)
        hidden = config.hidden
        self.project = nn.ModuleDict({m: nn.Linear(dim, hidden) for m, dim in spec.dims.items()})
        self.missing = nn.ParameterDict(
            {m: nn.Parameter(torch.randn(hidden) * 0.02) for m in spec.dims}
        )
        self.joint = nn.Sequential(
            nn.LayerNorm(hidden * len(spec.dims)),
            nn.GELU(),
            nn.Dropout(config.dropout),
            nn.Linear(hidden * len(spec.dims), hidden),
            nn.GELU(),
            nn.Dropout(config.dropout),
        )
        self.heads = nn.ModuleDict({t.name: nn.Linear(hidden, t.width) for t in spec.targets})

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        """(B, U, C) logits or (B, U, K) values."""
        parts = [
            torch.where(
                batch.present[m].unsqueeze(-1), self.project[m](batch.features[m]), self.missing[m]
            )
            for m in self.spec.modalities
        ]
        joint = self.joint(torch.cat(parts, -1))
        return {name: head(joint) for name, head in self.heads.items()}


METHOD = EarlyFusion
