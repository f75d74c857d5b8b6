"""What ingest holds an adapter's judgements to before they may become a table."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import polars as pl

from tasks.tables.annotations import ANNOTATIONS
from tasks.tables.parquet import write_ranges
from tasks.tables.quarantine import QUARANTINE
from tasks.tables.row_checks import JUDGEMENT, RowCheck, judge
from tasks.tables.sorting import SortedRows, items_near, with_items
from tasks.targets import FAMILIES

#: Judgements that are sorted and written together.
RANGE = 1 << 18


class Judgements:
    """Takes judgements part after part; afterwards it tells what became of them.

    A judgement that is no number, or that belongs to no utterance, is set aside: with all that its
    rater said of the utterance in the same family of targets, be it in another part.

    Args:
        corpus: goes before ids.
        utterances: those that exist.
        folder: where there is room for more judgements than memory holds.

    Attributes:
        rows: how many there were.
        kept_rows: how many of them may stay; those that a later part sets aside still count.
    """

    def __init__(self, corpus: str, utterances: pl.DataFrame, folder: Path) -> None:
        self.rows = self.kept_rows = 0
        self._corpus = corpus
        self._items = with_items(utterances["utterance_id"])
        self._kept = SortedRows(folder, self._items.height, RANGE)
        self._unusable: list[pl.DataFrame] = []
        self._orphans: list[pl.DataFrame] = []
        self._said: set[str] = set()

    def add(self, rows: pl.DataFrame) -> None:
        """Check and keep a part: columns of ``tables.annotations``, values as text or numbers."""
        rows = rows.with_row_index("row", self.rows + 1).with_columns(
            utterance_id=pl.when(pl.col("utterance_id").str.strip_chars() != "").then(
                pl.format(self._corpus + "/{}", "utterance_id")
            ),
        )
        self.rows += rows.height
        rows = _with_numbers(_with_family(rows))
        unusable = _unusable(rows)
        self._unusable.append(unusable)
        rows = _without(rows, unusable)
        items = items_near(self._items, rows["utterance_id"])
        rows = rows.join(items, on="utterance_id", how="left", maintain_order="left")
        orphans = rows.filter(pl.col("item").is_null())
        self._orphans.append(orphans.group_by(JUDGEMENT).agg(judgements=pl.len()))
        kept = rows.filter(pl.col("item").is_not_null())
        kept = kept.select(
            "item",
            *(pl.col(name).cast(column.dtype) for name, column in ANNOTATIONS.columns.items()),
        )
        self._said |= {name for name in _OPTIONAL if kept[name].null_count() < kept.height}
        self.kept_rows += kept.height
        self._kept.add(kept)

    def aside(self) -> pl.DataFrame:
        """Quarantine rows of judgements set aside, and of those that belong to no utterance."""
        return (
            self._all_unusable()
            .with_columns(
                utterance_id=pl.coalesce("utterance_id", pl.lit(f"{self._corpus}/?/judgement"))
            )
            .select(list(QUARANTINE.columns))
        )

    def orphans(self, utterances_aside: pl.DataFrame) -> pl.DataFrame:
        """Quarantine rows of utterances that nobody knows, not even as set aside."""
        return (
            self._counted()
            .join(utterances_aside, on="utterance_id", how="anti")
            .select(
                "utterance_id",
                stage=pl.lit("ingest"),
                reason=pl.lit("orphan_label"),
                detail=pl.format(
                    "source {}: {} judgements of an utterance that does not exist; mend the id",
                    "sources",
                    "judgements",
                ),
            )
        )

    def with_theirs(self, utterances_aside: pl.DataFrame) -> pl.DataFrame:
        """Utterances set aside; the detail says how many judgements go with each."""
        counted = self._counted()
        return utterances_aside.join(counted, on="utterance_id", how="left").select(
            "utterance_id",
            "stage",
            "reason",
            detail=pl.when(pl.col("judgements") > 0)
            .then(
                pl.format(
                    "{} ({} judgements go with it)", "detail", pl.col("judgements").fill_null(0)
                )
            )
            .otherwise("detail"),
        )

    def write(self, path: Path, metadata: Mapping[str, str]) -> None:
        """Write the table of those that may stay."""
        unusable = self._all_unusable()

        def ranges() -> Iterator[pl.DataFrame]:
            for rows in self._kept.ranges():
                rows = rows.drop("item")
                # a later part may have set aside what an earlier one kept
                yield _without(_with_family(rows), unusable).drop("family")

        absent = [name for name in _OPTIONAL if name not in self._said]
        write_ranges(ANNOTATIONS, ranges(), path, metadata, absent)

    def _all_unusable(self) -> pl.DataFrame:
        return pl.concat(self._unusable).unique(JUDGEMENT, keep="first", maintain_order=True)

    def _counted(self) -> pl.DataFrame:
        """Judgements and sources of each id that is no utterance's."""
        return (
            _without(pl.concat(self._orphans), self._all_unusable())
            .group_by("utterance_id")
            .agg(
                judgements=pl.col("judgements").sum(),
                sources=pl.col("source").unique().sort().str.join(", "),
            )
        )


_OPTIONAL = [name for name, column in ANNOTATIONS.columns.items() if column.optional]


def _with_family(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.with_columns(
        family=pl.col("target").replace_strict(FAMILIES, default=pl.col("target"))
    )


def _without(rows: pl.DataFrame, unusable: pl.DataFrame) -> pl.DataFrame:
    """Rows of judgements that are not among ``unusable``."""
    if not unusable.height:
        return rows
    return rows.join(unusable, on=JUDGEMENT, how="anti", nulls_equal=True, maintain_order="left")


def _with_numbers(rows: pl.DataFrame) -> pl.DataFrame:
    """``value`` as a number, ``raw`` as it came, and whether it said anything (``is_text``)."""
    rows = rows.with_columns(raw=pl.col("value").cast(pl.String))
    if rows.schema["value"] == pl.String:
        text = pl.col("value").str.strip_chars()
        text = pl.when(~text.str.to_lowercase().is_in(["", "nan"])).then(text)
        return rows.with_columns(
            is_text=text.is_not_null(), value=text.cast(pl.Float64, strict=False)
        )
    value = pl.col("value").fill_nan(None)
    return rows.with_columns(is_text=value.is_not_null(), value=value)


def _unusable(rows: pl.DataFrame) -> pl.DataFrame:
    """The first unusable row of every judgement that has one, as quarantine wants it."""
    value = pl.col("value")
    detail = pl.format(
        "row {} of the judgements: source {}, rater {}: {} = {} is unusable; mend the source",
        "row",
        *(pl.col(n).fill_null("?") for n in ("source", "rater", "target")),
        pl.col("raw").fill_null("(nothing)"),
    )
    keys = ("utterance_id", "rater", "target", "source")
    found = {
        "missing_key": pl.any_horizontal(pl.col(name).is_null() for name in keys),
        "not_numeric": value.is_null() & pl.col("is_text"),
        "missing_value": value.is_null() & pl.col("label").is_null(),
        "not_finite": ~value.is_finite(),
    }
    bad = judge(rows, [RowCheck(reason, is_bad, detail) for reason, is_bad in found.items()]).bad
    return bad.unique(JUDGEMENT, keep="first", maintain_order=True).select(
        *JUDGEMENT, "reason", "detail", stage=pl.lit("ingest")
    )
