"""Token sequences of unequal length, as (N, T, D) and a mask.

N rows   T tokens   D width
"""

import torch
from torch import Tensor


def masked_mean(tokens: Tensor, mask: Tensor) -> Tensor:
    """Mean of the real tokens, (N, T, D) and (N, T) bool to (N, D); 0 without any."""
    weights = mask.unsqueeze(-1).to(tokens.dtype)
    return (tokens * weights).sum(1) / weights.sum(1).clamp(min=1)


def packed_left(tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """The same real tokens without gaps, and no longer than the longest row needs.

    Args:
        tokens: (N, T, D).
        mask: (N, T) bool.
    """
    lengths = mask.sum(1)
    longest = max(1, int(lengths.max())) if len(lengths) else 1
    order = torch.argsort(~mask, dim=1, stable=True)[:, :longest]
    tokens = tokens.gather(1, order.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))
    return tokens, torch.arange(longest, device=mask.device) < lengths.unsqueeze(1)
