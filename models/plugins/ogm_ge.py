"""OGM-GE: on-the-fly gradient modulation with generalisation enhancement.

Paper: Peng et al., "Balanced multimodal learning via on-the-fly gradient modulation", CVPR 2022.
Reference code: GeWu-Lab/OGM-GE_CVPR2022, read; nothing copied.
Licence of the reference: MIT.
What we changed and why:
    - all encoder tensors with two or more dimensions are modulated; the code knows only its
      convolutions;
    - three modalities: each is compared with the weakest, as later benchmarks do;
    - gradients are clipped first, then modulated, like every plug-in here;
    - published for SGD, whose steps are proportional to gradients; Adam nearly undoes a factor that
      stays the same, so ``ogm_scale: update`` can put it on the step instead. Noise stays on the
      gradient.
"""

from dataclasses import dataclass
from typing import cast, get_args

import torch
from torch import Tensor

from models.backbone import Backbone, joint
from models.batch import Batch
from models.layers.balance import add_noise, damping, modality_scores, ratio_to_weakest
from models.plugin import Plugin, Scale, check_choice


@dataclass(frozen=True)
class Config:
    """Options of OGM-GE.

    Attributes:
        ogm_alpha: strength; 0.1 to 0.8 are worth trying.
        ogm_start: first epoch of modulation.
        ogm_end: last epoch of modulation; 0 = no end.
        ogm_noise: add noise with the deviation of the unscaled gradient (the GE part).
        ogm_scale: slow by scaling the ``gradient``, as published, or the optimiser's ``update``.
    """

    ogm_alpha: float = 0.3
    ogm_start: int = 1
    ogm_end: int = 0
    ogm_noise: bool = True
    ogm_scale: Scale = "gradient"


class OgmGe(Plugin):
    """Slows the encoders of modalities that are ahead."""

    config_type = Config

    def __init__(self, backbone: Backbone, config: Config) -> None:
        super().__init__(backbone, config)
        check_choice("ogm_scale", config.ogm_scale, get_args(Scale))
        self.names = backbone.spec.modalities
        self.factors = torch.ones(len(self.names))

    def losses(self, backbone: Backbone, batch: Batch) -> dict[str, Tensor]:
        """The task's loss; notes how far ahead each modality is."""
        votes = backbone.unimodal(batch)
        scores = modality_scores(backbone.target, votes, batch)
        self.factors = damping(ratio_to_weakest(scores), self.config.ogm_alpha)
        return {backbone.target.name: backbone.task_loss(joint(votes), batch)}

    @torch.no_grad()
    def after_clip(self, backbone: Backbone, batch: Batch) -> None:
        """Scale the encoders' gradients and add noise."""
        epoch, config = int(cast(Tensor, self.epoch)), self.config
        if epoch < config.ogm_start or (config.ogm_end and epoch > config.ogm_end):
            return
        generator = self.generator(self.factors.device) if config.ogm_noise else None
        for name, factor in zip(self.names, self.factors, strict=True):
            for weight in backbone.encoder_parameters(name):
                if weight.grad is None or weight.ndim < 2:
                    continue
                std = weight.grad.std() if generator is not None else None
                self.slow(weight, factor, config.ogm_scale)
                if generator is not None and std is not None:
                    add_noise(weight.grad, std, generator)

    def diagnostics(self) -> dict[str, Tensor]:
        """Factor of each modality's gradients."""
        return {f"ogm_{n}": k for n, k in zip(self.names, self.factors, strict=True)}


PLUGIN = OgmGe
