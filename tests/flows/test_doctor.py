"""``affectloom doctor``: what it finds, what it mends, what it leaves alone."""

import json
import subprocess
import sys

import pytest

from flows import doctor


@pytest.fixture
def lock(clone):
    file = clone / ".dvc" / "tmp" / "rwlock"
    file.parent.mkdir(exist_ok=True)
    yield file
    file.unlink(missing_ok=True)


@pytest.fixture
def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    process.wait()
    return process.pid


@pytest.fixture
def living_pid():
    """A process whose command line is that of a DVC process."""
    code = "import sys; print(flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code, "dvc"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()  # its command line is its own once it runs
    yield process.pid
    process.communicate()


def holder(pid: int) -> dict:
    return {"pid": pid, "cmd": "dvc repro"}


def test_entries_of_dead_processes_are_found_and_dropped(clone, lock, dead_pid, living_pid):
    held = {
        "write": {"data/a": holder(dead_pid), "data/b": holder(living_pid)},
        "read": {"data/c": [holder(dead_pid), holder(living_pid)], "data/d": [holder(dead_pid)]},
    }
    lock.write_text(json.dumps(held))
    found = doctor._dead_locks(clone, fix=False)
    assert not found.is_ok
    assert found.detail.startswith("3 left by killed processes")
    assert json.loads(lock.read_text()) == held  # looking changes nothing
    assert doctor._dead_locks(clone, fix=True).is_ok
    assert json.loads(lock.read_text()) == {
        "write": {"data/b": holder(living_pid)},
        "read": {"data/c": [holder(living_pid)]},
    }
    assert doctor._dead_locks(clone, fix=False).detail == "2 held by running processes"


def test_a_number_used_again_by_another_program_is_a_dead_entry(clone, lock):
    lock.write_text(json.dumps({"write": {"data/a": holder(1)}}))
    assert not doctor._dead_locks(clone, fix=False).is_ok


@pytest.mark.parametrize("text", ["", "{}", '{"read": {}, "write": {}}'])
def test_no_entries_are_fine(clone, lock, text):
    lock.write_text(text)
    assert doctor._dead_locks(clone, fix=False).is_ok


def test_a_broken_lock_file_is_found_and_removed(clone, lock):
    lock.write_text('{"write": {"da')
    assert not doctor._dead_locks(clone, fix=False).is_ok
    assert doctor._dead_locks(clone, fix=True).is_ok
    assert not lock.exists()


def test_mistakes_in_params_are_found(clone, edit):
    assert doctor._params(clone).is_ok
    edit("  early_fusion: {}", "  early_fusion: {hiden: 8}")
    found = doctor._params(clone)
    assert not found.is_ok
    assert "did you mean 'hidden'?" in found.detail


def test_a_graph_out_of_step_is_found_and_rewritten(clone):
    file = clone / "dvc.yaml"
    before = file.read_text()
    try:
        file.write_text("stages: {}\n")
        assert not doctor._dvc_yaml(clone, fix=False).is_ok
        assert file.read_text() == "stages: {}\n"
        assert doctor._dvc_yaml(clone, fix=True).is_ok
        assert file.read_text() == before
    finally:
        file.write_text(before)


def test_leftovers_are_removed_on_request_only(clone):
    kept, left = clone / "data" / "labels.parquet", clone / "data" / ".labels.parquet.x1.tmp"
    kept.parent.mkdir()
    kept.write_text("rows")
    left.write_text("half of the rows")
    assert doctor._leftovers(clone, fix=False).detail.startswith("1 temporary files")
    assert left.exists()
    assert doctor._leftovers(clone, fix=True).detail == "1 removed"
    assert kept.exists()
    assert not left.exists()


def test_a_library_that_does_not_import_is_a_finding(clone, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    monkeypatch.setitem(sys.modules, "torch", None)
    found = doctor._libraries()
    assert not found.is_ok
    assert "av (" in found.detail
    assert not doctor._device().is_ok


def test_a_full_disk_is_a_finding(clone, monkeypatch):
    from types import SimpleNamespace

    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda root: SimpleNamespace(free=1e8))
    assert doctor._disk(clone) == doctor.Finding("disk", False, "0.1 GB free")


def test_what_the_processor_computes_is_said():
    found = doctor._numerics()
    assert found.is_ok
    assert "encoders with `dtype: auto` compute in " in found.detail
