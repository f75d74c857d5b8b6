"""Which rows of the labels hold: where rater weights are learnt, each fold has rows of its own."""

import polars as pl


def labels_in(labels: pl.DataFrame, fold: int | None = None) -> pl.DataFrame:
    """The one row of each utterance that holds in a fold, without the column ``fold``.

    Args:
        labels: columns of ``tables.labels``, ``fold`` among them.
        fold: which; None: the first that there is, for what is shown once for all folds.
    """
    chosen = pl.col("fold").min() if fold is None else pl.lit(fold)
    own = labels.filter(pl.col("fold") == chosen)
    shared = labels.filter(pl.col("fold").is_null()).join(own, on="utterance_id", how="anti")
    return pl.concat([own, shared]).sort("utterance_id").drop("fold")
