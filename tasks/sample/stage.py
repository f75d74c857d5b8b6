"""The stage ``sample``: a synthetic corpus of dialogues with video, voice, text and raters.

The folder it writes is laid out as a user's own corpus would be: ``media/``, ``utterances.csv``,
``annotations.csv``. ``factors.csv`` holds the hidden truth for ``benchmarks/sample_signal.py``;
the pipeline never reads it.
"""

import shutil
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl

from models.errors import UserError
from tasks.context import Context
from tasks.layout import Layout
from tasks.sample.clip import write_clip
from tasks.sample.face import Expression, Look, draw_clip, draw_look, draw_room, draw_scenery
from tasks.sample.process import AWKWARD, DUPLICATE_OF, SampleParams, draw_factors, judge, stream
from tasks.sample.text import compose
from tasks.sample.voice import Speaker, Speech, draw_speaker, natural_duration_s, speak

__all__ = ["AWKWARD", "DUPLICATE_OF", "KEPT_SHARE", "SampleParams", "run", "write_sentences"]

#: Share of its bytes that the truncated file keeps. The index of an MP4 file is at its end.
KEPT_SHARE = 0.4

_README = """\
The sample corpus of affectloom: synthetic, made by the stage `sample` from a seed.

Nobody was recorded. Faces are drawn, voices are synthesised, sentences come from a small grammar,
and the three raters are simulated. Use it to try the pipeline, not to learn about people.

utterances.csv   one row per utterance: what is said, by whom, in which file (and where in it)
annotations.csv  one row per judgement of a rater
media/           one file per utterance, or one per dialogue with start_s and end_s
factors.csv      the hidden truth behind it, for checks only; the pipeline does not read it

Speakers of one session never meet speakers of another.

Awkward on purpose, one clip of each:
{awkward}
"""
_AWKWARD_TEXT = {
    "no_audio": "{clip}: its file has no audio stream",
    "no_face": "{clip}: its picture shows hills, no face",
    "truncated": "{clip}: its file is cut off after {share:.0%} of its bytes and cannot be opened",
    "no_text": "{clip}: it has a voice but no transcript",
    "duplicate": "{clip}: its file is a byte for byte copy of that of {source}",
}


def run(params: SampleParams, layout: Layout, ctx: Context) -> None:
    """Make the corpus and put it where media lie."""
    make(params, layout.raw("sample"))


def make(params: SampleParams, destination: Path) -> None:
    """Make the corpus and put it at ``destination``, whole or not at all.

    Args:
        params: what to make.
        destination: folder to write; one that exists is replaced.
    """
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{destination.name}.", dir=destination.parent))
    except OSError as error:
        raise _cannot_write(destination, error) from error
    try:
        _write_corpus(params, folder)
        if destination.exists():
            shutil.rmtree(destination)
        folder.chmod(0o755)  # mkdtemp makes folders that only their owner can read
        folder.rename(destination)
    except OSError as error:
        raise _cannot_write(destination, error) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _cannot_write(path: Path, error: OSError) -> UserError:
    return UserError(
        f"cannot write {path}: {error.strerror or error}; free space or make the folder writable"
    )


def _write_corpus(params: SampleParams, folder: Path) -> None:
    utterances = write_sentences(params, draw_factors(params))
    utterances = _write_media(params, utterances, folder / "media")
    text = pl.when(pl.col("utterance") == AWKWARD["no_text"]).then(None).otherwise(pl.col("text"))
    utterances.select(
        "utterance", "dialogue", "turn", "speaker", "session", "media", "start_s", "end_s",
        text=text, language=pl.lit("en"),
    ).write_csv(folder / "utterances.csv")  # fmt: skip
    judge(params, utterances).write_csv(folder / "annotations.csv")
    utterances.drop("text", "media", "start_s", "end_s").write_csv(
        folder / "factors.csv", float_precision=4
    )
    awkward = "\n".join(
        "- " + _AWKWARD_TEXT[kind].format(clip=clip, share=KEPT_SHARE, source=DUPLICATE_OF)
        for kind, clip in AWKWARD.items()
    )
    (folder / "README.txt").write_text(_README.format(awkward=awkward), encoding="utf-8")


def write_sentences(params: SampleParams, factors: pl.DataFrame) -> pl.DataFrame:
    """``factors`` with a column ``text``: what is said in each utterance."""
    texts = [
        compose(
            int(row["text_valence"]),
            int(row["text_dominance"]),
            row["text_kind"] == "sarcastic",
            stream(params.seed, "sentence", *_numbers(row)),
        )
        for row in factors.iter_rows(named=True)
    ]
    return factors.with_columns(text=pl.Series(texts, dtype=pl.String))


def _numbers(row: dict) -> tuple[int, int]:
    """Numbers of dialogue (from 1, as in its name) and turn: the keys of random streams."""
    return int(row["dialogue"][1:]), row["turn"]


def _write_media(params: SampleParams, utterances: pl.DataFrame, folder: Path) -> pl.DataFrame:
    """Write every file; returns ``utterances`` with media, start_s and end_s.

    ``media`` is relative to the corpus; the times are null where a file is one utterance.
    """
    in_one_file = params.dialogues - params.single_file_dialogues
    frames = []
    for number, dialogue in enumerate(utterances.partition_by("dialogue", maintain_order=True)):
        rows = dialogue.to_dicts()
        name = rows[0]["dialogue"]
        if number < in_one_file:
            files = [f"media/{name}/{row['utterance']}.mp4" for row in rows]
            for row in rows:
                _write_utterance(params, row, folder / name / f"{row['utterance']}.mp4")
            start_s = end_s = [None] * len(rows)
        else:
            files = [f"media/{name}.mp4"] * len(rows)
            _write_parts(params, rows, folder / f"{name}.mp4")
            counts = np.array([_frame_count(params, row) for row in rows])
            end_s = [round(float(end), 6) for end in np.cumsum(counts) / params.fps]
            start_s = [0.0, *end_s[:-1]]
        frames.append(
            dialogue.with_columns(
                media=pl.Series(files),
                start_s=pl.Series(start_s, dtype=pl.Float64),
                end_s=pl.Series(end_s, dtype=pl.Float64),
            )
        )
    _spoil(folder)
    return pl.concat(frames)


def _spoil(folder: Path) -> None:
    """Cut one file short and put a copy in another's place."""
    path = {name: folder / name[:3] / f"{name}.mp4" for name in (*AWKWARD.values(), DUPLICATE_OF)}
    broken = path[AWKWARD["truncated"]]
    content = broken.read_bytes()
    broken.write_bytes(content[: int(KEPT_SHARE * len(content))])
    shutil.copyfile(path[DUPLICATE_OF], path[AWKWARD["duplicate"]])


def _write_utterance(params: SampleParams, row: dict, path: Path) -> None:
    has_audio = row["utterance"] != AWKWARD["no_audio"]
    write_clip(path, [_render(params, row)], params.fps, params.rate_hz, has_audio)


def _write_parts(params: SampleParams, rows: list[dict], path: Path) -> None:
    def parts() -> Iterator[tuple[list[np.ndarray], np.ndarray]]:
        samples = 0
        frames = 0
        for row in rows:
            pictures, sound = _render(params, row)
            frames += len(pictures)
            # rounding of each part's length must not add up to a drift of sound against picture
            wanted = round(frames * params.rate_hz / params.fps) - samples
            sound = np.pad(sound, (0, max(0, wanted - len(sound))))[:wanted]
            samples += wanted
            yield pictures, sound

    write_clip(path, parts(), params.fps, params.rate_hz)


def _frame_count(params: SampleParams, row: dict) -> int:
    """Pictures of an utterance: its natural length, within the limits."""
    natural_s = natural_duration_s(row["text"], row["voice_arousal"])
    within_s = np.clip(natural_s, params.min_duration_s, params.max_duration_s)
    return int(np.ceil(within_s * params.fps))


def _render(params: SampleParams, row: dict) -> tuple[list[np.ndarray], np.ndarray]:
    """Pictures and sound of one utterance."""
    keys = _numbers(row)
    look, voice = _person(params.seed, row["speaker"])
    frames = _frame_count(params, row)
    samples = round(frames * params.rate_hz / params.fps)
    cues = (row["voice_valence"], row["voice_arousal"], row["voice_dominance"])
    speech = speak(
        row["text"], cues, voice, samples, params.rate_hz, stream(params.seed, "voice", *keys)
    )
    scene = stream(params.seed, "scene", keys[0])
    if row["utterance"] == AWKWARD["no_face"]:
        return draw_scenery(frames, params.width_px, params.height_px, scene), speech.samples
    room = draw_room(params.width_px, params.height_px, scene)
    face = Expression(row["face_valence"], row["face_arousal"], row["face_dominance"])
    rng = stream(params.seed, "face", *keys)
    return draw_clip(look, room, face, _mouth(speech, frames), rng), speech.samples


def _mouth(speech: Speech, frames: int) -> np.ndarray:
    """How far the mouth is open at each picture, (frames,) in [0, 1]."""
    edges = np.linspace(0, len(speech.opening), frames + 1).astype(int)
    return np.add.reduceat(speech.opening, edges[:-1]) / np.diff(edges)


@cache
def _person(seed: int, speaker: str) -> tuple[Look, Speaker]:
    number = int(speaker[1:])
    return (
        draw_look(stream(seed, "look", number, 2)),
        draw_speaker(stream(seed, "look", number, 3)),
    )
