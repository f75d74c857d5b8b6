"""CREMA-D: 91 actors, 12 sentences, six emotions, judged by ear, by eye and by both.

Cao et al. 2014. File names are ``<actor>_<sentence>_<emotion>_<level>``, and
``processedResults/tabulatedVotes.csv`` counts the votes for each emotion: its rows 1xxxxx are of
people who only heard the clip, 2xxxxx who only saw it, 3xxxxx who did both. The table holds counts,
not people, so a clip's votes become raters ``<kind>_01`` and so on, in order of the letters.
"""

import logging
from collections.abc import Mapping
from pathlib import Path

import polars as pl

from models.errors import UserError
from tasks.corpora.adapter import Corpus, ProtocolCard
from tasks.corpora.source import aside, best_media, choose, list_files, read_csv, single, with_stems

EMOTIONS = {"A": "ANG", "D": "DIS", "F": "FEA", "H": "HAP", "N": "NEU", "S": "SAD"}
LEVELS = ("LO", "MD", "HI", "XX", "X")  # one published name ends in a single X
SENTENCES = {
    "IEO": "It's eleven o'clock.",
    "TIE": "That is exactly what happened.",
    "IOM": "I'm on my way to the meeting.",
    "IWW": "I wonder what this is about.",
    "TAI": "The airplane is almost full.",
    "MTI": "Maybe tomorrow it will be cold.",
    "IWL": "I would like a new alarm clock.",
    "ITH": "I think I have a doctor's appointment.",
    "DFA": "Don't forget a jacket.",
    "ITS": "I think I've seen this before.",
    "TSI": "The surface is slick.",
    "WSI": "We'll stop in a couple of minutes.",
}
#: First digit of a row's number in the table of votes to how the clip was judged.
KINDS = {"1": "audio", "2": "video", "3": "audiovisual"}
_VOTES = "processedResults/tabulatedVotes.csv"
_ACTORS = "VideoDemographics.csv"
_WANTED = {
    "best": [".mp4", ".flv", ".wav", ".mp3"],
    "video": [".mp4", ".flv"],
    "audio": [".wav", ".mp3"],
}

CARD = ProtocolCard(
    name="crema_d",
    citation="Cao et al., IEEE Trans. Affective Computing 5(4), 2014",
    licence="Open Database License 1.0",
    expected_utterances=7442,
    label_map={
        "ANG": "angry",
        "DIS": "disgust",
        "FEA": "fear",
        "HAP": "happy",
        "NEU": "neutral",
        "SAD": "sad",
    },
    splits="none published; folds must not share an actor",
)

log = logging.getLogger("affectloom")


#: What ``params.yaml`` may say of the corpus.
OPTIONS = {
    "labels": ("audiovisual", "audio", "video", "votes", "intended", "all"),
    "media": tuple(_WANTED),
}


def read(root: Path, options: Mapping[str, object]) -> Corpus:
    """The clips under ``root`` with the judgements asked for.

    Args:
        root: folder with ``AudioWAV``, ``VideoFlash`` or both, and ``processedResults``; sex and
            age of the actors are in ``VideoDemographics.csv``.
        options: ``labels``: votes of people who met the clip as ``audiovisual`` (default),
            ``audio`` or ``video``, ``votes`` of all three, or the ``intended`` emotion, or ``all``;
            ``media``: ``best`` (a file with picture before one without), ``audio`` or ``video``.
    """
    chosen = choose(
        "crema_d",
        options,
        OPTIONS,
    )
    files = with_stems(list_files(root, (".mp4", ".flv", ".wav", ".mp3")))
    parts = pl.col("stem").str.extract_groups(r"^(\d{4})_([A-Z]{3})_([A-Z]{3})_([A-Z]{1,2})$")
    files = files.with_columns(
        parts.struct.field(str(n + 1)).alias(name)
        for n, name in enumerate(("actor", "sentence", "emotion", "level"))
    )
    problem = _problem()
    bad = files.with_columns(problem=problem).filter(pl.col("problem").is_not_null())
    good = files.filter(problem.is_null())
    rank = pl.col("suffix").replace_strict(
        {suffix: n for n, suffix in enumerate(_WANTED[str(chosen["media"])])},
        default=None,
        return_dtype=pl.Int64,
    )
    rows, twice = best_media(good, "stem", rank)
    rows = rows.join(_actors(root / _ACTORS), on="actor", how="left", maintain_order="left")
    ids = single(pl.col("stem"))
    utterances = rows.select(
        *ids,
        speaker=pl.format("actor_{}", "actor"),
        sex="sex",
        age="age",
        media="media",
        text=pl.col("sentence").replace_strict(SENTENCES, return_dtype=pl.String),
        language=pl.lit("en"),
    )
    judgements, miscounted = [], []
    if chosen["labels"] in ("intended", "all"):
        judgements.append(
            rows.select(
                ids[0],
                rater=pl.lit("intended"),
                target=pl.lit("category"),
                label="emotion",
                source=pl.lit("intended"),
            )
        )
    if chosen["labels"] != "intended":
        kinds = list(KINDS.values()) if chosen["labels"] in ("votes", "all") else [chosen["labels"]]
        votes, wrong = read_votes(root / _VOTES)
        judgements.append(votes.filter(pl.col("source").is_in([f"votes_{k}" for k in kinds])))
        miscounted.append(wrong)
    quarantine = pl.concat(
        [
            aside(bad, pl.col("media"), "bad_name", pl.format("{}: {}", "media", "problem")),
            aside(
                twice,
                pl.col("media"),
                "duplicate_file",
                pl.format("{} is there twice; the first in order of folders is kept", "stem"),
            ),
            *miscounted,
        ]
    )
    return Corpus(utterances, pl.concat(judgements), quarantine, CARD)


def _actors(path: Path) -> pl.DataFrame:
    """Columns actor, sex and age; empty where the list of the actors is not there."""
    if not path.is_file():
        return pl.DataFrame(schema={"actor": pl.String, "sex": pl.String, "age": pl.Float64})
    table = read_csv(path, ["ActorID", "Age", "Sex"], "take the corpus's own list")
    return table.select(
        actor="ActorID",
        sex=pl.col("Sex").str.to_lowercase(),
        age=pl.col("Age").cast(pl.Float64, strict=False),
    ).unique("actor", keep="first", maintain_order=True)


def _problem() -> pl.Expr:
    """What is wrong with a name; null for a good one."""
    rename = "; give it its published name"
    return (
        pl.when(pl.col("actor").is_null())
        .then(pl.lit("the name is not like 1001_DFA_ANG_XX" + rename))
        .when(~pl.col("actor").cast(pl.Int64).is_between(1001, 1091))
        .then(pl.lit("actors are 1001 to 1091" + rename))
        .when(~pl.col("sentence").is_in(list(SENTENCES)))
        .then(pl.format("there is no sentence {}" + rename, "sentence"))
        .when(~pl.col("emotion").is_in(list(EMOTIONS.values())))
        .then(pl.format("there is no emotion {}" + rename, "emotion"))
        .when(~pl.col("level").is_in(LEVELS))
        .then(pl.format("there is no level {}" + rename, "level"))
    )


def read_votes(path: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    """One judgement for each counted vote, and quarantine rows for rows that do not add up."""
    remedy = "copy it from the corpus's repository, or set option labels to intended in params.yaml"
    letters = list(EMOTIONS)
    table = read_csv(path, ["", *letters, "fileName", "numResponses"], remedy)
    counts = [pl.col(letter).cast(pl.Int64, strict=False) for letter in letters]
    table = table.with_columns(
        *counts,
        kind=pl.col("").str.slice(0, 1).replace_strict(KINDS, default=None),
        responses=pl.col("numResponses").cast(pl.Int64, strict=False),
    ).with_columns(total=pl.sum_horizontal(letters, ignore_nulls=False))
    if table["kind"].null_count() == table.height:
        raise UserError(f"{path}: no row number begins with 1, 2 or 3; {remedy}")
    problem = (
        pl.when(pl.col("kind").is_null())
        .then(pl.format("row number {} begins with none of 1, 2, 3", pl.col("").fill_null("?")))
        .when(pl.col("fileName").is_null())
        .then(pl.lit("no file is named"))
        .when(pl.col("total").is_null() | (pl.min_horizontal(letters) < 0))
        .then(pl.lit("a count of votes is no whole number"))
        .when(pl.col("total") != pl.col("responses"))
        .then(pl.format("{} votes, but {} responses are stated", "total", "numResponses"))
    )
    table = table.with_columns(problem=problem)
    wrong = table.filter(pl.col("problem").is_not_null())
    votes = (
        table.filter(pl.col("problem").is_null())
        .unpivot(letters, index=["fileName", "kind"], variable_name="letter", value_name="votes")
        .filter(pl.col("votes") > 0)
        .sort("kind", "fileName", "letter")
        .with_columns(pl.lit(0).repeat_by("votes").alias("vote"))
        .explode("vote")
        .with_columns(number=pl.int_range(1, pl.len() + 1).over("kind", "fileName"))
    )
    stem = pl.col("fileName").str.replace(r"\.[^.]*$", "")
    judgements = votes.select(
        single(stem)[0],
        rater=pl.format("{}_{}", "kind", pl.col("number").cast(pl.String).str.zfill(2)),
        target=pl.lit("category"),
        label=pl.col("letter").replace_strict(EMOTIONS, return_dtype=pl.String),
        source=pl.format("votes_{}", "kind"),
    )
    where = pl.format(f"{path.name}:{{}}", "line")
    return judgements, aside(
        wrong,
        where,
        "bad_votes",
        pl.format(f"{path.name} line {{}}: {{}}; mend the table", "line", "problem"),
    )
