"""Losses, weights and draws of CAGE as plain functions of labels and outputs."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from models.errors import UserError
from models.metrics.consistency import SPELLINGS

#: Table 4 of the paper, which comes from a slightly older file list than AffectNet's counts.
PRINTED_WEIGHTS = {
    7: {
        "neutral": 0.022600, "happy": 0.012589, "sad": 0.066464, "surprise": 0.120094,
        "fear": 0.265305, "disgust": 0.444943, "angry": 0.068006,
    },
    8: {
        "neutral": 0.015605, "happy": 0.008709, "sad": 0.046078, "surprise": 0.083078,
        "fear": 0.185434, "disgust": 0.305953, "angry": 0.046934, "contempt": 0.308210,
    },
}  # fmt: skip


def inverse_frequencies(counts: Tensor) -> Tensor:
    """Class weights (1 / n_c) / sum of 1 / n_k, which sum to 1.

    Args:
        counts: (C,) rows of each class. A class without rows gets 0: no target asks for it.
    """
    inverse = torch.where(counts > 0, 1 / counts.double().clamp(min=1), 0.0)
    return inverse / inverse.sum()


def printed_weights(names: Sequence[str]) -> Tensor:
    """The paper's class weights (C,) for AffectNet's seven or eight classes, in any order."""
    printed = PRINTED_WEIGHTS.get(len(names), {})
    spelt = [SPELLINGS.get(name.lower(), name.lower()) for name in names]
    if set(spelt) != set(printed):
        raise UserError(
            "class_weights 'paper' are those of AffectNet's seven or eight classes, but the "
            f"classes are {', '.join(names)}; set class_weights: inverse"
        )
    return torch.tensor([printed[name] for name in spelt], dtype=torch.float64)


def positive_weights(counts: Tensor, rows: int, how: str, names: Sequence[str]) -> Tensor:
    """Weights of the positive side of each label.

    Args:
        counts: (C,) training rows that carry the label.
        rows: training rows.
        how: ``inverse``: N / n_c; ``neg_over_pos``: (N - n_c) / n_c, 1 less; ``none``: 1.
        names: of the labels, for the message.
    """
    if how == "none":
        return torch.ones(len(counts), dtype=torch.float64)
    absent = [name for name, count in zip(names, counts.tolist(), strict=True) if not count]
    if absent:
        raise UserError(
            f"no training row carries the label '{absent[0]}', so it cannot be weighted; leave it "
            "out of the corpus, change splits, or set pos_weight: none"
        )
    weights = rows / counts.double()
    return weights - 1 if how == "neg_over_pos" else weights


def ccc_loss(output: Tensor, truth: Tensor, beta: float) -> Tensor:
    """beta * MSE - CCC of one dimension, smallest at -1.

    Args:
        output: (n,) predicted.
        truth: (n,). With fewer than two rows there is no CCC, and only the error counts.
        beta: factor of the error.
    """
    error = F.mse_loss(output, truth)
    if len(truth) < 2:
        return beta * error
    a, b = output - output.mean(), truth - truth.mean()
    covariance = (a * b).sum() / (len(truth) - 1)
    spread = output.var() + truth.var() + (output.mean() - truth.mean()) ** 2
    return beta * error - 2 * covariance / (spread + 1e-8)


def balanced_rows(classes: np.ndarray, seed: int) -> list[int]:
    """As many rows of each class as the rarest has, without replacement, in order.

    Args:
        classes: (N,) class of each row; -1 = none, never drawn.
        seed: the same seed draws the same rows.
    """
    rng = np.random.default_rng(seed)
    present, counts = np.unique(classes[classes >= 0], return_counts=True)
    drawn = [
        rng.choice(np.flatnonzero(classes == name), counts.min(), replace=False) for name in present
    ]
    return sorted(np.concatenate(drawn).tolist())
