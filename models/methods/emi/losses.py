"""Differentiable losses of emotional intensities: correlation over a batch, and a latent prior.

N rows   K target columns   V = 3 latent dimensions: valence, arousal, dominance in [-1, 1]
"""

import math
from collections.abc import Mapping, Sequence

from torch import Tensor

#: Coarse (valence, arousal, dominance) of each intensity: signs and rough sizes, from no lexicon.
PROTOTYPES: Mapping[str, tuple[float, float, float]] = {
    "admiration": (0.7, 0.2, 0.3),
    "amusement": (0.7, 0.6, 0.4),
    "determination": (0.4, 0.5, 0.6),
    "empathic_pain": (-0.6, 0.3, -0.4),
    "excitement": (0.7, 0.8, 0.4),
    "joy": (0.9, 0.6, 0.5),
}
#: Below so many labelled rows a correlation says more about chance than about the prediction.
MIN_ROWS = 8
_FLAT_VARIANCE = 1e-8
_EPSILON = 1e-8


def column_correlations(prediction: Tensor, truth: Tensor, known: Tensor) -> Tensor:
    """Pearson correlation of each column over its labelled rows.

    Args:
        prediction: (N, K) float.
        truth: (N, K) float; NaN is allowed where not ``known``.
        known: (N, K) bool.

    Returns:
        (K,); 0 for a constant column.
    """
    x, y = _centred(prediction, known), _centred(truth, known)
    return (x * y).sum(0) / (x.square().sum(0) * y.square().sum(0) + _EPSILON).sqrt()


def usable_columns(truth: Tensor, known: Tensor, min_rows: int = MIN_ROWS) -> Tensor:
    """(K,) bool: columns with at least ``min_rows`` labelled rows that are not all alike."""
    count = known.sum(0)
    variance = _centred(truth, known).square().sum(0) / count.clamp(min=1)
    return (count >= min_rows) & (variance > _FLAT_VARIANCE)


def correlation_loss(
    prediction: Tensor, truth: Tensor, known: Tensor, min_rows: int = MIN_ROWS
) -> Tensor:
    """1 minus the mean correlation of the usable columns, in [0, 2]; 0 where none is usable.

    Args:
        prediction: (N, K) float.
        truth: (N, K) float; NaN is allowed where not ``known``.
        known: (N, K) bool.
        min_rows: columns with fewer labelled rows do not count.
    """
    usable = usable_columns(truth, known, min_rows)
    lost = (1 - column_correlations(prediction, truth, known)).masked_fill(~usable, 0.0)
    return lost.sum() / usable.sum().clamp(min=1)


def prototype_mean(intensities: Tensor, prototypes: Tensor) -> Tensor:
    """Where the intensities lie together: (N, K) of at least 0 and (K, V) to (N, V).

    Rows without any intensity lie at 0.
    """
    # no matrix product: mixed precision would round the points
    weighted = (intensities.unsqueeze(-1) * prototypes).sum(-2)
    return weighted / (intensities.sum(-1, keepdim=True) + 1e-6)


def prototypes_of(
    names: Sequence[str], given: Sequence[Sequence[float]] = ()
) -> Sequence[Sequence[float]] | None:
    """K points (valence, arousal, dominance) for target columns; None where they are not known.

    Args:
        names: of the columns.
        given: the points themselves, instead of ``PROTOTYPES``.
    """
    if given:
        return given
    if all(name in PROTOTYPES for name in names):
        return [PROTOTYPES[name] for name in names]
    return None


def gaussian_kl(mean: Tensor, log_variance: Tensor, prior_mean: Tensor, prior_sd: float) -> Tensor:
    """KL(N(mean, exp(log_variance)) || N(prior_mean, prior_sd^2)) of each dimension, all (N, V)."""
    prior_variance = prior_sd**2
    spread = (log_variance.exp() + (mean - prior_mean).square()) / prior_variance
    return 0.5 * (spread - 1 - log_variance + math.log(prior_variance))


def mean_over(values: Tensor, rows: Tensor) -> Tensor:
    """Mean of ``values`` (N,) over ``rows`` (N,) bool; 0 without any."""
    return values.masked_fill(~rows, 0.0).sum() / rows.sum().clamp(min=1)


def _centred(values: Tensor, known: Tensor) -> Tensor:
    """(N, K) minus the mean of the known rows of each column; 0 elsewhere."""
    values = values.masked_fill(~known, 0.0)
    mean = values.sum(0) / known.sum(0).clamp(min=1)
    return (values - mean).masked_fill(~known, 0.0)
