"""What ``affectloom predict`` makes of bad input: the table of trials in docs/predict.md.

    python -m benchmarks.trials

in the root of the repository, with the real data beside it (``../shared/data``, or
``AFFECTLOOM_SHARED``). Each trial is the command itself, in this process, in a folder of its own;
printed are what was tried, the exit status, and what came of it: an answer in short, or the
sentence.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import yaml

from benchmarks.project import SHARED
from flows.cli.main import main as command
from tests.tasks.media_factory import write
from tests.tasks.predict.projects import RAW, make_project

CLIPS, AWKWARD = SHARED / "av_clips", SHARED / "awkward"
WORDS = "1\n00:00:00,000 --> 00:00:02,000\nWhat a wonderful day!\n"
Trial = tuple[str, list[str]]


def ask(words: list[str], folder: Path) -> tuple[int, str]:
    """Exit status and what came of a call, without the names of folders."""
    sys.argv = ["affectloom", "predict", "--json", "--no-overlay", *words]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            command()
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(bool(end.code))
    refused = [line for line in err.getvalue().splitlines() if line.startswith("error:")]
    said = " ".join(refused) or "; ".join(_told(one) for one in json.loads(out.getvalue()))
    for place in (folder, SHARED):
        said = said.replace(f"{place.resolve()}/", "").replace(f"{place}/", "")
    return status, said


def _told(result: dict[str, Any]) -> str:
    """One medium in a few words."""
    answer = result["answer"]
    if not answer:
        return f"{result['name']}: {result['reason']}"
    turns = [_turn(one) for one in answer["utterances"]]
    shown = ", ".join(turns[:3]) + (", ..." if len(turns) > 3 else "")
    notes = " ".join(answer["notes"])
    return f"{len(turns)} answered: {shown}. {notes}" if turns else f"nothing answered. {notes}"


def _turn(one: dict[str, Any]) -> str:
    for found in one["classes"].values():
        return f"{found['label']} {found['probabilities'][found['label']]:.2f}"
    for columns in one["values"].values():
        return ", ".join(f"{name} {v['value']:.2f}" for name, v in columns.items())
    return one["reason"]


def music(path: Path, seconds: float = 12.0) -> Path:
    """Three chords of three voices each."""
    rate_hz = 16000
    time_s = np.arange(round(seconds * rate_hz)) / rate_hz
    chords = np.array([[262, 330, 392], [349, 440, 523], [392, 494, 587]])
    now = chords[(time_s // 1.5).astype(int) % 3]
    sound = 0.1 * np.sin(2 * np.pi * now.T * time_s).sum(0, keepdims=True)
    return write(path, sound=sound.astype(np.float32), format="wav", audio_codec="pcm_s16le")


def short(path: Path, frames: int = 9) -> Path:
    """The first 0.3 s of a man who speaks."""
    with av.open(str(CLIPS / "obama_speech.mp4")) as source:
        first = [f for f, _ in zip(source.decode(video=0), range(frames), strict=False)]
    pictures = [frame.to_ndarray(format="rgb24") for frame in first]
    height, width = pictures[0].shape[:2]
    times_s = np.arange(frames) / 30
    return write(path, times_s=times_s, pictures=pictures, size=(width, height), format="mp4")


def trials(folder: Path) -> Iterator[Trial]:
    """What is tried, and the words of the command after its media."""

    def srt(name: str, text: str) -> str:
        (folder / name).write_text(text)
        return str(folder / name)

    voice, face = str(CLIPS / "mead_M030_angry.m4a"), str(CLIPS / "mead_happy_noaudio.mp4")
    talk = str(CLIPS / "ravdess_01-01-01-01-01-01-01.mp4")
    phone = str(AWKWARD / "s32_8khz.wav")
    happy = srt("happy.srt", WORDS)
    yield "no face, no words", [str(AWKWARD / "no_face.mp4")]
    yield "no face, words", [str(AWKWARD / "no_face.mp4"), "--transcript", happy]
    yield "no voice: a video without sound", [face]
    yield "silence", [str(AWKWARD / "silence_400hz.wav")]
    yield "music", [str(music(folder / "music.wav"))]
    yield "two who debate, far away", [str(CLIPS / "debate_5s.mp4")]
    yield "five people in a picture", [str(AWKWARD / "five_faces.jpg")]
    yield "8 kHz, no words", [phone]
    yield "8 kHz, words", [phone, "--transcript", happy]
    yield "portrait, turned by its header", [str(AWKWARD / "derived_portrait_face_rot90.mp4")]
    yield "0.3 s", [str(short(folder / "short.mp4"))]
    backwards = WORDS.replace("00:00:02", "00:00:00").replace("00,000 -->", "01,000 -->", 1)
    yield "a turn that ends before it begins", [talk, "--transcript", srt("back.srt", backwards)]
    twice = WORDS + "\n2\n00:00:01,000 --> 00:00:03,000\nI am so happy to see you all!\n"
    yield "turns that overlap", [talk, "--transcript", srt("overlap.srt", twice)]
    other = WORDS.replace("00:00:0", "00:10:0")
    yield "the transcript of another file", [talk, "--transcript", srt("other.srt", other)]
    yield "an empty transcript", [talk, "--transcript", srt("empty.srt", "")]
    yield "a run that is not there", [talk, "--run", "iemocap/mmgnc"]
    yield "a model that is not there", [talk, "--model", str(folder / "nowhere")]
    yield "a medium that is not there", [str(folder / "tlak.mp4")]
    yield "one of two files is empty", [str(AWKWARD / "empty.webm"), face]
    yield "voices alone, no words", [voice]


def out_trials(folder: Path) -> Iterator[Trial]:
    """The same with folders of answers that cannot be had."""
    face = str(CLIPS / "mead_happy_noaudio.mp4")
    (folder / "used").mkdir()
    (folder / "used/thesis.txt").write_text("mine")
    yield "a folder of answers with other files in it", [face, "--out", str(folder / "used")]
    (folder / "file").write_text("mine")
    yield "a file in the place of that folder", [face, "--out", str(folder / "file")]
    closed = folder / "closed"
    closed.mkdir()
    closed.chmod(0o555)
    # who may write anywhere (root) meets what nobody writes into
    where = "/sys/answers" if os.access(closed, os.W_OK) else str(closed / "answers")
    yield "a read-only folder", [face, "--out", where]


def away(folder: Path) -> tuple[int, str]:
    """A run whose encoder lost its weights, in a project of its own."""
    made = make_project(folder)
    (folder / "params.yaml").write_text(yaml.safe_dump(RAW))
    shutil.rmtree(made.layout.checkpoint("vit"))
    before = Path.cwd(), os.environ.get("PWD", ""), os.environ.get("AFFECTLOOM_CACHE")
    os.chdir(folder)
    os.environ |= {"PWD": str(folder), "AFFECTLOOM_CACHE": str(made.layout.cache)}
    try:
        return ask([str(made.medium(4)), "--run", "tiny/linear", "--out", "answers"], folder)
    finally:
        os.chdir(before[0])
        os.environ["PWD"] = before[1]
        os.environ.pop("AFFECTLOOM_CACHE")
        if before[2] is not None:
            os.environ["AFFECTLOOM_CACHE"] = before[2]


def main() -> None:
    print("| tried | status | what comes of it |\n|---|---|---|")

    def row(what: str, status: int, said: str) -> None:
        print(f"| {what} | {status} | {said.removeprefix('error: ').strip()} |", flush=True)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number, (what, words) in enumerate(trials(folder)):
            row(what, *ask([*words, "--out", str(folder / f"out{number}")], folder))
        for what, words in out_trials(folder):
            row(what, *ask(words, folder))
        row("a run whose encoder lost its weights", *away(folder / "project"))


if __name__ == "__main__":
    main()
