"""The targets there are, a row each: their columns in the labels, their range, their metric.

A new number that corpora are judged on is one more row: the contract of the labels table, the
checks and the merging of judgements, and the training all read it here.
"""

from dataclasses import dataclass
from typing import Literal

VAD = ("valence", "arousal", "dominance")
EMI = ("admiration", "amusement", "determination", "empathic_pain", "excitement", "joy")

#: How a cell of valence, arousal or dominance came to be, the most trusted first.
KINDS = ("rated", "self_report", "lexicon", "model", "prior", "proxy")


@dataclass(frozen=True)
class TargetRow:
    """One target, as the labels table keeps it.

    Attributes:
        name: of the target, and of the family of its columns: a judgement that is unusable in one
            of them is unusable in all, for a partial judgement would bias them differently.
        kind: ``category``: one class; ``values``: a number in each column; ``labels``: a set.
        columns: of the labels table.
        metric: the headline metric, a name of ``models.metrics.scoring``.
        higher_is_better: direction of ``metric``.
        low: smallest value, ``values`` only.
        high: largest value, ``values`` only.
        is_mapped: raw scales are mapped onto the range; False: they must be the range itself, as
            of intensities with one pole, which have no middle that a map could keep.
    """

    name: str
    kind: Literal["category", "values", "labels"]
    columns: tuple[str, ...]
    metric: str
    higher_is_better: bool = True
    low: float = -1.0
    high: float = 1.0
    is_mapped: bool = True

    @property
    def sign(self) -> int:
        """1 where a higher ``metric`` is better, else -1."""
        return 1 if self.higher_is_better else -1


_ROWS = (
    TargetRow("category", "category", ("category",), "weighted_f1"),
    TargetRow("vad", "values", VAD, "ccc"),
    TargetRow("sentiment", "values", ("sentiment",), "mae", False, -3.0, 3.0),
    TargetRow("emi", "values", EMI, "pearson", low=0.0, high=1.0, is_mapped=False),
    TargetRow("categories", "labels", ("categories",), "map"),
)

#: Name to row, in the project's order.
TARGETS: dict[str, TargetRow] = {row.name: row for row in _ROWS}

#: Column to the row it belongs to; what a judgement's ``target`` may be.
ROW_OF: dict[str, TargetRow] = {column: row for row in _ROWS for column in row.columns}

#: Column to family; see ``TargetRow.name``.
FAMILIES: dict[str, str] = {column: row.name for column, row in ROW_OF.items()}

#: Columns that hold numbers, and those that hold words.
NUMBERS: tuple[str, ...] = tuple(c for c, row in ROW_OF.items() if row.kind == "values")
WORDS: tuple[str, ...] = tuple(c for c in ROW_OF if c not in NUMBERS)
