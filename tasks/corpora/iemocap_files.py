"""The text files of the IEMOCAP release: evaluations with every rater's judgement, transcripts."""

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from models.errors import UserError
from tasks.corpora.files import blank_to_null, judgements, read_lines, set_aside, to_number
from tasks.targets import VAD

_HEADER = r"^\[(?<times>[^\]]*)\]\s+(?<turn>\S+)\s+(?<code>\S+)\s+\[(?<vad>[^\]]*)\]$"
#: C: categories, A: attributes; E1..: observers, F and M: the actors themselves.
_VOTE = r"^(?<form>[CA])-(?<who>[A-Z])(?<digits>\d*):\s*(?<said>.*)$"
_COMMENT = r"\s*\([^\t]*\)?\s*$"
_TIMES = r"^\s*([^\s-]+)\s*-\s*([^\s-]+)\s*$"
_TRANSCRIPT = r"^(?<turn>Ses\S+)\s+\[(?<times>[^\]]*)\]:?\s*(?<text>.*)$"
#: How the evaluations abbreviate valence, arousal and dominance.
_ATTRIBUTES = {"valence": "val", "arousal": "act", "dominance": "dom"}


@dataclass(frozen=True)
class Release:
    """The release's turns and what was said of them.

    Attributes:
        turns: file, line, dialogue, turn, times, code, vad, start_s, end_s (null where unreadable)
            and text.
        votes: file, line, turn, form, who, digits, said: one row for each line of a rater.
        quarantine: lines that could not be read, and transcribed turns that nobody judged.
    """

    turns: pl.DataFrame
    votes: pl.DataFrame
    quarantine: pl.DataFrame

    def judgements(
        self, turns: pl.DataFrame, categories: str, vad: str, self_reports: bool
    ) -> pl.DataFrame:
        """Judgements of ``turns``, which have utterance_id, session and columns of ``turns``."""
        votes = self.votes.join(
            turns.select("turn", "utterance_id", "session"),
            on="turn",
            maintain_order="left",
        ).with_columns(
            is_own=pl.col("who") != "E",
            rater=pl.when(pl.col("who") == "E")
            .then(pl.format("E{}", "digits"))
            .otherwise(pl.format("{}_{}", "session", "who")),
            source=pl.when(pl.col("who") == "E")
            .then(pl.lit("EmoEvaluation"))
            .otherwise(pl.lit("self_report")),
        )
        frames = []
        if categories == "released":
            frames.append(_released_categories(turns))
        else:
            frames.append(_categories(votes.filter(~pl.col("is_own"))))
        if vad == "released":
            frames.append(_released_vad(turns))
        else:
            frames.append(_attributes(votes.filter(~pl.col("is_own"))))
        if self_reports:
            own = votes.filter("is_own")
            frames += [_categories(own), _attributes(own)]
        return judgements(frames)


def read_release(root: Path) -> Release:
    """Read every dialogue of ``root/Session*``."""
    evaluations = sorted(root.glob("Session*/dialog/EmoEvaluation/Ses*.txt"))
    if not evaluations:
        raise UserError(
            f"{root / 'Session1/dialog/EmoEvaluation'} holds no Ses*.txt; put IEMOCAP's folders "
            f"Session1 to Session5 into {root}"
        )
    turns, votes, unread = _evaluations(read_lines(root, evaluations))
    spoken, unheard = _transcripts(
        read_lines(root, sorted(root.glob("Session*/dialog/transcriptions/Ses*.txt")))
    )
    unjudged = spoken.join(turns, on="turn", how="anti", maintain_order="left")
    quarantine = pl.concat(
        [
            unread,
            unheard,
            set_aside(
                unjudged,
                pl.format("{}/{}", pl.col("turn").str.replace("_[^_]*$", ""), "turn"),
                "not_evaluated",
                pl.format(
                    "{} line {}: nobody judged this turn; it has no line in EmoEvaluation",
                    "file",
                    "line",
                ),
            ),
        ]
    )
    spoken = spoken.select("turn", "text").unique("turn", keep="first", maintain_order=True)
    turns = turns.join(spoken, on="turn", how="left", maintain_order="left")
    return Release(turns, votes, quarantine)


def _evaluations(lines: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Turns, raters' lines, and quarantine rows of the lines that are neither."""
    lines = (
        lines.filter((pl.col("text") != "") & ~pl.col("text").str.starts_with("%"))
        .with_columns(
            head=pl.col("text").str.extract_groups(_HEADER),
            vote=pl.col("text").str.extract_groups(_VOTE),
            dialogue=pl.col("file").str.extract(r"([^/]+)\.txt$"),
        )
        .with_columns(
            is_head=pl.col("head").struct.field("turn").is_not_null(),
            is_vote=pl.col("vote").struct.field("form").is_not_null(),
        )
        # a rater's line belongs to the header above it; a spoilt header has none
        .with_columns(is_spoilt=~pl.col("is_head") & ~pl.col("is_vote"))
        .with_columns(
            above=pl.when("is_head")
            .then(pl.col("head").struct.field("turn"))
            .when("is_spoilt")
            .then(pl.lit(""))
            .forward_fill()
            .over("file")
        )
    )
    start, end = (pl.col("times").str.extract(_TIMES, i) for i in (1, 2))
    turns = (
        lines.filter("is_head")
        .select("file", "line", "dialogue", "head")
        .unnest("head")
        .with_columns(start_s=to_number(start), end_s=to_number(end))
        .with_columns(
            pl.when(pl.col(name).is_finite()).then(name).alias(name)
            for name in ("start_s", "end_s")
        )
    )
    is_lost = pl.col("is_vote") & (pl.col("above").fill_null("") == "")
    votes = (
        lines.filter(pl.col("is_vote") & ~is_lost)
        .select("file", "line", "vote", turn="above")
        .unnest("vote")
        .with_columns(said=pl.col("said").str.replace(_COMMENT, ""))
    )
    unread = set_aside(
        lines.filter(pl.col("is_spoilt") | is_lost),
        pl.format("{}/?line{}", "dialogue", "line"),
        pl.when("is_spoilt").then(pl.lit("unreadable_line")).otherwise(pl.lit("orphan_label")),
        pl.when("is_spoilt")
        .then(
            pl.format(
                "{} line {}: '{}' is neither the header of a turn nor a rater's line; mend it",
                "file",
                "line",
                "text",
            )
        )
        .otherwise(
            pl.format(
                "{} line {}: '{}' stands below no readable header; mend the header above",
                "file",
                "line",
                "text",
            )
        ),
    )
    return turns, votes, unread


def _transcripts(lines: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Columns file, line, turn, text; and quarantine rows of lines that name no turn."""
    lines = lines.filter(pl.col("text") != "").with_columns(
        parts=pl.col("text").str.extract_groups(_TRANSCRIPT)
    )
    is_turn = pl.col("parts").struct.field("turn").is_not_null()
    spoken = lines.filter(is_turn).select(
        "file",
        "line",
        turn=pl.col("parts").struct.field("turn"),
        text=blank_to_null(pl.col("parts").struct.field("text")),
    )
    unread = set_aside(
        lines.filter(~is_turn),
        pl.format("{}/?line{}", pl.col("file").str.extract(r"([^/]+)\.txt$"), "line"),
        "unreadable_line",
        pl.format("{} line {}: '{}' names no turn; its words are not used", "file", "line", "text"),
    )
    return spoken, unread


def _released_categories(turns: pl.DataFrame) -> pl.DataFrame:
    return turns.select(
        "utterance_id",
        rater=pl.lit("released"),
        target=pl.lit("category"),
        label="code",
        source=pl.lit("EmoEvaluation"),
    )


def _released_vad(turns: pl.DataFrame) -> pl.DataFrame:
    numbers = pl.col("vad").str.split(",")
    return pl.concat(
        turns.select(
            "utterance_id",
            rater=pl.lit("released"),
            target=pl.lit(name),
            value=numbers.list.get(i, null_on_oob=True).str.strip_chars(),
            scale_min=pl.lit(1.0),
            scale_max=pl.lit(5.0),
            source=pl.lit("EmoEvaluation"),
        )
        for i, name in enumerate(VAD)
    )


def _categories(votes: pl.DataFrame) -> pl.DataFrame:
    """One row for each label that a rater gave; a rater may give several, or none."""
    labels = pl.col("said").str.split(";").list.eval(pl.element().str.strip_chars())
    return (
        votes.filter(pl.col("form") == "C")
        .select(
            "utterance_id",
            "rater",
            "source",
            target=pl.lit("category"),
            label=labels.list.eval(pl.element().filter(pl.element() != "")),
        )
        .explode("label")
    )


def _attributes(votes: pl.DataFrame) -> pl.DataFrame:
    """Valence, arousal and dominance; a blank is a missing judgement, not a number."""
    rows = votes.filter(pl.col("form") == "A")
    return pl.concat(
        rows.select(
            "utterance_id",
            "rater",
            "source",
            target=pl.lit(name),
            value=pl.col("said").str.extract(rf"\b{short}\s*([^;]*)").str.strip_chars(),
            scale_min=pl.lit(1.0),
            scale_max=pl.lit(5.0),
        )
        for name, short in _ATTRIBUTES.items()
    )
