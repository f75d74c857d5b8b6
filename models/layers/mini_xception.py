"""Mini-Xception: seven expressions on a face in shades of grey.

Arriaga, Valdenegro-Toro, Ploger 2017, "Real-time convolutional neural networks for emotion and
gender classification". Two plain convolutions, four residual blocks of separable convolutions, and
a convolution to seven maps whose means are the scores. Trained on FER2013.

N faces   H, W pixels   C channels
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

NAME = "mini_xception"
CLASSES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
#: Width of the last block.
WIDTH = 128

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
