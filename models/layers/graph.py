"""Graphs over the utterances of a dialogue, as dense (target, source) masks.

A dialogue has at most a few hundred nodes, so a dense mask is smaller and faster than an edge list,
and it batches. Axis order is always [..., target, source]: a row lists whom a node hears.
"""

import torch
from torch import Tensor


def offsets(utterances: int, device: torch.device | None = None) -> Tensor:
    """(U, U) long: position of the source minus position of the target."""
    place = torch.arange(utterances, device=device)
    return place[None, :] - place[:, None]


def window_mask(mask: Tensor, past: int, future: int) -> Tensor:
    """Who hears whom: sources at most ``past`` before and ``future`` after the target, and itself.

    Args:
        mask: (B, U) bool; real utterances.
        past: earlier utterances heard; -1 = all.
        future: later utterances heard; -1 = all.

    Returns:
        (B, U, U) bool, False wherever padding is involved.
    """
    offset = offsets(mask.shape[1], mask.device)
    within = torch.ones_like(offset, dtype=torch.bool)
    if past >= 0:
        within = within & (offset >= -past)
    if future >= 0:
        within = within & (offset <= future)
    return within & mask[:, :, None] & mask[:, None, :]


def masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Softmax over the last axis within ``mask``; rows without any True are all 0.

    Args:
        scores: (..., N) float.
        mask: (..., N) bool, broadcastable.
    """
    filled = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    return torch.softmax(filled, -1).masked_fill(~mask, 0.0)
