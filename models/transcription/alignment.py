"""When each token was said: the path through the decoder's attention to the sound.

Some heads of the cross attention look at the moment of which they spell the word. Their mean,
sharpened and smoothed, is walked through from the first token and frame to the last ones on the
dearest path (dynamic time warping), as in OpenAI's ``timing.py``.

N tokens   T frames
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

#: Frames over which attention is smoothed by its median.
_SMOOTH = 7


def starts(attention: Tensor) -> np.ndarray:
    """First frame of each token.

    Args:
        attention: (heads, N, T); of silence after the sound nothing, and so it is shared anew
            among the frames that are there.
    """
    attention = attention / attention.sum(dim=-1, keepdim=True).clamp_min(1e-12)
    spread = attention.std(dim=-2, keepdim=True, unbiased=False).clamp_min(1e-8)
    sharp = (attention - attention.mean(dim=-2, keepdim=True)) / spread
    return _first_frames(_median(sharp).mean(dim=0).double().numpy())


def _median(values: Tensor) -> Tensor:
    """Of the neighbours in time; too short a row stays as it is."""
    around = _SMOOTH // 2
    if values.shape[-1] <= around:
        return values
    return functional.pad(values, (around, around), "reflect").unfold(-1, _SMOOTH, 1).median(-1)[0]


def _first_frames(worth: np.ndarray) -> np.ndarray:
    """Column at which the dearest monotonous path through (N, T) enters each row."""
    tokens, frames = worth.shape
    best = np.full((tokens + 1, frames + 1), -np.inf)
    best[0, 0] = 0.0
    moves = np.zeros((tokens, frames), np.int8)  # 0: both, 1: next token, 2: next frame
    for row in range(tokens):
        for column in range(frames):
            ways = (best[row, column], best[row, column + 1], best[row + 1, column])
            move = max(range(3), key=ways.__getitem__)
            moves[row, column] = move
            best[row + 1, column + 1] = worth[row, column] + ways[move]
    found = np.zeros(tokens, np.int64)
    row, column = tokens - 1, frames - 1
    while row >= 0 and column >= 0:
        found[row] = column
        move = moves[row, column]
        row, column = row - (move != 2), column - (move != 1)
    return found


def attention_of(layers: tuple[Tensor, ...], heads: tuple[tuple[int, int], ...]) -> Tensor:
    """(heads, N, T) of the heads that follow the sound; of all in the upper half where not known.

    Args:
        layers: of each layer (1, heads, N, T).
        heads: layer and head of each.
    """
    if heads:
        return torch.stack([layers[layer][0, head] for layer, head in heads]).float()
    return torch.cat([layer[0] for layer in layers[len(layers) // 2 :]]).float()
