"""How good a genome is, from what its network does on validation data; higher is better."""

import math
from collections.abc import Sequence


def sentiment_fitness(acc7: float, corr: float, mae: float, f1: float) -> float:
    """Fitness of sentiment in [-3, 3].

    Args:
        acc7: accuracy of the seven rounded classes.
        corr: Pearson correlation; NaN (undefined) counts 0.
        mae: mean absolute error; at 3 and above it earns nothing.
        f1: weighted F1 of negative against non-negative.
    """
    corr = 0.0 if math.isnan(corr) else corr
    return 0.3 * acc7 + 0.3 * corr + 0.2 * (1 - min(mae, 3.0) / 3.0) + 0.2 * f1


def genome_fitness(full: float, partial: Sequence[float], parameters: int) -> float:
    """Fitness of a genome: half with all modalities, half without some; size costs a little.

    Args:
        full: fitness with all modalities.
        partial: fitness of each proper subset; empty to judge by ``full`` alone.
        parameters: of the network; the first million is free.
    """
    found = 0.5 * full + 0.5 * sum(partial) / len(partial) if partial else full
    return found - 0.02 * max(0.0, math.log10(parameters / 1e6))
