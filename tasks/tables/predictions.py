"""The table of one method's predictions; its columns follow from the targets."""

from collections.abc import Mapping

import polars as pl

from tasks.tables.contract import UTTERANCE_ID, Column, Table


def predictions_table(columns: Mapping[str, type[pl.DataType] | pl.DataType]) -> Table:
    """The contract of one method's predictions.

    Args:
        columns: ``target_<t>`` and ``prediction_<t>`` by name, ``t`` being ``category``,
            ``categories`` or a value column; all may be null where nothing is known.
    """
    return Table(
        "predictions",
        {
            "utterance_id": UTTERANCE_ID,
            "seed": Column(pl.Int32, "seed of the run"),
            "fold": Column(pl.Int32, "cross-validation fold", minimum=0),
            "split": Column(pl.String, "validation or test", choices=("validation", "test")),
            **{name: Column(dtype, "truth or prediction", True) for name, dtype in columns.items()},
            "probabilities": Column(
                pl.List(pl.Float64), "of the classes, in the order of metadata", nullable=True
            ),
        },
        key=("utterance_id", "seed", "fold", "split"),
        made_by="stage evaluate",
    )
