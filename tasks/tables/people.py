"""Groups of utterances that a model should serve alike: sex, age band, language, part, speaker."""

import polars as pl

#: First year of each band of ages, and its name.
_BANDS = (
    (0, "under 18"),
    (18, "18 to 29"),
    (30, "30 to 44"),
    (45, "45 to 59"),
    (60, "60 and over"),
)


def age_band(age: pl.Expr) -> pl.Expr:
    """The band that an age in years falls into; null where it is not known."""
    found = pl.lit(None, pl.String)
    for first, name in _BANDS:
        found = pl.when(age >= first).then(pl.lit(name)).otherwise(found)
    return found


#: What utterances are grouped by: columns of ``tables.utterances``, and how a value is a group.
GROUPED_BY: dict[str, pl.Expr] = {
    "part": pl.col("dataset"),
    "sex": pl.col("sex"),
    "age band": age_band(pl.col("age")),
    "language": pl.col("language"),
    "speaker": pl.col("speaker"),
}
#: Columns of ``tables.utterances`` that these read.
COLUMNS = ("dataset", "sex", "age", "language", "speaker")
