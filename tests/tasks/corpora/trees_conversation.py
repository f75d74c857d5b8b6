"""Tiny trees of conversation corpora in the layouts of their releases, all generated."""

import json
import wave
from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from tasks.ingest import stage as ingest
from tasks.labels import stage as labels
from tasks.plain_context import PlainContext
from tasks.splits import stage as splits
from tasks.tables.annotations import ANNOTATIONS
from tasks.tables.labels import LABELS
from tasks.tables.parquet import read_metadata, read_table
from tasks.tables.quarantine import QUARANTINE
from tasks.tables.splits import SPLIT
from tasks.tables.utterances import UTTERANCES
from tests.places import QUIET, here


def write_wav(path: Path, salt: int = 0, length_s: float = 0.05) -> None:
    """A short valid sound; other ``salt``, other bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        count = int(8000 * length_s)
        sound.writeframes(
            b"".join(((i * (7 + salt)) % 251).to_bytes(2, "little") for i in range(count))
        )


def write_text(path: Path, text: str, encoding: str = "utf-8") -> None:
    """A text file and its folders; line ends stay as they are given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))


def _csv(rows: Sequence[Sequence[object]]) -> str:
    def field(value: object) -> str:
        text = str(value)
        return '"' + text.replace('"', '""') + '"' if set(text) & set(',"\n') else text

    return "".join(",".join(field(value) for value in row) + "\n" for row in rows)


# --- IEMOCAP -------------------------------------------------------------------------------

#: turn, start, end, code, header, words, then lines of raters.
Turn = tuple[str, str, str, str, str, str, tuple[str, ...]]


def votes(labels_: str = "Neutral;", numbers: str = "val 2; act 3; dom  3;") -> tuple[str, ...]:
    """Three observers of the category, two of the attributes, and the actor's own lines."""
    return (
        f"C-E2:\t{labels_}\t()",
        f"C-E3:\t{labels_}\t()",
        "C-E4:\tNeutral; Frustration;\t(tired; (very))",
        "C-F1:\tSadness;\t()",
        f"A-E3:\t{numbers}\t()",
        "A-E4:\tval 3; act 2; dom  4;\t(calm)",
        "A-F1:\tval 5; act 5; dom  5;\t()",
    )


IEMOCAP: dict[str, list[Turn]] = {
    "Ses01F_impro01": [
        # listed in another order than they begin, as overlapping turns are in the release
        (
            "F001",
            "10.0100",
            "11.3925",
            "fru",
            "2.5000, 2.5000, 3.5000",
            "Yeah.",
            votes("Frustration;"),
        ),
        ("F000", "6.2901", "8.2357", "neu", "2.5000, 2.5000, 3.5000", "Excuse me.", votes()),
        (
            "M000",
            "7.5712",
            "10.4750",
            "exc",
            "2.5000, 2.5000, 3.5000",
            "Do you?",
            votes("Excited;"),
        ),
        ("M001", "12.0000", "13.0000", "xxx", "2.5000, 2.5000, 3.5000", "Hm.", votes("Other;")),
    ],
    "Ses01M_script01_1": [
        (
            "M000",
            "1.0000",
            "2.0000",
            "hap",
            "2.5000, 2.5000, 3.5000",
            "Great.",
            votes("Happiness;"),
        ),
        ("F000", "2.5000", "3.0000", "sur", "2.5000, 2.5000, 3.5000", "Oh!", votes("Surprise;")),
        ("F001", "3.5000", "4.0000", "ang", "2.5000, 2.5000, 3.5000", "Go.", votes("Anger;")),
    ],
    "Ses05F_impro02": [
        ("F000", "0.5000", "1.5000", "sad", "2.5000, 2.5000, 3.5000", "I see.", votes("Sadness;")),
        ("M000", "1.6000", "2.5000", "neu", "2.5000, 2.5000, 3.5000", "Fine.", votes()),
    ],
}


def iemocap(root: Path, turns: Mapping[str, Sequence[Turn]] = IEMOCAP, video: bool = True) -> None:
    """``Session?/dialog`` and ``Session?/sentences`` with evaluations, transcripts and media."""
    for salt, (dialogue, rows) in enumerate(turns.items()):
        base = root / f"Session{int(dialogue[3:5])}"
        evaluation = "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n"
        transcript = ""
        for name, start, end, code, header, words, lines in rows:
            turn = f"{dialogue}_{name}"
            evaluation += f"[{start} - {end}]\t{turn}\t{code}\t[{header}]\n"
            evaluation += "".join(f"{line}\n" for line in lines) + "\n"
            transcript += f"{turn} [{start.zfill(8)}-{end.zfill(8)}]: {words}\n"
            write_wav(base / f"sentences/wav/{dialogue}/{turn}.wav", salt + len(transcript))
        write_text(base / f"dialog/EmoEvaluation/{dialogue}.txt", evaluation)
        write_text(base / f"dialog/transcriptions/{dialogue}.txt", transcript)
        # the files of single raters repeat what the evaluations hold; they must not be read
        write_text(base / f"dialog/EmoEvaluation/Categorical/{dialogue}_e2_cat.txt", "spoilt\n")
        # what macOS leaves beside files
        write_text(base / f"dialog/EmoEvaluation/._{dialogue}.txt", "\x00\x05spoilt\n")
        if video:
            write_wav(base / f"dialog/avi/DivX/{dialogue}.avi", salt)


# --- MELD ----------------------------------------------------------------------------------

_MELD_COLUMNS = (
    "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,"
    "StartTime,EndTime"
)
MELD_HEADER = tuple(_MELD_COLUMNS.split(","))
#: words, speaker, emotion, sentiment, dialogue, utterance
MELD: dict[str, list[tuple[str, str, str, str, int, int]]] = {
    "train": [
        ("also I was the point person, he\x92s told me", "Chandler", "neutral", "neutral", 0, 0),
        ("You must\x92ve had your hands full.", "The Interviewer", "neutral", "neutral", 0, 1),
        ('"Wanted!" Nice,\xa0isn\x92t it\x85', "Joey", "joy", "positive", 0, 2),
        ("None", "Ross", "anger", "negative", 2, 0),
    ],
    "dev": [
        ("Oh my God, he’s lost it.", "Phoebe", "sadness", "negative", 0, 0),
        ("What?", "Monica", "surprise", "negative", 0, 1),
    ],
    "test": [
        ("Why do all you’re coffee mugs have numbers?", "Mark", "surprise", "positive", 0, 0),
        ("NA", "Rachel", "fear", "negative", 0, 1),
    ],
}
_MELD_CLIPS = {
    "train": "train_splits",
    "dev": "dev_splits_complete",
    "test": "output_repeated_splits_test",
}


def meld(root: Path, tables: Mapping[str, Sequence[tuple]] = MELD, encoding: str = "utf-8") -> None:
    """Three tables and three folders of clips."""
    for part, rows in tables.items():
        table: list[Sequence[object]] = [MELD_HEADER]
        for number, (words, who, emotion, sentiment, dialogue, utterance) in enumerate(rows, 1):
            times = ("00:16:16,059", "00:16:21,731")
            table.append(
                (number, words, who, emotion, sentiment, dialogue, utterance, 8, 21, *times)
            )
            write_wav(
                root / _MELD_CLIPS[part] / f"dia{dialogue}_utt{utterance}.mp4",
                number + 10 * len(part),
            )
        write_text(root / f"{part}_sent_emo.csv", _csv(table), encoding)


# --- CMU-MOSI and CMU-MOSEI ----------------------------------------------------------------

_HEADER = "video_id clip_id text label label_T label_A label_V annotation mode"
COMMON_HEADER = tuple(_HEADER.split())
#: video, clip, words, sentiment, mode; clips are out of order and one number is missing
SEGMENTS = [
    ("03bSnISJMiM", "10", "AND HERE, TOO", 2.4, "train"),
    ("03bSnISJMiM", "2", "THAY DID", -0.8, "train"),
    ("03bSnISJMiM", "1", "ANYHOW IT WAS REALLY GOOD", 1.0, "train"),
    ("_dI--eQ6qVU", "1", "SO WHAT", 0.0, "valid"),
    ("zhpQhgha_KU", "1", "I LOVE IT", 3.0, "test"),
    ("zhpQhgha_KU", "3", "NOT BAD", -1.3333334, "test"),
]


def common(root: Path, extra: Mapping[str, Sequence[object]] | None = None) -> None:
    """``label.csv`` and ``Raw/<video>/<clip>.mp4``; ``extra`` adds columns."""
    extra = extra or {}
    table: list[Sequence[object]] = [[*COMMON_HEADER, *extra]]
    for i, (video, clip, words, sentiment, mode) in enumerate(SEGMENTS):
        word = "Positive" if sentiment > 0 else "Negative" if sentiment < 0 else "Neutral"
        added = [values[i] for values in extra.values()]
        table.append([video, clip, words, sentiment, "", "", "", word, mode, *added])
        write_wav(root / f"Raw/{video}/{clip}.mp4", i)
    write_text(root / "label.csv", _csv(table))


def mosi_release(root: Path, inner: str = "Raw") -> None:
    """Folders of the original release: labels without header, transcripts, videos, sounds."""
    base = root / inner
    rows, words = [], {}
    for i, (video, clip, text, sentiment, _) in enumerate(SEGMENTS):
        start = float(clip) * 5
        rows.append((start, start + 4.5, video, clip, sentiment))
        words.setdefault(video, []).append(f"{clip}_DELIM_{text}")
        write_wav(base / f"Video/Segmented/{video}_{clip}.mp4", i)
        write_wav(base / f"Audio/WAV_16000/Segmented/{video}_{clip}.wav", i)
        write_wav(base / f"Video/Full/{video}.mp4", len(video) + ord(video[0]))
    write_text(base / "Labels/OpinionLevelSentiment.csv", _csv(rows))
    for video, lines in words.items():
        write_text(base / f"Transcript/Segmented/{video}.annotprocessed", "\n".join(lines) + "\n")


def write_folds(path: Path) -> None:
    """The SDK's file of standard folds."""
    write_text(
        path,
        "standard_train_fold=['03bSnISJMiM']\n"
        "standard_valid_fold=['_dI--eQ6qVU']\n"
        "standard_test_fold=['zhpQhgha_KU']\n",
    )


MOSEI_HEADER = "video start_time end_time sentiment happy sad anger surprise disgust fear text"
#: part of the release, video, start, end, sentiment, six emotions, words
MOSEI = [
    ("Train", "--qXJuDtHPw", "23.199", "30.325", 1.0, (2 / 3, 0, 0, 0, 0, 0), "I see a writer."),
    ("Train", "_0efYOjQYRc", "7.814", "13.882", 0.0, (0, 0, 0, 0, 0, 0), "Vettese has served."),
    ("Train", "_0efYOjQYRc", "0.0", "8.025", -1 / 3, (0, 1, 0, 0, 2, 0), "Deloitte ___ said."),
    ("Val", "0K7dCp80n9c", "1.5", "4.25", 2.0, (3, 0, 0, 1, 0, 0), "Good."),
    ("Test", "AQ4Pktv4-Gc", "0.25", "3.0", -3.0, (0, 0, 3, 0, 0, 1), "Bad."),
]


def mosei_release(root: Path, rows: Sequence[tuple] = MOSEI, transcripts: bool = True) -> None:
    """Label tables with times, whole videos and sounds, segmented transcripts."""
    for part in ("Train", "Val", "Test"):
        table: list[Sequence[object]] = [MOSEI_HEADER.split()]
        table += [[*row[1:5], *row[5], row[6]] for row in rows if row[0] == part]
        write_text(root / f"Labels/Data_{part}_modified.csv", _csv(table))
    numbers: dict[str, int] = {}
    lines: dict[str, list[str]] = {}
    for i, (_, video, start, end, *_rest, words) in enumerate(
        sorted(rows, key=lambda r: str(r[2]))
    ):
        number = numbers.setdefault(video, 0)
        numbers[video] += 1
        lines.setdefault(video, []).append(f"{video}___{number}___{start}___{end}___{words}")
        write_wav(root / f"Videos/Full/Combined/{video}.mp4", i)
        write_wav(root / f"Audio/Full/WAV_16000/{video}.wav", i + 50)
        write_wav(root / f"Videos/Segmented/Combined/{video}_{number}.mp4", i + 90)
    if transcripts:
        for video, said in lines.items():
            said.append(f"{video}___{numbers[video]}___90.0___95.0___Nobody judged this.")
            name = f"Transcript/Segmented/Combined/{video}.txt"
            write_text(root / name, "\n".join(said) + "\n")


# --- through the stages --------------------------------------------------------------------


def ingested(
    corpus: str,
    options: Mapping[str, object] | None = None,
    max_quarantine_fraction: float = 0.2,
    adapter: str | None = None,
) -> dict[str, pl.DataFrame]:
    """Tables that ingest makes of ``data/raw/<corpus>`` under the working folder."""
    params = ingest.IngestParams(
        adapter=adapter or corpus,
        options=dict(options or {}),
        max_quarantine_fraction=max_quarantine_fraction,
    )
    ingest.run(params, here(), PlainContext(stage="ingest"), corpus)
    return {
        "utterances": read_table(UTTERANCES, here().utterances(corpus)),
        "annotations": read_table(ANNOTATIONS, here().annotations(corpus)),
        "quarantine": read_table(QUARANTINE, here().quarantine(corpus)),
    }


def through_stages(
    corpus: str,
    options: Mapping[str, object] | None = None,
    label_params: Mapping[str, object] | None = None,
    split_params: Mapping[str, object] | None = None,
    max_quarantine_fraction: float = 0.2,
    adapter: str | None = None,
) -> dict[str, pl.DataFrame]:
    """Tables after ingest, splits and labels."""
    tables = ingested(corpus, options, max_quarantine_fraction, adapter)
    rules = {"max_quarantine_fraction": 1.0, **(label_params or {})}
    merging = labels.LabelsParams(**rules)
    protocol = {"protocol": "published", "group": "dialogue", **(split_params or {})}
    splitting = splits.SplitsParams(**protocol)
    splits.run(splits.ForSplits(splitting, merging), here(), QUIET, corpus)
    labels.run(merging, here(), QUIET, corpus)
    return {
        **tables,
        "labels": read_table(LABELS, here().labels(corpus)),
        "labels_quarantine": read_table(QUARANTINE, here().labels_quarantine(corpus)),
        "splits": read_table(SPLIT, here().splits(corpus)),
    }


def counts_of(corpus: str) -> dict[str, object]:
    """What ingest counted."""
    return json.loads(read_metadata(here().utterances(corpus))["counts"])


def reasons(frame: pl.DataFrame) -> dict[str, int]:
    """Rows of a quarantine table by reason."""
    counted = frame.group_by("reason").len().sort("reason")
    return dict(zip(counted["reason"].to_list(), counted["len"].to_list(), strict=True))
