"""The judgements of a corpus, range after range of utterances: rows go, numbers stay.

What concerns one utterance, its checks, votes and label sets, is done within a range. Merged
numbers, rater weights and agreement need every judgement, but of each only who gave which value to
what; that takes 24 bytes, where the checks need a thousand.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl

from tasks.labels.checks import Rules, screen
from tasks.labels.params import LabelsParams
from tasks.labels.tables import choose_sets, kinds_of, own_scale, vote
from tasks.tables.quarantine import QUARANTINE
from tasks.tables.sorting import items_near, with_items
from tasks.targets import NUMBERS, VAD

#: Judgements that are checked together.
RANGE = 1 << 18


def in_ranges(annotations: pl.DataFrame, rows: int) -> Iterator[pl.DataFrame]:
    """Parts of at least ``rows`` rows in the order of their utterances, none of which is cut."""
    if annotations.height <= rows:
        yield annotations
        return
    annotations = annotations.sort("utterance_id", nulls_last=True)
    ids = annotations["utterance_id"]
    begins = ids.ne_missing(ids.shift(1)).arg_true().to_numpy()
    start = 0
    while start < annotations.height:
        after = int(np.searchsorted(begins, start + rows))
        end = int(begins[after]) if after < len(begins) else annotations.height
        yield annotations.slice(start, end - start)
        start = end


@dataclass(frozen=True)
class Judgements:
    """Every judgement of one target, sorted by item, rater and label.

    Attributes:
        item: (R,) which utterance, counted in the order of all ids.
        rater: (R,) place of who judged among all raters, sorted.
        value: (R,) in the range of the labels table; of a category the place of its name, sorted.
        raw: (R,) as it was given; of a category as ``value``.
    """

    item: np.ndarray
    rater: np.ndarray
    value: np.ndarray
    raw: np.ndarray


class _Codes:
    """Numbers for names as they appear; in the end their places among all names, sorted."""

    def __init__(self) -> None:
        self._codes: dict[str, int] = {}

    def of(self, names: pl.Series) -> np.ndarray:
        """Codes of ``names``."""
        codes = self._codes
        return np.array([codes.setdefault(name, len(codes)) for name in names], np.int32)

    def names(self) -> pl.Series:
        """All names, sorted."""
        return pl.Series(list(self._codes), dtype=pl.String).sort()

    def places(self) -> np.ndarray:
        """(names,) from a code to the place of its name."""
        found = np.empty(len(self._codes), np.int32)
        found[[self._codes[name] for name in self.names()]] = np.arange(len(found))
        return found


class Gathered:
    """Takes ranges of judgements; afterwards it tells what became of them.

    Args:
        params: how votes and label sets are made.
        rules: what the judgements are held to.
        utterance_ids: the utterances that exist.

    Attributes:
        items: columns item and utterance_id, sorted by both.
        kept: rows that passed the checks.
        quarantined_rows: rows set aside, by reason.
        collapsed: exact repetitions folded into one row.
        snapped: values moved onto the end of their scale.
        tied: utterances whose vote is a tie.
    """

    def __init__(self, params: LabelsParams, rules: Rules, utterance_ids: pl.Series) -> None:
        self.items = with_items(utterance_ids)
        self.kept = self.collapsed = self.snapped = self.tied = 0
        self.quarantined_rows: dict[str, int] = {}
        self._params, self._rules = params, rules
        self._raters, self._categories = _Codes(), _Codes()
        self._aside: list[pl.DataFrame] = []
        self._no_winner: list[pl.DataFrame] = []
        self._words: list[pl.DataFrame] = []
        self._spelt: list[pl.DataFrame] = []
        self._parts: dict[str, list[Judgements]] = {name: [] for name in (*NUMBERS, "category")}

    def add(self, rows: pl.DataFrame) -> None:
        """Check and keep a range: all judgements of its utterances."""
        items = items_near(self.items, rows["utterance_id"])
        screened = screen(rows, items["utterance_id"], self._rules)
        kept = screened.kept
        self.kept += kept.height
        self.collapsed += screened.collapsed
        self.snapped += screened.snapped
        for reason, count in screened.quarantined_rows.items():
            self.quarantined_rows[reason] = self.quarantined_rows.get(reason, 0) + count
        self._aside.append(screened.quarantine)
        self._spelt.append(kept.select("target", "label").drop_nulls().unique())
        raters = kept.select("rater").unique().sort("rater").with_row_index("rater_code")
        kept = kept.join(items, on="utterance_id", how="left").join(raters, on="rater", how="left")
        kept = kept.sort("target", "item", "rater_code", "label", nulls_last=True)
        self._take_judgements(kept, self._raters.of(raters["rater"]))
        self._take_words(kept, items)

    def judgements(self, target: str) -> Judgements:
        """Every judgement of one of the ``NUMBERS`` or of ``category``."""
        parts = self._parts[target]
        if not parts:
            none = np.zeros(0, np.int32)
            return Judgements(none, none, np.zeros(0), np.zeros(0))
        if len(parts) > 1:
            fields = ("item", "rater", "value", "raw")
            whole = (np.concatenate([getattr(part, name) for part in parts]) for name in fields)
            parts[:] = [Judgements(*whole)]
        found = parts[0]
        rater = self._raters.places()[found.rater]
        if target != "category":
            return Judgements(found.item, rater, found.value, found.raw)
        code = self._categories.places()[found.value]
        return Judgements(found.item, rater, code, code)

    def raters(self) -> np.ndarray:
        """Names of all raters, sorted."""
        return self._raters.names().to_numpy()

    def words(self) -> pl.DataFrame:
        """What does not depend on rater weights, by item: category, sets, raters, kinds."""
        return pl.concat(self._words)

    def spellings(self) -> pl.DataFrame:
        """Each target and label that was kept, once."""
        return pl.concat(self._spelt).unique()

    def quarantine(self) -> pl.DataFrame:
        """One row for each judgement set aside, and for each vote without a winner."""
        found = [QUARANTINE.empty(), *self._aside, *self._no_winner]
        return pl.concat(found)

    def _take_judgements(self, rows: pl.DataFrame, raters: np.ndarray) -> None:
        for (target,), part in rows.group_by("target", maintain_order=True):
            if target not in self._parts:
                continue  # sets of labels have no single value
            item = part["item"].to_numpy().astype(np.int32)
            rater = raters[part["rater_code"].to_numpy()]
            if target == "category":
                names = part["label"].unique()
                codes = pl.DataFrame({"label": names, "code": self._categories.of(names)})
                code = part.join(codes, on="label", how="left", maintain_order="left")["code"]
                value = raw = code.to_numpy()
            else:
                value, raw = own_scale(part, str(target)), part["value"].to_numpy()
            self._parts[str(target)].append(Judgements(item, rater, value, raw))

    def _take_words(self, rows: pl.DataFrame, items: pl.DataFrame) -> None:
        params = self._params
        winners, tied, no_winner = vote(params, rows.filter(pl.col("target") == "category"), items)
        self.tied += tied
        self._no_winner.append(no_winner)
        sets = choose_sets(
            rows.filter(pl.col("target") == "categories"), params.multilabel_threshold
        )
        counted = rows.group_by("item").agg(n_raters=pl.col("rater_code").n_unique().cast(pl.Int32))
        table = counted.sort("item")
        for part in (winners, sets, *(kinds_of(rows, dim) for dim in VAD)):
            table = table.join(part, on="item", how="left", maintain_order="left")
        self._words.append(table)
