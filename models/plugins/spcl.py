"""SPCL: self-paced curriculum learning with two levels of difficulty.

Paper: "Leveraging self-paced curriculum learning for enhanced modality balance in multimodal
conversational emotion recognition", Neural Computing and Applications, 10.1007/s00521-026-12160-6.
Reference code: mattam301/experimental_MM_bachbones, commit ccce08f, read; nothing copied.
Licence of the reference: none stated.
What we changed and why:
    - the loss is the mean over the selected utterances, as in the paper; the code divides by all
      (``spcl_norm: all``), which with Adam mostly scales the step;
    - a batch with nothing selected makes no step, rather than one on momentum alone;
    - the first threshold is by default the one that selects 40 % of the training utterances of the
      untrained network: published thresholds were tuned per cell and depend on dialogue length. The
      network moves within the first epoch, so fewer are selected in it (18 % were, of 40 %);
    - a modality missing from part of a dialogue is scored on the rest; one missing from all of it
      does not count as unbalanced; with fewer than two left, only the utterance's loss decides.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from models.backbone import Backbone, joint
from models.batch import Batch
from models.errors import UserError
from models.layers.balance import utterance_loss
from models.method import Data
from models.plugin import Plugin, check_choice

CAP = 60.0
PACING_EPOCHS = 20
CHOICES = {
    "spcl_difficulty": ("both", "utterance", "dialogue"),
    "spcl_score": ("sum", "mean"),
    "spcl_norm": ("selected", "all"),
    "spcl_weighting": ("hard", "linear", "logistic"),
    "spcl_pacing": ("growth", "cosine", "competence"),
}


@dataclass(frozen=True)
class Config:
    """Options of SPCL.

    Attributes:
        spcl_threshold: first threshold; 0 takes the one that selects ``spcl_first_share``.
        spcl_first_share: share of training utterances that the untrained network would select, in
            (0, 1]; the first epoch selects fewer, because the network learns within it.
        spcl_growth: factor of the threshold per epoch.
        spcl_pacing: ``growth``, or ``cosine`` or ``competence`` over ``spcl_pacing_epochs``.
        spcl_pacing_epochs: epochs until those two reach the cap; 0 takes 20.
        spcl_cap: largest threshold.
        spcl_difficulty: ``both`` levels, or the ``utterance``'s loss or the ``dialogue``'s
            imbalance alone.
        spcl_score: ``sum`` over a dialogue's utterances, or ``mean``.
        spcl_norm: divide by the ``selected`` utterances or by ``all``.
        spcl_weighting: ``hard`` selection, or ``linear`` or ``logistic`` weights.
    """

    spcl_threshold: float = 0.0
    spcl_first_share: float = 0.4
    spcl_growth: float = 1.25
    spcl_pacing: str = "growth"
    spcl_pacing_epochs: int = 0
    spcl_cap: float = CAP
    spcl_difficulty: str = "both"
    spcl_score: str = "sum"
    spcl_norm: str = "selected"
    spcl_weighting: str = "hard"


def imbalance(beliefs: Tensor, seen: Tensor, counts: Tensor, is_mean: bool = False) -> Tensor:
    """Spread between the modalities' scores of a dialogue.

    Args:
        beliefs: (M, B, U) probability of the true class by modality.
        seen: (M, B, U) bool; labelled utterances that have the modality.
        counts: (B,) labelled utterances.
        is_mean: score by the mean over utterances, not the sum.

    Returns:
        (B,) unbiased standard deviation over the modalities that the dialogue has; NaN when there
        are fewer than two.
    """
    each = seen.sum(-1)
    mean = (beliefs * seen).sum(-1) / each.clamp(min=1)  # (M, B)
    score = mean if is_mean else mean * counts
    has = (each > 0).to(score.dtype)
    middle = (score * has).sum(0) / has.sum(0).clamp(min=1)
    variance = ((score - middle) ** 2 * has).sum(0) / (has.sum(0) - 1)
    return torch.where(has.sum(0) > 1, variance, torch.nan).sqrt()


def harmonic(a: Tensor, b: Tensor) -> Tensor:
    """2 a b / (a + b), 0 where both are 0."""
    return 2 * a * b / (a + b).clamp(min=torch.finfo(a.dtype).tiny)


def weighting(difficulty: Tensor, threshold: Tensor, how: str) -> Tensor:
    """How much an utterance counts, in [0, 1]."""
    if how == "linear":
        return (1 - difficulty / threshold).clamp(min=0)
    if how == "logistic":
        return (1 + torch.exp(-threshold)) * torch.sigmoid(threshold - difficulty)
    return (difficulty <= threshold).to(difficulty.dtype)


def threshold_at(epoch: int, first: float, config: Config) -> float:
    """Threshold of epoch 1, 2, ..., never above the cap."""
    gone = epoch - 1
    cap = max(config.spcl_cap, 0.0)
    if config.spcl_pacing == "growth":
        if gone * math.log(config.spcl_growth) > 600:  # the power would overflow
            return cap
        return min(cap, first * config.spcl_growth**gone)
    share = min(1.0, gone / (config.spcl_pacing_epochs or PACING_EPOCHS))
    if config.spcl_pacing == "cosine":
        return min(cap, first + (cap - first) * (1 - math.cos(math.pi * share)) / 2)
    return min(cap, (first**2 + (cap**2 - first**2) * share) ** 0.5)


class Spcl(Plugin):
    """Trains on the utterances whose difficulty lies under a growing threshold."""

    config_type = Config

    def __init__(self, backbone: Backbone, config: Config) -> None:
        super().__init__(backbone, config)
        for name, allowed in CHOICES.items():
            check_choice(name, getattr(config, name), allowed)
        if config.spcl_growth <= 1 or not 0 < config.spcl_first_share <= 1:
            raise UserError(
                f"spcl_growth is {config.spcl_growth} and spcl_first_share is "
                f"{config.spcl_first_share}; expected above 1, and in (0, 1]"
            )
        if config.spcl_pacing_epochs and config.spcl_pacing == "growth":
            raise UserError(
                "spcl_pacing_epochs has no effect under spcl_pacing 'growth', whose pace is "
                "spcl_growth; leave it out, or take 'cosine' or 'competence'"
            )
        if config.spcl_pacing_epochs < 0:
            raise UserError(
                f"spcl_pacing_epochs is {config.spcl_pacing_epochs}, expected 0 or more"
            )
        # Until the first epoch finds the automatic threshold, everything is selected.
        first = config.spcl_threshold if config.spcl_threshold > 0 else config.spcl_cap
        self.register_buffer("first", torch.tensor(first))
        self.register_buffer("threshold", torch.tensor(first))
        self.share = torch.zeros(())

    @torch.no_grad()
    def difficulty(
        self, backbone: Backbone, votes: dict[str, Tensor], batch: Batch
    ) -> tuple[Tensor, Tensor]:
        """(B, U) difficulty of each utterance, and (B, U) bool where it is labelled."""
        target = backbone.target
        loss, is_known = utterance_loss(target, joint(votes).float(), batch)
        beliefs = torch.stack(
            [torch.exp(-utterance_loss(target, vote.float(), batch)[0]) for vote in votes.values()]
        )
        seen = torch.stack([is_known & batch.present[name] for name in votes])
        is_mean = self.config.spcl_score == "mean"
        spread = imbalance(beliefs, seen, is_known.sum(-1), is_mean).unsqueeze(-1)
        if self.config.spcl_difficulty == "utterance":
            return loss, is_known
        spread = spread.expand_as(loss)
        both = spread if self.config.spcl_difficulty == "dialogue" else harmonic(spread, loss)
        return torch.where(spread.isnan(), loss, both), is_known

    def losses(self, backbone: Backbone, batch: Batch) -> dict[str, Tensor]:
        """The backbone's loss over the selected utterances, weighted as the backbone weighs."""
        votes = backbone.unimodal(batch)
        difficulty, is_known = self.difficulty(backbone, votes, batch)
        threshold = cast(Tensor, self.threshold)
        chosen = weighting(difficulty, threshold, self.config.spcl_weighting) * is_known
        self.share = chosen.sum() / is_known.sum().clamp(min=1)
        self.may_step = bool(chosen.any())
        loss, units = backbone.utterance_losses(joint(votes), batch)
        count = chosen * units if self.config.spcl_norm == "selected" else units
        return {backbone.target.name: (chosen * loss).sum() / count.sum().clamp(min=1e-12)}

    def whole_from(self, backbone: Backbone, train: Data) -> int:
        """The first epoch whose threshold is the cap."""
        first, last = float(cast(Tensor, self.first)), max(self.config.spcl_cap, 0.0)
        epoch = 1
        while threshold_at(epoch, first, self.config) < last:
            epoch += 1
        return epoch

    def on_epoch(self, backbone: Backbone, epoch: int, train: Data) -> Sequence[int] | None:
        """Raise the threshold."""
        first = cast(Tensor, self.first)
        if epoch == 1 and self.config.spcl_threshold <= 0:
            first.fill_(self._quantile(backbone, train))
        cast(Tensor, self.threshold).fill_(threshold_at(epoch, float(first), self.config))
        return super().on_epoch(backbone, epoch, train)

    @torch.no_grad()
    def _quantile(self, backbone: Backbone, train: Data) -> float:
        """The threshold that selects the wished share under the network as it is."""
        was_training = backbone.training
        backbone.eval()
        found = []
        for start in range(0, len(train), 32):
            raw = train.batch(range(start, min(start + 32, len(train))))
            batch = backbone.normalise(raw.to(cast(Tensor, self.first).device))
            difficulty, is_known = self.difficulty(backbone, backbone.unimodal(batch), batch)
            found.append(difficulty[is_known])
        backbone.train(was_training)
        ranked = torch.cat(found).sort().values
        if len(ranked) == 0:
            return self.config.spcl_cap
        last = max(1, round(self.config.spcl_first_share * len(ranked))) - 1
        # A threshold of 0 could never grow.
        reachable = ranked[last:][ranked[last:] > 0]
        return float(reachable[0]) if len(reachable) else self.config.spcl_cap

    def diagnostics(self) -> dict[str, Tensor]:
        """Threshold and share of utterances selected."""
        return {"spcl_threshold": cast(Tensor, self.threshold), "spcl_share": self.share}


PLUGIN = Spcl
