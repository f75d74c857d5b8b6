"""RNA loss: relative norm alignment of the modalities' features.

Paper: Planamente et al., "Domain generalization through audio-visual relative norm alignment in
first person action recognition", WACV 2022.
Reference code: none read; the formula is the paper's.
Licence of the reference: not applicable.
What we changed and why:
    - for every pair the smaller norm is divided by the larger one, so the loss is symmetric, at
      most 1 per pair, and works for three modalities; the original ratio has a fixed order.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from models.backbone import Backbone, joint
from models.batch import Batch
from models.plugin import Plugin


@dataclass(frozen=True)
class Config:
    """Options of the RNA loss.

    Attributes:
        rna_weight: factor of the loss; 0.1, 1 and 10 are worth trying.
    """

    rna_weight: float = 1.0


def norm_gap(norms: Mapping[str, Tensor]) -> Tensor:
    """Sum over pairs of (smaller / larger - 1)^2 of () mean norms; 0 without pairs."""
    gaps = [
        (torch.minimum(a, b) / torch.maximum(a, b).clamp(min=1e-12) - 1) ** 2
        for a, b in combinations(norms.values(), 2)
    ]
    return torch.stack(gaps).sum() if gaps else torch.zeros(())


class Rna(Plugin):
    """Adds the norm gap of the features just before fusion."""

    config_type = Config
    needs_classes = False

    def losses(self, backbone: Backbone, batch: Batch) -> dict[str, Tensor]:
        """The task's loss and the gap."""
        features = backbone.encode(batch)
        output = joint(backbone.decode(features, batch))
        norms = {}
        for name, values in features.items():
            seen = batch.mask & batch.present[name]
            if seen.any():
                norms[name] = values[seen].norm(dim=-1).mean()
        gap = norm_gap(norms).to(output)
        return {
            backbone.target.name: backbone.task_loss(output, batch),
            "rna": self.config.rna_weight * gap,
        }


PLUGIN = Rna
