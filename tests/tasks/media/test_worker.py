import os
import pickle
import signal
import stat
import struct
import subprocess
import sys
import threading
import time
from functools import partial

import numpy as np
import psutil
import pytest

from models.errors import UserError
from tasks.media import worker
from tasks.media.decoding import Clip, FrameSampling, Problem, decode
from tasks.media.worker import Decoders, WorkerError, thread_decoders
from tests.places import ROOT
from tests.tasks.media_factory import tone, write


def square(number: int) -> int:
    return number * number


def abort_on_three(number: int) -> int:
    if number == 3:
        os.abort()
    return number


def own_number(_: int) -> int:
    return os.getpid()


def exists(path: str) -> bool:
    return os.path.exists(path)


def hang_on_two(number: int) -> int:
    if number == 2:
        time.sleep(1000)
    return number


def spin_in_c_on_one(number: int) -> int:
    if number == 1:
        (10**6) ** (10**7)  # holds the interpreter for minutes
    return number


def crash_like_a_decoder(number: int) -> Clip:
    if number == 1:
        os.kill(os.getpid(), signal.SIGSEGV)
    return Clip(np.full((1, 2, 2, 3), number, np.uint8), np.zeros(1))


def refuse(number: int) -> int:
    raise UserError("the sampling rate must be above 0")


def fail(number: int) -> int:
    return 1 // 0


def large(number: int) -> np.ndarray:
    return np.full((number, 1000, 1000), number, np.uint8)


def loaded_modules(_: int) -> list[str]:
    return sorted({"torch", "polars", "prefect", "transformers", "pydantic"} & set(sys.modules))


@pytest.fixture(scope="module")
def pool():
    with Decoders(2, timeout_s=60) as decoders:
        yield decoders


def test_results_come_in_the_order_of_the_items(pool):
    assert [o.value for o in pool.map(square, range(50))] == [n * n for n in range(50)]


def test_a_crash_costs_one_item(pool):
    outcomes = list(pool.map(abort_on_three, range(8)))
    assert [o.value for o in outcomes] == [0, 1, 2, None, 4, 5, 6, 7]
    assert outcomes[3].problem.reason == "crashed"
    assert "SIGABRT" in outcomes[3].problem.detail


def test_a_crash_becomes_a_failed_clip(pool):
    clips = list(pool.clips(crash_like_a_decoder, range(3)))
    assert [clip.status for clip in clips] == ["ok", "failed", "ok"]
    assert clips[1].problems[0].reason == "crashed"
    assert clips[2].frames[0, 0, 0, 0] == 2


@pytest.mark.parametrize(
    ("function", "lost"), [(hang_on_two, 2), (spin_in_c_on_one, 1)], ids=["sleeps", "spins"]
)
def test_a_hang_costs_one_item(pool, function, lost):
    outcomes = list(pool.map(function, range(5), timeout_s=1.5))
    assert [o.value for o in outcomes] == [None if n == lost else n for n in range(5)]
    problem = outcomes[lost].problem
    assert problem == Problem("timeout", f"{lost} took longer than 1.5 s")


def test_large_arrays_arrive_whole(pool):
    for number, outcome in enumerate(pool.map(large, range(5))):
        assert outcome.value.shape == (number, 1000, 1000)
        assert (outcome.value == number).all()


def test_errors_of_the_user_keep_their_sentence(pool):
    with pytest.raises(UserError, match=r"^the sampling rate must be above 0$"):
        list(pool.map(refuse, [1]))


def test_errors_of_the_program_are_not_swallowed(pool):
    with pytest.raises(WorkerError, match="ZeroDivisionError"):
        list(pool.map(fail, [1]))
    assert [o.value for o in pool.map(square, [3])] == [9]


def test_items_are_taken_only_as_results_are_read(pool):
    taken = []

    def items():
        for number in range(1000):
            taken.append(number)
            yield number

    results = pool.map(square, items())
    for _ in range(3):
        next(results)
    assert len(taken) <= 3 + 4 * 2
    results.close()


def test_workers_load_neither_torch_nor_tables(pool):
    assert [o.value for o in pool.map(loaded_modules, [0])] == [[]]


def test_one_map_at_a_time_is_said_clearly(pool):
    first = pool.map(square, range(10))
    next(first)
    with pytest.raises(RuntimeError, match="one per thread"):
        next(pool.map(square, range(10)))
    first.close()


def test_pools_work_side_by_side_in_threads():
    found = {}

    def work(base):
        with Decoders(1) as decoders:
            found[base] = [o.value for o in decoders.map(square, range(base, base + 5))]

    threads = [threading.Thread(target=work, args=(base,)) for base in (0, 100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {base: [n * n for n in range(base, base + 5)] for base in (0, 100)}


def test_a_thread_keeps_its_worker_until_it_rests():
    with thread_decoders() as kept:

        def process() -> int | None:
            (found,) = thread_decoders().map(own_number, [0])
            return found.value

        first = process()
        assert process() == first
        others = []
        thread = threading.Thread(target=lambda: others.append(process()))
        thread.start()
        thread.join()
        assert others[0] != first
        kept.rest()
        assert not psutil.pid_exists(first)
        assert process() not in (first, None)


def test_a_relative_path_is_the_callers_of_that_moment(pool, tmp_path, monkeypatch):
    """Programs that open one project after another keep their workers."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.txt").write_text(name)
        monkeypatch.chdir(tmp_path / name)
        assert [outcome.value for outcome in pool.map(exists, [f"{name}.txt"] * 4)] == [True] * 4


def test_decoding_in_a_worker_equals_decoding_here(pool, tmp_path):
    path = write(tmp_path / "a.mkv", times_s=np.arange(20) / 25, sound=tone(0.8, 16000))
    function = partial(decode, audio_rate_hz=8000, frame_times=FrameSampling(rate_hz=5))
    here, (there,) = function(path), pool.clips(function, [path])
    assert here.frames.tobytes() == there.frames.tobytes()
    assert here.audio.tobytes() == there.audio.tobytes()
    assert (here.times_s.tolist(), here.problems) == (there.times_s.tolist(), there.problems)


SCRIPT = """
import sys, time
from tasks.media.worker import Decoders
with Decoders(2) as decoders:
    for _ in decoders.map(time.sleep, [0, 0, 600, 600]):
        print("started", flush=True)
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_worker_outlives_its_caller(how):
    caller = subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert caller.stdout.readline() == b"started\n"
    assert caller.stdout.readline() == b"started\n"
    workers = psutil.Process(caller.pid).children(recursive=True)
    assert len(workers) == 2
    caller.send_signal(how)
    caller.wait(timeout=20)
    caller.stdout.close()
    _, alive = psutil.wait_procs(workers, timeout=20)
    assert alive == []


def answer_with(answer: bytes) -> int:
    """Behave as a decoder that a medium took over: write to the caller whatever one likes."""
    for number in map(int, os.listdir("/proc/self/fd")):
        try:
            is_socket = stat.S_ISSOCK(os.fstat(number).st_mode)
        except OSError:  # the listing's own descriptor
            continue
        if is_socket:
            os.write(number, answer)
    return 0


def _message(content: bytes) -> bytes:
    return struct.pack("!i", len(content)) + content


@pytest.mark.parametrize(
    "answer",
    [
        _message(b"") + _message(pickle.dumps(("value", threading.excepthook))),
        _message(b"") + _message(b"\x01"),
        _message(b"odd"),
        _message(struct.pack("q", 1 << 50)) + _message(b"\x01"),
        _message(struct.pack("q", -8)) + _message(b"\x01"),
        _message(struct.pack("q", 8)) + _message(b"\x01") + _message(b"four"),
        _message(struct.pack("q", 2)) + _message(b"\x01") + _message(b"four"),
        struct.pack("!i", 1 << 30),
        struct.pack("!iQ", -1, 1 << 62),
    ],
)
def test_a_foreign_answer_costs_one_item(pool, answer):
    outcomes = list(pool.map(answer_with, [answer]))
    assert [(o.value, o.problem.reason) for o in outcomes] == [(None, "crashed")]
    assert "broken answer" in outcomes[0].problem.detail
    assert [o.value for o in pool.map(square, [3])] == [9]


def test_an_answer_that_stops_halfway_is_given_up(monkeypatch):
    monkeypatch.setattr("tasks.media.worker._ANSWER_PAUSE_S", 1)
    with Decoders(1) as decoders:
        half = struct.pack("!i", 8) + b"half"
        (outcome,) = decoders.map(stop_after, [half])
    assert "does not end" in outcome.problem.detail


def stop_after(answer: bytes) -> int:
    answer_with(answer)
    time.sleep(600)
    return 0


def test_an_interrupt_while_a_worker_is_still_importing_is_the_callers(tmp_path):
    package = tmp_path / "tasks" / "media"
    package.mkdir(parents=True)
    for folder in (package, package.parent):
        (folder / "__init__.py").touch()
    (package / "worker.py").write_text(
        "import os, signal\n"
        "os.kill(os.getpid(), signal.SIGINT)\n"
        "def serve(connection, lifeline): print('served')\n"
    )
    command = [sys.executable, "-c", worker._BOOT, "0", "0", str(tmp_path), *sys.path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("served\n", "", 0)
