"""RAVDESS: 24 actors say and sing two sentences in eight emotions (Livingstone & Russo 2018).

All there is to know stands in the file name, seven numbers of two digits::

    02-01-06-01-02-01-12.mp4
    |  |  |  |  |  |  actor: odd men, even women
    |  |  |  |  |  repetition
    |  |  |  |  statement
    |  |  |  intensity: 1 normal, 2 strong; neutral has no strong
    |  |  emotion
    |  channel: 1 speech, 2 song
    media: 1 sound and picture, 2 picture, 3 sound

The three kinds of media are one performance, so each performance becomes one utterance.
"""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import polars as pl

from tasks.corpora.adapter import Corpus, ProtocolCard
from tasks.corpora.source import aside, best_media, choose, list_files, single, with_stems

EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
STATEMENTS = ("Kids are talking by the door.", "Dogs are sitting by the door.")
_FIELDS = ("media_kind", "channel", "emotion", "intensity", "statement", "repetition", "actor")
_HIGHEST = (3, 2, 8, 2, 2, 2, 24)
#: Best first, by the first field of the name.
_WANTED = {"best": [1, 3, 2], "audiovisual": [1], "audio": [3], "video": [2]}
#: Performances: 24 x 60 spoken; 23 x 44 sung, for actor 18 does not sing.
_COUNTS = {"speech": 1440, "song": 1012, "both": 2452}

CARD = ProtocolCard(
    name="ravdess",
    citation="Livingstone and Russo, PLoS ONE 13(5): e0196391, 2018",
    licence="CC BY-NC-SA 4.0",
    expected_utterances=_COUNTS["speech"],
    label_map={
        name: {"fearful": "fear", "surprised": "surprise"}.get(name, name) for name in EMOTIONS
    },
    scales={"intensity": (1.0, 2.0, 1)},
    splits="none published; folds must not share an actor",
)

log = logging.getLogger("affectloom")


#: What ``params.yaml`` may say of the corpus.
OPTIONS = {"channel": ("speech", "song", "both"), "media": tuple(_WANTED)}


def read(root: Path, options: Mapping[str, object]) -> Corpus:
    """The performances under ``root``, whatever folders the archives were unpacked into.

    Args:
        root: folder with ``Actor_01`` to ``Actor_24``, at any depth.
        options: ``channel``: ``speech`` (default), ``song`` or ``both``; ``media``: ``best`` (sound
            and picture before sound before picture), ``audiovisual``, ``audio`` or ``video``.
    """
    chosen = choose("ravdess", options, OPTIONS)
    files = with_stems(list_files(root, (".wav", ".mp4")))
    pattern = "^" + "-".join([r"(\d\d)"] * 7) + "$"
    parts = pl.col("stem").str.extract_groups(pattern)
    files = files.with_columns(
        parts.struct.field(str(n + 1)).cast(pl.Int64).alias(name) for n, name in enumerate(_FIELDS)
    )
    problem = _problem()
    bad = files.with_columns(problem=problem).filter(pl.col("problem").is_not_null())
    good = files.filter(problem.is_null())
    if chosen["channel"] != "both":
        good = good.filter(pl.col("channel") == (1 if chosen["channel"] == "speech" else 2))
    order = _WANTED[str(chosen["media"])]
    rank = pl.col("media_kind").replace_strict(
        {kind: n for n, kind in enumerate(order)}, default=None, return_dtype=pl.Int64
    )
    good = good.with_columns(performance=pl.col("stem").str.slice(3))
    rows, twice = best_media(good, "performance", rank)
    other = good.height - rows.height - twice.height
    if other:
        log.info("ravdess: %s files show a performance that another file stands for", other)
    ids = single(pl.col("stem"))
    utterances = rows.select(
        *ids,
        speaker=pl.format("actor_{}", pl.col("stem").str.slice(-2)),
        sex=pl.when(pl.col("actor") % 2 == 0).then(pl.lit("female")).otherwise(pl.lit("male")),
        media="media",
        text=pl.col("statement").replace_strict(
            {n + 1: text for n, text in enumerate(STATEMENTS)}, return_dtype=pl.String
        ),
        language=pl.lit("en"),
    )
    judgement = {"rater": pl.lit("intended"), "source": pl.lit("file name")}
    emotion = rows.select(
        ids[0],
        **judgement,
        target=pl.lit("category"),
        value=pl.lit(None, pl.Float64),
        label=pl.col("emotion").replace_strict(
            {n + 1: name for n, name in enumerate(EMOTIONS)}, return_dtype=pl.String
        ),
        scale_min=pl.lit(None, pl.Float64),
        scale_max=pl.lit(None, pl.Float64),
    )
    intensity = rows.select(
        ids[0],
        **judgement,
        target=pl.lit("intensity"),
        value=pl.col("intensity").cast(pl.Float64),
        label=pl.lit(None, pl.String),
        scale_min=pl.lit(1.0),
        scale_max=pl.lit(2.0),
    )
    quarantine = pl.concat(
        [
            aside(bad, pl.col("media"), "bad_name", pl.format("{}: {}", "media", "problem")),
            aside(
                twice,
                pl.col("media"),
                "duplicate_file",
                pl.format("{} is there twice; the first in order of folders is kept", "stem"),
            ),
        ]
    )
    card = replace(CARD, expected_utterances=_COUNTS[str(chosen["channel"])])
    return Corpus(utterances, pl.concat([emotion, intensity]), quarantine, card)


def _problem() -> pl.Expr:
    """What is wrong with a name; null for a good one."""
    outside = pl.any_horizontal(
        (pl.col(name) < 1) | (pl.col(name) > most)
        for name, most in zip(_FIELDS, _HIGHEST, strict=True)
    )
    folder_actor = pl.col("folder").str.extract(r"^Actor_(\d+)$").cast(pl.Int64)
    return (
        pl.when(pl.col("actor").is_null())
        .then(pl.lit("the name is not seven numbers of two digits; give it its published name"))
        .when(outside)
        .then(pl.lit("a number of the name is outside its range; give it its published name"))
        .when((pl.col("emotion") == 1) & (pl.col("intensity") == 2))
        .then(pl.lit("neutral has no strong intensity; give it its published name"))
        .when(folder_actor != pl.col("actor"))
        .then(pl.lit("the name's actor is not the folder's; move it to its own folder"))
    )
