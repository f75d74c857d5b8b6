"""From emotion states to what the classifier sees."""

import torch
from torch import Tensor, nn

from models.layers.ragged import Ragged
from models.layers.sequence import positions
from models.layers.transformer import MultiHeadAttention


class Readout(nn.Module):
    """Self-attention over the dialogue with residual and norm, then a hidden layer."""

    def __init__(self, width_in: int, width_out: int, dropout: float, has_positions: bool) -> None:
        super().__init__()
        self.place_dropout = nn.Dropout(0.1) if has_positions else None
        self.attention = MultiHeadAttention(width_in, 4 if width_in % 4 == 0 else 1)
        self.norm = nn.LayerNorm(width_in)
        self.project = nn.Linear(width_in, width_out)
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Tensor, mask: Tensor, seen: Tensor) -> Tensor:
        """(B, U, 2 D_e M) -> (B, U, H)."""
        if self.place_dropout is not None:
            places = positions(states.shape[1], states.shape[2], states)
            states = self.place_dropout(states + places)
        ragged = Ragged(mask)
        rows = ragged.pack(states)
        rows = self.norm(rows + self.attention(rows, rows, ragged, seen))
        return ragged.unpack(self.dropout(torch.relu(self.project(rows))))
