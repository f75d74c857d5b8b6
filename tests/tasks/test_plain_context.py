import errno
import io
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from models.errors import UserError
from tasks.context import Progress, WorkerDied, shard_count
from tasks.plain_context import PlainContext, _is_running, in_order, make_pool, progress_line
from tests.places import ROOT


def double(value):
    time.sleep(0.002 * (7 - value % 7))  # later ones end first
    return 2 * value


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_results_stand_in_the_order_of_shards(workers):
    ctx = PlainContext(workers=workers)
    assert list(ctx.map(double, list(range(20)), "x")) == list(range(0, 40, 2))
    assert list(ctx.map(double, [], "x")) == []


@pytest.mark.parametrize("workers", [1, 2])
def test_a_failure_comes_through_and_cancels_what_has_not_started(workers):
    begun = []

    def work(value):
        begun.append(value)
        if value == 1:
            raise UserError("clip 1 is bad")
        time.sleep(0.005)
        return value

    found = []
    results = PlainContext(workers=workers).map(work, list(range(50)), "x")
    with pytest.raises(UserError, match="clip 1 is bad"):
        found.extend(results)
    assert found == [0]
    assert len(begun) < 10


def test_at_most_so_many_shards_wait_ahead_of_the_reader():
    started = []
    with make_pool("threads", 2) as pool:
        results = iter(in_order(pool, double, list(range(30)), 4, started.append))
        assert next(results) == 0
        assert started == [0, 1, 2, 3]
        assert [next(results), next(results)] == [2, 4]
        assert started == [0, 1, 2, 3, 4, 5]
        results.close()
    assert len(started) == 6


def test_one_worker_works_in_this_thread():
    (name,) = PlainContext(workers=4).map(lambda _: threading.current_thread(), [0], "x")
    assert name is threading.current_thread()


def test_this_thread_works_as_long_as_other_stages_have_the_other_cores():
    """What it has begun is not done again when the others end, and results stay in order."""
    shares = iter([1, 1, 1, 4])
    ctx = PlainContext(workers=4, share=lambda: next(shares))  # not asked again with a pool at work
    found = list(ctx.map(lambda value: (value, threading.current_thread()), list(range(8)), "x"))
    assert [value for value, _ in found] == list(range(8))
    mine = [thread is threading.current_thread() for _, thread in found]
    assert mine == [True, True, True, False, False, False, False, False]


@pytest.mark.parametrize(("stage", "progress", "elapsed_s", "line"), [
    ("faces", Progress(120, 200, "clips", 2, 1), 8.0,
     "faces: 120/200 clips, 15.0/s, 0:05 left, 2 degraded, 1 quarantined"),
    ("", Progress(1, 1000, "runs"), 1.0, "1/1000 runs, 1.0/s, 16:39 left"),
    ("train", Progress(0, 6, "runs"), 3.0, "train: 0/6 runs"),
    ("train", Progress(6, 6, "runs"), 3.0, "train: 6/6 runs, 2.0/s, 0:00 left"),
    ("x", Progress(0, 0), 0.0, "x: 0/0 clips"),
], ids=str)  # fmt: skip
def test_progress_is_one_line(stage, progress, elapsed_s, line):
    assert progress_line(stage, progress, elapsed_s) == line


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_what_was_known_before_says_nothing_about_the_speed():
    # 10 clips in 5 s, 90 to go; the 900 of an earlier run took no time
    line = progress_line("faces", Progress(910, 1000, known=900), 5.0)
    assert line == "faces: 910/1000 clips, 2.0/s, 0:45 left"
    assert progress_line("faces", Progress(1000, 1000, known=1000), 5.0) == "faces: 1000/1000 clips"


def test_a_terminal_sees_one_line_rewritten_and_ended():
    stream = Terminal()
    ctx = PlainContext("faces", stream=stream)
    for done in range(1, 101):
        ctx.progress(Progress(done, 100))
    text = stream.getvalue()
    assert text.count("\r\033[K") < 10  # not one for each clip
    assert text.count("\n") == 1
    assert "faces: 100/100 clips" in text.rpartition("\r")[2]


def test_a_file_gets_few_whole_lines():
    stream = io.StringIO()
    ctx = PlainContext("faces", stream=stream)
    for done in range(1, 101):
        ctx.progress(Progress(done, 100))
    lines = stream.getvalue().splitlines()
    assert len(lines) < 4
    assert lines[-1].startswith("faces: 100/100 clips")
    assert "\r" not in stream.getvalue()


@pytest.mark.parametrize(("items", "seconds", "workers", "count"), [
    (1, 100.0, 2, 1), (1000, 0.01, 2, 8), (1000, 1.0, 2, 50), (10**6, 1.0, 2, 200), (3, 0.1, 4, 3),
])  # fmt: skip
def test_shards_last_long_enough_and_are_not_too_many(items, seconds, workers, count):
    assert shard_count(items, seconds, workers) == count


def die(value):
    if value:
        os.kill(os.getpid(), signal.SIGKILL)
    return value


def own_process(other):
    return os.getpid() != other


def test_a_worker_that_is_killed_ends_in_one_sentence():
    ctx = PlainContext(runner="processes", workers=2)
    with pytest.raises(WorkerDied, match=r"a worker process died.*execution.workers"):
        list(ctx.map(die, [0, 1, 0, 0], "x"))


def test_shared_memory_that_is_full_is_one_sentence_with_a_remedy(monkeypatch):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("multiprocessing.synchronize._multiprocessing.SemLock", full)
    with pytest.raises(UserError, match="cannot start 2 processes: No space left on device; free"):
        make_pool("processes", 2)


def test_a_shard_can_have_a_process_to_itself():
    ctx = PlainContext(workers=1)
    assert ctx.alone(own_process, os.getpid()) is True
    with pytest.raises(WorkerDied):
        ctx.alone(die, 1)


def test_a_killed_process_nobody_waits_for_is_not_running():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert _is_running(child.pid)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # dead, and left as a zombie
    assert Path(f"/proc/{child.pid}").exists()
    assert not _is_running(child.pid)
    child.wait()
    child.stdin.close()
    assert not _is_running(child.pid)


_PARENT = """
import os, sys, time
from pathlib import Path
from tasks.plain_context import PlainContext

def work(folder):
    Path(folder, str(os.getpid())).touch()
    time.sleep(600)

if __name__ == "__main__":
    list(PlainContext(runner="processes", workers=2).map(work, [sys.argv[1]] * 2, "x"))
"""


@pytest.mark.slow
def test_workers_end_soon_after_their_killed_parent(tmp_path):
    script, seen = tmp_path / "parent.py", tmp_path / "seen"
    script.write_text(_PARENT)
    seen.mkdir()
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    parent = subprocess.Popen([sys.executable, str(script), str(seen)], env=environment)
    try:
        wait_until(lambda: len(list(seen.iterdir())) == 2, 120)
        workers = [int(file.name) for file in seen.iterdir()]
        assert all(_is_running(pid) for pid in workers)
    finally:
        parent.kill()  # and nobody waits for it yet
    wait_until(lambda: not any(_is_running(pid) for pid in workers), 20)
    parent.wait()


def wait_until(is_so, seconds):
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.05)


def test_the_rows_of_a_table_are_lines_without_empty_cells(caplog):
    rows = [{"status": "ok", "reason": "", "clips": 0}, {"status": "lost", "reason": None}]
    with caplog.at_level("INFO", logger="affectloom"):
        PlainContext("faces@toy").table("faces", rows)
    assert caplog.messages == [
        "faces@toy: faces: status ok, clips 0",
        "faces@toy: faces: status lost",
    ]
