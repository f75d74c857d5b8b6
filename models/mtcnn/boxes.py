"""Boxes of candidates: moved, squared, and those inside others dropped."""

import torch
from torch import Tensor


def moved(boxes: Tensor, shift: Tensor) -> Tensor:
    """Boxes (K, 4) moved by fractions of their side, which counts both end pixels."""
    return boxes + shift * (boxes[:, 2:] - boxes[:, :2] + 1).repeat(1, 2)


def squared(boxes: Tensor) -> Tensor:
    """The squares with the same centres and the longer side."""
    side = boxes[:, 2:] - boxes[:, :2]
    longer = side.amax(dim=1, keepdim=True)
    corner = boxes[:, :2] + side * 0.5 - longer * 0.5
    return torch.cat([corner, corner + longer], dim=1)


def nms_inside(boxes: Tensor, index: Tensor, threshold: float) -> Tensor:
    """Drop boxes (K, 5) of which a better one of the same frame covers ``threshold`` or more.

    Coverage is the common area over the smaller area, so that a box within a box goes as well.
    """
    order = boxes[:, 4].argsort(descending=True, stable=True)
    near, far = boxes[order, None, :2], boxes[order, None, 2:4]
    common = torch.minimum(far, far.transpose(0, 1)) - torch.maximum(near, near.transpose(0, 1)) + 1
    overlap = common.clamp(min=0).prod(2)
    area = (far - near + 1).prod(2)
    is_covered = overlap / torch.minimum(area, area.T) > threshold
    is_covered &= index[order, None] == index[order][None]
    kept = torch.ones(len(order), dtype=torch.bool)
    for rank in range(len(order)):  # a few dozen at most: what passed all three networks
        if kept[rank]:
            kept[rank + 1 :] &= ~is_covered[rank, rank + 1 :]
    return order[kept]
