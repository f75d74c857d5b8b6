"""Adapter of CMU-MOSEI: sentiment from -3 to 3 and six emotions from 0 to 3 in YouTube monologues.

Two layouts: the common ``label.csv`` with clips in ``Raw/<video>/<clip>.mp4``, and the release's
tables ``Data_{Train,Val,Test}_*.csv`` with times in the whole videos, whose segments get their
numbers from ``Transcript/Segmented/Combined`` where that folder is there. The labels of the SDK's
``.csd`` files come in through ``affectloom import``.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import polars as pl
from pydantic import Field

from models.errors import UserError
from tasks.corpora.adapter import Corpus, ProtocolCard
from tasks.corpora.files import (
    ROW,
    Options,
    blank_to_null,
    first_existing,
    is_no_number,
    judgements,
    mend_cp1252,
    parse_options,
    read_csv,
    require,
    set_aside,
    to_number,
)
from tasks.corpora.segment_files import (
    EMOTIONS,
    Segments,
    emotions,
    read_common,
    read_folds,
    read_transcripts,
    segment_id,
    sentiment,
    to_corpus,
)

_COLUMNS = ("video", "start_time", "end_time", "sentiment", *EMOTIONS)
_TABLES = {"train": "Train", "validation": "Val", "test": "Test"}
_LINE = r"^(?<video>.+?)___(?<clip>\d+)___(?<start>[^_]+)___(?<end>[^_]+)___(?<text>.*)$"
_VIDEOS = ("Videos/Full/Combined", "Video/Combined", "Raw/Videos/Full/Combined")
_SOUNDS = ("Audio/Full/WAV_16000", "Audio/WAV_16000", "Raw/Audio/Full/WAV_16000")
_CLIPS = ("Videos/Segmented/Combined", "Raw/Videos/Segmented/Combined")
_TRANSCRIPTS = ("Transcript/Segmented/Combined", "Raw/Transcript/Segmented/Combined")


class MoseiOptions(Options):
    """How CMU-MOSEI is read.

    Attributes:
        media: ``full``: the whole video, cut by time; ``audio``: its sound, cut by time;
            ``segmented``: one clip per segment, which needs the transcripts; ``none``.
            ``label.csv`` knows only clips, so there ``full`` means them too.
        tables: which of the release's tables: ``Data_Train_<tables>.csv`` and so on.
        folds: the SDK's file of standard folds, or JSON, beside the corpus; it goes before the
            splits of the tables.
        emotion_threshold: an emotion is present where its intensity is above this; segments where
            none is have an empty set of emotions.
    """

    media: Literal["full", "audio", "segmented", "none"] = "full"
    tables: str = "modified"
    folds: str | None = None
    emotion_threshold: float = Field(0.0, ge=0, lt=3)


#: What ``params.yaml`` may say of the corpus.
OPTIONS = MoseiOptions


def read(root: Path, options: Mapping[str, object]) -> Corpus:
    """CMU-MOSEI under ``root``, in either layout."""
    chosen = parse_options(MoseiOptions, options, "mosei")
    folds = read_folds(root, chosen.folds)
    common = root / "label.csv"
    if common.is_file():
        if chosen.media == "audio":
            raise UserError(
                f"params.yaml: options.media is 'audio', but {common} describes clips; set it to "
                "segmented or none"
            )
        segments = read_common(root, common, chosen.media != "none")
        return to_corpus(segments, _card(22_856, 3_225), "en", folds)
    return to_corpus(_read_release(root, chosen), _card(23_453, 3_228), "en", folds)


def _read_release(root: Path, options: MoseiOptions) -> Segments:
    rows = _read_tables(root, options)
    nameless = pl.col("video").is_null()
    timeless = is_no_number("start_time") | is_no_number("end_time")
    bad = nameless | timeless
    quarantine = set_aside(
        rows.filter(bad),
        pl.format("?/{}-{}", "file", ROW),
        pl.when(nameless).then(pl.lit("missing_key")).otherwise(pl.lit("bad_times")),
        pl.format(
            "{} row {}: video '{}' from '{}' to '{}' is no segment; mend the row",
            "file",
            ROW,
            *(pl.col(name).fill_null("") for name in ("video", "start_time", "end_time")),
        ),
    )
    rows = rows.filter(~bad).with_columns(
        start_s=to_number("start_time"), end_s=to_number("end_time")
    )
    rows, unread = _numbered(root, rows)
    votes, broken = emotions(rows, options.emotion_threshold)
    folder = _media_folder(root, options.media)
    has_time = pl.lit(options.media in ("full", "audio"))
    pattern = {"full": "{}.mp4", "audio": "{}.wav", "segmented": "{}_{}.mp4"}.get(options.media)
    media = pl.lit(None, pl.String)
    if pattern is not None:
        pattern = f"{folder}/{pattern}"
        media = pl.format(pattern, *("video", "clip")[: pattern.count("{}")])
    table = rows.select(
        "file",
        ROW,
        "video",
        "clip",
        "text",
        start_s=pl.when(has_time).then("start_s"),
        end_s=pl.when(has_time).then("end_s"),
        media=media,
        split="split",
    )
    labels = judgements([sentiment(rows, "sentiment", "sentiment"), votes])
    return Segments(table, labels, pl.concat([quarantine, unread, broken]))


def _read_tables(root: Path, options: MoseiOptions) -> pl.DataFrame:
    """The three label tables below each other, with columns file, split and text."""
    frames = []
    for split, word in _TABLES.items():
        name = f"Data_{word}_{options.tables}.csv"
        path = first_existing(root, (f"Labels/{name}", name, f"Raw/Labels/{name}"))
        if path is None:
            raise UserError(
                f"{root} holds neither label.csv nor Labels/{name}; put the label tables of "
                "CMU-MOSEI there, or name others in options.tables of params.yaml"
            )
        frame = read_csv(path, encoding="auto")
        require(frame, _COLUMNS, path)
        text = blank_to_null(mend_cp1252("text")) if "text" in frame.columns else pl.lit(None)
        frames.append(
            frame.select(
                ROW,
                *_COLUMNS[1:],
                file=pl.lit(path.relative_to(root).as_posix()),
                split=pl.lit(split),
                video=blank_to_null("video"),
                text=text.cast(pl.String),
            )
        )
    return pl.concat(frames)


def _numbered(root: Path, rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """``rows`` with ``clip``, the number of the segment with the same times in the transcripts.

    Without that folder, or that segment, the start time names the segment.
    """
    folder = first_existing(root, _TRANSCRIPTS)
    files = sorted(folder.glob("[!.]*.txt")) if folder else []
    spoken, unread = read_transcripts(root, files, _LINE)
    # times of both files are written with different digits; a millisecond tells segments apart
    key = ["video", "start_ms", "end_ms"]
    spoken = spoken.with_columns(
        (to_number(name) * 1000).round().cast(pl.Int64, strict=False).alias(f"{name}_ms")
        for name in ("start", "end")
    )
    rows = rows.with_columns(
        (pl.col(f"{name}_s") * 1000).round().cast(pl.Int64).alias(f"{name}_ms")
        for name in ("start", "end")
    )
    unlabelled = spoken.join(rows, on=key, how="anti", maintain_order="left")
    aside = set_aside(
        unlabelled,
        segment_id(),
        "unlabelled",
        pl.format("{} line {}: nobody judged this segment; no table has it", "file", "line"),
    )
    known = spoken.select(*key, "clip", words="text").unique(key, keep="first")
    rows = rows.join(known, on=key, how="left", maintain_order="left").with_columns(
        clip=pl.coalesce("clip", pl.col("start_time").str.strip_chars()),
        text=pl.coalesce("text", "words"),
    )
    return rows, pl.concat([unread, aside])


def _media_folder(root: Path, media: str) -> str:
    candidates = {"full": _VIDEOS, "audio": _SOUNDS, "segmented": _CLIPS}.get(media)
    if candidates is None:
        return ""
    found = first_existing(root, candidates)
    if found is None:
        raise UserError(
            f"{root / candidates[0]} does not exist; put the files there, or change options.media "
            "in params.yaml"
        )
    return found.relative_to(root).as_posix()


def _card(utterances: int, dialogues: int) -> ProtocolCard:
    return ProtocolCard(
        name="mosei",
        citation="Zadeh et al. 2018, Multimodal Language Analysis in the Wild: CMU-MOSEI Dataset "
        "and Interpretable Dynamic Fusion Graph, ACL",
        licence="CMU's terms: research use; the videos belong to their makers",
        expected_utterances=utterances,
        expected_dialogues=dialogues,
        label_map={**{name: name for name in EMOTIONS}, "anger": "angry"},
        scales={"sentiment": (-3.0, 3.0, 1)},
        splits="published by video; label.csv has 16,326 train, 1,871 validation, 4,659 test",
    )
