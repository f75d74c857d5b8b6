"""The outcome of comparing two methods, and how to say it in a sentence."""

import math
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Comparison:
    """Paired difference `first - second` of two methods on the same rows.

    Attributes:
        metric: name of the metric.
        first: a method.
        second: the method it is compared with.
        means: mean over seeds of the first and the second.
        difference: first minus second.
        low: lower end of the difference's interval, not corrected for several comparisons.
        high: upper end.
        confidence: of the interval, such as 0.95.
        p_value: two-sided, for no difference.
        p_holm: after Holm's correction over the family that was compared; `p_value` if alone.
        family: number of comparisons in that family.
        effect_size: Cohen's d over seeds, NaN if a method has one seed or no spread.
        win_rate: chance that a run of the first has a larger value than one of the second.
        seeds: seeds of the first and the second.
        seeds_needed: seeds per method to tell them apart at this difference with 80 % power; None
            if no number is enough because the test dialogues are too few.
        n_clusters: test dialogues.
        remark: what limits the comparison, in words.
    """

    metric: str
    first: str
    second: str
    means: tuple[float, float]
    difference: float
    low: float
    high: float
    confidence: float
    p_value: float
    p_holm: float
    family: int
    effect_size: float
    win_rate: float
    seeds: tuple[int, int]
    seeds_needed: int | None
    n_clusters: int
    remark: str = ""

    def turned(self) -> "Comparison":
        """The same comparison seen from the second method."""
        return replace(
            self,
            first=self.second,
            second=self.first,
            means=self.means[::-1],
            difference=0.0 - self.difference,  # 0 stays without a sign
            low=-self.high,
            high=-self.low,
            effect_size=-self.effect_size,
            win_rate=1 - self.win_rate,
            seeds=self.seeds[::-1],
        )

    def is_significant(self, alpha: float = 0.05) -> bool:
        """True if the corrected p-value is below alpha; an undefined one never is."""
        return self.p_holm < alpha


def verdict(comparison: Comparison, *, higher_is_better: bool = True, alpha: float = 0.05) -> str:
    """The outcome of a comparison as one sentence for a report."""
    c = comparison
    level = f"{100 * c.confidence:g} % interval"
    gap = f"difference {c.difference:+.4f}, {level} {c.low:+.4f} to {c.high:+.4f}"
    over = f" after Holm's correction over {c.family} comparisons" if c.family > 1 else ""
    if math.isnan(c.p_holm):
        return f"{c.first} and {c.second} cannot be compared in {c.metric}: {c.remark}."
    caveat = f"; {c.remark}" if c.remark else ""
    if c.is_significant(alpha):
        better, worse = c.first, c.second
        if (c.difference > 0) != higher_is_better:
            better, worse = worse, better
        return (
            f"{better} is significantly better than {worse} in {c.metric} ({gap} for {c.first} "
            f"minus {c.second}, p = {c.p_holm:.3g}{over}{caveat})."
        )
    if min(c.seeds) < 2:
        more = "more seeds are needed to judge"
    elif c.p_value < alpha:  # Holm's correction is of p; the interval is without it
        more = f"on its own the pair would differ, but not as one of {c.family} comparisons"
    elif c.difference == 0:
        more = "their scores are equal"
    elif c.seeds_needed is None:
        more = "more seeds would not tell them apart on so few test dialogues"
    elif c.seeds_needed > max(c.seeds):
        more = f"if the difference is real, about {c.seeds_needed} seeds each would show it"
    else:
        more = "a difference of this size may be luck, or real and missed"
    return (
        f"No significant difference in {c.metric} between {c.first} and {c.second} ({gap}, "
        f"p = {c.p_holm:.3g}{over}{caveat}); {more}."
    )
