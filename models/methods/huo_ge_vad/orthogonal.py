"""Orthogonal regularisation of convolutions: how far a kernel is from keeping lengths.

A convolution is orthogonal when its kernel, correlated with itself, is the identity at shift 0 and
0 at every other shift that its stride can reach.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from models.methods.huo_ge_vad.resnet import BasicBlock, SmallResNet

#: ``right`` compares all shifts that are multiples of the stride. ``code`` pads by 1 as the
#: released code does, which at stride 2 looks at shifts -1 and +1 but never at 0.
Padding = Literal["right", "code"]


def matrix_distance(weight: Tensor) -> Tensor:
    """Frobenius norm of M'M - I for weight (O, I) or (O, I, 1, 1), transposed where O < I."""
    matrix = weight.flatten(1)
    if matrix.shape[0] < matrix.shape[1]:
        matrix = matrix.T
    identity = torch.eye(matrix.shape[1], dtype=matrix.dtype, device=matrix.device)
    return torch.linalg.matrix_norm(matrix.T @ matrix - identity)


def kernel_distance(kernel: Tensor, stride: int, padding: int) -> Tensor:
    """Frobenius norm of K * K minus the identity in its centre.

    K * K is what ``conv2d(kernel, kernel, stride, padding)`` gives, a matrix (O, O) per shift; the
    centre is shift 0 unless stride and padding skip it. Opposite shifts have transposed matrices,
    so half of them are computed, over the cells that overlap: a fifth of the convolution's work.

    Args:
        kernel: (O, I, k, k) with odd k.
        stride: step from one shift to the next.
        padding: the first shift is -padding, the last at most +padding.
    """
    size = kernel.shape[-1]
    steps = range(-padding, padding + 1, stride)
    centre = steps[len(steps) // 2]
    identity = torch.eye(len(kernel), dtype=kernel.dtype, device=kernel.device)
    squares = []
    for down in steps:
        for right in steps:
            if (down, right) < (0, 0):
                continue  # the transpose of (-down, -right)
            still = kernel[:, :, : size - down, max(0, -right) : size - max(0, right)]
            moved = kernel[:, :, down:, max(0, right) : size + min(0, right)]
            product = moved.flatten(1) @ still.flatten(1).T  # (O, O)
            is_centre = down == right == centre
            squares.append((product - identity if is_centre else product).square().sum())
            if (down, right) != (0, 0):
                squares.append(product.square().sum())
    return _root(torch.stack(squares).sum())


def _root(x: Tensor) -> Tensor:
    """Square root whose gradient at 0 is 0, like a norm's."""
    is_zero = x == 0
    return torch.where(is_zero, 0.0, torch.where(is_zero, 1.0, x).sqrt())


def orthogonality(network: SmallResNet, padding: Padding = "right") -> Tensor:
    """Sum of distances over the 1 x 1 shortcuts and the first convolution of every block."""
    terms = []
    with torch.autocast(next(network.parameters()).device.type, enabled=False):
        for block in network.blocks:
            assert isinstance(block, BasicBlock)
            stride = block.conv1.stride[0]
            size = block.conv1.kernel_size[0]
            pad = 1 if padding == "code" else (size - 1) // stride * stride
            terms.append(kernel_distance(block.conv1.weight, stride, pad))
            if isinstance(block.shortcut, nn.Sequential):
                shortcut = block.shortcut[0]
                assert isinstance(shortcut, nn.Conv2d)
                terms.append(matrix_distance(shortcut.weight))
    return torch.stack(terms).sum()
