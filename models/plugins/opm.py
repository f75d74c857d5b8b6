"""OPM: on-the-fly prediction modulation, which hides features of modalities that are ahead.

Paper: Wei et al., "On-the-fly modulation for balanced multimodal learning", TPAMI 2024.
Reference code: GeWu-Lab/BML_TPAMI2024 and BalanceBenchmark, read; nothing copied.
Licence of the references: none stated; MIT.
What we changed and why:
    - a modality is compared with the mean of the others; the benchmark's sum makes it rare that
      one of three is ahead (``opm_ratio: sum``);
    - the unit that is hidden is an utterance, just before fusion, also in graphs and recurrences;
    - a batch that lost everything makes no step.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, cast

import torch
from torch import Tensor

from models.backbone import Backbone, joint
from models.batch import Batch
from models.errors import UserError
from models.layers.balance import modality_scores, ratio_to_others
from models.plugin import Plugin


@dataclass(frozen=True)
class Config:
    """Options of OPM.

    Attributes:
        opm_base: chance to hide a modality that is just ahead.
        opm_growth: how that chance grows with the lead.
        opm_chance: share of batches that are modulated.
        opm_warmup: first epochs without modulation.
        opm_ratio: compare with the ``mean`` or the ``sum`` of the others.
    """

    opm_base: float = 0.5
    opm_growth: float = 0.5
    opm_chance: float = 0.7
    opm_warmup: int = 6
    opm_ratio: str = "mean"


def hiding_chances(ratio: Tensor, base: float, growth: float) -> Tensor:
    """(M,) q = base (1 + growth tanh(ratio - 1)) within [0, 1] where ratio > 1, else 0."""
    chance = (base * (1 + growth * torch.tanh((ratio - 1).clamp(min=0)))).clamp(0, 1)
    return torch.where(ratio > 1, chance, 0.0)


def compensation(chances: Tensor, widths: Tensor) -> Tensor:
    """() 1 / (1 - theta), theta the share of feature dimensions hidden on average."""
    return 1 / (1 - (widths * chances).sum() / widths.sum())


class Opm(Plugin):
    """Hides features by how far their modality is ahead in the current batch."""

    config_type = Config

    def __init__(self, backbone: Backbone, config: Config) -> None:
        super().__init__(backbone, config)
        if config.opm_ratio not in ("mean", "sum"):
            raise UserError(f"opm_ratio is '{config.opm_ratio}', expected 'mean' or 'sum'")
        self.names = backbone.spec.modalities
        self.chances = torch.zeros(len(self.names))

    def losses(self, backbone: Backbone, batch: Batch) -> dict[str, Tensor]:
        """The task's loss, on features of which some are hidden."""
        features = backbone.encode(batch)
        votes = backbone.decode(features, batch)
        scores = modality_scores(backbone.target, votes, batch)
        how = cast(Literal["mean", "sum"], self.config.opm_ratio)
        ratio = ratio_to_others(scores, how)
        self.chances = hiding_chances(ratio, self.config.opm_base, self.config.opm_growth)
        self.may_step = True
        if int(cast(Tensor, self.epoch)) > self.config.opm_warmup:
            generator = self.generator(torch.device("cpu"))
            if float(torch.rand((), generator=generator)) < self.config.opm_chance:
                features, batch = self._hide(features, batch, backbone.target.name, generator)
                votes = backbone.decode(features, batch)
        return {backbone.target.name: backbone.task_loss(joint(votes), batch)}

    def _hide(
        self,
        features: Mapping[str, Tensor],
        batch: Batch,
        target: str,
        generator: torch.Generator,
    ) -> tuple[dict[str, Tensor], Batch]:
        """Hidden and rescaled features, and the batch without labels where nothing is left."""
        widths = torch.tensor([float(features[name].shape[-1]) for name in self.names])
        scale = compensation(self.chances, widths.to(self.chances.device))
        draw = torch.rand(len(self.names), *batch.mask.shape, generator=generator)
        keep = draw.to(batch.mask.device) >= self.chances[:, None, None]
        there = torch.stack([batch.present[name] for name in self.names])
        is_lost = ~(keep & there).any(0)
        hidden = {
            name: features[name] * (kept.unsqueeze(-1) * scale).to(features[name].dtype)
            for name, kept in zip(self.names, keep, strict=True)
        }
        truth = batch.targets[target].masked_fill(is_lost, -1)
        self.may_step = bool((batch.mask & (truth >= 0)).any())
        return hidden, replace(batch, targets={**batch.targets, target: truth})

    def diagnostics(self) -> dict[str, Tensor]:
        """Chance of each modality to be hidden."""
        return {f"opm_{n}": q for n, q in zip(self.names, self.chances, strict=True)}


PLUGIN = Opm
