"""From the frames of an utterance to one vector, looking at real frames only."""

import torch
from torch import Tensor, nn

from models.layers.graph import masked_softmax


def weighted_mean(frames: Tensor, scores: Tensor, mask: Tensor) -> Tensor:
    """Mean of the frames with softmax weights over the real ones; 0 where there is none.

    Args:
        frames: (..., T, D).
        scores: (..., T) float.
        mask: (..., T) bool; True on real frames.

    Returns:
        (..., D).
    """
    weights = masked_softmax(scores.float(), mask).to(frames.dtype)
    return torch.einsum("...t,...td->...d", weights, frames)


class AttentionPool(nn.Module):
    """Scores every frame with one learnt vector and takes the weighted mean.

    Args:
        width: D of the frames.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.score = nn.Linear(width, 1)
        # softmax cancels what all frames share: the bias is there for the published count only
        nn.init.zeros_(self.score.bias).requires_grad_(False)

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        """(..., T, D), (..., T) bool -> (..., D); 0 where no frame is real."""
        return weighted_mean(frames, self.score(frames).squeeze(-1), mask)
