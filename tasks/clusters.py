"""Rows that share a speaker or a dialogue: what intervals and tests draw as a whole.

A method that fits one speaker well does so in all of that speaker's clips. Drawn clip by clip, an
interval of 95 % over 24 actors holds the true score in 79 of 100 experiments.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl

from tasks.splits.groups import link

#: Fewer groups tell nothing about fresh ones; dialogues are drawn then. Groups of unequal size
#: count as so many equal ones as would have their sum of squares.
FEWEST_GROUPS = 8
#: Columns of utterances that ``clusters_of`` reads.
COLUMNS = ("utterance_id", "dialogue_id", "speaker")


@dataclass(frozen=True)
class Clusters:
    """Groups of rows that are drawn together.

    Attributes:
        codes: number of the group of each row (n,).
        by: what rows of a group share.
        n_dialogues: dialogues that the rows are from.
        remark: what a reader has to know; empty where all is well.
    """

    codes: np.ndarray
    by: Literal["speakers and dialogues", "dialogues"]
    n_dialogues: int
    remark: str = ""


def clusters_of(rows: pl.DataFrame) -> Clusters:
    """Connected components over speaker, where it is known, and dialogue.

    Args:
        rows: dialogue_id and speaker of each row.
    """
    dialogues = link(rows, ("dialogue_id",))
    n_dialogues = len(np.unique(dialogues))
    groups = link(rows, ("dialogue_id", "speaker"))
    n_groups = len(np.unique(groups))
    if n_groups == n_dialogues:  # nobody speaks in two of them, or nobody is known
        return Clusters(dialogues, "dialogues", n_dialogues)
    sizes = np.unique(groups, return_counts=True)[1]
    worth = len(groups) ** 2 / (sizes**2).sum()
    if worth >= FEWEST_GROUPS:
        return Clusters(groups, "speakers and dialogues", n_dialogues)
    joined = "all share speakers"
    if n_groups >= FEWEST_GROUPS:
        joined = (
            f"form {n_groups} groups that share no speaker, of which the largest has "
            f"{sizes.max()} of {len(groups)} rows"
        )
    elif n_groups > 1:
        joined = f"form {n_groups} groups that share no speaker, fewer than {FEWEST_GROUPS}"
    remark = f"speakers are ignored in intervals and tests: the {n_dialogues} dialogues {joined}"
    return Clusters(dialogues, "dialogues", n_dialogues, remark)
