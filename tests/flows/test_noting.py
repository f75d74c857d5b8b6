"""What a run notes of itself, and what is read of it in another terminal."""

import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path

from flows.noting import Notes, current
from flows.pipeline import only_one
from flows.plan import read_plan
from flows.walk import walk
from tests.flows.test_walk import Quiet, make_project
from tests.places import ROOT

_RUN = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from flows.pipeline import only_one, stop_on_signal
from flows.plan import read_plan
from flows.walk import walk
from tests.flows.test_walk import Quiet
stop_on_signal()
with only_one(Path()):
    walk(Path(), read_plan(Path()), Quiet(), jobs=1)
"""


def test_a_note_follows_what_happens_and_ends_with_the_run(tmp_path):
    with only_one(tmp_path):
        notes = Notes(tmp_path, ["a", "b", "c"])
        notes.started("a")
        notes.ended("a", "reproduced")
        notes.started("b")
        found = _in_another_process(tmp_path)
        assert found == f"{os.getpid()} ['c'] ['b'] {{'a': 'reproduced'}}"
        notes.close()
        assert _in_another_process(tmp_path) == "None"


def test_the_note_of_a_killed_run_is_none(tmp_path):
    with only_one(tmp_path):
        Notes(tmp_path, ["a"])
    assert current(tmp_path) is None  # the file is there, the lock is free


def test_a_walk_leaves_no_note(tmp_path):
    root = make_project(tmp_path, {"a": {"cmd": "echo 1 > a", "outs": ["a"]}})
    walk(root, read_plan(root), Quiet(), jobs=1)
    assert [file.name for file in (root / ".cache/affectloom").iterdir()] == ["status.json"]


def test_the_plan_and_the_note_are_read_while_a_stage_runs(tmp_path):
    stages = {
        "slow": {"cmd": "echo 'slow: 3/9 clips'; touch begun; sleep 985", "outs": ["never"]},
        "after": {"cmd": "cp never after", "deps": ["never"], "outs": ["after"]},
    }
    root = make_project(tmp_path, stages)
    run = subprocess.Popen([sys.executable, "-c", _RUN, str(ROOT)], cwd=root)
    try:
        end = time.monotonic() + 90
        while not (root / "begun").exists() and time.monotonic() < end:
            time.sleep(0.1)
        assert run.poll() is None
        plan = read_plan(root)  # `dvc status` fails here: "is busy"
        assert plan.stale == ["slow", "after"]
        note = current(root)
        assert note is not None
        assert note.pid == run.pid
        assert list(note.running) == ["slow"]
        assert note.waiting == ["after"]
    finally:
        run.terminate()
        run.wait(timeout=60)
    assert current(root) is None


def test_reading_the_plan_takes_no_lock(tmp_path):
    root = make_project(tmp_path, {"a": {"cmd": "echo 1 > a", "outs": ["a"]}})
    lock = root / ".dvc/tmp/lock"
    with lock.open("a") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        assert read_plan(root).stale == ["a"]
    assert not (root / ".dvc/tmp/rwlock").exists()


def _in_another_process(root: Path) -> str:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path\n"
        "from flows.noting import current; n = current(Path(sys.argv[2]))\n"
        "print(n and f'{n.pid} {n.waiting} {list(n.running)} {n.done}')"
    )
    command = [sys.executable, "-c", code, str(ROOT), str(root)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
