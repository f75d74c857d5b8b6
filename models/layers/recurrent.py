"""Recurrent layers over dialogues of unequal length."""

from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


class BiLstm(nn.Module):
    """Bidirectional LSTM that never sees padding.

    Args:
        width_in: D of the input.
        width_out: D of the output, half of it per direction; even.
        layers: stacked layers.
        dropout: rate between stacked layers.
    """

    def __init__(
        self, width_in: int, width_out: int, layers: int = 1, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.lstm = nn.LSTM(
            width_in,
            width_out // 2,
            layers,
            batch_first=True,
            bidirectional=True,
            dropout=dropout if layers > 1 else 0.0,
        )

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Encode.

        Args:
            x: (B, U, D).
            lengths: (B,) long; real utterances, which come first.

        Returns:
            (B, U, D'), 0 on padding.
        """
        packed = pack_padded_sequence(
            x, lengths.clamp(min=1).cpu(), batch_first=True, enforce_sorted=False
        )
        hidden, _ = self.lstm(packed)
        return pad_packed_sequence(hidden, batch_first=True, total_length=x.shape[1])[0]
