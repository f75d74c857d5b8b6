"""EmoDB: ten actors say ten German sentences in seven emotions (Burkhardt et al. 2005).

The file name says it all: ``03a01Fa.wav`` is speaker 03, sentence a01, F(reude), take a.
"""

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from tasks.corpora.adapter import Corpus, ProtocolCard
from tasks.corpora.source import aside, best_media, choose, list_files, single, with_stems

#: The letter of the German word to the emotion.
EMOTIONS = {
    "W": "anger",
    "L": "boredom",
    "E": "disgust",
    "A": "fear",
    "F": "happiness",
    "T": "sadness",
    "N": "neutral",
}
#: Number to sex and age, as published.
SPEAKERS = {
    "03": ("male", 31),
    "08": ("female", 34),
    "09": ("female", 21),
    "10": ("male", 32),
    "11": ("male", 26),
    "12": ("male", 30),
    "13": ("female", 32),
    "14": ("female", 35),
    "15": ("male", 25),
    "16": ("female", 31),
}
SENTENCES = {
    "a01": "Der Lappen liegt auf dem Eisschrank.",
    "a02": "Das will sie am Mittwoch abgeben.",
    "a04": "Heute abend könnte ich es ihm sagen.",
    "a05": "Das schwarze Stück Papier befindet sich da oben neben dem Holzstück.",
    "a07": "In sieben Stunden wird es soweit sein.",
    "b01": "Was sind denn das für Tüten, die da unter dem Tisch stehen?",
    "b02": "Sie haben es gerade hochgetragen und jetzt gehen sie wieder runter.",
    "b03": "An den Wochenenden bin ich jetzt immer nach Hause gefahren und habe Agnes besucht.",
    "b09": "Ich will das eben wegbringen und dann mit Karl was trinken gehen.",
    "b10": "Die wird auf dem Platz sein, wo wir sie immer hinlegen.",
}

CARD = ProtocolCard(
    name="emodb",
    citation="Burkhardt et al., A Database of German Emotional Speech, Interspeech 2005",
    licence="free for research",
    expected_utterances=535,
    label_map={
        "anger": "angry",
        "boredom": "boredom",
        "disgust": "disgust",
        "fear": "fear",
        "happiness": "happy",
        "sadness": "sad",
        "neutral": "neutral",
    },
    splits="none published; folds must not share a speaker",
)


#: What ``params.yaml`` may say of the corpus.
OPTIONS: dict[str, tuple[str, ...]] = {}


def read(root: Path, options: Mapping[str, object]) -> Corpus:
    """The recordings under ``root``, published as the folder ``wav``; there are no options."""
    choose("emodb", options, OPTIONS)
    files = with_stems(list_files(root, (".wav",)))
    parts = pl.col("stem").str.extract_groups(r"^(\d\d)([ab]\d\d)([A-Z])([a-z])$")
    files = files.with_columns(
        parts.struct.field(str(n + 1)).alias(name)
        for n, name in enumerate(("speaker", "sentence", "letter", "take"))
    )
    problem = (
        pl.when(pl.col("speaker").is_null())
        .then(pl.lit("the name is not like 03a01Fa; give it its published name"))
        .when(~pl.col("speaker").is_in(list(SPEAKERS)))
        .then(pl.format("there is no speaker {}; give it its published name", "speaker"))
        .when(~pl.col("sentence").is_in(list(SENTENCES)))
        .then(pl.format("there is no sentence {}; give it its published name", "sentence"))
        .when(~pl.col("letter").is_in(list(EMOTIONS)))
        .then(pl.format("there is no emotion {}; give it its published name", "letter"))
    )
    bad = files.with_columns(problem=problem).filter(pl.col("problem").is_not_null())
    rows, twice = best_media(files.filter(problem.is_null()), "stem", pl.lit(0))
    ids = single(pl.col("stem"))
    utterances = rows.select(
        *ids,
        speaker=pl.format("speaker_{}", "speaker"),
        sex=pl.col("speaker").replace_strict({name: sex for name, (sex, _) in SPEAKERS.items()}),
        age=pl.col("speaker").replace_strict({name: age for name, (_, age) in SPEAKERS.items()}),
        media="media",
        text=pl.col("sentence").replace_strict(SENTENCES, return_dtype=pl.String),
        language=pl.lit("de"),
    )
    annotations = rows.select(
        ids[0],
        rater=pl.lit("intended"),
        target=pl.lit("category"),
        label=pl.col("letter").replace_strict(EMOTIONS, return_dtype=pl.String),
        source=pl.lit("file name"),
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
    return Corpus(utterances, annotations, quarantine, CARD)
