"""Adapter of MELD: three tables of sentences from Friends, one clip for each sentence.

The clips are cut already, so an utterance is a whole file; the times in the tables are those of
the episode, which is not part of the release, and are not used. Season and episode become the
session, so that the leak linter can say which episodes cross the published splits.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import polars as pl

from models.errors import UserError
from tasks.corpora.adapter import Corpus, ProtocolCard
from tasks.corpora.files import (
    ROW,
    UTTERANCE_COLUMNS,
    Options,
    blank_to_null,
    first_existing,
    judgements,
    mend_cp1252,
    parse_options,
    read_csv,
    require,
    set_aside,
)

_COLUMNS = (
    "Utterance",
    "Speaker",
    "Emotion",
    "Sentiment",
    "Dialogue_ID",
    "Utterance_ID",
    "Season",
    "Episode",
)
#: Our split to the release's word for it and the folders its clips may lie in.
_PARTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "train": ("train", ("train_splits", "train/train_splits")),
    "validation": ("dev", ("dev_splits_complete", "dev/dev_splits_complete")),
    "test": ("test", ("output_repeated_splits_test", "test/output_repeated_splits_test")),
}
_EMOTIONS = ("anger", "disgust", "fear", "joy", "neutral", "sadness", "surprise")
_SENTIMENTS = ("negative", "neutral", "positive")


class MeldOptions(Options):
    """How MELD is read.

    Attributes:
        category: which of the two labels becomes the category; the other is kept beside it as
            target ``emotion_class`` or ``sentiment_class``, which label merging leaves out.
        media: ``clips``, or ``none`` where only the tables are there.
    """

    category: Literal["emotion", "sentiment"] = "emotion"
    media: Literal["clips", "none"] = "clips"


#: What ``params.yaml`` may say of the corpus.
OPTIONS = MeldOptions


def read(root: Path, options: Mapping[str, object]) -> Corpus:
    """MELD under ``root``: ``{train,dev,test}_sent_emo.csv`` and the folders of clips."""
    chosen = parse_options(MeldOptions, options, "meld")
    parts = [_read_part(root, split, chosen) for split in _PARTS]
    rows = pl.concat(parts)
    bad = ~pl.col("dialogue").str.contains(r"^\d+$") | ~pl.col("number").str.contains(r"^\d+$")
    bad = bad.fill_null(True)
    quarantine = set_aside(
        rows.filter(bad),
        pl.format("?/{}-{}", "file", ROW),
        "bad_id",
        pl.format(
            "{} row {}: Dialogue_ID '{}' and Utterance_ID '{}' must be whole numbers; "
            "mend the table",
            "file",
            ROW,
            pl.col("dialogue").fill_null(""),
            pl.col("number").fill_null(""),
        ),
    )
    rows = rows.filter(~bad).with_columns(
        dialogue_id=pl.format("{}_dia{}", "word", "dialogue"),
        name=pl.format("dia{}_utt{}", "dialogue", "number"),
    )
    utterances = rows.select(
        utterance_id=pl.format("{}/{}", "dialogue_id", "name"),
        dialogue_id="dialogue_id",
        turn=pl.col("number").cast(pl.Int32, strict=False),
        speaker="speaker",
        start_s=pl.lit(None, pl.Float64),
        end_s=pl.lit(None, pl.Float64),
        media=pl.when(pl.col("folder").is_not_null()).then(
            pl.format("{}/{}.mp4", pl.col("folder").fill_null(""), "name")
        ),
        text="text",
        language=pl.lit("en"),
        region=pl.lit(None, pl.List(pl.Float64)),
        session=pl.format("s{}e{}", "season", "episode"),
        published_split="split",
    ).select(UTTERANCE_COLUMNS)
    return Corpus(utterances, _labels(rows, chosen), quarantine, _card(chosen))


def _read_part(root: Path, split: str, options: MeldOptions) -> pl.DataFrame:
    word, folders = _PARTS[split]
    name = f"{word}_sent_emo.csv"
    path = first_existing(root, (name, f"{word}/{name}", f"data/MELD/{name}"))
    if path is None:
        raise UserError(f"{root / name} does not exist; put MELD's three tables there")
    folder = None
    if options.media == "clips":
        found = first_existing(root, folders)
        if found is None:
            raise UserError(
                f"{root / folders[0]} does not exist; unpack {word}.tar.gz there, or set "
                "options.media to none in params.yaml to use the text alone"
            )
        folder = found.relative_to(root).as_posix()
    frame = read_csv(path, encoding="auto")
    require(frame, _COLUMNS, path)
    return frame.select(
        ROW,
        file=pl.lit(path.relative_to(root).as_posix()),
        word=pl.lit(word),
        split=pl.lit(split),
        folder=pl.lit(folder, pl.String),
        dialogue=blank_to_null("Dialogue_ID"),
        number=blank_to_null("Utterance_ID"),
        speaker=blank_to_null(mend_cp1252("Speaker")),
        text=blank_to_null(mend_cp1252("Utterance")),
        season=pl.col("Season").str.strip_chars().str.zfill(2),
        episode=pl.col("Episode").str.strip_chars().str.zfill(2),
        emotion=blank_to_null("Emotion"),
        sentiment=blank_to_null("Sentiment"),
    )


def _labels(rows: pl.DataFrame, options: MeldOptions) -> pl.DataFrame:
    """Both released labels of every sentence; one of them is the category."""
    frames = [
        rows.select(
            utterance_id=pl.format("{}/{}", "dialogue_id", "name"),
            rater=pl.lit("released"),
            target=pl.lit("category" if options.category == label else f"{label}_class"),
            label=label,
            source=pl.col("file"),
        )
        for label in ("emotion", "sentiment")
    ]
    return judgements(frames)


def _card(options: MeldOptions) -> ProtocolCard:
    labels = _EMOTIONS if options.category == "emotion" else _SENTIMENTS
    return ProtocolCard(
        name="meld",
        citation="Poria et al. 2019, MELD: A Multimodal Multi-Party Dataset for Emotion "
        "Recognition in Conversations, ACL",
        licence="GPL-3.0 for the annotation; the recordings belong to the makers of Friends",
        expected_utterances=13_708,
        # the paper counts 1,433; the training table skips the number of one dialogue
        expected_dialogues=1_432,
        label_map={label: label for label in labels},
        splits="published: 9,989 train, 1,109 validation, 2,610 test; dialogues never cross, "
        "episodes and actors do",
    )
