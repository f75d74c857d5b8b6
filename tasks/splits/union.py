"""Stage ``splits`` of a union: every part keeps its own, and nothing of test is trained on.

Parts share no dialogue and no speaker, for both carry their part. What they may share is texts: a
row that repeats a text of another part's validation or test rows is left out of training.
Repetitions within a part are its own protocol's, which the report of leaks tells.
"""

from pathlib import Path

import polars as pl

from models.errors import UserError
from tasks.atomic import write_json
from tasks.context import Context
from tasks.layout import Layout
from tasks.leaks.findings import find_leaks
from tasks.leaks.near_duplicates import near_pairs
from tasks.leaks.texts import LONG_WORDS, normalised
from tasks.params.unions import UnionParams
from tasks.splits.fingerprint import fingerprint
from tasks.tables.label_rows import labels_in
from tasks.tables.labels import LABELS
from tasks.tables.parquet import read_metadata, read_table, write_table
from tasks.tables.splits import SPLIT
from tasks.tables.utterances import UTTERANCES

#: A row gives way to a copy of a higher rank in another part.
_RANK = {"train": 0, "validation": 1, "test": 2}


def run(params: UnionParams, layout: Layout, ctx: Context, corpus: str) -> Path:
    """Join the splits of the parts and look for leaks; returns the table of splits."""
    utterances = read_table(UTTERANCES, layout.utterances(corpus))
    parts = {part: read_table(SPLIT, layout.splits(part)) for part in params.of}
    joined, notes = same_folds(parts)
    rows = joined.join(
        utterances.select("utterance_id", "dataset", "text"), on="utterance_id", how="left"
    )
    copies = copies_of_tested(rows)
    splits = joined.join(copies, on=["utterance_id", "fold"], how="anti")
    _check_training(corpus, rows, splits, params.of)
    notes += [
        f"{part}: {count:,} rows of training or validation are left out, for another part tests "
        "or validates on the same text"
        for part, count in copies.group_by("dataset").len().sort("dataset").iter_rows()
    ]
    own = {part: read_metadata(layout.splits(part)) for part in params.of}
    metadata = {
        "protocol": "; ".join(f"{part}: {one.get('protocol', '?')}" for part, one in own.items()),
        "seed": "; ".join(f"{part}: {one.get('seed', '?')}" for part, one in own.items()),
        "folds": str(splits["fold"].n_unique()),
        "sha256": fingerprint(splits),
    }
    write_table(SPLIT, splits, layout.splits(corpus), metadata)
    labels = pl.concat(labels_in(read_table(LABELS, layout.labels(part))) for part in params.of)
    report = {
        "corpus": corpus,
        **{key: metadata[key] for key in ("protocol", "seed", "sha256")},
        "notes": notes,
        "findings": find_leaks(utterances, labels, splits),
    }
    write_json(layout.leaks(corpus), report)
    return layout.splits(corpus)


def same_folds(parts: dict[str, pl.DataFrame]) -> tuple[pl.DataFrame, list[str]]:
    """The parts' splits one after another in as many folds as each of them has, and what went.

    Fold k of the union is fold k of each part, so that no row is tested twice.
    """
    counts = {part: splits["fold"].n_unique() for part, splits in parts.items()}
    fewest = min(counts.values())
    notes = [
        f"{part} has {count} folds, of which the first {fewest} stand here, as many as each part "
        "has"
        for part, count in counts.items()
        if count > fewest
    ]
    joined = pl.concat(splits.filter(pl.col("fold") < fewest) for splits in parts.values())
    return joined.sort(SPLIT.key), notes


def copies_of_tested(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows of training whose long text another part validates or tests on, word for word or nearly.

    Args:
        rows: columns utterance_id, dataset, text, fold, split.

    Returns:
        Columns utterance_id, fold, dataset of training rows, and of validation rows whose text
        another part tests on.
    """
    rows = rows.with_columns(
        plain=normalised(pl.col("text")), rank=pl.col("split").replace_strict(_RANK)
    ).filter(pl.col("plain").str.count_matches(" ") + 1 >= LONG_WORDS)
    texts = rows.select("plain").unique().sort("plain").with_row_index("code")
    pairs = near_pairs(texts["plain"].to_list())
    code = texts["code"]
    alike = pl.concat(
        [
            pl.DataFrame({"code": code, "near": code}),
            pl.DataFrame({"code": code.gather(pairs[:, 0]), "near": code.gather(pairs[:, 1])}),
            pl.DataFrame({"code": code.gather(pairs[:, 1]), "near": code.gather(pairs[:, 0])}),
        ]
    )
    rows = rows.join(texts, on="plain")
    others = rows.select(
        "fold", near="code", other="dataset", other_rank="rank"
    ).unique()  # fmt: skip
    return (
        rows.join(alike, on="code")
        .join(others, on=["fold", "near"])
        .filter((pl.col("other") != pl.col("dataset")) & (pl.col("other_rank") > pl.col("rank")))
        .select("utterance_id", "fold", "dataset")
        .unique()
        .sort("utterance_id", "fold")
    )


def _check_training(
    corpus: str, before: pl.DataFrame, splits: pl.DataFrame, parts: tuple[str, ...]
) -> None:
    """A part that only repeats what others test on teaches nothing."""
    known = before.select("utterance_id", "dataset").unique()
    left = splits.filter(pl.col("split") == "train").join(known, on="utterance_id")
    for part in parts:
        if not left.filter(pl.col("dataset") == part).height:
            raise UserError(
                f"corpus {corpus}: every training row of its part {part} repeats a text that "
                f"another part tests on; leave {part} out of corpora.{corpus}.of in params.yaml"
            )
