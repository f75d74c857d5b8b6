"""What a decoder's process can still do, tried from inside one."""

import os
import resource
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tasks.media.confined import has_seccomp, landlock_version, missing_walls
from tasks.media.worker import Decoders
from tests.places import ROOT

needs_landlock = pytest.mark.skipif(not landlock_version(), reason="this kernel has no Landlock")
needs_seccomp = pytest.mark.skipif(not has_seccomp(), reason="this kernel filters no calls")


def tried(action) -> str:
    try:
        action()
    except (OSError, MemoryError) as error:
        return type(error).__name__
    return "done"


def make_file(path: str) -> str:
    return tried(lambda: Path(path, "new").open("w"))


def change_file(path: str) -> str:
    return tried(lambda: Path(path, "old").open("r+"))


def remove_file(path: str) -> str:
    return tried(lambda: Path(path, "old").unlink())


def rename_file(path: str) -> str:
    return tried(lambda: Path(path, "old").rename(Path(path, "other")))


def cut_file(path: str) -> str:
    return tried(lambda: os.truncate(Path(path, "old"), 0))


def allow_all(path: str) -> str:
    return tried(lambda: Path(path, "old").chmod(0o777))


def give_away(path: str) -> str:
    return tried(lambda: os.chown(Path(path, "old"), 1, 1))


def age(path: str) -> str:
    return tried(lambda: os.utime(Path(path, "old"), (0, 0)))


def open_socket(_: str) -> str:
    return tried(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))


def open_local_socket(_: str) -> str:
    return tried(lambda: socket.socket(socket.AF_UNIX))


def start_program(_: str) -> str:
    return tried(lambda: subprocess.run([sys.executable, "--version"]))


def fork(_: str) -> str:
    return tried(lambda: os._exit(0) if os.fork() == 0 else None)


def signal_parent(_: str) -> str:
    return tried(lambda: os.kill(os.getppid(), 0))


def look_into_parent(_: str) -> str:
    return tried(lambda: open(f"/proc/{os.getppid()}/mem", "rb"))


def take_all_memory(_: str) -> str:
    return tried(lambda: bytearray(1 << 50))


def lift_limit(_: str) -> str:
    most = resource.RLIM_INFINITY
    try:
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    except ValueError:  # what Python makes of "not permitted"
        return "ValueError"
    return "done"


def read_and_use_threads(path: str) -> str:
    found: list[str] = []
    reader = threading.Thread(target=lambda: found.append(Path(path, "old").read_text()))
    reader.start()
    reader.join()
    return found[0]


def status(_: str) -> dict[str, str]:
    lines = Path("/proc/self/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


@pytest.fixture
def inside(tmp_path):
    (tmp_path / "old").write_text("kept")
    with Decoders(1, timeout_s=60) as decoders:

        def ask(function):
            (outcome,) = decoders.map(function, [str(tmp_path)])
            assert outcome.problem is None, outcome.problem
            return outcome.value

        yield ask
    assert [file.name for file in tmp_path.iterdir()] == ["old"]
    assert (tmp_path / "old").read_text() == "kept"


@needs_landlock
@pytest.mark.parametrize("act", [make_file, change_file, remove_file, rename_file, cut_file])
def test_no_file_is_made_or_changed(inside, act):
    assert inside(act) == "PermissionError"


@needs_seccomp
@pytest.mark.parametrize("act", [allow_all, give_away, age])
def test_nothing_about_a_file_is_changed(inside, act):
    assert inside(act) == "PermissionError"


@needs_seccomp
@pytest.mark.parametrize(
    "act", [open_socket, open_local_socket, start_program, fork, signal_parent]
)
def test_neither_network_nor_programs(inside, act):
    assert inside(act) == "PermissionError"


def test_memory_is_limited_and_stays_so(inside):
    assert inside(take_all_memory) == "MemoryError"
    assert inside(lift_limit) == "ValueError"


@needs_landlock
def test_the_caller_is_not_looked_into(inside):
    assert inside(look_into_parent) == "PermissionError"


def test_decoders_still_read_and_have_threads(inside):
    assert inside(read_and_use_threads) == "kept"


def test_every_thread_is_behind_the_walls(inside):
    """Landlock and the filter hold for a thread and those it starts: none may begin earlier."""
    found = inside(status)
    assert int(found["Threads"]) == 2  # it, and the one that watches for its caller's end
    assert found["NoNewPrivs"] == "1"
    assert int(found["CapEff"], 16) & ~4 == 0
    count = "import os; print(len(os.listdir('/proc/self/task')))"
    probe = f"import tasks.faces.windows, tasks.features.sound; {count}"
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    asked = [sys.executable, "-c", probe]
    assert subprocess.check_output(asked, cwd=ROOT, env=environment) == b"1\n"


def test_what_a_machine_lacks_is_named(monkeypatch):
    monkeypatch.setattr("tasks.media.confined.landlock_version", lambda: 0)
    monkeypatch.setattr("tasks.media.confined.has_seccomp", lambda: False)
    assert [wall.split(" ")[0] for wall in missing_walls()] == ["Landlock", "seccomp"]
