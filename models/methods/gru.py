"""Baseline ``gru``: stacked GRUs over the frames of each modality, then a linear layer.

The usual first network on frames, e.g. three layers over ViT features of the face in the baseline
of the EMI challenge. A modality without frames (a sentence vector) is a sequence of one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from models.batch import Batch, Frames
from models.errors import UserError
from models.layers.gru import encode
from models.layers.tokens import masked_mean, packed_left
from models.method import Method, Spec


@dataclass(frozen=True)
class Config:
    """Options of the recurrent baseline.

    Attributes:
        hidden: width H of every layer.
        layers: stacked layers; every one reads from the first frame to the last.
        dropout: share of units hidden in training, after each layer.
        max_frames: longer sequences are thinned evenly to so many; 0 = all.
    """

    hidden: int = 64
    layers: int = 3
    dropout: float = 0.3
    max_frames: int = 600

    def __post_init__(self) -> None:
        if self.layers < 1:
            raise UserError(f"gru: layers is {self.layers}; give 1 or more")


class Reader(nn.Module):
    """One modality: its frames through the layers, then the mean of the last layer's states."""

    def __init__(self, width: int, config: Config) -> None:
        super().__init__()
        between = config.dropout if config.layers > 1 else 0.0
        self.gru = nn.GRU(width, config.hidden, config.layers, batch_first=True, dropout=between)
        self.missing = nn.Parameter(torch.randn(config.hidden) * 0.02)

    def forward(self, sequence: Frames) -> Tensor:
        """(B, U, T, D) to (B, U, H); ``missing`` where no frame is real."""
        values, mask = sequence.values.flatten(0, 1), sequence.mask.flatten(0, 1)
        rows = mask.any(1).nonzero().squeeze(1)
        read = self.missing.expand(len(mask), -1)
        if len(rows):
            frames, mask = packed_left(values[rows], mask[rows])
            states = encode(self.gru, frames, mask.sum(1))
            read = read.to(states.dtype).index_copy(0, rows, masked_mean(states, mask))
        return read.unflatten(0, sequence.mask.shape[:2])


class Gru(Method):
    """Read each modality, join what was read, one linear layer per target."""

    level = "utterance"
    needs = frozenset({"frames"})
    config_type = Config
    recipe: ClassVar[Mapping[str, object]] = {"batch_size": 32, "epochs": 60, "patience": 12}

    def __init__(self, spec: Spec, config: Config) -> None:
        super().__init__(spec, config)
        self.readers = nn.ModuleDict({m: Reader(d, config) for m, d in spec.frame_dims.items()})
        self.dropout = nn.Dropout(config.dropout)
        joint = config.hidden * len(self.readers)
        self.heads = nn.ModuleDict({t.name: nn.Linear(joint, t.width) for t in spec.targets})

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        """(B, U, C) logits or (B, U, K) values."""
        frames = cast(Mapping[str, Frames], batch.frames)
        read = [reader(frames[name]) for name, reader in self.readers.items()]
        joint = self.dropout(torch.cat(read, -1))
        return {name: head(joint) for name, head in self.heads.items()}


METHOD = Gru
