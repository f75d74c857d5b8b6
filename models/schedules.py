"""Learning rates as functions of how far training has come."""

import math


def cosine_to_the_end(base: float, at: int, total: int, warmup: float) -> float:
    """Rate before step ``at`` of ``total``: a linear rise, then a cosine to 1 % of ``base``.

    Args:
        base: the peak.
        at: steps made.
        total: steps of the whole training.
        warmup: share of them that the rise takes.
    """
    warm = max(1, round(warmup * total))
    if at < warm:
        return base * (at + 1) / warm
    share = min(1.0, (at - warm) / max(1, total - warm))
    return base * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * share)))


def returning_cosine(base: float, step: int, t_max: int) -> float:
    """Rate after ``step`` steps of a cosine that is 0 at ``t_max`` and comes back by twice that."""
    return base * (1 + math.cos(math.pi * step / t_max)) / 2


def staircase(base: float, done: int, start: int, every: int, factor: float) -> float:
    """Rate that is multiplied by ``factor`` for each ``every`` steps or epochs after ``start``.

    Args:
        base: rate until then.
        done: steps or epochs that have ended.
        start: how many of them leave the rate as it is.
        every: width of a stair.
        factor: height of a stair.
    """
    return base * factor ** (max(0, done - start) // every)
