"""Huo and Ge: emotion and valence, arousal, dominance of a face, tied by consistency.

Paper: Huo and Ge, "Multi-Task Emotion Recognition Based on Dimensional Model and Category Label",
IEEE Access 2024, doi 10.1109/ACCESS.2024.3404990.
Reference code: YeeHoran's repository, read with its history; nothing copied.
Licence of the reference: none stated.
What we changed and why:
    - the consistency cost has a gradient: the paper's 0/1 steps are smoothed (section 3.3 of the
      specification), while the code adds them as a constant, so that with and without are the same;
    - it is averaged over the batch, not summed, so ``consistency_weight`` does not depend on size;
    - the squared error is taken image by image; the code's (B, 1) against (B,) compares all pairs;
    - pooling covers the whole map (``pool: code_4x4``: the category network sees its upper left);
    - orthogonality looks at shift 0 also where the stride is 2 (``orth_padding: code``);
    - one checkpoint serves all outputs, chosen by the validation score; the code keeps the best on
      the test set for each output;
    - the rate falls to a tenth every 10,000 steps, as the paper says; the code's stays 80 epochs
      and then falls to nine tenths every five (``params/faces.yaml`` has both);
    - biases and norms are not decayed; the code decays everything (``decay_vectors: true``);
    - ``graded`` learns the constraints, which the paper leaves to future work.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.batch import Batch, Kind, Target
from models.errors import UserError
from models.method import Data, Method, Need, Spec
from models.methods.huo_ge_vad.consistency import (
    GradedConstraints,
    Relax,
    SignConstraints,
    consistency_loss,
    mean_squared_error,
)
from models.methods.huo_ge_vad.orthogonal import Padding, orthogonality
from models.methods.huo_ge_vad.resnet import SmallResNet
from models.metrics.consistency import COST_TABLES, DIMENSIONS, CostTable
from models.options import refuse_idle

CATEGORY, VAD = "category", "vad"
LETTERS = dict(zip("vad", DIMENSIONS, strict=True))
ANNEAL_FROM, ANNEAL_TO = 0.3, 0.05

CHOICES = {
    "dims": ("vad", "v", "a", "d"),
    "table": tuple(COST_TABLES),
    "relax": ("sigmoid", "softplus"),
    "orth_padding": ("right", "code"),
    "pool": ("adaptive", "code_4x4"),
    "normalise_input": ("none", "image"),
}


@dataclass(frozen=True)
class Config:
    """Options of Huo and Ge's network.

    Attributes:
        dims: which dimensions are predicted beside the category: the paper's VAD&C, V&C, A&C, D&C.
            Scores count these alone.
        shared_backbone: one trunk with several heads; False (as in the code) is a network each.
        width: channels of the first stage; 64 is ResNet-18.
        dropout: before the category head.
        consistency_weight: factor of the consistency loss; 0 trains without.
        table: which of the paper's three cost tables.
        relax: ``sigmoid`` smooths the 0/1 step; ``softplus`` grows with the violation.
        temperature: width of the smooth step on the [-1, 1] scale, in (0, 1).
        anneal: epochs over which the temperature falls from 0.3 to 0.05 instead; 0 keeps it.
        zero_tol: values up to here count as 0 in the consistency loss; not with ``graded``.
        detach_class: the consistency loss does not teach the category network.
        detach_vad: it does not teach the regression networks. Both together are the code's cost
            without effect.
        graded: learn the constraints from images with both labels; see ``GradedConstraints``.
        graded_width: distance that costs nothing, in typical distances of the class.
        orth_weight: factor of the orthogonal regularisation; 0 leaves it out.
        orth_padding: ``code`` misses shift 0 where the stride is 2.
        pool: ``code_4x4`` averages the upper left 4 x 4 cells for the category.
        crops: most crops of an utterance, from equal parts of its time, whose predictions are
            averaged in the stage ``evaluate``; 1: its best crop alone, as in training's validation.
        ten_crop: at evaluation average corners and centre, plain and mirrored; False looks at the
            centre once.
        image_px: side that pictures are scaled to.
        crop_px: side of the crops that the networks see.
        normalise_input: ``none`` leaves [0, 1] as in the code; ``image`` gives each picture mean 0
            and standard deviation 1.
        gradient_clamp: limit of every element of the gradient; 0 = none.
    """

    dims: str = "vad"
    shared_backbone: bool = False
    width: int = 64
    dropout: float = 0.5
    consistency_weight: float = 1.0
    table: str = "equations"
    relax: str = "sigmoid"
    temperature: float = 0.1
    anneal: int = 0
    zero_tol: float = 0.0
    detach_class: bool = False
    detach_vad: bool = False
    graded: bool = False
    graded_width: float = 1.0
    orth_weight: float = 0.5
    orth_padding: str = "right"
    pool: str = "adaptive"
    crops: int = 4
    ten_crop: bool = True
    image_px: int = 48
    crop_px: int = 44
    normalise_input: str = "none"
    gradient_clamp: float = 0.1


def _check(config: Config) -> None:
    """Refuse what no network can be built from."""
    for option, allowed in CHOICES.items():
        if getattr(config, option) not in allowed:
            raise UserError(
                f"huo_ge_vad: {option} is '{getattr(config, option)}', "
                f"expected {' or '.join(allowed)}"
            )
    limits = {
        "temperature": 0 < config.temperature < 1,
        "width": config.width >= 1,
        "crops": config.crops >= 1,
        "crop_px": 8 <= config.crop_px <= config.image_px,
        "dropout": 0 <= config.dropout < 1,
    }
    for option in ("consistency_weight", "anneal", "zero_tol", "graded_width", "orth_weight",
                   "gradient_clamp"):  # fmt: skip
        limits[option] = getattr(config, option) >= 0
    for option, is_fine in limits.items():
        if not is_fine:
            raise UserError(
                f"huo_ge_vad: {option} is {getattr(config, option)}; temperature lies between 0 "
                "and 1, crop_px between 8 and image_px, dropout in [0, 1), width and crops are 1 "
                "or more and weights are not negative"
            )
    constraints = (
        "table", "relax", "temperature", "anneal", "zero_tol", "detach_class", "detach_vad",
        "graded", "graded_width",
    )  # fmt: skip
    rules = [
        (config.consistency_weight == 0, "consistency_weight: 0", constraints),
        (config.graded, "graded: true", ("zero_tol",)),
        (not config.graded, "graded: false", ("graded_width",)),
        (config.anneal > 0, f"anneal: {config.anneal}", ("temperature",)),
        (config.orth_weight == 0, "orth_weight: 0", ("orth_padding",)),
    ]
    refuse_idle("huo_ge_vad", config, rules)


def _wanted(config: Config) -> list[str]:
    return [LETTERS[letter] for letter in config.dims]


class Head(nn.Module):
    """Average the map over its cells, then one linear layer."""

    def __init__(
        self, width_in: int, width_out: int, dropout: float = 0.0, pools_corner: bool = False
    ) -> None:
        super().__init__()
        self.pools_corner = pools_corner
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(width_in, width_out)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) -> (N, width_out)."""
        cells = x[..., :4, :4] if self.pools_corner else x
        return self.linear(self.dropout(cells.mean((-2, -1))))


class HuoGeVad(Method):
    """A category network and one regression network per dimension, trained together.

    A corpus without valence, arousal and dominance trains the category network alone, one without
    categories the regression networks; either way nothing is left to be consistent. Of a corpus
    that lacks one of the dimensions asked for, the others are used.
    """

    level = "image"
    kinds: ClassVar[frozenset[Kind]] = frozenset({"category", "values"})
    needs: ClassVar[frozenset[Need]] = frozenset({"images"})
    can_use: ClassVar[frozenset[str]] = frozenset({"video"})
    is_joint = True
    config_type = Config
    recipe: ClassVar[Mapping[str, object]] = {
        "optimizer": "sgd",
        "lr": 0.01,
        "weight_decay": 5e-4,
        "batch_size": 16,
        "epochs": 120,
        "patience": 20,
        "clip_norm": 0.0,
        "scheduler": "step",  # a tenth every 10,000 steps
    }
    temperature: Tensor  # (), of the relaxed costs

    @classmethod
    def columns(cls, target: Target, config: Config) -> tuple[str, ...]:
        """Of ``vad`` the dimensions in ``dims``; all where it has none of these."""
        wanted = _wanted(config) if target.name == VAD else target.names
        return tuple(name for name in target.names if name in wanted) or target.names

    def __init__(self, spec: Spec, config: Config) -> None:
        super().__init__(spec, config)
        _check(config)
        self.shots = config.crops
        known: dict[str, Target] = {t.name: t for t in spec.targets if t.name in (CATEGORY, VAD)}
        if len(known) < len(spec.targets):
            odd = next(t.name for t in spec.targets if t.name not in known)
            raise UserError(
                f"huo_ge_vad predicts category and vad, not {odd}; "
                "name targets: [category, vad] in its entry of params.yaml"
            )
        self.category, self.vad = known.get(CATEGORY), known.get(VAD)
        self.active = self.vad.names if self.vad else ()
        if not set(self.active) <= set(_wanted(config)):
            raise UserError(
                f"huo_ge_vad: dims is '{config.dims}' but the corpus has labels only for "
                f"{', '.join(self.active)}; choose dims among these"
            )
        outputs = [CATEGORY] * bool(self.category) + list(self.active)
        trunks = ["shared"] if config.shared_backbone else outputs
        self.trunks = nn.ModuleDict({name: SmallResNet(config.width) for name in trunks})
        width = 8 * config.width
        self.heads = nn.ModuleDict({name: Head(width, 1) for name in self.active})
        if self.category:
            self.heads[CATEGORY] = Head(
                width, self.category.width, config.dropout, config.pool == "code_4x4"
            )
        self.constraints = self._constraints()
        self.register_buffer("temperature", torch.tensor(config.temperature))

    def _constraints(self) -> SignConstraints | GradedConstraints | None:
        config: Config = self.config
        if not (self.category and self.active and config.consistency_weight > 0):
            return None
        table, relax = cast(CostTable, config.table), cast(Relax, config.relax)
        names = self.category.names
        if config.graded:
            return GradedConstraints(names, self.active, table, relax, config.graded_width)
        return SignConstraints(names, self.active, table, relax, config.zero_tol)

    # --- pictures ------------------------------------------------------------------------------

    def view(self, image: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
        """The picture scaled to a square of ``image_px``, in [0, 1].

        Training: a random crop of ``crop_px``, mirrored half of the time. Evaluation: all of it, to
        be cropped ten times, or the crop in its centre.
        """
        config: Config = self.config
        pixels = _square(image, config.image_px)
        slack, size = config.image_px - config.crop_px, config.crop_px
        if rng is None and config.ten_crop:
            return pixels
        top, left = (slack // 2,) * 2 if rng is None else rng.integers(0, slack + 1, 2)
        crop = pixels[:, top : top + size, left : left + size]
        if rng is not None and rng.random() < 0.5:
            crop = crop[:, :, ::-1]
        return np.ascontiguousarray(crop)

    # --- the contract --------------------------------------------------------------------------

    def on_epoch(self, epoch: int, train: Data) -> None:
        """Lower the temperature."""
        if self.config.anneal > 0:
            share = min(1.0, (epoch - 1) / max(1, self.config.anneal - 1))
            self.temperature.fill_(ANNEAL_FROM + share * (ANNEAL_TO - ANNEAL_FROM))

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        """(B, U, C) logits and (B, U, K) values; 0 where there is no picture."""
        rows = _pictured(batch)
        found = self._outputs(_images(batch)[rows])
        outputs = {}
        if self.category:
            outputs[CATEGORY] = _scattered(found[CATEGORY], rows)
        if self.vad:
            outputs[VAD] = _scattered(torch.cat([found[name] for name in self.active], -1), rows)
        return outputs

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy, squared error per dimension, consistency and orthogonality."""
        config: Config = self.config
        rows = _pictured(batch)
        found = self._outputs(_images(batch)[rows])
        losses: dict[str, Tensor] = {}
        if self.category:
            losses[CATEGORY] = _cross_entropy(found[CATEGORY], batch.targets[CATEGORY][rows])
        for column, name in enumerate(self.active):
            losses[name] = _squared_error(found[name], batch.targets[VAD][rows][:, column])
        if self.constraints is not None:
            logits = found[CATEGORY]
            values = torch.cat([found[name] for name in self.active], -1)
            cost = consistency_loss(
                logits.detach() if config.detach_class else logits,
                values.detach() if config.detach_vad else values,
                self.constraints,
                self.temperature,
            )
            losses["consistency"] = config.consistency_weight * cost
        if isinstance(self.constraints, GradedConstraints):
            labels = batch.targets[CATEGORY][rows], batch.targets[VAD][rows]
            losses["constraints"] = self.constraints.fit_loss(*labels)
        if config.orth_weight > 0:
            padding = cast(Padding, config.orth_padding)
            parts = [orthogonality(cast(SmallResNet, t), padding) for t in self.trunks.values()]
            losses["orthogonality"] = config.orth_weight * torch.stack(parts).sum()
        return losses

    def after_backward(self, batch: Batch, epoch: int) -> None:
        """Clamp every element of the gradient, as the code does."""
        limit = self.config.gradient_clamp
        if limit > 0:
            nn.utils.clip_grad_value_(self.parameters(), limit)

    # --- networks ------------------------------------------------------------------------------

    def _outputs(self, images: Tensor) -> dict[str, Tensor]:
        """(N, 3, h, w) -> output name to (N, C) or (N, 1), averaged over ten crops at evaluation.

        No picture at all still gives tensors with a gradient, so that a batch without any trains.
        """
        if not len(images):
            empty = torch.stack([p.sum() for p in self.heads.parameters()]).sum() * 0.0
            return {
                name: empty.new_zeros(0, cast(Head, head).linear.out_features) + empty
                for name, head in self.heads.items()
            }
        if self.config.normalise_input == "image":
            images = _standardised(images)
        if self.training or not self.config.ten_crop:
            return self._looked_at(images)
        sums: dict[str, Tensor] = {}
        crops = ten_crops(images, self.config.crop_px)
        for crop in crops:
            for name, output in self._looked_at(crop).items():
                sums[name] = sums[name] + output if name in sums else output
        return {name: output / len(crops) for name, output in sums.items()}

    def _looked_at(self, images: Tensor) -> dict[str, Tensor]:
        images = images.contiguous(memory_format=torch.channels_last)
        maps = {name: trunk(images) for name, trunk in self.trunks.items()}
        return {name: head(maps.get(name, maps.get("shared"))) for name, head in self.heads.items()}


def ten_crops(images: Tensor, size: int) -> list[Tensor]:
    """The four corners and the centre of (N, 3, h, w), and their mirror images: ten of ``size``."""
    height, width = images.shape[-2:]
    down, right = height - size, width - size
    corners = [(0, 0), (0, right), (down, 0), (down, right), (down // 2, right // 2)]
    crops = [images[..., top : top + size, left : left + size] for top, left in corners]
    return crops + [crop.flip(-1) for crop in crops]


def _square(image: np.ndarray, size: int) -> np.ndarray:
    """(H, W, 3) uint8 -> (3, size, size) float32 in [0, 1]; untouched where the size is right."""
    pixels = np.ascontiguousarray(image.transpose(2, 0, 1), np.float32) / np.float32(255)
    if pixels.shape[-2:] == (size, size):
        return pixels
    scaled = F.interpolate(
        torch.from_numpy(pixels)[None], (size, size), mode="bilinear", antialias=True
    )
    return scaled[0].numpy()


def _standardised(images: Tensor) -> Tensor:
    """Each picture with mean 0 and standard deviation 1; a blank one is 0."""
    centred = images - images.mean((1, 2, 3), keepdim=True)
    return centred / centred.square().mean((1, 2, 3), keepdim=True).sqrt().clamp(min=1e-3)


def _images(batch: Batch) -> Tensor:
    if batch.images is None:
        raise TypeError("huo_ge_vad needs a batch with images")
    return batch.images


def _pictured(batch: Batch) -> Tensor:
    """(B, U) bool: where there is a picture."""
    return batch.mask & batch.present.get("video", batch.mask)


def _scattered(values: Tensor, rows: Tensor) -> Tensor:
    """(N, K) at the True cells of ``rows`` (B, U), 0 elsewhere: (B, U, K)."""
    whole = values.new_zeros(*rows.shape, values.shape[-1])
    return whole.index_put((rows,), values)


def _cross_entropy(logits: Tensor, classes: Tensor) -> Tensor:
    """Mean over the labelled (class >= 0); 0 with a gradient without any."""
    is_known = classes >= 0
    return (
        F.cross_entropy(logits[is_known], classes[is_known])
        if is_known.any()
        else (logits.sum() * 0.0)
    )


def _squared_error(values: Tensor, truth: Tensor) -> Tensor:
    """Mean over the labelled (not NaN) of (N, 1) against (N,); 0 with a gradient without any."""
    is_known = ~truth.isnan()
    if not is_known.any():
        return values.sum() * 0.0
    return mean_squared_error(values.squeeze(-1)[is_known], truth[is_known].to(values.dtype))


METHOD = HuoGeVad
