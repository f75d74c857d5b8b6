"""Files of CMU-MOSI and CMU-MOSEI: label tables, segmented transcripts, lists of folds.

Both corpora cut videos of one speaker into segments; a video is a dialogue, its speaker and its
session. They are spread in two layouts: the common ``label.csv`` with one clip per segment, and
the folders of the original release.
"""

import ast
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from models.errors import UserError
from tasks.corpora.adapter import Corpus, ProtocolCard
from tasks.corpora.files import (
    ROW,
    UTTERANCE_COLUMNS,
    blank_to_null,
    is_no_number,
    judgements,
    mend_cp1252,
    read_csv,
    read_lines,
    read_text,
    require,
    set_aside,
    to_number,
)

_SPLITS = {
    "train": "train",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "validation": "validation",
    "test": "test",
}
_COMMON = ("video_id", "clip_id", "text", "label", "mode")
#: Sentiment heard, seen or read alone, where the table has it (CH-SIMS does, MOSI does not).
_UNIMODAL = {"label_T": "text", "label_A": "audio", "label_V": "video"}
EMOTIONS = ("happy", "sad", "anger", "surprise", "disgust", "fear")


@dataclass(frozen=True)
class Segments:
    """Segments as their files give them.

    Attributes:
        rows: file, row, video, clip, text, start_s, end_s (null: the whole file), media, split.
        judgements: columns of ``corpus_files.JUDGEMENT_SCHEMA``; ``utterance_id`` is
            ``<video>/<video>_<clip>``.
        quarantine: what could not be read.
    """

    rows: pl.DataFrame
    judgements: pl.DataFrame
    quarantine: pl.DataFrame


def segment_id(video: str | pl.Expr = "video", clip: str | pl.Expr = "clip") -> pl.Expr:
    """``<video>/<video>_<clip>``."""
    return pl.format("{}/{}_{}", video, video, clip)


def to_corpus(
    segments: Segments, card: ProtocolCard, language: str, folds: Mapping[str, str] | None
) -> Corpus:
    """Segments as a corpus; turns follow time, or the number of the clip where no time is known."""
    split = pl.col("split")
    if folds is not None:
        split = pl.col("video").replace_strict(folds, default=None, return_dtype=pl.String)
    rows = segments.rows.sort(
        "video", "start_s", pl.col("clip").cast(pl.Int64, strict=False), "clip", nulls_last=True
    )
    utterances = rows.select(
        utterance_id=segment_id(),
        dialogue_id="video",
        turn=pl.int_range(pl.len()).over("video").cast(pl.Int32),
        speaker="video",
        start_s="start_s",
        end_s="end_s",
        media="media",
        text="text",
        language=pl.lit(language),
        region=pl.lit(None, pl.List(pl.Float64)),
        session="video",
        published_split=split,
    ).select(UTTERANCE_COLUMNS)
    return Corpus(utterances, segments.judgements, segments.quarantine, card)


def read_common(root: Path, path: Path, has_media: bool) -> Segments:
    """The common ``label.csv``; clips are ``Raw/<video_id>/<clip_id>.mp4``."""
    frame = read_csv(path, encoding="auto")
    require(frame, _COMMON, path)
    mode = pl.col("mode").str.strip_chars()
    rows = frame.with_columns(
        file=pl.lit(path.relative_to(root).as_posix()),
        video=blank_to_null("video_id"),
        clip=blank_to_null("clip_id"),
        words=blank_to_null(mend_cp1252("text")),
        split=blank_to_null(mode.replace(_SPLITS)),
    )
    nameless = pl.col("video").is_null() | pl.col("clip").is_null()
    quarantine = set_aside(
        rows.filter(nameless),
        pl.format("?/{}-{}", "file", ROW),
        "missing_key",
        pl.format("{} row {}: video_id or clip_id is empty; mend the table", "file", ROW),
    )
    rows = rows.filter(~nameless)
    frames = [sentiment(rows, "label", "sentiment")]
    for column, modality in _UNIMODAL.items():
        if column in rows.columns:
            given = rows.filter(blank_to_null(column).is_not_null())
            frames.append(sentiment(given, column, f"sentiment_{modality}"))
    if set(EMOTIONS) <= set(rows.columns):
        votes, broken = emotions(rows)
        frames.append(votes)
        quarantine = pl.concat([quarantine, broken])
    media = pl.format("Raw/{}/{}.mp4", "video", "clip") if has_media else pl.lit(None, pl.String)
    rows = rows.select(
        "file",
        ROW,
        "video",
        "clip",
        text="words",
        start_s=pl.lit(None, pl.Float64),
        end_s=pl.lit(None, pl.Float64),
        media=media,
        split="split",
    )
    return Segments(rows, judgements(frames), quarantine)


def sentiment(rows: pl.DataFrame, column: str, target: str) -> pl.DataFrame:
    """Released sentiment on -3..3; ``rows`` have file, video and clip."""
    return rows.select(
        utterance_id=segment_id(),
        rater=pl.lit("released"),
        target=pl.lit(target),
        value=pl.col(column).str.strip_chars(),
        scale_min=pl.lit(-3.0),
        scale_max=pl.lit(3.0),
        source=pl.col("file"),
    )


def emotions(rows: pl.DataFrame, threshold: float = 0.0) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Emotions whose intensity, 0..3, is above ``threshold``; and quarantine rows of bad ones.

    The intensity stays beside the label. An emotion that is not above the threshold has the value
    0, which says that it was looked for and is absent: a segment without any has an empty set of
    labels. ``rows`` have file, row, video, clip and six columns.
    """
    # a segment without any intensity was not judged
    rows = rows.filter(pl.any_horizontal(blank_to_null(name).is_not_null() for name in EMOTIONS))
    names = pl.concat_str(pl.lit(""), *(pl.format("{}, ", name) for name in EMOTIONS))
    unread = pl.any_horizontal(
        is_no_number(name) | blank_to_null(name).is_null() for name in EMOTIONS
    )
    outside = pl.any_horizontal(~to_number(name).is_between(0.0, 3.0) for name in EMOTIONS)
    bad = unread | outside.fill_null(False)
    quarantine = set_aside(
        rows.filter(bad),
        segment_id(),
        pl.when(unread).then(pl.lit("not_numeric")).otherwise(pl.lit("out_of_range")),
        pl.format(
            "{} row {}: the intensities of " + ", ".join(EMOTIONS) + " are {}but must be six "
            "numbers from 0 to 3; the emotions of this segment are not used",
            "file",
            ROW,
            names,
        ),
    )
    keys = ["file", "video", "clip"]
    good = rows.filter(~bad).select(*keys, *(to_number(name) for name in EMOTIONS))
    long = good.unpivot(EMOTIONS, index=keys, variable_name="label", value_name="intensity")
    is_present = pl.col("intensity") > threshold
    votes = long.with_columns(
        intensity=pl.when(is_present).then("intensity").otherwise(0.0)
    ).select(
        utterance_id=segment_id(),
        rater=pl.lit("released"),
        target=pl.lit("categories"),
        value=pl.col("intensity").cast(pl.String),
        label="label",
        scale_min=pl.lit(0.0),
        scale_max=pl.lit(3.0),
        source="file",
    )
    return votes, quarantine


def read_transcripts(
    root: Path, files: Sequence[Path], pattern: str
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Segments of transcript files, one segment in a line.

    Args:
        root: the corpus's folder.
        files: one for each video.
        pattern: of a line, with groups clip and text, and perhaps video, start and end.

    Returns:
        Columns file, line, video, clip, text, start, end (as written); quarantine rows.
    """
    lines = read_lines(root, files).filter(pl.col("text") != "")
    lines = lines.with_columns(
        parts=pl.col("text").str.extract_groups(pattern),
        stem=pl.col("file").str.extract(r"([^/]+)\.[^./]+$"),
    )
    fields = [field.name for field in lines.schema["parts"].fields]  # type: ignore[union-attr]
    is_segment = pl.col("parts").struct.field("clip").is_not_null()
    quarantine = set_aside(
        lines.filter(~is_segment),
        pl.format("{}/?line{}", "stem", "line"),
        "unreadable_line",
        pl.format("{} line {}: '{}' is no segment; mend the line", "file", "line", "text"),
    )

    def field(name: str) -> pl.Expr:
        return pl.col("parts").struct.field(name) if name in fields else pl.lit(None, pl.String)

    segments = lines.filter(is_segment).select(
        "file",
        "line",
        video=field("video").fill_null(pl.col("stem")),
        clip=field("clip"),
        text=blank_to_null(field("text")),
        start=field("start"),
        end=field("end"),
    )
    return segments, quarantine


def read_folds(root: Path, name: str | None) -> dict[str, str] | None:
    """Video to split, from the SDK's file of standard folds or a JSON file of lists.

    The SDK's file is a Python module of lists; it is parsed, never run.
    """
    if name is None:
        return None
    path = root / name
    text = read_text(path)
    try:
        if path.suffix == ".json":
            lists = {str(key): value for key, value in dict(json.loads(text)).items()}
        else:
            lists = {
                node.targets[0].id.removeprefix("standard_").removesuffix("_fold"): (
                    ast.literal_eval(node.value)
                )
                for node in ast.parse(text).body
                if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
            }
        folds = {str(video): _SPLITS[key] for key, videos in lists.items() for video in videos}
    except (ValueError, SyntaxError, TypeError, KeyError) as error:
        raise UserError(
            f"{path} is no list of folds ({error}); give the SDK's file of standard folds, or "
            'JSON such as {"train": [...], "valid": [...], "test": [...]}'
        ) from error
    count = sum(len(videos) for videos in lists.values())
    if count != len(folds):
        raise UserError(f"{path}: {count - len(folds)} videos are in two folds; keep one of each")
    return folds
