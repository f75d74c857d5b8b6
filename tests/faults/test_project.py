"""A whole run, disturbed in every way that was thought of: its outputs are those of a quiet one.

The rule: a command ends with 0, or with 1 and one sentence, never with a traceback; the next run
that nobody disturbs gives the same files; no process stays.
"""

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.faults.project import (
    as_nobody,
    check_sentence,
    differing,
    ended,
    environment,
    flip,
    left_behind,
    make_project,
    start,
)
from tests.tally import note, trial

pytestmark = pytest.mark.faults

#: Rows of the table in docs/safety.md.
BESIDE = "runs beside another"
STOPPED = "runs stopped, or their store deleted"
SURROUNDED = "user, home, locale, path, core, clock"
FULL = "full disks, limits, read-only folders"
FLIPPED = "flipped bits in outputs, store, lock"

needs_name_spaces = pytest.mark.skipif(
    subprocess.run(["unshare", "--user", "true"], capture_output=True, check=False).returncode != 0,
    reason="this machine lets nobody make a name space of users",
)
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="a mount needs root")


def check_same(root, wanted, kind: str, times: int = 1, was_refused: bool = False) -> None:
    """The project holds what a quiet run writes, and no process works in it; counted as a kind."""
    with trial(kind) as one:
        one.may_lose()
        assert differing(wanted, root) == set()
        assert left_behind(root) == []
        if was_refused:
            one.refused()
    note(kind, "survived", times - 1)


def check_recovers(root, wanted, kind: str, times: int = 1, was_refused: bool = False) -> None:
    """The next run, which nobody disturbs, works and mends what there is to mend."""
    code, said = ended(root, "run")
    if code:
        note(kind, "wrong")
    assert code == 0, said
    check_same(root, wanted, kind, times, was_refused)


def test_a_run_that_was_stopped_and_goes_on_gives_the_same(new, wanted, chance, length_s):
    process = start(new, "run")
    for _ in range(3):
        time.sleep(chance.uniform(0.05, 0.2) * length_s)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGSTOP)
            time.sleep(3)
            os.killpg(process.pid, signal.SIGCONT)
    said, _ = process.communicate()
    assert process.returncode == 0, said
    check_same(new, wanted, STOPPED)


def test_a_store_that_is_deleted_in_mid_run(new, wanted, chance):
    process = start(new, "run")
    while process.poll() is None and not (new / ".cache").exists():
        time.sleep(0.05)
    time.sleep(chance.uniform(0, 3))
    shutil.rmtree(new / ".cache", ignore_errors=True)
    said, _ = process.communicate()
    if process.returncode:
        check_sentence(said)
    check_recovers(new, wanted, STOPPED)


def test_two_runs_at_once(new, wanted):
    first = start(new, "run")
    second = start(new, "run")
    for process in (first, second):
        said, _ = process.communicate()
        if process.returncode:
            check_sentence(said)
    assert 0 in (first.returncode, second.returncode)
    check_recovers(new, wanted, BESIDE)


def test_dvc_repro_beside_a_run(new, wanted):
    code, said = ended(new, "sync")
    assert code == 0, said
    first = start(new, "run")
    time.sleep(2)
    second = subprocess.run(
        [sys.executable, "-m", "dvc", "repro"],
        cwd=new,
        env=environment(new),
        capture_output=True,
        text=True,
        check=False,
    )
    said, _ = first.communicate()
    if first.returncode:
        check_sentence(said)
    if second.returncode:
        assert "Traceback" not in second.stderr, second.stderr
    assert 0 in (first.returncode, second.returncode)
    check_recovers(new, wanted, BESIDE)


def test_a_path_with_blanks_and_umlauts_no_home_c_locale_one_core(tmp_path, wanted):
    root = make_project(tmp_path / "Über die Gefühle (neu) & 'mehr'")
    env = environment(root, LC_ALL="C", LANG="C")
    env.pop("HOME", None)
    done = subprocess.run(
        ["taskset", "-c", "0", sys.executable, "-m", "flows.cli.main", "run"],
        cwd=root,
        env=env,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    check_same(root, wanted, SURROUNDED)


@needs_name_spaces
def test_another_user_without_a_home(new, wanted):
    code, said = as_nobody(new, "run")
    assert code == 0, said
    check_same(new, wanted, SURROUNDED)


@needs_name_spaces
@pytest.mark.parametrize("folder", ["data", "data/features", ".cache", ".dvc", "."])
def test_a_folder_that_cannot_be_written(old, wanted, folder):
    shutil.rmtree(old / "data/features")
    (old / "data/features").mkdir()
    if folder == ".cache":
        shutil.rmtree(old / ".cache")
        (old / ".cache").mkdir()
    (old / folder).chmod(0o555)
    code, said = as_nobody(old, "run")
    (old / folder).chmod(0o755)
    assert code in (0, 1), said
    if code:
        check_sentence(said)
    check_recovers(old, wanted, FULL, was_refused=code == 1)


@pytest.mark.parametrize("blocks", [1, 64])
def test_files_that_may_not_grow(new, wanted, blocks):
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.cli.main", "run"],
        cwd=new,
        env=environment(new),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (blocks * 512, -1)),
    )
    said, _ = process.communicate()
    assert process.returncode == 1, said
    check_sentence(said)
    check_recovers(new, wanted, FULL, was_refused=True)


def refused_after(mounting: str, project: Path, env: dict[str, str]) -> str:
    """What a run says that ends with 1 and a sentence, with file systems of its own."""
    script = f"{mounting} && '{sys.executable}' -m flows.cli.main run"
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script],
        cwd=project,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    said = done.stdout + done.stderr
    if "mount" in said and "denied" in said:
        pytest.skip("this machine lets nobody mount")
    assert done.returncode == 1, said
    check_sentence(said)
    return said


@needs_root
@pytest.mark.parametrize("kib", [64, 700])
def test_a_disk_that_is_full(new, wanted, kib, tmp_path):
    """``data`` lies on a file system of so many KiB beyond the media, of this process alone."""
    kept = tmp_path / "kept"
    shutil.move(new / "data", kept)
    (new / "data").mkdir()
    size = sum(file.stat().st_size for file in kept.rglob("*")) // 1024 + 200 + kib
    mounted = f"mount -t tmpfs -o size={size}k tmpfs data && cp -r '{kept}/.' data"
    refused_after(mounted, new, environment(new))
    shutil.rmtree(new / "data")
    shutil.move(kept, new / "data")
    check_recovers(new, wanted, FULL, was_refused=True)


@needs_root
def test_shared_memory_that_is_full(old, wanted):
    """``/dev/shm`` is a full file system of this process alone."""
    shutil.rmtree(old / "data/runs")
    shutil.rmtree(old / ".dvc/cache")  # from which it would only be restored
    filled = "mount -t tmpfs -o size=8k tmpfs /dev/shm && ! dd if=/dev/zero of=/dev/shm/x"
    said = refused_after(filled, old, environment(old, AFFECTLOOM_EXECUTION__WORKERS="2"))
    assert "free /dev/shm" in said
    check_recovers(old, wanted, FULL, was_refused=True)


@pytest.mark.parametrize(
    "what",
    ["data/corpora", "data/labels", "data/splits", "data/features", "data/runs", "data/reports"],
)
def test_a_flipped_byte_in_an_output_is_noticed(old, wanted, chance, what):
    files = sorted(file for file in (old / what).rglob("*") if file.is_file())
    flip(chance.choice(files), chance)
    check_recovers(old, wanted, FLIPPED)


def test_flipped_bytes_in_the_store(old, wanted, chance):
    files = sorted(file for file in (old / ".cache").rglob("*") if file.is_file())
    for file in chance.sample(files, min(3, len(files))):
        if file.stat().st_size:
            flip(file, chance)
    shutil.rmtree(old / "data/features")
    shutil.rmtree(old / ".dvc/cache", ignore_errors=True)
    check_recovers(old, wanted, FLIPPED)


def test_a_flipped_byte_in_the_lock(old, wanted, chance):
    flip(old / "dvc.lock", chance)
    code, said = ended(old, "run")
    if code:
        check_sentence(said)
        (old / "dvc.lock").unlink()
    check_recovers(old, wanted, FLIPPED, was_refused=code != 0)


def test_a_clock_that_jumps_back(old, wanted):
    """Files of a run seem to come from the future."""
    later = time.time() + 400 * 86400
    for file in old.rglob("*"):
        if file.is_file() and not file.is_symlink():
            os.utime(file, (later, later))
    check_recovers(old, wanted, SURROUNDED)
