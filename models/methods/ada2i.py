"""Ada2I: adaptive weighting of features and modalities, gradients modulated by disparity.

Paper: Nguyen et al., "Ada2I: enhancing modality balance for multimodal conversational emotion
recognition", ACM MM 2024.
Reference code: leson502/ADA2I, commit 24b9956, read; nothing copied.
Licence of the reference: none stated.
What we changed and why:
    - encoders and pooled cores see only real, present utterances; the code attends to padding and
      averages over it;
    - unit norm across classes needs two of them: with a single output it would leave the signs of
      the weights alone, so that output's vector has the length sqrt(h) instead, as the code's
      vectors have together; ``amw_norm: class`` gives every class vector unit norm, which bounds
      the logits by the number of modalities and costs accuracy (its ``amw_scale`` lifts the bound);
    - the alignment loss pulls towards the attention, as the paper means; in the code that variable
      holds the layer's output (``afw_target: output``);
    - scores for the disparity ratio are exp(-loss), which is the probability of the true class for
      classes and extends the modulation to numbers and label sets;
    - biases and norms are not decayed; the code decays all, by 1e-8 (``decay_vectors: true``);
    - features are standardised on the training split; the code takes them as they are;
    - a modality absent from a dialogue gates nobody (its pooled core is the identity), and an
      absent modality has no vote;
    - ``modulates: update`` scales the optimiser's step, which a factor on Adam's gradient hardly
      changes; noise stays on the gradient.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.backbone import joint, visible, votes
from models.batch import Batch
from models.errors import UserError
from models.layers.balance import (
    add_noise,
    counted_generator,
    damping,
    modality_scores,
    ratio_to_weakest,
    utterance_loss,
)
from models.layers.recurrent import BiLstm
from models.layers.sequence import ContextEncoder
from models.method import Data, Method, Spec, Stepper, target_loss
from models.options import refuse_idle

CHOICES = {
    "encoder": ("transformer", "lstm"),
    "afw_target": ("attention", "output"),
    "amw_norm": ("class", "official"),
    "modulates": ("gradient", "update"),
}


@dataclass(frozen=True)
class Config:
    """Options of Ada2I; defaults are IEMOCAP's. MELD: hidden 200, rank 6, alpha 0.42, beta 0.55.

    Attributes:
        hidden: width h after the encoders.
        rank: R of the cores.
        encoder: ``transformer`` at raw width, or a two-layer ``lstm``.
        feedforward: inner width of the transformer's feed-forward blocks.
        dropout: everywhere.
        afw_layers: layers of feature weighting; 0 leaves it out.
        beta: share of a layer's input that is kept beside the attention.
        afw_target: what the alignment loss pulls towards.
        feature_weight: factor of the alignment loss; 0 leaves it out.
        has_amw: cosine classifier; False is a plain linear one on all modalities.
        amw_norm: ``official``: the weights of each feature have unit norm across classes, as in the
            code; ``class``: those of each class across features, which makes votes cosines.
        amw_scale: factor of the votes; cosines alone never exceed the number of modalities.
        modal_weight: factor of the modalities' own losses.
        has_modulation: slow the encoders of modalities that are ahead.
        modulates: what is scaled: the ``gradient``, as published, of which Adam divides nearly all
            out again, or what the optimiser makes of it (``update``).
        alpha: strength of modulation.
        has_noise: add noise to the scaled gradients.
        start_epoch: first epoch of modulation.
        end_epoch: last epoch of modulation; 0 = no end.
    """

    hidden: int = 300
    rank: int = 11
    encoder: str = "transformer"
    feedforward: int = 2048
    dropout: float = 0.5
    afw_layers: int = 2
    beta: float = 0.012
    afw_target: str = "attention"
    feature_weight: float = 1.0
    has_amw: bool = True
    amw_norm: str = "official"
    amw_scale: float = 1.0
    modal_weight: float = 0.0
    has_modulation: bool = True
    modulates: str = "gradient"
    alpha: float = 0.037
    has_noise: bool = True
    start_epoch: int = 4
    end_epoch: int = 0

    def __post_init__(self) -> None:
        for option, allowed in CHOICES.items():
            if getattr(self, option) not in allowed:
                raise UserError(
                    f"ada2i: {option} is '{getattr(self, option)}', expected {' or '.join(allowed)}"
                )
        weighting = ("rank", "beta", "afw_target", "feature_weight")
        modulation = ("modulates", "alpha", "has_noise", "start_epoch", "end_epoch")
        rules = [
            (self.afw_layers == 0, "afw_layers: 0", weighting),
            (self.feature_weight == 0, "feature_weight: 0", ("afw_target",)),
            (self.encoder == "lstm", "encoder: lstm", ("feedforward",)),
            (not self.has_amw, "has_amw: false", ("amw_norm", "amw_scale")),
            (not self.has_modulation, "has_modulation: false", modulation),
        ]
        refuse_idle("ada2i", self, rules)


class LstmEncoder(nn.Module):
    """Two-layer bidirectional LSTM with the interface of ``ContextEncoder``."""

    def __init__(self, width_in: int, width_out: int, dropout: float) -> None:
        super().__init__()
        self.lstm = BiLstm(width_in, width_out, 2, dropout)

    def forward(self, x: Tensor, seen: Tensor, lengths: Tensor) -> Tensor:
        """(B, U, D) -> (B, U, H)."""
        return self.lstm(x, lengths)


class Core(nn.Module):
    """A modality's part in one layer of feature weighting.

    The R x R core of an utterance is (q1 outer q2) times (k1 outer k2) element by element, which is
    (q1 k1) outer (q2 k2): rank one, so products with it stay vectors.

    Args:
        width: h.
        rank: R.
        has_guide: with the map whose output is aligned with the attention.
    """

    def __init__(self, width: int, rank: int, has_guide: bool) -> None:
        super().__init__()
        self.rank = rank
        self.factors = nn.Linear(width, 4 * rank)  # q1, q2, k1, k2
        self.attend = nn.Linear(rank * rank, width)
        self.guide = nn.Linear(width, width) if has_guide else None

    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The two vectors whose outer product is the core: (B, U, h) -> two (B, U, R)."""
        q1, q2, k1, k2 = self.factors(x).chunk(4, -1)
        return q1 * k1, q2 * k2

    def attention(self, left: Tensor, right: Tensor, gate: Tensor) -> Tensor:
        """Linear map of core times gate: (B, U, R), (B, U, R), (B, R, R) -> (B, U, h)."""
        product = left.unsqueeze(-1) * (right @ gate).unsqueeze(-2)
        return self.attend(product.flatten(-2))


def pooled(left: Tensor, right: Tensor, seen: Tensor) -> Tensor:
    """Mean core of a dialogue.

    Args:
        left: (B, U, R).
        right: (B, U, R).
        seen: (B, U) bool; utterances to average over.

    Returns:
        (B, R, R); the identity for dialogues without any.
    """
    weight = seen.to(left.dtype).unsqueeze(-1)
    mean = (left * weight).mT @ right / weight.sum(1, keepdim=True).clamp(min=1)
    identity = torch.eye(left.shape[-1], device=left.device, dtype=left.dtype)
    return torch.where(seen.any(1)[:, None, None], mean, identity)


class FeatureWeighting(nn.Module):
    """One layer: each modality's features, weighted by its core and the others' pooled cores."""

    def __init__(self, names: Sequence[str], config: Config) -> None:
        super().__init__()
        has_guide = config.feature_weight > 0
        self.cores = nn.ModuleDict(
            {name: Core(config.hidden, config.rank, has_guide) for name in names}
        )
        self.beta = config.beta
        self.is_output_target = config.afw_target == "output"
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self, features: Mapping[str, Tensor], seen: Mapping[str, Tensor]
    ) -> tuple[dict[str, Tensor], Tensor | None]:
        """Weigh.

        Args:
            features: (B, U, h) by modality.
            seen: (B, U) bool by modality; where it exists.

        Returns:
            (B, U, h) by modality, and the () alignment loss in training.
        """
        cores = {name: cast(Core, self.cores[name]) for name in features}
        vectors = {name: cores[name].split(x) for name, x in features.items()}
        mean = {name: pooled(*vectors[name], seen[name]) for name in features}
        weighted, gaps = {}, []
        for name, x in features.items():
            others = [mean[other] for other in features if other != name]
            identity = torch.eye(mean[name].shape[-1], device=x.device, dtype=x.dtype)
            gate = reduce(torch.matmul, others, identity.expand_as(mean[name]))
            attention = cores[name].attention(*vectors[name], gate)
            output = attention * x + self.beta * x
            weighted[name] = self.dropout(output)
            guide = cores[name].guide
            if self.training and guide is not None:
                target = output if self.is_output_target else attention
                gaps.append((guide(x)[seen[name]] - target[seen[name]]).abs())
        return weighted, torch.cat(gaps).mean() if gaps else None


class ModalityWeighting(nn.Module):
    """Classifier over all modalities whose blocks can be read one by one.

    Args:
        names: modalities in order.
        width: h.
        classes: C.
        is_official: unit norm across classes, as the code; otherwise of each class vector.
        scale: factor of the votes.
    """

    def __init__(
        self, names: Sequence[str], width: int, classes: int, is_official: bool, scale: float
    ) -> None:
        super().__init__()
        self.names = list(names)
        self.linear = nn.Linear(width * len(names), classes)
        self.is_official = is_official
        self.scale = scale

    def forward(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Unit features on normed weights plus a share of the bias: (B, U, h) to (B, U, C) each."""
        votes = {}
        for name, weight, bias in self._blocks():
            z = F.normalize(features[name], dim=-1, eps=1e-12)
            votes[name] = self.scale * F.linear(z, self._normed(weight)) + bias
        return votes

    def _normed(self, weight: Tensor) -> Tensor:
        """(C, h) weights of a modality, normed."""
        if not self.is_official:
            return F.normalize(weight, dim=1, eps=1e-12)
        if len(weight) == 1:
            return F.normalize(weight, dim=1, eps=1e-12) * weight.shape[1] ** 0.5
        return F.normalize(weight, dim=0, eps=1e-12)

    def plain(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The same without norms; the sum is the plain linear layer."""
        return {name: F.linear(features[name], w, b) for name, w, b in self._blocks()}

    def _blocks(self) -> list[tuple[str, Tensor, Tensor]]:
        """Modality, (C, h) weights, (C,) share of the bias."""
        blocks = self.linear.weight.chunk(len(self.names), 1)
        share = self.linear.bias / len(self.names)
        return [(name, block, share) for name, block in zip(self.names, blocks, strict=True)]


class Ada2I(Method):
    """Encoders, feature weighting, modality weighting; training modulated by disparity."""

    config_type = Config
    recipe: ClassVar[Mapping[str, object]] = {
        "optimizer": "adam",
        "lr": 1.7e-4,
        "weight_decay": 1e-8,
        "clip_norm": 2.0,
        "batch_size": 10,
        "epochs": 50,
        "patience": 20,
        "scheduler": "plateau",
        "plateau_on": "loss",
        "plateau_factor": 0.1,
        "plateau_patience": 10,
    }

    def __init__(self, spec: Spec, config: Config) -> None:
        super().__init__(spec, config)
        self.target = spec.targets[0]
        self.names = spec.modalities
        self.encoders = nn.ModuleDict({n: self._encoder(spec.dims[n]) for n in self.names})
        self.weightings = nn.ModuleList(
            FeatureWeighting(self.names, config) for _ in range(config.afw_layers)
        )
        self.classifier = ModalityWeighting(
            self.names,
            config.hidden,
            self.target.width,
            config.amw_norm == "official",
            config.amw_scale,
        )
        self.register_buffer("epoch", torch.zeros((), dtype=torch.long))
        self.register_buffer("seed", torch.randint(2**31, ()))
        self.register_buffer("draws", torch.zeros((), dtype=torch.long))
        self.scores = torch.ones(len(self.names))

    def _encoder(self, width: int) -> nn.Module:
        if self.config.encoder == "lstm":
            return LstmEncoder(width, self.config.hidden, self.config.dropout)
        config = self.config
        return ContextEncoder(
            width, config.hidden, 2, config.dropout, feedforward=config.feedforward
        )

    def encode(self, batch: Batch) -> tuple[dict[str, Tensor], list[Tensor]]:
        """(B, U, h) by modality after feature weighting, and the layers' alignment losses."""
        features = {}
        for name in self.names:
            x = batch.features[name].masked_fill(~batch.present[name].unsqueeze(-1), 0.0)
            seen, encoder = visible(batch, name), self.encoders[name]
            if isinstance(encoder, LstmEncoder):
                features[name] = encoder(x, seen, batch.lengths)
            else:
                features[name] = encoder(x, seen)
        exists = {name: batch.mask & batch.present[name] for name in self.names}
        gaps = []
        for layer in self.weightings:
            features, gap = layer(features, exists)
            if gap is not None:
                gaps.append(gap)
        return features, gaps

    def classify(self, features: Mapping[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """Votes of each modality, (B, U, C); absent ones have none."""
        head = self.classifier if self.config.has_amw else self.classifier.plain
        return {
            name: vote * votes(batch, name).to(vote.dtype).unsqueeze(-1)
            for name, vote in head(features).items()
        }

    def unimodal(self, batch: Batch) -> dict[str, Tensor]:
        """What each modality votes for, (B, U, C) each; their sum is the prediction."""
        return self.classify(self.encode(batch)[0], batch)

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        """The sum of the votes."""
        return {self.target.name: joint(self.unimodal(batch))}

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The task's loss, the alignment loss, and the modalities' own losses if wanted."""
        features, gaps = self.encode(batch)
        output = joint(self.classify(features, batch))
        losses = {self.target.name: target_loss(self.target, output, batch)}
        if not self.training:
            return losses
        if gaps:
            losses["feature"] = self.config.feature_weight * torch.stack(gaps).sum()
        own = self.classifier.plain(features)
        if self.config.modal_weight > 0:
            losses["modal"] = self.config.modal_weight * self._own_losses(own, batch)
        self.scores = modality_scores(self.target, own, batch)
        return losses

    def _own_losses(self, own: Mapping[str, Tensor], batch: Batch) -> Tensor:
        """Mean over modalities of each one's loss where it is present."""
        each = []
        for name, output in own.items():
            loss, is_known = utterance_loss(self.target, output, batch)
            seen = is_known & batch.present[name]
            each.append((loss * seen).sum() / seen.sum().clamp(min=1))
        return torch.stack(each).mean()

    def on_epoch(self, epoch: int, train: Data) -> Sequence[int] | None:
        """Note the epoch, on which modulation depends."""
        cast(Tensor, self.epoch).fill_(epoch)
        return None

    @property
    def is_modulating(self) -> bool:
        """Whether the epoch is one in which encoders are slowed."""
        config, now = self.config, int(cast(Tensor, self.epoch))
        is_over = bool(config.end_epoch) and now > config.end_epoch
        is_on = config.has_modulation and len(self.names) > 1
        return is_on and now >= config.start_epoch and not is_over

    @torch.no_grad()
    def after_clip(self, batch: Batch, epoch: int) -> None:
        """Slow the encoders of modalities that are ahead, and add noise to all of them."""
        config = self.config
        if not self.is_modulating:
            return
        draws = cast(Tensor, self.draws)
        draws.add_(1)
        generator = counted_generator(cast(Tensor, self.seed), draws, self.scores.device)
        for name, factor in zip(self.names, self.factors, strict=True):
            for weight in self.encoder_parameters(name):
                if weight.grad is None:
                    continue
                if config.modulates == "gradient":
                    weight.grad.mul_(factor)
                if config.has_noise and weight.numel() > 1:
                    add_noise(weight.grad, weight.grad.std(), generator)

    @property
    def factors(self) -> Tensor:
        """(M,) factor of each encoder's gradients at the last step."""
        return damping(ratio_to_weakest(self.scores), self.config.alpha)

    def encoder_parameters(self, modality: str) -> list[nn.Parameter]:
        """Parameters of a modality's encoder."""
        return list(self.encoders[modality].parameters())

    def slowed(self) -> Mapping[nn.Parameter, Tensor]:
        """Encoders' parameters, by the factor of their modality."""
        if not self.is_modulating or self.config.modulates != "update":
            return {}
        return {
            weight: factor
            for name, factor in zip(self.names, self.factors, strict=True)
            for weight in self.encoder_parameters(name)
        }

    def update(self, batch: Batch, optimizer: Stepper) -> dict[str, Tensor]:
        """One step; scores, ratios and factors go to the history."""
        losses = super().update(batch, optimizer)
        ratios = ratio_to_weakest(self.scores)
        shown = {}
        for i, name in enumerate(self.names):
            shown[f"score_{name}"] = self.scores[i].nan_to_num(0.0)
            shown[f"ratio_{name}"] = ratios[i]
            shown[f"factor_{name}"] = self.factors[i]
        return losses | shown


METHOD = Ada2I
