"""DVC's last answer is given again, and only while DVC would give it."""

import os
import shutil
from dataclasses import astuple

import pytest
from dvc.repo import Repo

from flows import unchanged
from flows.plan import read_plan
from flows.walk import walk
from tests.flows.test_walk import Quiet, make_project

STAGES = {
    "first": {"cmd": "cp raw/in one", "deps": ["raw"], "outs": ["one"]},
    "second": {"cmd": "cp one two", "deps": ["one"], "outs": ["two"]},
}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A project in which all is done."""
    root = make_project(tmp_path_factory.mktemp("unchanged"), STAGES)
    (root / "raw").mkdir()
    (root / "raw" / "in").write_text("a")
    walk(root, read_plan(root), Quiet(), jobs=1)
    return root


@pytest.fixture
def project(done, tmp_path):
    """A copy of it, in which DVC's answer is known."""
    root = shutil.copytree(done, tmp_path / "project")
    assert not read_plan(root).maybe
    return root


@pytest.fixture
def asked(monkeypatch):
    """How often DVC was asked."""
    found: list[str] = []
    begin = Repo.__init__

    def note(self, *given, **options):
        found.append("asked")
        begin(self, *given, **options)

    monkeypatch.setattr(Repo, "__init__", note)
    return found


def same(one, other) -> bool:
    return [astuple(n) for n in one.nodes.values()] == [astuple(n) for n in other.nodes.values()]


def test_the_same_is_answered_without_dvc(project, asked, monkeypatch):
    known = read_plan(project)
    assert not asked
    (project / ".cache" / "affectloom" / "status.json").unlink()
    assert same(read_plan(project), known)
    assert asked == ["asked"]
    monkeypatch.chdir(project.parent)
    assert same(read_plan(project.relative_to(project.parent)), known)
    assert asked == ["asked"]


def write_with_the_same_size(root):
    (root / "raw" / "in").write_text("b")


@pytest.mark.parametrize(
    ("change", "stale"),
    [
        (write_with_the_same_size, ["first", "second"]),
        (lambda root: (root / "raw" / "new").touch(), ["first", "second"]),
        (lambda root: (root / "raw" / "in").rename(root / "raw" / "on"), ["first", "second"]),
        (lambda root: (root / "two").unlink(), ["second"]),
        (lambda root: (root / "dvc.lock").unlink(), ["first", "second"]),
        (lambda root: (root / ".dvc" / "config").write_text("[core]\n  no_scm = true\n  \n"), []),
        (lambda root: shutil.rmtree(root / ".dvc" / "cache"), ["first", "second"]),
    ],
)
def test_a_change_has_dvc_asked_again(project, asked, change, stale):
    change(project)
    plan = read_plan(project)
    assert asked == ["asked"]
    assert plan.maybe == stale
    assert same(read_plan(project), plan)
    assert asked == ["asked"]


def test_an_object_that_is_lost_has_dvc_asked_again(project, asked):
    objects = (project / ".dvc" / "cache" / "files" / "md5").rglob("*")
    next(path for path in objects if path.is_file()).unlink()
    assert read_plan(project).maybe
    assert asked


def test_what_lies_elsewhere_is_looked_at_each_time(tmp_path, asked):
    away = tmp_path / "away"
    away.write_text("a")
    stages = {"one": {"cmd": f"cp {away} one", "deps": [str(away)], "outs": ["one"]}}
    root = make_project(tmp_path / "project", stages)
    asked.clear()
    for _ in range(2):
        read_plan(root)
    assert asked == ["asked", "asked"]


def test_what_changes_while_dvc_looks_is_not_kept(project):
    before = unchanged.Sight.of(project, [], str(project / ".dvc/cache/files/md5"))
    (project / "raw" / "in").write_text("bb")
    (project / ".cache" / "affectloom" / "status.json").unlink()
    unchanged.keep(project, before, [])
    assert unchanged.recall(project) is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"settings": 1}', '{"answer": []}'])
def test_a_damaged_answer_is_none(project, asked, text):
    (project / ".cache" / "affectloom" / "status.json").write_text(text)
    assert not read_plan(project).maybe
    assert asked == ["asked"]


def test_links_are_followed_and_never_twice(project, asked):
    away = project.parent / "disk"
    away.mkdir()
    (away / "clip").write_text("a")
    (project / "raw" / "linked").symlink_to(away)
    (away / "back").symlink_to(project)
    plain = unchanged.Sight.of(project, [], "nowhere")
    (away / "clip").write_text("bb")
    assert unchanged.Sight.of(project, [], "nowhere") != plain
    os.unlink(away / "clip")
    (away / "clip").symlink_to("nothing")
    assert unchanged.Sight.of(project, [], "nowhere") != plain
