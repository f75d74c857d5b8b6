"""A project's tables as the Python interface gives them."""

import numpy as np
import polars as pl

from models.errors import UserError, hint
from tasks.layout import Layout
from tasks.tables.features import FEATURES
from tasks.tables.labels import LABELS
from tasks.tables.parquet import read_table
from tasks.tables.splits import SPLIT
from tasks.tables.utterances import UTTERANCES

#: Of an utterance, beside what a table is about.
WHO = ("utterance_id", "dialogue_id", "turn", "speaker")


def labels(layout: Layout, corpus: str) -> pl.DataFrame:
    """See ``affectloom.Project.labels``."""
    _check_corpus(layout, corpus)
    who = read_table(UTTERANCES, layout.utterances(corpus), [*WHO, "text"])
    joined = who.join(read_table(LABELS, layout.labels(corpus)), on="utterance_id", how="inner")
    if not layout.splits(corpus).exists():
        return joined.sort(WHO[1:3])
    splits = read_table(SPLIT, layout.splits(corpus), ["utterance_id", "fold", "split"])
    folds = splits.get_column("fold").unique().sort().to_list()
    for fold in folds:
        name = "split" if len(folds) == 1 else f"split_{fold}"
        of_fold = splits.filter(pl.col("fold") == fold).select("utterance_id", split="split")
        joined = joined.join(of_fold.rename({"split": name}), on="utterance_id", how="left")
    return joined.sort(WHO[1:3])


def features(layout: Layout, corpus: str, encoder: str, frames: bool) -> pl.DataFrame:
    """See ``affectloom.Project.features``."""
    _check_corpus(layout, corpus)
    folder = layout.features(corpus, encoder)
    if not folder.is_dir():
        known = sorted(one.name for one in folder.parent.glob("[!.]*") if one.is_dir())
        there_is = hint(encoder, known) if known else "`affectloom run features` computes some"
        raise UserError(f"{corpus} has no features of encoder '{encoder}'; {there_is}")
    wanted = [name for name in FEATURES.columns if frames or name != "sequence"]
    who = read_table(UTTERANCES, layout.utterances(corpus), list(WHO))
    found = who.join(read_table(FEATURES, folder, wanted), on="utterance_id", how="left")
    found = found.sort(WHO[1:3])
    return found.with_columns(unpacked(found)) if frames else found


def unpacked(table: pl.DataFrame) -> pl.Series:
    """Sequences of bytes as lists of vectors."""
    dim = int(table.get_column("dim").max() or 1)  # type: ignore[arg-type]
    vectors = [
        None if blob is None else np.frombuffer(blob, "<f2").astype(np.float32).reshape(-1, dim)
        for blob in table.get_column("sequence")
    ]
    kind = pl.List(pl.Array(pl.Float32, dim))
    return pl.Series("sequence", [v if v is None else v.tolist() for v in vectors], kind)


def packed(sequences: pl.Series) -> pl.Series:
    """``unpacked`` backwards; what came from a table comes back as the same bytes."""
    blobs = [
        None if rows is None else np.array(rows.to_list(), "<f2").tobytes() for rows in sequences
    ]
    return pl.Series("sequence", blobs, pl.Binary)


def predictions(layout: Layout, corpus: str, method: str) -> pl.DataFrame:
    """See ``affectloom.Project.predictions``."""
    file = layout.predictions(corpus, method)
    if not file.exists():
        known = ["/".join((f.parent.name, f.name.removesuffix(".predictions.parquet")))
                 for f in sorted(file.parent.parent.glob("*/*.predictions.parquet"))]  # fmt: skip
        there_is = hint(f"{corpus}/{method}", known) if known else "`affectloom run evaluate` does"
        raise UserError(f"{corpus}/{method} has predicted nothing yet; {there_is}")
    return pl.read_parquet(file)


def leaderboard(layout: Layout) -> pl.DataFrame:
    """See ``affectloom.Project.leaderboard``."""
    file = layout.leaderboard("csv")
    if not file.exists():
        raise UserError(f"{file} is not there yet; `affectloom run report` writes it")
    return pl.read_csv(file, infer_schema_length=None)


def _check_corpus(layout: Layout, corpus: str) -> None:
    if layout.utterances(corpus).exists():
        return
    known = sorted(one.parent.name for one in layout.root.glob("corpora/*/utterances.parquet"))
    there_is = hint(corpus, known) if known else "`affectloom run ingest` reads some"
    raise UserError(f"there is no corpus '{corpus}' in {layout.project}; {there_is}")
