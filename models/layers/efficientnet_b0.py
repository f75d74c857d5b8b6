"""EfficientNet-B0 for expressions: squeeze-and-excitation, SiLU, padding as TensorFlow has it.

Tan and Le 2019, "EfficientNet: Rethinking model scaling for convolutional neural networks". What it
says of a face are the means of its last maps and the probabilities of expressions.

N pictures   H, W pixels   C channels
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.layers.efficientnet_lite import STAGES, Normed

NAME = "efficientnet_b0"
#: Of the last maps.
WIDTH = 1280
#: AffectNet's expressions in the order of EmotiEffLib's outputs.
CLASSES = ("angry", "contempt", "disgust", "fear", "happy", "neutral", "sad", "surprise")
_STEM = 32
#: Channels of a block's input to those that its excitation is told by.
_SQUEEZE = 4


class Excitation(nn.Module):
    """Weighs channels by what their means over places say together."""

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, inner, 1)
        self.expand = nn.Conv2d(inner, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same."""
        told = functional.silu(self.reduce(x.mean((2, 3), keepdim=True)))
        return x * self.expand(told).sigmoid()


class Block(nn.Module):
    """Wider, across places, weighed, narrower; added to what came where the shapes allow."""

    def __init__(self, channels: int, width: int, kernel: int, stride: int, wider: int) -> None:
        super().__init__()
        inner = wider * channels
        self.expand = Normed(channels, inner, 1, 1, 1) if wider > 1 else None
        self.depth = Normed(inner, inner, kernel, stride, inner)
        self.squeeze = Excitation(inner, channels // _SQUEEZE)
        self.project = Normed(inner, width, 1, 1, 1)
        self.is_residual = stride == 1 and channels == width

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, D, H / stride, W / stride), rounded up."""
        h = x if self.expand is None else functional.silu(self.expand(x))
        h = self.project(self.squeeze(functional.silu(self.depth(h))))
        return x + h if self.is_residual else h


class EfficientNetB0(nn.Module):
    """The network."""

    #: Of what ``means`` gives.
    frame_dim = WIDTH + len(CLASSES)

    def __init__(self) -> None:
        super().__init__()
        self.stem = Normed(3, _STEM, 3, 2, 1)
        blocks: list[nn.Module] = []
        channels = _STEM
        for count, kernel, stride, wider, width in STAGES:
            for number in range(count):
                blocks.append(Block(channels, width, kernel, 1 if number else stride, wider))
                channels = width
        self.blocks = nn.Sequential(*blocks)
        self.head = Normed(channels, WIDTH, 1, 1, 1)
        self.classifier = nn.Linear(WIDTH, len(CLASSES))

    def means(self, pixels: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, 1288): the last maps' means over places, then probabilities."""
        maps = functional.silu(self.head(self.blocks(functional.silu(self.stem(pixels)))))
        means = maps.mean((2, 3))
        # in float32: probabilities must sum to 1
        return torch.cat([means.float(), self.classifier(means).float().softmax(-1)], -1)


#: Parts by the names that timm gives them; of a block without expansion, then of the others.
_PARTS = {
    "conv_stem": "stem.0", "bn1": "stem.1", "conv_head": "head.0", "bn2": "head.1",
    "classifier": "classifier", "classifier.0": "classifier",
}  # fmt: skip
_SQUEEZED = {"se.conv_reduce": "squeeze.reduce", "se.conv_expand": "squeeze.expand"}
_FIRST = {
    "conv_dw": "depth.0", "bn1": "depth.1", "conv_pw": "project.0", "bn2": "project.1",
    **_SQUEEZED,
}  # fmt: skip
_OTHERS = {
    "conv_pw": "expand.0", "bn1": "expand.1", "conv_dw": "depth.0", "bn2": "depth.1",
    "conv_pwl": "project.0", "bn3": "project.1", **_SQUEEZED,
}  # fmt: skip
#: A tensor that only weights in timm's form have.
SIGN = "blocks.6.0.se.conv_reduce.weight"


def from_timm(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """By our names, from those of timm."""
    starts = [sum(stage[0] for stage in STAGES[:place]) for place in range(len(STAGES))]
    found: dict[str, Tensor] = {}
    for name, value in tensors.items():
        part, _, kind = name.rpartition(".")
        if part.startswith("blocks."):
            _, stage, number, inner = part.split(".", 3)
            place = starts[int(stage)] + int(number)
            names = _OTHERS if place else _FIRST
            found[f"blocks.{place}.{names[inner]}.{kind}"] = value
        else:
            found[f"{_PARTS[part]}.{kind}"] = value
    for name, value in EfficientNetB0().state_dict().items():
        if found[name].shape != value.shape:
            raise ValueError(f"its {name} has shape {tuple(found[name].shape)}")
    return found
