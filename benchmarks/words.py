"""Word error rate and speed of what writes down words, on real voices.

``python -m benchmarks.words [--clips 120]`` in the root of the repository, with the real data
beside it (``../shared/data``, or ``AFFECTLOOM_SHARED``). The stage ``transcribe`` listens to clips
of RAVDESS, in which actors say one of two sentences in eight emotions, and to the two videos whose
words are known; what it heard is compared word by word, without capitals and punctuation. Prints
errors by group, and processor seconds (all processes, reading and decoding too) for each second of
sound. ``--asr NAME`` takes another entry of params.yaml or of params/offline.yaml.
"""

import argparse
import io
import os
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

import polars as pl
import soundfile

from benchmarks.project import SHARED
from tasks.layout import Layout, default_cache
from tasks.media.decoding import media_sha256
from tasks.params.model import Params
from tasks.params.text import read_mapping
from tasks.plain_context import PlainContext
from tasks.predict.listening.words import bring_transcriber, transcriber_named
from tasks.tables.parquet import read_table, write_table
from tasks.tables.transcripts import TRANSCRIPTS
from tasks.tables.utterances import UTTERANCES
from tasks.transcribe import stage

#: Videos whose words are known: a sentence of TIMIT that MEAD's actors say, and one of RAVDESS.
VIDEOS = {
    "mead_M030_sad_3_001.mp4": "She had your dark suit in greasy wash water all year",
    "ravdess_01-01-01-01-01-01-01.mp4": "Kids are talking by the door",
}


def plain(text: str) -> list[str]:
    """Words without capitals and punctuation."""
    return re.sub(r"[^\w' ]", " ", text.lower()).split()


def errors(expected: Sequence[str], said: Sequence[str]) -> int:
    """Fewest words that are put in, left out or changed (Levenshtein)."""
    row = list(range(len(said) + 1))
    for number, word in enumerate(expected, 1):
        before, row[0] = row[0], number
        for place, other in enumerate(said, 1):
            change = before + (word != other)
            before, row[place] = row[place], min(change, row[place] + 1, row[place - 1] + 1)
    return row[-1]


def gather(clips: int, layout: Layout) -> pl.DataFrame:
    """Media and the table of utterances; returns what is said in each, with its emotion."""
    folder = layout.raw("words")
    folder.mkdir(parents=True)
    table = pl.read_parquet(SHARED / "ravdess_speech_16k.parquet")
    some = table.sample(min(clips, table.height), seed=0).sort("file")
    known = []
    for name, statement, emotion, sound in some.select(
        "file", "statement", "emotion", "audio_flac"
    ).iter_rows():
        samples, rate_hz = soundfile.read(io.BytesIO(sound), dtype="int16")
        path = folder / f"{Path(name).stem}.wav"
        soundfile.write(path, samples, rate_hz)
        known.append((path, statement, emotion, len(samples) / rate_hz))
    for name, words in VIDEOS.items():
        (folder / name).symlink_to((SHARED / "av_clips" / name).resolve())
        known.append((folder / name, words, "videos", None))
    rows = [
        {
            "utterance_id": f"words/{number:04d}",
            "dialogue_id": f"words/{number:04d}",
            "turn": 0,
            "media": f"words/{path.name}",
            "media_sha256": media_sha256(path),
        }
        for number, (path, *_) in enumerate(known)
    ]
    write_table(UTTERANCES, UTTERANCES.frame(rows), layout.utterances("words"))
    return pl.DataFrame(
        [(row["utterance_id"], *rest) for row, (_, *rest) in zip(rows, known, strict=True)],
        schema=["utterance_id", "expected", "group", "length_s"],
        orient="row",
    )


def processor_s() -> float:
    """Of this process and those it waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=120)
    parser.add_argument("--asr", default="", help="an entry of asr")
    arguments = parser.parse_args()
    asr = transcriber_named(arguments.asr, Params(read_mapping(Path("params.yaml"))), Path())
    with tempfile.TemporaryDirectory() as folder:
        # weights come from the project's cache, words do not
        root, cache = Path(folder) / "data", Path(folder) / "cache"
        bring_transcriber(asr, Layout(), print)
        cache.mkdir()
        (cache / "weights").symlink_to(default_cache() / "weights")
        layout = Layout(root, cache=cache)
        known = gather(arguments.clips, layout)
        context = PlainContext("words", stream=io.StringIO())
        began = processor_s()
        path = stage.run(asr, layout, context, "words")
        spent = processor_s() - began
        found = read_table(TRANSCRIPTS, path)
    tell(known.join(found, on="utterance_id", how="left"), spent)


def tell(rows: pl.DataFrame, spent_s: float) -> None:
    """Print errors by group, what was heard wrongly most often, and the speed."""
    counted = []
    for row in rows.iter_rows(named=True):
        expected, said = plain(row["expected"]), plain(row["text"] or "")
        counted.append((row["group"], len(expected), errors(expected, said), row["text"] is None))
        if expected != said and row["group"] == "videos":
            print(f"heard in a video: {row['text']}")
    table = pl.DataFrame(counted, schema=["group", "words", "errors", "unheard"], orient="row")
    groups = table.group_by("group").agg(pl.len().alias("clips"), pl.all().sum()).sort("group")
    print("| | clips | words | errors | word error rate % | nothing heard |")
    print("|---|---|---|---|---|---|")
    voices = groups.filter(pl.col("group") != "videos")
    total = voices.select(
        pl.lit("RAVDESS").alias("group"), pl.col("clips", "words", "errors", "unheard").sum()
    )
    for group, clips, words, wrong, unheard in [*groups.iter_rows(), *total.iter_rows()]:
        print(f"| {group} | {clips} | {words} | {wrong} | {100 * wrong / words:.1f} | {unheard} |")
    wrong = rows.filter(pl.col("group") != "videos").filter(
        pl.col("text").fill_null("").map_elements(lambda text: " ".join(plain(text)), pl.String)
        != pl.col("expected").str.to_lowercase()
    )
    for text, count in wrong.get_column("text").value_counts(sort=True).head(8).iter_rows():
        print(f"heard {count} times instead: {text}")
    length_s = float(rows.get_column("length_s").fill_null(3.7).sum())
    print(
        f"{spent_s:.1f} processor seconds for {length_s:.0f} s of sound: {spent_s / length_s:.2f}"
    )
    languages = dict(rows.get_column("language").value_counts(sort=True).iter_rows())
    confidence = rows.get_column("confidence").mean()
    print(f"mean confidence {confidence:.2f}; clips by language {languages}")


if __name__ == "__main__":
    main()
