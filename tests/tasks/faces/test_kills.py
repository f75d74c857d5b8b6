"""Faults at work: kills of the faces stage, two runs on one store, a disk that fills up."""

import hashlib
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tasks.faces import stage as faces
from tasks.faces.stage import FacesParams
from tasks.plain_context import PlainContext
from tasks.store.segments import stats, verify
from tasks.tables.parquet import write_table
from tasks.tables.utterances import UTTERANCES
from tests.face_factory import draw_face, room, write_video
from tests.places import ROOT, here

PARAMS = FacesParams(rate_hz=10, crop_px=64)

#: A run of its own process: notes each clip as its detection ends, and takes its time over it.
_CHILD = """
import io, os, sys, time
from tasks.faces import detection, stage as faces
from tasks.layout import Layout
from tasks.plain_context import PlainContext
from tasks.store.compute import Keeper
detect = detection.detect_clips
def noting(params, clips):
    for rows in detect(params, clips):
        time.sleep(float(os.environ["PAUSE_S"]))
        with open(os.environ["COUNT"], "a") as stream:
            stream.write("1\\n")
        yield rows
detection.detect_clips = noting
Keeper.most_entries = 4
params = faces.FacesParams(rate_hz=10, crop_px=64)
faces.run(params, Layout(), PlainContext(stream=io.StringIO()), "toy")
"""


def make_project(root: Path, clips: int) -> None:
    """A corpus of spans of one film, each of another length or place."""
    media = root / here().raw("toy") / "film.mp4"
    write_video(media, [draw_face(room(), 90 + 3 * i, 120, 130) for i in range(24)])
    sha256 = hashlib.sha256(media.read_bytes()).hexdigest()
    rows = [
        {
            "utterance_id": f"toy/d/{number:03d}",
            "dialogue_id": "toy/d",
            "turn": number,
            "start_s": round(0.015 * number, 3),
            "end_s": round(0.015 * number + 0.5, 3),
            "media": "toy/film.mp4",
            "media_sha256": sha256,
        }
        for number in range(clips)
    ]
    write_table(UTTERANCES, UTTERANCES.frame(rows), root / here().utterances("toy"))


def start(root: Path, cache: Path, pause_s: float = 0.0) -> subprocess.Popen:
    changed = {
        "PYTHONPATH": str(ROOT),
        "AFFECTLOOM_CACHE": str(cache),
        "COUNT": str(root / "count"),
        "PAUSE_S": str(pause_s),
    }
    command = [sys.executable, "-c", _CHILD]
    return subprocess.Popen(command, cwd=root, env=os.environ | changed, start_new_session=True)


def detected(root: Path) -> int:
    """Clips detected since the last call."""
    file = root / "count"
    count = len(file.read_text().split()) if file.exists() else 0
    file.unlink(missing_ok=True)
    return count


def calm_bytes(root: Path, monkeypatch) -> bytes:
    """The table of an undisturbed run, whose store is another one."""
    monkeypatch.chdir(root)
    monkeypatch.setenv("AFFECTLOOM_CACHE", str(root / "calm"))
    faces.run(PARAMS, here(), PlainContext(), "toy")
    written = here().faces("toy").read_bytes()
    here().faces("toy").unlink()
    return written


@pytest.mark.slow
def test_kill_9_at_random_moments_of_faces_loses_at_most_the_chunk_in_flight(tmp_path, monkeypatch):
    """50 kills in 100-clip extractions; then the bytes equal those of an undisturbed run."""
    make_project(tmp_path, 100)
    undisturbed = calm_bytes(tmp_path, monkeypatch)
    count, cache = tmp_path / "count", tmp_path / "cache"
    generator, kills, finished = random.Random(0), 0, 0
    while kills < 50:
        before = count.stat().st_size if count.exists() else 0
        process = start(tmp_path, cache, pause_s=0.02)
        # a moment counts from the first clip on: before it there is nothing to lose
        while process.poll() is None and (count.stat().st_size if count.exists() else 0) == before:
            time.sleep(0.002)
        time.sleep(generator.uniform(0.0, 0.8))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            kills += 1
        process.wait()
        if here().faces("toy").exists():
            assert here().faces("toy").read_bytes() == undisturbed
            here().faces("toy").unlink()
            shutil.rmtree(cache)
            finished += 1
    assert start(tmp_path, cache).wait() == 0
    assert here().faces("toy").read_bytes() == undisturbed
    twice = detected(tmp_path) - 100 * (finished + 1)
    print(f"{kills} kills, {finished + 1} extractions, {twice} clips detected twice")
    assert 0 < twice <= kills * 4


@pytest.mark.slow
def test_two_runs_at_once_on_one_store_write_the_same_right_bytes(tmp_path, monkeypatch):
    first, second = tmp_path / "first", tmp_path / "second"
    make_project(first, 12)
    undisturbed = calm_bytes(first, monkeypatch)
    shutil.copytree(first / "data", second / "data")
    both = [start(root, tmp_path / "cache", pause_s=0.05) for root in (first, second)]
    assert [process.wait() for process in both] == [0, 0]
    for root in (first, second):
        assert (root / here().faces("toy")).read_bytes() == undisturbed
    assert 12 <= detected(first) + detected(second) <= 24
    assert verify(tmp_path / "cache" / "features") == []
    (usage,) = stats(tmp_path / "cache" / "features")
    assert usage.entries == 12


@pytest.mark.slow
def test_a_full_disk_ends_the_faces_stage_with_a_sentence_and_the_next_run_goes_on(
    tmp_path, monkeypatch
):
    make_project(tmp_path, 4)
    undisturbed = calm_bytes(tmp_path, monkeypatch)
    process = subprocess.run(
        [sys.executable, "-c", _LIMITED],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "AFFECTLOOM_CACHE": "cache"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "cannot write" in process.stdout
    assert "free space" in process.stdout
    assert not here().faces("toy").exists()
    assert not list((tmp_path / "cache").rglob("*.tmp"))
    assert start(tmp_path, tmp_path / "cache").wait() == 0
    assert here().faces("toy").read_bytes() == undisturbed


# a limit on file size behaves like a full disk: the write fails half-way with an OSError
_LIMITED = f"""
import io, resource, signal
from models.errors import UserError
from tasks.faces import stage as faces
from tasks.layout import Layout
from tasks.plain_context import PlainContext
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4000, {resource.RLIM_INFINITY}))
try:
    params = faces.FacesParams(rate_hz=10, crop_px=64)
    faces.run(params, Layout(), PlainContext(stream=io.StringIO()), "toy")
except UserError as error:
    print(error)
"""
