"""Mini-Xception: seven expressions on a face in shades of grey.

Arriaga, Valdenegro-Toro, Ploger 2017, "Real-time convolutional neural networks for emotion and
gender classification". Two plain convolutions, four residual blocks of separable convolutions, and
a convolution to seven maps whose means are the scores. Trained on FER2013.

N faces   H, W pixels   C channels
"""

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.encoders.containers import Tensors

NAME = "mini_xception"
CLASSES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
#: Width of the last block.
WIDTH = 128
#: What the family ``cnn`` needs to know.
CONFIG = {
    "network": NAME,
    "size_px": 64,
    "grey": True,
    "mean": [0.5],
    "std": [0.5],
    "classes": list(CLASSES),
    "trained_on": ["fer2013"],
}
SIGN = "model_weights/separable_conv2d_8/separable_conv2d_8_1/pointwise_kernel:0"

_EPSILON = 1e-3
_WIDTHS = (16, 32, 64, WIDTH)


def pool_same(x: Tensor) -> Tensor:
    """The largest of 3 x 3 at every second place; what is beyond the edge does not count.

    Half of the lacking places come first, as in the framework that trained the network.
    """
    pads: list[int] = []
    for size in (x.shape[-1], x.shape[-2]):
        lacking = max((-(-size // 2) - 1) * 2 + 3 - size, 0)
        pads += [lacking // 2, lacking - lacking // 2]
    return functional.max_pool2d(functional.pad(x, pads, value=-torch.inf), 3, 2)


class Separable(nn.Sequential):
    """Every channel by itself, then across channels, then normed: (N, C, H, W) to (N, D, H, W)."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__(
            nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False),
            nn.Conv2d(channels, width, 1, bias=False),
            nn.BatchNorm2d(width, _EPSILON),
        )


class Block(nn.Module):
    """Two separable convolutions and pooling, beside a strided shortcut."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.first = Separable(channels, width)
        self.second = Separable(width, width)
        self.skip = nn.Sequential(
            nn.Conv2d(channels, width, 1, 2, bias=False), nn.BatchNorm2d(width, _EPSILON)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, D, H / 2, W / 2), rounded up."""
        return pool_same(self.second(self.first(x).relu())) + self.skip(x)


class MiniXception(nn.Module):
    """The network; see the module's docstring."""

    #: Of what ``means`` gives.
    frame_dim = WIDTH + len(CLASSES)

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, 8, 3, bias=False),
            nn.BatchNorm2d(8, _EPSILON),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, bias=False),
            nn.BatchNorm2d(8, _EPSILON),
            nn.ReLU(),
        )
        channels = (8, *_WIDTHS)
        self.blocks = nn.Sequential(*(Block(one, other) for one, other in pairwise(channels)))
        self.head = nn.Conv2d(WIDTH, len(CLASSES), 3, padding=1)

    def means(self, pixels: Tensor) -> Tensor:
        """(N, 1, 64, 64) to (N, 135): the last block's means over places, then probabilities."""
        maps = self.blocks(self.stem(pixels))
        # scores and their sum in float32: probabilities must sum to 1
        probabilities = self.head(maps).float().mean((2, 3)).softmax(-1)
        return torch.cat([maps.float().mean((2, 3)), probabilities], dim=-1)


def from_keras(tensors: Tensors) -> Tensors:
    """By our names and axes, from Keras's names; places and channels change their order there."""
    found: Tensors = {}
    for ours, layer, parameter in _names():
        kernel = tensors[f"model_weights/{layer}/{layer}_1/{parameter}:0"]
        if parameter == "depthwise_kernel":  # (H, W, C, 1) to (C, 1, H, W)
            kernel = kernel.permute(2, 3, 0, 1)
        elif kernel.ndim == 4:  # (H, W, C, D) to (D, C, H, W)
            kernel = kernel.permute(3, 2, 0, 1)
        found[ours] = kernel.contiguous()
    return found


def _names() -> Iterator[tuple[str, str, str]]:
    """Our name, Keras's layer and what it calls the tensor there."""
    yield from _conv("stem.0", 1)
    yield from _norm("stem.1", 1)
    yield from _conv("stem.3", 2)
    yield from _norm("stem.4", 2)
    for block in range(1, 5):
        ours = f"blocks.{block - 1}"
        yield from _conv(f"{ours}.skip.0", block + 2)
        yield from _norm(f"{ours}.skip.1", 3 * block)
        for place, part in enumerate(("first", "second")):
            layer = f"separable_conv2d_{2 * block - 1 + place}"
            yield f"{ours}.{part}.0.weight", layer, "depthwise_kernel"
            yield f"{ours}.{part}.1.weight", layer, "pointwise_kernel"
            yield from _norm(f"{ours}.{part}.2", 3 * block + 1 + place)
    yield from _conv("head", 7)
    yield "head.bias", "conv2d_7", "bias"


def _conv(ours: str, number: int) -> Iterator[tuple[str, str, str]]:
    yield f"{ours}.weight", f"conv2d_{number}", "kernel"


def _norm(ours: str, number: int) -> Iterator[tuple[str, str, str]]:
    layer = f"batch_normalization_{number}"
    yield f"{ours}.weight", layer, "gamma"
    yield f"{ours}.bias", layer, "beta"
    yield f"{ours}.running_mean", layer, "moving_mean"
    yield f"{ours}.running_var", layer, "moving_variance"
