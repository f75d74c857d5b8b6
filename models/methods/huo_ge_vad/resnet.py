"""ResNet-18 for small pictures, as Huo and Ge use it: a 3 x 3 stem and no max pooling.

Pictures of 44 px end as maps of 6 x 6 cells.
"""

from torch import Tensor, nn
from torch.nn import functional as F

STRIDES = (1, 2, 2, 2)
BLOCKS = 2  # per stage

#: Parameters of one regression network as the paper's table 2 prints them. Two of its rows break
#: the paper's own formula, which gives 9,879,105: see ``paper_param_count``.
PAPER_PRINTED_TOTAL = 14_614_081


class Pointwise(nn.Conv2d):
    """A 1 x 1 convolution that takes its steps before it multiplies.

    In one go, oneDNN 3.10 writes beyond its buffers on processors with AVX2 only, where there are
    few channels and pictures lie channels last: the process ends with a corrupted heap.
    """

    def __init__(self, width_in: int, width_out: int, stride: int) -> None:
        super().__init__(width_in, width_out, 1, stride, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, h, w) -> (N, C', h / stride, w / stride), rounded up."""
        step_y, step_x = self.stride
        return F.conv2d(input[..., ::step_y, ::step_x], self.weight)


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut; a 1 x 1 convolution where the shape changes."""

    def __init__(self, width_in: int, width_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width_out, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(width_out)
        self.conv2 = nn.Conv2d(width_out, width_out, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(width_out)
        self.shortcut = (
            nn.Sequential(Pointwise(width_in, width_out, stride), nn.BatchNorm2d(width_out))
            if stride > 1 or width_in != width_out
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) -> (N, C', h / stride, w / stride), rounded up."""
        inner = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(inner)) + self.shortcut(x))


class SmallResNet(nn.Module):
    """Stem and four stages of two blocks; no pooling, no head.

    Args:
        width: channels of the stem and first stage (64 in the paper); the later ones have 2, 4
            and 8 times as many.
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        blocks: list[nn.Module] = []
        width_in = width
        for stage, stride in enumerate(STRIDES):
            for block in range(BLOCKS):
                blocks.append(BasicBlock(width_in, width << stage, stride if block == 0 else 1))
                width_in = width << stage
        self.blocks = nn.Sequential(*blocks)
        self.width_out = width_in

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, h, w) -> (N, 8 width, h / 8, w / 8), rounded up."""
        return self.blocks(self.stem(images))


def paper_param_count(network: nn.Module) -> int:
    """Parameters as the paper counts them: a convolution's are divided by its squared stride.

    That is a mistake, for a kernel does not shrink when it moves in larger steps; it is here to
    compare with the paper's tables only.
    """
    count = 0
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            count += module.weight.numel() // (module.stride[0] * module.stride[1])
        elif isinstance(module, nn.BatchNorm2d | nn.Linear):
            count += sum(parameter.numel() for parameter in module.parameters())
    return count
