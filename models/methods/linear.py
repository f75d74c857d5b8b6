"""Baseline ``linear``: one linear layer on the standardised features of all modalities.

Ridge or logistic regression without context, trained by the same trainer and rules as every other
method. An absent modality contributes 0 and one learnt offset of its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from models.batch import Batch
from models.method import Method, Spec


@dataclass(frozen=True)
class Config:
    """Options of the linear baseline.

    Attributes:
        dropout: share of input features hidden in training; acts like a ridge penalty.
    """

    dropout: float = 0.2


class Linear(Method):
    """Concatenate what is there, then one linear layer per target."""

    level = "utterance"
    config_type = Config
    recipe: ClassVar[Mapping[str, object]] = {
        "batch_size": 32,
        "lr": 3e-3,
        "weight_decay": 0.1,
        "epochs": 60,
        "patience": 12,
    }

    def __init__(self, spec: Spec, config: Config) -> None:
        super().__init__(spec, config)
        width = sum(spec.dims.values()) + len(spec.dims)
        self.dropout = nn.Dropout(config.dropout)
        self.heads = nn.ModuleDict({t.name: nn.Linear(width, t.width) for t in spec.targets})

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        """(B, U, C) logits or (B, U, K) values."""
        names = self.spec.modalities
        absent = torch.stack([~batch.present[name] for name in names], -1)  # (B, U, M)
        parts = [batch.features[name] for name in names]
        x = torch.cat([self.dropout(torch.cat(parts, -1)), absent.to(parts[0].dtype)], -1)
        return {name: head(x) for name, head in self.heads.items()}


METHOD = Linear
