"""The lock file after a stage: edited in place, and the same to the byte as DVC's own."""

import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from dvc.dvcfile import Lockfile
from dvc.utils.serialize import dump_yaml, parse_yaml_for_update

from flows import repro
from flows.lock_text import entries
from tests.places import ROOT

LOCK = (ROOT / "dvc.lock").read_text(encoding="utf-8")


class _Stage:
    """As much of a stage of DVC as its lock file asks for."""

    def __init__(self, name: str, entry: dict) -> None:
        self.name, self.entry = name, entry


def _lock(file: Path) -> SimpleNamespace:
    """As much of a lock file's object as writing it asks for."""
    scm = SimpleNamespace(track_file=lambda path: None)
    return SimpleNamespace(
        path=str(file), relpath=file.name, repo=SimpleNamespace(fs=None, scm_context=scm)
    )


@pytest.fixture
def both(tmp_path, monkeypatch):
    """Writes stages into a lock file by DVC's way and by ours; the two texts."""

    def to_lockfile(stage, **options):
        return {stage.name: stage.entry}

    monkeypatch.setattr(repro, "to_lockfile", to_lockfile)
    monkeypatch.setattr("dvc.stage.serialize.to_lockfile", to_lockfile)

    def write(text: str | None, *stages: _Stage) -> tuple[str, str]:
        found = []
        for name, dump in (("theirs", Lockfile.dump_stages), ("ours", repro.dump_stages)):
            file = tmp_path / name / "dvc.lock"
            shutil.rmtree(file.parent, ignore_errors=True)
            file.parent.mkdir()
            if text is not None:
                file.write_text(text, encoding="utf-8")
            dump(_lock(file), stages)
            found.append(file.read_text(encoding="utf-8"))
        return found[0], found[1]

    return write


def test_entries_put_together_are_the_file():
    found = entries(LOCK)
    assert found is not None
    assert list(found) == list(yaml.load(LOCK, yaml.CSafeLoader)["stages"])
    assert "schema: '2.0'\nstages:\n" + "".join(found.values()) == LOCK


def test_dvc_writes_its_file_as_it_read_it(tmp_path):
    """Else what is left alone here would not be what DVC's own rewriting leaves."""
    few = dict(list((entries(LOCK) or {}).items())[-3:])
    text = "schema: '2.0'\nstages:\n" + "".join(few.values())
    dump_yaml(str(tmp_path / "x"), parse_yaml_for_update(text, "x"))
    assert (tmp_path / "x").read_text(encoding="utf-8") == text


LITTLE = (
    "schema: '2.0'\nstages:\n  a:\n    cmd: x\n  b@c-d.e:\n    cmd: y\n    outs:\n    - path: p\n"
)
ENTRY = {
    "cmd": "python -m flows.stage train --corpus sample --method " + 5 * "long and ever longer ",
    "deps": [{"path": "ümlaut.py", "hash": "md5", "md5": "1234e567", "size": 1}],
    "params": {"params.yaml": {"a.b": None, "c": [0.003, 1e-05, True], "d": {"x": "no", "y": {}}}},
}


@pytest.mark.parametrize("name", ["a", "b@c-d.e", "new", "0123", "null", "with: colon"])
def test_an_entry_comes_out_as_dvc_writes_it(both, name):
    theirs, ours = both(LITTLE, _Stage(name, ENTRY))
    assert ours == theirs
    assert "long and ever longer" in ours


@pytest.mark.parametrize(
    "text",
    [
        None,
        "schema: '2.0'\nstages: {}\n",
        LITTLE + "datasets:\n- name: x\n",
        LITTLE.replace("  b@c", "  # somebody's note\n  b@c"),
        LITTLE.replace("schema: '2.0'\n", ""),
        LITTLE.replace("  b@c-d.e:", "  '07':"),
        LITTLE.rstrip("\n"),
    ],
)
def test_another_file_than_dvc_writes_for_stages_is_left_to_dvc(both, text):
    assert text is None or entries(text) is None
    theirs, ours = both(text, _Stage("a", ENTRY))
    assert ours == theirs


def test_a_name_that_comes_twice_is_no_file_of_ours():
    assert entries(LITTLE + "  a:\n    cmd: twice\n") is None


def test_several_stages_at_once(both):
    theirs, ours = both(LITTLE, _Stage("z", ENTRY), _Stage("a", {"cmd": "w"}))
    assert ours == theirs
    assert re.findall(r"^  (\S+):$", ours, re.MULTILINE) == ["a", "b@c-d.e", "z"]


def test_a_stage_that_changed_nothing_leaves_the_file_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(repro, "to_lockfile", lambda stage: {stage.name: stage.entry})
    file = tmp_path / "dvc.lock"
    file.write_text(LITTLE)
    before = file.stat().st_ino
    repro.dump_stages(_lock(file), [_Stage("a", {"cmd": "x"})])
    assert (file.stat().st_ino, file.read_text()) == (before, LITTLE)
