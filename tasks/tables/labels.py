"""The table of labels: what the raters of an utterance say together."""

import polars as pl

from tasks.tables.contract import UTTERANCE_ID, Column, Table
from tasks.targets import KINDS, NUMBERS, ROW_OF, VAD


def _merged(name: str) -> Column:
    """The merged number of a target's column, in the target's range."""
    row = ROW_OF[name]
    meaning = f"{name.replace('_', ' ')} in [{row.low:g}, {row.high:g}]"
    return Column(pl.Float64, meaning, nullable=True, minimum=row.low, maximum=row.high)


LABELS = Table(
    "labels",
    {
        "utterance_id": UTTERANCE_ID,
        "fold": Column(
            pl.Int32,
            "the fold in which the row holds, where rater weights are learnt; null: in every one",
            nullable=True,
            minimum=0,
            optional=True,
        ),
        "category": Column(pl.String, "the merged category", nullable=True),
        "categories": Column(pl.List(pl.String), "merged multi-label set, sorted", nullable=True),
        "category_shares": Column(
            pl.List(pl.Struct({"label": pl.String, "share": pl.Float64})),
            "soft label: share of the votes by label, sorted by label",
            nullable=True,
        ),
        **{name: _merged(name) for name in VAD},
        **{
            f"{name}_std": Column(
                pl.Float64, "standard deviation over raters (ddof 1)", nullable=True, minimum=0
            )
            for name in VAD
        },
        **{
            f"{name}_kind": Column(
                pl.String, f"what {name} comes from", nullable=True, choices=KINDS, optional=True
            )
            for name in VAD
        },
        "n_raters": Column(pl.Int32, "raters with any judgement", minimum=0),
        **{name: _merged(name) for name in NUMBERS if name not in VAD},
        "first_category": Column(
            pl.String, "the one of categories that was listed first", nullable=True, optional=True
        ),
    },
    key=("utterance_id", "fold"),
    made_by="stage labels",
    part_rows=32_768,
)
