"""Adapter of IEMOCAP: the release's folder tree ``Session1`` to ``Session5``.

``Ses01F_impro01_M003`` is turn 3 of the man in an improvisation of session 1 in which the woman
wears the markers. The picture shows both actors side by side, the one with the markers on the
left; ``region`` is the half of whoever speaks.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import polars as pl

from models.errors import UserError
from tasks.corpora.adapter import Corpus, ProtocolCard
from tasks.corpora.files import UTTERANCE_COLUMNS, Options, parse_options, set_aside
from tasks.corpora.iemocap_files import Release, read_release

Protocol = Literal["all", "6way", "4way", "4way_unmerged"]

#: Codes of the headers and words of the votes, to our categories.
_NAMES = {
    "ang": "angry",
    "hap": "happy",
    "exc": "excited",
    "sad": "sad",
    "neu": "neutral",
    "fru": "frustrated",
    "fea": "fear",
    "sur": "surprise",
    "dis": "disgust",
    "oth": "other",
    "Anger": "angry",
    "Happiness": "happy",
    "Excited": "excited",
    "Sadness": "sad",
    "Neutral": "neutral",
    "Neutral state": "neutral",
    "Frustration": "frustrated",
    "Fear": "fear",
    "Surprise": "surprise",
    "Disgust": "disgust",
    "Other": "other",
}
#: What the headers say where the observers had no majority.
_NO_MAJORITY = "xxx"
_MERGED = {
    "angry": "angry",
    "happy": "happy",
    "excited": "happy",
    "sad": "sad",
    "neutral": "neutral",
}
_FOUR = ("angry", "happy", "sad", "neutral")
_SIX = (*_FOUR, "excited", "frustrated")

#: Category of the release to category of the protocol.
_KEEP: dict[Protocol, dict[str, str]] = {
    "all": {name: name for name in dict.fromkeys(_NAMES.values())},
    "6way": {name: name for name in _SIX},
    "4way": _MERGED,
    "4way_unmerged": {name: name for name in _FOUR},
}
#: Turns with such a header label in the release.
_EXPECTED: dict[Protocol, int] = {
    "all": 10_039,
    "6way": 7_380,
    "4way": 5_531,
    "4way_unmerged": 4_490,
}
_LEFT, _RIGHT = [0.0, 0.0, 0.5, 1.0], [0.5, 0.0, 1.0, 1.0]


class IemocapOptions(Options):
    """How IEMOCAP is read.

    Attributes:
        media: ``avi``: the dialogue's video, cut by time, the speaker's half of the picture;
            ``wav``: the utterance's own sound; ``both``: the video where it is there, else the
            sound; ``none``: text and labels alone.
        protocol: which utterances stay, by the label in their header: ``6way``; ``4way`` with
            excited counted as happy; ``4way_unmerged`` with excited left out, as CORECT does;
            ``all``.
        categories: ``released``: the label of the header, which published results use; ``raters``:
            the votes of the observers. A rater may give several, so set
            ``labels.several_votes: each``, which is how the headers were made. Merging excited
            and happy before the votes are counted gives other ties than the headers have.
        vad: ``raters``: judgements of the observers; ``released``: the averages of the headers.
        self_reports: also give the actors' own judgements, as source and kind ``self_report``;
            ``labels.use_kinds`` says whether they are merged with the others'.
        test_session: session that is the published test part; null for none.
    """

    media: Literal["avi", "wav", "both", "none"] = "avi"
    protocol: Protocol = "6way"
    categories: Literal["released", "raters"] = "released"
    vad: Literal["released", "raters"] = "raters"
    self_reports: bool = False
    test_session: Literal[1, 2, 3, 4, 5] | None = 5


#: What ``params.yaml`` may say of the corpus.
OPTIONS = IemocapOptions


def read(root: Path, options: Mapping[str, object]) -> Corpus:
    """IEMOCAP under ``root``, which holds ``Session1`` to ``Session5``."""
    chosen = parse_options(IemocapOptions, options, "iemocap")
    release = read_release(root)
    turns = release.turns.with_columns(
        category=pl.col("code").replace_strict(_NAMES, default=None, return_dtype=pl.String),
        parts=pl.col("turn").str.extract_groups(
            r"^(?<session>Ses(?<number>\d\d))(?<marker>[FM])_.+_(?<speaker>[FM])[^_]*$"
        ),
    ).unnest("parts")
    turns, quarantine = _in_protocol(turns, chosen.protocol)
    unread, turns = _unusable(turns), turns.filter(~_is_unusable())
    # where turns overlap the files list some in another order than they begin
    turns = turns.sort("dialogue", "start_s", "end_s", "turn").with_columns(
        utterance_id=pl.format("{}/{}", "dialogue", "turn"),
        position=pl.int_range(pl.len()).over("dialogue"),
    )
    utterances = turns.select(
        "utterance_id",
        dialogue_id="dialogue",
        turn=pl.col("position").cast(pl.Int32),
        speaker=pl.format("{}_{}", "session", "speaker"),
        text="text",
        language=pl.lit("en"),
        session="session",
        published_split=_split(chosen.test_session),
        sex=pl.col("speaker").replace_strict({"F": "female", "M": "male"}, default=None),
        **_media(root, turns, chosen.media),
    ).select(*UTTERANCE_COLUMNS, "sex")
    return Corpus(
        utterances,
        release.judgements(turns, chosen.categories, chosen.vad, chosen.self_reports),
        pl.concat([release.quarantine, quarantine, unread]),
        _card(chosen, release),
    )


def _in_protocol(turns: pl.DataFrame, protocol: Protocol) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Turns of the protocol, and quarantine rows of the others.

    A code nobody knows stays, for it is a mistake that label merging reports.
    """
    outside = pl.col("category").is_not_null() & ~pl.col("category").is_in(list(_KEEP[protocol]))
    if protocol != "all":
        outside |= pl.col("code") == _NO_MAJORITY
    return turns.filter(~outside), set_aside(
        turns.filter(outside),
        pl.format("{}/{}", "dialogue", "turn"),
        "outside_protocol",
        pl.format(
            "{} line {}: label '{}' is not part of protocol {}; set options.protocol to all to "
            "keep it",
            "file",
            "line",
            "code",
            pl.lit(protocol),
        ),
    )


def _is_unusable() -> pl.Expr:
    """No place in the dialogue: without its times, or with a name of another form."""
    return pl.col("start_s").is_null() | pl.col("end_s").is_null() | pl.col("session").is_null()


def _unusable(turns: pl.DataFrame) -> pl.DataFrame:
    is_named = pl.col("session").is_not_null()
    return set_aside(
        turns.filter(_is_unusable()),
        pl.format("{}/{}", "dialogue", "turn"),
        pl.when(is_named).then(pl.lit("bad_times")).otherwise(pl.lit("bad_id")),
        pl.when(is_named)
        .then(pl.format("{} line {}: '{}' are no times; mend the line", "file", "line", "times"))
        .otherwise(
            pl.format("{} line {}: '{}' names no turn; mend the line", "file", "line", "turn")
        ),
    )


def _split(test_session: int | None) -> pl.Expr:
    if test_session is None:
        return pl.lit(None, pl.String)
    is_test = pl.col("number").cast(pl.Int32) == test_session
    return pl.when(is_test).then(pl.lit("test")).otherwise(pl.lit("train"))


def _media(root: Path, turns: pl.DataFrame, kind: str) -> dict[str, pl.Expr]:
    """Columns media, start_s, end_s and region; a sound file holds one utterance, a video many."""
    folder = pl.format("Session{}", pl.col("number").cast(pl.Int32))
    wav = pl.format("{}/sentences/wav/{}/{}.wav", folder, "dialogue", "turn")
    avi = pl.format("{}/dialog/avi/DivX/{}.avi", folder, "dialogue")
    if kind == "none":
        media, is_cut = pl.lit(None, pl.String), pl.lit(False)
    elif kind == "both":
        names = turns.select(avi).to_series().unique().sort()
        there = [name for name in names if (root / name).is_file()]
        is_cut = avi.is_in(there)
        media = pl.when(is_cut).then(avi).otherwise(wav)
    else:
        media, is_cut = (avi, pl.lit(True)) if kind == "avi" else (wav, pl.lit(False))
    half = (
        pl.when(pl.col("speaker") == pl.col("marker")).then(pl.lit(_LEFT)).otherwise(pl.lit(_RIGHT))
    )
    return {
        "media": media,
        "start_s": pl.when(is_cut).then("start_s"),
        "end_s": pl.when(is_cut).then("end_s"),
        "region": pl.when(is_cut).then(half),
    }


def _card(options: IemocapOptions, release: Release) -> ProtocolCard:
    kept = _KEEP[options.protocol]
    note = ""
    if options.protocol in ("6way", "4way_unmerged"):
        note = (
            "; work that starts from DialogueRNN's features has 53 more, turns without a majority "
            "that it counts as happy (7,433 in six classes, 4,543 in four)"
        )
    split = "leave one session out; session 5 is the usual test part" + note
    if not release.turns.height:
        raise UserError("IEMOCAP: no turn could be read; check Session*/dialog/EmoEvaluation")
    return ProtocolCard(
        name="iemocap",
        citation="Busso et al. 2008, IEMOCAP: Interactive emotional dyadic motion capture "
        "database, Language Resources and Evaluation 42(4)",
        licence="USC's release form: academic use, no redistribution",
        expected_utterances=_EXPECTED[options.protocol],
        expected_dialogues=151,
        label_map={raw: kept.get(name) for raw, name in _NAMES.items()} | {_NO_MAJORITY: None},
        scales=dict.fromkeys(("valence", "arousal", "dominance"), "iemocap"),
        kinds={"self_report": "self_report"},
        splits=split,
    )
