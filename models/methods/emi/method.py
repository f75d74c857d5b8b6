"""EMI: six emotional intensities from concatenated modalities and a VAD-aware audio branch.

Paper: Huang et al., "Multimodal Emotion Regression with Multi-Objective Optimization and VAD-Aware
Audio Modeling for the 10th ABAW EMI Track", arXiv 2603.13760.
Reference code: none was published, and only the abstract could be read. From it: frozen features,
plain concatenation, one shared head, squared error + Pearson + supervised branches, averaged
weights, and a latent prior in the voice branch. Every number and every other part is ours.

What we added and why:

* Any subset of modalities and any target: the output range is the target's, and classes or sets of
  labels are trained with cross-entropy in place of squared error and Pearson.
* Squared errors are measured on the target's range scaled to [0, 1], so that the weights of the
  losses mean the same for every target; for intensities this changes nothing.
* An absent modality is its token. The latent of an absent voice is neither anchored nor held to
  the prior: there is nothing in it to be wrong about.
* ``vad_mode="none"`` leaves the branch out; weights of 0 keep it without its losses.
* A modality that comes without frames is read as its pooled vector.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.batch import Batch, Frames, Target
from models.errors import UserError
from models.method import Method, Spec, Stepper, target_loss
from models.methods.emi.fusion import FUSIONS, Branch, FusionKind, build_fusion, late_average
from models.methods.emi.losses import (
    correlation_loss,
    gaussian_kl,
    mean_over,
    prototype_mean,
    prototypes_of,
    usable_columns,
)
from models.methods.emi.pooling import AttentionPool
from models.options import refuse_idle

VadMode = Literal["none", "anchor", "prior", "both"]
VAD_MODES: tuple[VadMode, ...] = ("none", "anchor", "prior", "both")
TEACHER = "vad_teacher"
_LOG_VARIANCE = (-6.0, 2.0)
_TOKEN_SD = 0.02


@dataclass(frozen=True)
class Config:
    """Hyperparameters and ablations of EMI.

    Attributes:
        hidden: width H of each branch and of the shared head.
        vad_width: width to which the latent is expanded before it joins the branches.
        dropout: share of units hidden in training, in branches and head.
        fusion: how branches are joined; ``late`` averages the predictions of the branches, where
            the latent has no place.
        vad_mode: what supervises the latent of the voice: a teacher's valence, arousal and
            dominance (``anchor``), the intensities' usual place (``prior``), ``both``; ``none``: no
            latent at all.
        pearson_weight: of 1 - mean correlation over the batch, ``values`` only.
        aux_weight: of the predictions of single branches.
        anchor_weight: of the distance to the teacher.
        kl_weight: of the divergence from the prior.
        prior_sd: standard deviation of the prior in each dimension.
        prior_means: valence, arousal, dominance of each target column; empty: the built-in table,
            which knows the six intensities (other targets then have no prior).
        feature_noise: standard deviation of noise on standardised frames in training.
        max_frames: longer sequences are thinned evenly to so many; 0 = all.
    """

    hidden: int = 256
    vad_width: int = 32
    dropout: float = 0.3
    fusion: FusionKind = "concat"
    vad_mode: VadMode = "both"
    pearson_weight: float = 0.5
    aux_weight: float = 0.3
    anchor_weight: float = 0.1
    kl_weight: float = 0.01
    prior_sd: float = 0.5
    prior_means: tuple[tuple[float, float, float], ...] = ()
    feature_noise: float = 0.0
    max_frames: int = 600

    def __post_init__(self) -> None:
        choices: Mapping[str, tuple[str, ...]] = {"fusion": FUSIONS, "vad_mode": VAD_MODES}
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise UserError(
                    f"emi: {name} is '{getattr(self, name)}'; use one of {', '.join(allowed)}"
                )
        for name in ("pearson_weight", "aux_weight", "anchor_weight", "kl_weight", "feature_noise"):
            if getattr(self, name) < 0:
                raise UserError(f"emi: {name} is {getattr(self, name)}; give 0 or more")
        if not self.prior_sd > 0:
            raise UserError(f"emi: prior_sd is {self.prior_sd}; give more than 0")
        if any(len(point) != 3 for point in self.prior_means):
            raise UserError(
                "emi: prior_means holds three numbers for each target column: valence, arousal "
                f"and dominance; got {[list(point) for point in self.prior_means]}"
            )
        shape, anchor = ("prior_sd", "prior_means"), ("anchor_weight",)
        prior = ("kl_weight", *shape)
        latent = ("vad_width", *anchor, *prior)
        rules = [
            (self.fusion == "late", "fusion: late", ("vad_mode", *latent)),
            (self.vad_mode == "none", "vad_mode: none", latent),
            (self.vad_mode == "anchor", "vad_mode: anchor", prior),
            (self.vad_mode == "prior", "vad_mode: prior", anchor),
            (self.kl_weight == 0, "kl_weight: 0", shape),
        ]
        refuse_idle("emi", self, rules)


class Reader(nn.Module):
    """One modality: each frame alone through a layer, then attention pooling.

    Args:
        width: D of a frame.
        hidden: H.
        dropout: rate.
        has_frames: False: a single vector, with nothing to weigh.
    """

    def __init__(self, width: int, hidden: int, dropout: float, has_frames: bool) -> None:
        super().__init__()
        self.layer = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, hidden), nn.GELU(), nn.Dropout(dropout)
        )
        self.pool = AttentionPool(hidden) if has_frames else None

    def forward(self, sequence: Frames, token: Tensor) -> Branch:
        """(B, U, T, D) to a branch; rows without a real frame become the ``token`` (H,)."""
        is_absent = ~sequence.mask.any(-1, keepdim=True)  # (B, U, 1)
        frames = self.layer(sequence.values)
        frames = torch.where(is_absent.unsqueeze(-1), token.to(frames.dtype), frames)
        # one frame of the token, however long the others of the batch are
        is_first = torch.arange(sequence.mask.shape[-1], device=sequence.mask.device) == 0
        mask = sequence.mask | (is_absent & is_first)
        pooled = frames.squeeze(-2) if self.pool is None else self.pool(frames, mask)
        return Branch(pooled, frames, mask)


class VadLatent(nn.Module):
    """Valence, arousal and dominance that a voice suggests, as a normal distribution."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.mean = nn.Linear(hidden, 3)
        self.log_variance = nn.Linear(hidden, 3)

    def forward(self, voice: Tensor) -> tuple[Tensor, Tensor]:
        """(B, U, H) to mean in [-1, 1] and logarithm of the variance, both (B, U, 3)."""
        mean = torch.tanh(self.mean(voice).float())
        return mean, self.log_variance(voice).float().clamp(*_LOG_VARIANCE)


@dataclass(frozen=True)
class Outlook:
    """What the network makes of a batch.

    Attributes:
        output: (B, U, C) logits or (B, U, K) values.
        by_modality: the same from each branch alone.
        present: modality to (B, U) bool; False where its token stood in.
        latent: mean and log variance, (B, U, 3) each; None without a latent.
    """

    output: Tensor
    by_modality: Mapping[str, Tensor]
    present: Mapping[str, Tensor]
    latent: tuple[Tensor, Tensor] | None


class Emi(Method):
    """Pooled branches, a latent VAD of the voice, one shared head."""

    level = "utterance"
    needs = frozenset({"pooled", "frames"})
    not_standardised = frozenset({"text"})  # a sentence vector of length 1 has its own scale
    as_vectors = frozenset({"text"})
    extra_inputs = (TEACHER,)
    config_type = Config
    recipe: ClassVar[Mapping[str, object]] = {
        "optimizer": "adamw", "lr": 3e-4, "weight_decay": 1e-2, "batch_size": 64,
        "drop_last": True, "epochs": 40, "scheduler": "cosine", "warmup": 0.05, "clip_norm": 1.0,
        "modality_dropout": 0.15, "validation_rate": 0.0, "ema_decay": 0.999, "patience": 8,
    }  # fmt: skip

    #: Training steps without a column to correlate: too few labelled rows, or all alike.
    pearson_skipped: Tensor
    prior_means: Tensor

    def __init__(self, spec: Spec, config: Config) -> None:
        super().__init__(spec, config)
        self.target = spec.targets[0]
        names, hidden = spec.modalities, config.hidden
        self.readers = nn.ModuleDict(
            {
                m: Reader(
                    spec.frame_dims.get(m, spec.dims[m]), hidden, config.dropout,
                    m in spec.frame_dims,
                )
                for m in names
            }
        )  # fmt: skip
        # an average of predictions leaves absent modalities out: nothing would teach their tokens
        has_use = config.fusion != "late"
        self.missing = nn.ParameterDict(
            {m: nn.Parameter(torch.randn(hidden) * _TOKEN_SD, requires_grad=has_use) for m in names}
        )
        self.heads = nn.ModuleDict({m: nn.Linear(hidden, self.target.width) for m in names})
        uses_latent = config.vad_mode != "none" and config.fusion != "late"
        has_latent = uses_latent and "audio" in names
        self.latent = VadLatent(hidden) if has_latent else None
        self.fusion = build_fusion(config.fusion, len(names), hidden)
        if self.fusion is not None:
            joint = cast(int, self.fusion.width_out)
            if has_latent:
                self.expand = nn.Linear(3, config.vad_width)
                joint += config.vad_width
            self.head = nn.Sequential(
                nn.LayerNorm(joint),
                nn.Linear(joint, hidden),
                nn.GELU(),
                nn.Dropout(config.dropout),
                nn.Linear(hidden, self.target.width),
            )
        points = self._prior_points() if has_latent else None
        self.has_prior = points is not None
        self.register_buffer("prior_means", torch.tensor(points or []), persistent=False)
        self.register_buffer("pearson_skipped", torch.zeros((), dtype=torch.long))

    def _prior_points(self) -> Sequence[Sequence[float]] | None:
        """One point per target column, or None where no prior is asked for or none is known."""
        config, target = self.config, self.target
        if config.vad_mode not in {"prior", "both"} or target.kind != "values":
            return None
        points = prototypes_of(target.names, config.prior_means)
        if points is not None and (len(points) != target.width or target.lower < 0):
            raise UserError(
                f"emi: prior_means gives {len(points)} points for the {target.width} columns of "
                f"'{target.name}' with values from {target.lower:g}; it needs one point for each "
                "column and values of at least 0"
            )
        return points

    @classmethod
    def extra_in_use(cls, config: Config, modalities: Collection[str]) -> tuple[str, ...]:
        """The teacher, where there is a latent for it to anchor."""
        is_anchored = config.vad_mode in {"anchor", "both"} and config.fusion != "late"
        return cls.extra_inputs if is_anchored and "audio" in modalities else ()

    # forward ------------------------------------------------------------------------------

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        """(B, U, C) logits, or (B, U, K) values within the target's range."""
        return {self.target.name: self.look(batch).output}

    def look(self, batch: Batch) -> Outlook:
        """Everything that the losses need; labels are not touched."""
        branches, present = {}, {}
        for name, reader in self.readers.items():
            sequence = self._noisy(self._sequence(batch, name))
            branches[name] = reader(sequence, self.missing[name])
            present[name] = sequence.mask.any(-1)
        latent = None if self.latent is None else self.latent(branches["audio"].pooled)
        alone = {m: self._in_range(self.heads[m](b.pooled)) for m, b in branches.items()}
        if self.fusion is None:
            output = late_average(list(alone.values()), list(present.values()))
        else:
            joint = self.fusion(list(branches.values()))
            if latent is not None:
                joint = torch.cat([joint, F.gelu(self.expand(self._sample(*latent)))], -1)
            output = self._in_range(self.head(joint))
        return Outlook(output, alone, present, latent)

    def _sequence(self, batch: Batch, name: str) -> Frames:
        if name in self.spec.frame_dims:
            return cast(Mapping[str, Frames], batch.frames)[name]
        return Frames(batch.features[name].unsqueeze(-2), batch.present[name].unsqueeze(-1))

    def _noisy(self, sequence: Frames) -> Frames:
        if not self.training or self.config.feature_noise == 0:
            return sequence
        noise = torch.randn_like(sequence.values) * self.config.feature_noise
        return replace(sequence, values=sequence.values + noise)

    def _sample(self, mean: Tensor, log_variance: Tensor) -> Tensor:
        """A point of the latent in training, its mean otherwise: (B, U, 3)."""
        if not self.training:
            return mean
        return mean + (log_variance / 2).exp() * torch.randn_like(mean)

    def _in_range(self, raw: Tensor) -> Tensor:
        raw = raw.float()
        if self.target.kind != "values":
            return raw
        return self.target.lower + _span(self.target) * torch.sigmoid(raw)

    # losses -------------------------------------------------------------------------------

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Error, correlation, branches, anchor and prior: those that the target has."""
        seen = self.look(batch)
        config, name = self.config, self.target.name
        error, correlation = self._terms(seen.output, batch)
        found = {name: error}
        if self.target.kind == "values":
            found["pearson"] = config.pearson_weight * correlation
            if self.training and not self._can_correlate(batch):
                self.pearson_skipped += 1
        found["branches"] = config.aux_weight * self._branch_loss(seen, batch)
        if seen.latent is not None:
            mean, log_variance = seen.latent
            heard = batch.mask & seen.present["audio"]
            if config.vad_mode in {"anchor", "both"} and batch.extra and TEACHER in batch.extra:
                teacher = batch.extra[TEACHER].float()
                found["anchor"] = config.anchor_weight * anchor_loss(mean, teacher, heard)
            if self.has_prior:
                divergence = self._divergence(mean, log_variance, heard, batch)
                found["prior"] = config.kl_weight * divergence
        return found

    def update(self, batch: Batch, optimizer: Stepper) -> dict[str, Tensor]:
        """One step; the history also gets the share of steps that had nothing to correlate."""
        before = self.pearson_skipped.clone()
        losses = super().update(batch, optimizer)
        if self.target.kind != "values":
            return losses
        return losses | {"pearson_skipped": self.pearson_skipped - before}

    def _terms(self, output: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Error on the range [0, 1] (cross-entropy for classes), and 1 - mean correlation."""
        error = target_loss(self.target, output, batch)
        if self.target.kind != "values":
            return error, torch.zeros_like(error)
        span = _span(self.target)
        truth, known = self._truth(batch)
        correlation = correlation_loss(output.flatten(0, 1) / span, truth / span, known)
        return error / span**2, correlation

    def _branch_loss(self, seen: Outlook, batch: Batch) -> Tensor:
        """Mean over the modalities that some labelled utterance has."""
        losses, counts = [], []
        labelled = self._labelled(batch)
        for name, output in seen.by_modality.items():
            there = replace(batch, mask=batch.mask & seen.present[name])
            error, correlation = self._terms(output, there)
            losses.append(error + self.config.pearson_weight * correlation)
            counts.append((there.mask & labelled).any())
        return torch.stack(losses).sum() / torch.stack(counts).sum().clamp(min=1)

    def _divergence(
        self, mean: Tensor, log_variance: Tensor, heard: Tensor, batch: Batch
    ) -> Tensor:
        """KL to the prior, summed over V, A and D, mean over heard and fully labelled rows."""
        truth, known = self._truth(batch)
        rows = heard.flatten() & known.all(-1)
        centre = prototype_mean(truth.masked_fill(~known, 0.0), self.prior_means)
        divergence = gaussian_kl(
            mean.flatten(0, 1), log_variance.flatten(0, 1), centre, self.config.prior_sd
        )
        return mean_over(divergence.sum(-1), rows)

    def _truth(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Values and whether they are known, (B * U, K) each."""
        truth = batch.targets[self.target.name].float()
        known = batch.mask.unsqueeze(-1) & ~truth.isnan()
        return truth.flatten(0, 1), known.flatten(0, 1)

    def _can_correlate(self, batch: Batch) -> bool:
        truth, known = self._truth(batch)
        return bool(usable_columns(truth / _span(self.target), known).any())

    def _labelled(self, batch: Batch) -> Tensor:
        """(B, U) bool: utterances with any label."""
        truth = batch.targets[self.target.name]
        return truth >= 0 if self.target.kind == "category" else ~truth.isnan().all(-1)


def anchor_loss(mean: Tensor, teacher: Tensor, heard: Tensor) -> Tensor:
    """Smooth L1 (beta 0.5) between latent mean and teacher, over utterances that have both.

    Args:
        mean: (B, U, 3) in [-1, 1].
        teacher: (B, U, 3); NaN where there is none.
        heard: (B, U) bool.
    """
    rows = heard & ~teacher.isnan().any(-1)
    distance = F.smooth_l1_loss(mean, teacher.nan_to_num(), beta=0.5, reduction="none").mean(-1)
    return mean_over(distance.flatten(), rows.flatten())


def _span(target: Target) -> float:
    return target.upper - target.lower


METHOD = Emi
