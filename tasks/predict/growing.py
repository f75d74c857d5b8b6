"""How much of a medium is looked at before something is said of it: little first, then more.

What is said before the end is for the time being: a method that reads the whole dialogue had less
of it, and voices may be told apart anew. Nothing is computed twice, since features are kept by
content; only the networks, which cost little, are asked again.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

from tasks.predict.answer import Gap
from tasks.predict.corpus import Prepared
from tasks.predict.media import Found
from tasks.predict.plan import Plan, Stretch, gaps_between

#: The first answers come after so much of the media, the next after this many times as much, and
#: then after so much more each time.
FIRST_S, TIMES, STEP_S = 10.0, 4, 900.0
#: Short media are looked at together until they last as long as this: encoders load once for all.
TOGETHER_S = 120.0
_NOT_YET = "not looked at yet"


@dataclass
class Pace:
    """How much is looked at before the next answers; grows with the answers of a call.

    Attributes:
        limit_s: of one medium, or of several short ones together.
        is_first: nothing was said yet.
    """

    limit_s: float
    is_first: bool = True

    def grow(self) -> None:
        """Something was said."""
        self.is_first = False
        self.limit_s = min(self.limit_s * TIMES, TOGETHER_S)


def beginnings(medium: Prepared, first_s: float) -> Iterator[Prepared]:
    """The medium up to here, up to there, each time by whole utterances; never all of it.

    Where less would be left than was looked at, or than half a step, the end is waited for.

    Args:
        medium: with the plan of all of it.
        first_s: how much of it comes first.
    """
    parts, given, limit_s = medium.plan.stretches, 0, first_s
    while medium.found.length_s - limit_s > min(limit_s, STEP_S / 2):
        whole = takewhile(lambda part: (part.end_s or 0.0) <= limit_s, parts)  # noqa: B023 (used here)
        count = max(1, sum(1 for _ in whole))
        if given < count < len(parts):
            given = count
            yield beginning(medium, count)
        limit_s = min(limit_s * TIMES, limit_s + STEP_S)


def beginning(medium: Prepared, count: int) -> Prepared:
    """The medium with its first utterances alone."""
    plan = replace(medium.plan, stretches=medium.plan.stretches[:count])
    return replace(medium, plan=_cut_short(plan, medium.found.length_s))


def beginning_of(found: Found, speech: Sequence[tuple[float, float]]) -> Plan:
    """The plan of the beginning of a medium in which these utterances were heard."""
    parts = tuple(Stretch(low, high) for low, high in speech)
    gaps = gaps_between(speech, speech[-1][1], "nobody speaks")
    return _cut_short(Plan(parts, gaps=gaps), found.length_s)


def _cut_short(plan: Plan, length_s: float) -> Plan:
    """The same plan, marked as one that ends with its last utterance, before the medium does."""
    until_s = max(part.end_s or 0.0 for part in plan.stretches)
    gaps = [
        replace(gap, end_s=min(gap.end_s, until_s)) for gap in plan.gaps if gap.start_s < until_s
    ]
    if until_s < length_s:
        gaps.append(Gap(until_s, length_s, _NOT_YET))
    note = (
        f"so far the first {until_s:.0f} s of {length_s:.0f} s were looked at, and answers may "
        "still change; where it was stopped, the same command goes on"
    )
    return replace(plan, gaps=tuple(gaps), notes=(*plan.notes, note), looked_s=until_s)
