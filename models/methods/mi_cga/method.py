"""Mi-CGA: cross-modal graph attention for conversations in which modalities are missing.

Paper: "Mi-CGA: Cross-modal Graph Attention Network for robust emotion recognition in the presence
of incomplete modalities", Neurocomputing 623:129342, 2025.
Reference code: none was found. What a summary of the paper leaves open (widths, heads, windows,
smoothing, optimiser) is our choice and an option. The protocol of missing modalities follows the
published description of GCNet (zeroQiaoba/GCNet), whose code carries no licence.

What we changed and why:

* Raw features of missing cells are zeroed as well as their encodings (``mask_stage="both"``).
  Zeroing the encodings alone, as the paper's figure has it, lets the recurrent text encoder carry
  the missing text of an utterance into its neighbours (``"latent"``).
* The target of reconstruction is the encoding of the complete input without gradient; with
  gradient the encoders could make it constant. It is used in training only.
* Masks are drawn among the modalities that an utterance really has, so data with gaps can be
  trained on; reconstruction is asked only where the truth is known. They come from a generator
  seeded by a step counter kept in a buffer, so that a resumed run draws the same ones.
* Absent cells of the data are missing cells: ``predict`` takes ``batch.present`` as it is.

Speakers: a vector for each index within the dialogue; ``speakers: corpus`` adds one for each
person of the training rows.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.batch import Batch
from models.errors import UserError
from models.layers.graph import window_mask
from models.layers.ragged import Ragged
from models.layers.recurrent import BiLstm
from models.layers.speakers import Speakers, SpeakerVectors, check_speakers
from models.method import Method, Spec, target_loss
from models.methods.mi_cga.attention import CrossModalAttention, GraphAttention
from models.methods.mi_cga.estimation import FeatureEstimation, smooth, symmetric_normalise
from models.methods.mi_cga.missing import (
    ErrorKind,
    cell_errors,
    dialogue_of,
    in_dialogues,
    masked_mean,
    sample_observed,
)
from models.options import Idle, refuse_idle

#: Dialogues of similar length that are attended over together; a matter of speed only.
GROUP_SIZE = 8


@dataclass(frozen=True)
class Config:
    """Hyperparameters and ablations of Mi-CGA.

    Attributes:
        missing_rate: share of (utterance, modality) cells hidden in training; with three
            modalities it saturates at 2/3, because one always stays.
        mask_seed: seed of the hidden cells, independent of the weights' seed.
        mask_stage: where missing cells are zeroed: raw ``input``, ``latent`` encodings, ``both``.
        width: width d of each modality's encoding; even.
        speaker_width: width of the speaker vector.
        speaker_scale: factor of the speaker vector.
        speakers: vectors by index within the ``dialogue``, or also by person of the ``corpus``.
        hidden: width of feature estimation and of the classifier.
        graph_heads: heads of graph attention.
        head_width: width of each.
        window_past: earlier utterances heard in the graph; -1 = all.
        window_future: later ones; -1 = all.
        smoothing: share of the incomplete input in the estimated features, 0 to 1.
        smooth_observed_only: leave the estimate of missing cells unmixed.
        dropout: rate after audio and video encoders, between graph layers, before the head.
        attention_dropout: rate on graph attention weights.
        feature_estimation: estimate features; False = go on with the incomplete ones.
        graph_attention: keep the graph attention branch.
        cross_attention: keep the cross-modal branch (it needs two modalities).
        cross_residual: add the query to each cross-modal answer and normalise.
        reconstruction: error at hidden cells; ``none`` = no such loss.
        reconstruction_weight: factor of that loss.
        reconstruct: which features are compared, ``coarse`` or ``smoothed`` ones.
        reconstruction_target: encodings (``latent``) or features (``raw``, through linear heads).
        reconstruction_mean: divide by hidden cells (``missing``) or by utterances (``valid``).
    """

    missing_rate: float = 0.3
    mask_seed: int = 0
    mask_stage: Literal["input", "latent", "both"] = "both"
    width: int = 100
    speaker_width: int = 100
    speaker_scale: float = 1.0
    speakers: Speakers = "dialogue"
    hidden: int = 200
    graph_heads: int = 4
    head_width: int = 50
    window_past: int = 5
    window_future: int = 5
    smoothing: float = 0.3
    smooth_observed_only: bool = False
    dropout: float = 0.5
    attention_dropout: float = 0.1
    feature_estimation: bool = True
    graph_attention: bool = True
    cross_attention: bool = True
    cross_residual: bool = False
    reconstruction: Literal["mse", "kl", "none"] = "mse"
    reconstruction_weight: float = 1.0
    reconstruct: Literal["coarse", "smoothed"] = "coarse"
    reconstruction_target: Literal["latent", "raw"] = "latent"
    reconstruction_mean: Literal["missing", "valid"] = "missing"

    def __post_init__(self) -> None:
        choices = {
            "mask_stage": ("input", "latent", "both"),
            "reconstruction": ("mse", "kl", "none"),
            "reconstruct": ("coarse", "smoothed"),
            "reconstruction_target": ("latent", "raw"),
            "reconstruction_mean": ("missing", "valid"),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise UserError(
                    f"mi_cga: {name} is '{getattr(self, name)}'; use one of {', '.join(allowed)}"
                )
        check_speakers("mi_cga", self.speakers)
        for name in ("missing_rate", "smoothing"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"mi_cga: {name} is {getattr(self, name)}; it lies in 0..1")
        if self.width % 2:
            raise UserError(f"mi_cga: width is {self.width}; it must be even")
        if not (self.graph_attention or self.cross_attention):
            raise UserError("mi_cga: keep graph_attention or cross_attention; both are off")
        refuse_idle("mi_cga", self, self._idle())

    def _idle(self) -> list[Idle]:
        estimate = ("smoothing", "smooth_observed_only")
        compare = ("reconstruct", "reconstruction_target", "reconstruction_mean")
        error = ("reconstruction", "reconstruction_weight", *compare)
        within = ("graph_heads", "head_width", "attention_dropout")
        has_graph = self.feature_estimation or self.graph_attention
        return [
            (self.missing_rate == 0, "missing_rate: 0", ("mask_seed", *error)),
            (not self.feature_estimation, "feature_estimation: false", (*estimate, *error)),
            (not self.graph_attention, "graph_attention: false", within),
            (not has_graph, "no use of the graph", ("window_past", "window_future")),
            (not self.cross_attention, "cross_attention: false", ("cross_residual",)),
            (
                self.reconstruction == "none",
                "reconstruction: none",
                ("reconstruction_weight", *compare),
            ),
            (self.reconstruction_weight == 0, "reconstruction_weight: 0", compare),
            (self.smoothing == 0, "smoothing: 0", ("smooth_observed_only", "reconstruct")),
        ]


class UtteranceEncoder(nn.Module):
    """One linear layer with ReLU on every utterance alone."""

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.project = nn.Linear(dim, width)

    def forward(self, x: Tensor, usable: Tensor, ragged: Ragged) -> Tensor:
        """(B, U, D_in) and what may be looked at (B, U) bool to (L, D) rows."""
        hidden = ~ragged.pack(usable).unsqueeze(1)
        return F.relu(self.project(ragged.pack(x).masked_fill_(hidden, 0.0)))

    def twice(
        self, x: Tensor, usable: Tensor, complete: Tensor, ragged: Ragged
    ) -> tuple[Tensor, Tensor]:
        """The same, and once more from ``complete`` without gradient."""
        with torch.no_grad():
            whole = self(x, complete, ragged)
        return self(x, usable, ragged), whole


class TextEncoder(nn.Module):
    """Bidirectional LSTM over the dialogue."""

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.lstm = BiLstm(dim, width)

    def forward(self, x: Tensor, usable: Tensor, ragged: Ragged) -> Tensor:
        """(B, U, D_in) and what may be looked at (B, U) bool to (L, D) rows."""
        return ragged.pack(self.lstm(x, ragged.mask.sum(1), usable))

    def twice(
        self, x: Tensor, usable: Tensor, complete: Tensor, ragged: Ragged
    ) -> tuple[Tensor, Tensor]:
        """The same, and once more from ``complete`` without gradient."""
        both = self.lstm.twice(x, ragged.mask.sum(1), usable, complete)
        return ragged.pack(both[0]), ragged.pack(both[1])


@dataclass(frozen=True)
class Stages:
    """What one pass leaves behind, as rows (L, ...) of the real utterances.

    Attributes:
        outputs: target name to (L, C).
        complete: (L, M, d) encodings of the complete input, without gradient.
        estimates: (L, M, d) estimated encodings that reconstruction looks at; None without them.
    """

    outputs: dict[str, Tensor]
    complete: Tensor
    estimates: Tensor | None


class MiCga(Method):
    """Estimate what is missing from the graph, then attend within and across modalities."""

    step: Tensor
    config_type = Config
    recipe: ClassVar[Mapping[str, object]] = {
        "optimizer": "adam",
        "lr": 1e-3,
        "weight_decay": 1e-5,
        "batch_size": 32,
        "epochs": 100,
        "patience": 20,
        "clip_norm": 5.0,
    }

    def __init__(self, spec: Spec, config: Config) -> None:
        super().__init__(spec, config)
        count, width = len(spec.modalities), config.width
        uses_cross = config.cross_attention and count > 1
        if not (uses_cross or config.graph_attention):
            raise UserError(
                "mi_cga: with one modality there is no cross-modal attention; "
                "set graph_attention to true"
            )
        self.encoders = nn.ModuleDict(
            {
                name: (TextEncoder if name == "text" else UtteranceEncoder)(dim, width)
                for name, dim in spec.dims.items()
            }
        )
        self.dropout = nn.Dropout(config.dropout)
        self.speaker = SpeakerVectors(spec, config.speaker_width, config.speakers)
        joined = config.speaker_width + count * width
        self.estimate: FeatureEstimation | None = None
        if config.feature_estimation:
            self.estimate = FeatureEstimation(joined, config.hidden, config.dropout)
        self.within: GraphAttention | None = None
        gathered = 0
        if config.graph_attention:
            self.within = GraphAttention(
                joined, config.graph_heads, config.head_width, config.attention_dropout
            )
            gathered += config.graph_heads * config.head_width
        self.across: CrossModalAttention | None = None
        if uses_cross:
            self.across = CrossModalAttention(count, width, config.cross_residual)
            gathered += count * (count - 1) * width
        self.read = nn.Sequential(
            nn.Linear(gathered, config.hidden), nn.ReLU(), nn.Dropout(config.dropout)
        )
        self.heads = nn.ModuleDict(
            {t.name: nn.Linear(config.hidden, t.width) for t in spec.targets}
        )
        self.to_raw = nn.ModuleDict()
        if self.reconstructs and config.reconstruction_target == "raw":
            self.to_raw = nn.ModuleDict({m: nn.Linear(width, d) for m, d in spec.dims.items()})
        self.missing_rate = config.missing_rate
        self.register_buffer("step", torch.zeros((), dtype=torch.long))

    @property
    def reconstructs(self) -> bool:
        """Whether there is a reconstruction loss."""
        return (
            self.config.feature_estimation
            and self.config.reconstruction != "none"
            and self.config.missing_rate > 0
        )

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        """(B, U, C) logits or (B, U, K) values; 0 on padding."""
        ragged = Ragged(batch.mask, GROUP_SIZE)
        stages = self.stages(batch, self.presence(batch, ragged), ragged)
        return {name: ragged.unpack(rows) for name, rows in stages.outputs.items()}

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The target's loss with cells hidden, and the error of what was estimated for them."""
        ragged = Ragged(batch.mask, GROUP_SIZE)
        present = self.presence(batch, ragged)
        observed = self.hide(present, dialogue_of(batch, ragged)) if self.training else present
        stages = self.stages(batch, observed, ragged)
        losses = {
            target.name: target_loss(target, ragged.unpack(stages.outputs[target.name]), batch)
            for target in self.spec.targets
        }
        if self.reconstructs:
            error = self.reconstruction(batch, stages, present & ~observed, ragged)
            losses["reconstruction"] = self.config.reconstruction_weight * error
            is_mean = self.config.reconstruction_mean == "missing"
            self.reconstructed = (present & ~observed).sum() if is_mean else batch.mask.sum()
        return losses

    def loss_units(self, batch: Batch) -> dict[str, Tensor]:
        """Labelled cells, and what the reconstruction error was divided by."""
        units = super().loss_units(batch)
        return units | ({"reconstruction": self.reconstructed} if self.reconstructs else {})

    def presence(self, batch: Batch, ragged: Ragged) -> Tensor:
        """(L, M) bool."""
        return torch.stack([ragged.pack(batch.present[m]) for m in self.spec.modalities], 1)

    def hide(self, present: Tensor, dialogues: Tensor) -> Tensor:
        """(L, M) bool: the cells observed in this training step.

        Args:
            present: (L, M) bool; what there is.
            dialogues: (L,) index of the dialogue of each.
        """
        seed = np.random.SeedSequence([self.config.mask_seed, int(self.step)])
        generator = torch.Generator().manual_seed(int(seed.generate_state(1, np.uint32)[0]))
        self.step += 1
        by_dialogue = self.hide_unit == "dialogue"
        there = in_dialogues(present, dialogues) if by_dialogue else present
        rate: float | Tensor = self.config.missing_rate
        if self.hide_rate == "random":
            rate = rate * torch.rand(int(dialogues.max()) + 1, 1, generator=generator)
            rate = rate.to(present.device) if by_dialogue else rate.to(present.device)[dialogues]
        observed = sample_observed(there, rate, generator)
        return observed[dialogues] & present if by_dialogue else observed

    def stages(self, batch: Batch, observed: Tensor, ragged: Ragged) -> Stages:
        """The whole network.

        Args:
            batch: features; the ones of absent cells are not looked at.
            observed: (L, M) bool; cells that the network may use.
            ragged: the real utterances.
        """
        config = self.config
        latents, complete = self.encode(batch, observed, ragged)
        incomplete = self.with_speaker(batch, self.mask_latents(latents, observed), ragged)
        windows = [
            window_mask(group.mask, config.window_past, config.window_future)
            for group in ragged.groups
        ]
        coarse, full = None, incomplete  # (L, D)
        if self.estimate is not None:
            coarse = self.estimate(incomplete, [symmetric_normalise(w) for w in windows], ragged)
            full = smooth(coarse, incomplete, config.smoothing)
            if config.smooth_observed_only:
                full = torch.where(self.is_missing(observed), coarse, full)
        gathered = []
        if self.within is not None:
            gathered.append(self.within(full, windows, ragged))
        if self.across is not None:
            gathered.append(self.across(self.blocks(full), ragged))
        read = self.read(torch.cat(gathered, -1))
        compared = coarse if config.reconstruct == "coarse" else full
        return Stages(
            outputs={name: head(read) for name, head in self.heads.items()},
            complete=complete,
            estimates=None if coarse is None or compared is None else self.blocks(compared),
        )

    def encode(self, batch: Batch, observed: Tensor, ragged: Ragged) -> tuple[list[Tensor], Tensor]:
        """Encodings (L, d) of each modality, and (L, M, d) of the complete input for targets."""
        latents, complete = [], []
        for name, seen in zip(self.spec.modalities, observed.unbind(1), strict=True):
            features, present = batch.features[name], batch.present[name]
            encoder = cast("UtteranceEncoder | TextEncoder", self.encoders[name])
            if not self.hides_input(name):
                latent = whole = encoder(features, present, ragged)
            elif self.training and self.reconstructs:
                usable = present & ragged.unpack(seen)
                latent, whole = encoder.twice(features, usable, present, ragged)
            else:  # no target is needed
                latent = whole = encoder(features, present & ragged.unpack(seen), ragged)
            latents.append(latent)
            complete.append(whole.detach())
        return latents, torch.stack(complete, 1)

    def hides_input(self, name: str) -> bool:
        """Whether raw features are zeroed at missing cells.

        With ``both``, an encoder that sees one utterance alone needs it not: its encoding is
        zeroed anyway and reaches nobody else.
        """
        stage = self.config.mask_stage
        return stage == "input" or (stage == "both" and name == "text")

    def mask_latents(self, latents: list[Tensor], observed: Tensor) -> Tensor:
        """(L, M, d): dropout on all but text, then 0 at missing cells if latents are masked."""
        dropped = [
            latent if name == "text" else self.dropout(latent)
            for name, latent in zip(self.spec.modalities, latents, strict=True)
        ]
        joined = torch.stack(dropped, 1)
        if self.config.mask_stage == "input":
            return joined
        return joined * observed.unsqueeze(-1)

    def with_speaker(self, batch: Batch, latents: Tensor, ragged: Ragged) -> Tensor:
        """(L, M, d) to (L, D): speaker vector in front of the modality blocks."""
        speaker = self.config.speaker_scale * ragged.pack(self.speaker(batch))
        return torch.cat([speaker, latents.flatten(1)], -1)

    def blocks(self, joined: Tensor) -> Tensor:
        """(L, D) to the modality blocks (L, M, d), without the speaker."""
        return joined[:, self.config.speaker_width :].unflatten(1, (-1, self.config.width))

    def is_missing(self, observed: Tensor) -> Tensor:
        """(L, M) observed cells to (L, D) missing dimensions; the speaker is always there."""
        cells = (~observed).repeat_interleave(self.config.width, 1)
        return F.pad(cells, (self.config.speaker_width, 0), value=False)

    def reconstruction(
        self, batch: Batch, stages: Stages, hidden: Tensor, ragged: Ragged
    ) -> Tensor:
        """Mean error of the estimates at ``hidden`` (L, M) cells; 0 if there are none."""
        assert stages.estimates is not None
        kind = cast(ErrorKind, self.config.reconstruction)
        if self.to_raw:
            errors = [
                cell_errors(
                    kind,
                    self.to_raw[name](stages.estimates[:, place]),
                    ragged.pack(batch.features[name]),
                )
                for place, name in enumerate(self.spec.modalities)
            ]
            error = torch.stack(errors, 1)
        else:
            error = cell_errors(kind, stages.estimates, stages.complete)
        return masked_mean(error, hidden, self.config.reconstruction_mean)


METHOD = MiCga
