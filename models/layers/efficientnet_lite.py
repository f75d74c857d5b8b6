"""EfficientNet-Lite0: EfficientNet-B0 without squeeze-and-excitation, with ReLU6.

Tan and Le 2019, "EfficientNet: Rethinking model scaling for convolutional neural networks"; the
Lite variants are of 2020, for processors without a fast sigmoid. Weights that are published for it
come from TensorFlow, so convolutions with a stride put the odd place of their padding last, as
there.

N pictures   H, W pixels   C channels
"""

from torch import Tensor, nn
from torch.nn import functional

NAME = "efficientnet_lite0"
#: Of what ``means`` gives.
WIDTH = 1280
#: Widths of the blocks: how many, kernel, stride of the first, expansion, channels.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_STEM = 32
_EPSILON = 1e-3


class SameConv2d(nn.Conv2d):
    """A convolution to a size of the input's over the stride, rounded up; nothing is lost."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, D, H / stride, W / stride), rounded up."""
        pads: list[int] = []
        for size, kernel, stride in zip(
            x.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1], strict=True
        ):
            lacking = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            pads += [lacking // 2, lacking - lacking // 2]
        return super().forward(functional.pad(x, pads) if any(pads) else x)


class Normed(nn.Sequential):
    """A convolution without bias, normed."""

    def __init__(self, channels: int, width: int, kernel: int, stride: int, groups: int) -> None:
        super().__init__(
            SameConv2d(channels, width, kernel, stride, groups=groups, bias=False),
            nn.BatchNorm2d(width, _EPSILON, momentum=0.01),
        )


class InvertedResidual(nn.Module):
    """Wider, across places, narrower; added to what came where the shapes allow."""

    def __init__(self, channels: int, width: int, kernel: int, stride: int, wider: int) -> None:
        super().__init__()
        inner = wider * channels
        self.expand = Normed(channels, inner, 1, 1, 1) if wider > 1 else None
        self.depth = Normed(inner, inner, kernel, stride, inner)
        self.project = Normed(inner, width, 1, 1, 1)
        self.is_residual = stride == 1 and channels == width

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, D, H / stride, W / stride), rounded up."""
        h = x if self.expand is None else functional.relu6(self.expand(x))
        h = self.project(functional.relu6(self.depth(h)))
        return x + h if self.is_residual else h


class EfficientNetLite0(nn.Module):
    """The network.

    Args:
        classes: of its classifier.
        dropout: before the classifier.
    """

    #: Of what ``means`` gives.
    frame_dim = WIDTH

    def __init__(self, classes: int = 1000, dropout: float = 0.2) -> None:
        super().__init__()
        self.stem = Normed(3, _STEM, 3, 2, 1)
        blocks: list[nn.Module] = []
        channels = _STEM
        for count, kernel, stride, wider, width in STAGES:
            for number in range(count):
                step = 1 if number else stride
                blocks.append(InvertedResidual(channels, width, kernel, step, wider))
                channels = width
        self.blocks = nn.Sequential(*blocks)
        self.head = Normed(channels, WIDTH, 1, 1, 1)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(WIDTH, classes)

    def means(self, pixels: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, 1280): the last maps' means over places."""
        maps = functional.relu6(self.head(self.blocks(functional.relu6(self.stem(pixels)))))
        return maps.mean((2, 3))

    def forward(self, pixels: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, classes): scores."""
        return self.classifier(self.dropout(self.means(pixels)))


#: Parts by the names that the published weights give them.
_PARTS = {
    "_conv_stem": "stem.0",
    "_bn0": "stem.1",
    "_conv_head": "head.0",
    "_bn1": "head.1",
    "_fc": "classifier",
}
_INNER = {
    "_expand_conv": "expand.0",
    "_bn0": "expand.1",
    "_depthwise_conv": "depth.0",
    "_bn1": "depth.1",
    "_project_conv": "project.0",
    "_bn2": "project.1",
}
#: A tensor that only the published weights have.
SIGN = "_blocks.15._depthwise_conv.weight"


def from_published(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """By our names, from the names of the published weights."""
    found: dict[str, Tensor] = {}
    for name, value in tensors.items():
        part, _, rest = name.partition(".")
        if part == "_blocks":
            number, inner, rest = rest.split(".")
            found[f"blocks.{number}.{_INNER[inner]}.{rest}"] = value
        else:
            found[f"{_PARTS[part]}.{rest}"] = value
    for name in EfficientNetLite0().state_dict():
        if name not in found:
            raise KeyError(name)
    return found
