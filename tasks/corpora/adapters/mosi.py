"""Adapter of CMU-MOSI: monologues of YouTube, cut into segments with sentiment from -3 to 3.

Two layouts: the common ``label.csv`` with clips in ``Raw/<video>/<clip>.mp4``, and the folders of
the original release, ``Video``, ``Audio``, ``Transcript`` and ``Labels`` (perhaps inside ``Raw``).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import polars as pl

from models.errors import UserError
from tasks.corpora.adapter import Corpus, ProtocolCard
from tasks.corpora.files import (
    ROW,
    Options,
    blank_to_null,
    first_existing,
    is_no_number,
    judgements,
    parse_options,
    read_csv,
    set_aside,
    to_number,
)
from tasks.corpora.segment_files import (
    Segments,
    read_common,
    read_folds,
    read_transcripts,
    segment_id,
    sentiment,
    to_corpus,
)

CARD = ProtocolCard(
    name="mosi",
    citation="Zadeh et al. 2016, MOSI: Multimodal Corpus of Sentiment Intensity and Subjectivity "
    "Analysis in Online Opinion Videos",
    licence="CMU's terms: research use; the videos belong to their makers",
    expected_utterances=2_199,
    expected_dialogues=93,
    scales={"sentiment": (-3.0, 3.0, 1)},
    splits="the SDK's standard folds, 1,284 train, 229 validation, 686 test, by video; older work "
    "has 1,447 train and 752 test, and the two disagree",
)
_LABELS = ("start", "end", "video", "clip", "sentiment")
_LINE = r"^(?<clip>\d+)_DELIM_(?<text>.*)$"
#: Kind of media to its path in the original release.
_MEDIA = {
    "segmented": "Video/Segmented/{}_{}.mp4",
    "full": "Video/Full/{}.mp4",
    "audio": "Audio/WAV_16000/Segmented/{}_{}.wav",
}


class MosiOptions(Options):
    """How CMU-MOSI is read.

    Attributes:
        media: ``segmented``: one clip per segment; ``full``: the whole video, cut by time;
            ``audio``: one sound file per segment; ``none``. ``label.csv`` knows only clips.
        folds: the SDK's file of standard folds, or JSON, beside the corpus; without it
            ``label.csv`` gives the splits, and the original release has none.
    """

    media: Literal["segmented", "full", "audio", "none"] = "segmented"
    folds: str | None = None


#: What ``params.yaml`` may say of the corpus.
OPTIONS = MosiOptions


def read(root: Path, options: Mapping[str, object]) -> Corpus:
    """CMU-MOSI under ``root``, in either layout."""
    chosen = parse_options(MosiOptions, options, "mosi")
    common = root / "label.csv"
    if common.is_file():
        if chosen.media in ("full", "audio"):
            raise UserError(
                f"params.yaml: options.media is '{chosen.media}', but {common} describes clips; "
                "set it to segmented or none"
            )
        segments = read_common(root, common, chosen.media != "none")
    else:
        segments = _read_release(root, chosen)
    return to_corpus(segments, CARD, "en", read_folds(root, chosen.folds))


def _read_release(root: Path, options: MosiOptions) -> Segments:
    """Segments of ``Labels/OpinionLevelSentiment.csv`` with the words of the transcripts."""
    name = "Labels/OpinionLevelSentiment.csv"
    path = first_existing(root, (name, f"Raw/{name}"))
    if path is None:
        raise UserError(
            f"{root} holds neither label.csv nor {name}; put the labels of CMU-MOSI there"
        )
    base = path.parent.parent
    # the release's file has no header, copies of it sometimes do
    frame = read_csv(path, names=_LABELS).filter(
        (pl.col(ROW) > 1) | (blank_to_null("sentiment") != "sentiment")
    )
    rows = frame.with_columns(
        file=pl.lit(path.relative_to(root).as_posix()),
        video=blank_to_null("video"),
        clip=blank_to_null("clip"),
    )
    nameless = pl.col("video").is_null() | pl.col("clip").is_null()
    timeless = ~nameless & (
        is_no_number("start") | is_no_number("end") if options.media == "full" else pl.lit(False)
    )
    key = pl.when(nameless).then(pl.format("?/{}-{}", "file", ROW)).otherwise(segment_id())
    quarantine = set_aside(
        rows.filter(nameless | timeless),
        key,
        pl.when(nameless).then(pl.lit("missing_key")).otherwise(pl.lit("bad_times")),
        pl.format(
            "{} row {}: {}, {}, {}, {}, {} is not start, end, video, clip, sentiment; mend the row",
            "file",
            ROW,
            *(pl.col(name).fill_null("") for name in _LABELS),
        ),
    )
    rows = rows.filter(~nameless & ~timeless)
    files = sorted((base / "Transcript/Segmented").glob("[!.]*.annotprocessed"))
    spoken, unread = read_transcripts(root, files, _LINE)
    unlabelled = spoken.join(rows, on=["video", "clip"], how="anti", maintain_order="left")
    unread = pl.concat(
        [
            unread,
            set_aside(
                unlabelled,
                segment_id(),
                "unlabelled",
                pl.format(
                    "{} line {}: this segment has no sentiment in the labels", "file", "line"
                ),
            ),
        ]
    )
    words = spoken.select("video", "clip", "text").unique(["video", "clip"], keep="first")
    rows = rows.join(words, on=["video", "clip"], how="left", maintain_order="left")
    is_cut = options.media == "full"
    folder = base.relative_to(root).as_posix()
    media = pl.lit(None, pl.String)
    if options.media != "none":
        pattern = _MEDIA[options.media] if folder == "." else f"{folder}/{_MEDIA[options.media]}"
        media = pl.format(pattern, *("video", "clip")[: pattern.count("{}")])
    times = {
        f"{name}_s": to_number(name) if is_cut else pl.lit(None, pl.Float64)
        for name in ("start", "end")
    }
    table = rows.select(
        "file",
        ROW,
        "video",
        "clip",
        text="text",
        **times,
        media=media,
        split=pl.lit(None, pl.String),
    )
    labels = judgements([sentiment(rows, "sentiment", "sentiment")])
    return Segments(table, labels, pl.concat([quarantine, unread]))
