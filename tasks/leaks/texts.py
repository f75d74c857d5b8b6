"""Texts that training and evaluation share: equal, nearly equal, or a whole script."""

from dataclasses import dataclass

import polars as pl

from tasks.leaks.near_duplicates import near_pairs

#: Shorter texts ("Yeah.", "I don't know.") repeat by themselves.
LONG_WORDS = 4
#: A dialogue that repeats this share of its long texts, and this many, follows a script.
SCRIPT_SHARE, SCRIPT_TEXTS = 0.2, 3
#: Of the training dialogues that have a text, so many are looked at for the one that shares most:
#: where all speak the same dozen sentences, comparing all with all would fill the memory.
_CANDIDATES = 200


@dataclass(frozen=True)
class TextLeaks:
    """What validation and test rows share with training rows of the same fold.

    Attributes:
        repeats: utterance_id, fold, text, kind (identical_text, near_identical_text,
            short_repeated_text), other (an utterance of the training part).
        scripts: dialogue_id, fold, texts (long texts), repeated (of these), other (the training
            dialogue that shares most, among the first few hundred that have a text).
        evaluated: utterance_id, dialogue_id, fold of all validation and test rows.
    """

    repeats: pl.DataFrame
    scripts: pl.DataFrame
    evaluated: pl.DataFrame


def normalised(text: pl.Expr) -> pl.Expr:
    """Lower case, letters and digits only, single spaces; null where nothing is left."""
    plain = (
        text.str.normalize("NFKC")
        .str.to_lowercase()
        .str.replace_all(r"[^\p{L}\p{N}]+", " ")
        .str.strip_chars()
    )
    return pl.when(plain != "").then(plain)


def text_leaks(rows: pl.DataFrame) -> TextLeaks:
    """Compare the texts of evaluation rows with those of training rows, fold by fold.

    Args:
        rows: columns utterance_id, dialogue_id, text, fold, split.
    """
    rows = rows.with_columns(plain=normalised(pl.col("text")))
    texts = rows.select("plain").drop_nulls().unique().sort("plain").with_row_index("code")
    texts = texts.with_columns(is_long=pl.col("plain").str.count_matches(" ") + 1 >= LONG_WORDS)
    long = texts.filter("is_long")
    pairs = near_pairs(long["plain"].to_list())
    codes = long["code"].to_numpy()
    left, right = codes[pairs[:, 0]], codes[pairs[:, 1]]
    near = pl.DataFrame({"code": left, "near_code": right})
    near = pl.concat([near, pl.DataFrame({"code": right, "near_code": left})])
    rows = rows.join(texts, on="plain", how="left").sort("utterance_id", "fold")
    train = rows.filter((pl.col("split") == "train") & pl.col("code").is_not_null())
    train = train.select("fold", "code", other="utterance_id", other_dialogue="dialogue_id")
    evaluated = rows.filter(pl.col("split") != "train")
    first = train.group_by("fold", "code").agg(pl.col("other").min())
    same = evaluated.join(first, on=["fold", "code"]).with_columns(
        kind=pl.when("is_long")
        .then(pl.lit("identical_text"))
        .otherwise(pl.lit("short_repeated_text"))
    )
    nearly = (
        evaluated.join(same, on=["utterance_id", "fold"], how="anti")
        .join(near, on="code")
        .join(first.rename({"code": "near_code"}), on=["fold", "near_code"])
        .sort("utterance_id", "fold", "other")
        .unique(["utterance_id", "fold"], keep="first", maintain_order=True)
        .with_columns(kind=pl.lit("near_identical_text"))
    )
    columns = ["utterance_id", "fold", "text", "kind", "other"]
    repeats = pl.concat([same.select(columns), nearly.select(columns)]).sort("utterance_id", "fold")
    scripts = _scripts(evaluated, train, repeats, near)
    return TextLeaks(repeats, scripts, evaluated.select("utterance_id", "dialogue_id", "fold"))


def _scripts(
    evaluated: pl.DataFrame, train: pl.DataFrame, repeats: pl.DataFrame, near: pl.DataFrame
) -> pl.DataFrame:
    """Evaluation dialogues that repeat a good part of their long texts from training."""
    again = repeats.filter(pl.col("kind") != "short_repeated_text").select(
        "utterance_id", "fold", again=pl.lit(True)
    )
    long = evaluated.filter("is_long").join(again, on=["utterance_id", "fold"], how="left")
    scripts = (
        long.group_by("dialogue_id", "fold")
        .agg(texts=pl.len(), repeated=pl.col("again").fill_null(False).sum())
        .filter(
            (pl.col("repeated") >= SCRIPT_TEXTS)
            & (pl.col("repeated") >= SCRIPT_SHARE * pl.col("texts"))
        )
    )
    told = long.join(scripts, on=["dialogue_id", "fold"]).unique(["dialogue_id", "fold", "code"])
    # dialogues that say the same texts share their answer: scripts have few
    said = told.group_by("dialogue_id", "fold").agg(
        said=pl.col("code").sort().cast(pl.String).str.join(",")
    )
    kinds = said.group_by("fold", "said").agg(pl.col("dialogue_id").min())
    told = told.join(kinds, on=["dialogue_id", "fold"]).select("said", "fold", "code")
    shared = _most_alike(told, train, near)
    others = said.join(shared, on=["said", "fold"]).select("dialogue_id", "fold", "other")
    return scripts.join(others, on=["dialogue_id", "fold"], how="left").sort("dialogue_id", "fold")


def _most_alike(told: pl.DataFrame, train: pl.DataFrame, near: pl.DataFrame) -> pl.DataFrame:
    """``said``, ``fold`` and ``other``: the training dialogue that has most of the texts."""
    alike = pl.concat([told.with_columns(near_code="code"), told.join(near, on="code")])
    speakers = train.select("fold", "code", "other_dialogue").unique().sort("other_dialogue")
    speakers = speakers.group_by("fold", "code", maintain_order=True).head(_CANDIDATES)
    return (
        alike.join(speakers, left_on=["fold", "near_code"], right_on=["fold", "code"])
        .group_by("said", "fold", "other_dialogue")
        .agg(shared=pl.col("code").n_unique())
        .sort("said", "fold", "shared", "other_dialogue", descending=[False, False, True, False])
        .unique(["said", "fold"], keep="first", maintain_order=True)
        .select("said", "fold", other="other_dialogue")
    )
