"""The walk over DVC's graph, on small projects of shell commands."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from dvc.repo import Repo

from flows import telling
from flows.pipeline import only_one
from flows.plan import Plan, read_plan
from flows.walk import Outcome, sort_lock, walk
from models.errors import UserError
from tests.places import ROOT


class Quiet:
    """A watcher that remembers."""

    def __init__(self, stop_after: int = 10**6) -> None:
        self.started_at: dict[str, float] = {}
        self.outcomes: list[Outcome] = []
        self.heard: list[tuple[str, str]] = []
        self.stop_after = stop_after

    def started(self, address: str) -> None:
        self.started_at[address] = time.monotonic()

    def said(self, address: str, line: str) -> None:
        self.heard.append((address, line))

    def ended(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)

    def must_stop(self) -> bool:
        return len(self.started_at) >= self.stop_after


def make_project(root: Path, stages: dict) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    Repo.init(str(root), no_scm=True).close()
    (root / "dvc.yaml").write_text(yaml.dump({"stages": stages}, sort_keys=False))
    return root


def chain(root: Path, cmd_of_b: str = "cp a b") -> Path:
    return make_project(
        root,
        {
            "a": {"cmd": "echo one > a", "outs": ["a"]},
            "b": {"cmd": cmd_of_b, "deps": ["a"], "outs": ["b"]},
            "c": {"cmd": "cp b c", "deps": ["b"], "outs": ["c"]},
            "x": {"cmd": "echo other > x", "outs": ["x"]},
        },
    )


def states(outcomes: list[Outcome]) -> dict[str, str]:
    return {outcome.address: outcome.state for outcome in outcomes}


def test_the_walk_leaves_what_dvc_repro_would_have_left(tmp_path):
    walked, reproduced = chain(tmp_path / "walked"), chain(tmp_path / "reproduced")
    assert set(states(walk(walked, read_plan(walked), Quiet(), jobs=2)).values()) == {"reproduced"}
    subprocess.run(
        [sys.executable, "-m", "dvc", "repro", "-q"], cwd=reproduced, check=True, timeout=120
    )
    locks = [yaml.safe_load((root / "dvc.lock").read_text()) for root in (walked, reproduced)]
    assert locks[0] == locks[1]
    for name in "abcx":
        assert (walked / name).read_bytes() == (reproduced / name).read_bytes()
    assert set(states(walk(walked, read_plan(walked), Quiet(), jobs=2)).values()) == {"cached"}


def test_a_changed_out_is_told_of_its_stage_and_of_what_depends_on_it(tmp_path):
    root = make_project(
        tmp_path,
        {
            "a": {"cmd": "mkdir a; echo one > a/file", "outs": ["a"]},
            "b": {"cmd": "cat a/file > b", "deps": ["a"], "outs": ["b"]},
        },
    )
    walk(root, read_plan(root), Quiet(), jobs=1)
    (root / "a/file").unlink()  # it may be a link into DVC's cache
    (root / "a/file").write_text("two\n")
    assert {n.address: n.reasons for n in read_plan(root).nodes.values()} == {
        "a": ("a modified",), "b": ("a modified",),
    }  # fmt: skip


def test_each_stage_gets_the_variables_of_the_moment_it_starts(tmp_path):
    stages = {
        "a": {"cmd": "echo $WORD > a", "outs": ["a"]},
        "b": {"cmd": "echo $WORD > b", "deps": ["a"], "outs": ["b"]},
    }
    root = make_project(tmp_path, stages)
    words = iter(["first", "second"])
    walk(root, read_plan(root), Quiet(), 1, lambda: {"WORD": next(words)})
    assert [(root / name).read_text() for name in "ab"] == ["first\n", "second\n"]


def test_a_failure_stops_only_what_depends_on_it_and_is_told(tmp_path):
    root = chain(tmp_path, cmd_of_b="echo 'error: file q.csv row 3 is empty' && exit 3")
    outcomes = walk(root, read_plan(root), Quiet(), jobs=1)
    assert states(outcomes) == {
        "a": "reproduced", "b": "failed", "c": "upstream failed", "x": "reproduced",
    }  # fmt: skip
    failed = next(o for o in outcomes if o.state == "failed")
    assert failed.reason == "file q.csv row 3 is empty"


def test_what_a_stage_says_is_heard_without_dvcs_lines_and_tracebacks(tmp_path):
    said = [
        "ingest@my-talks: quarantined: reason no_audio, rows 3",
        "my-talks: 2 boxes reach over the edge of their picture and end there",
        "ingest my-talks, seed 0: epoch 3 of at most 9, at most 0:20 left",
    ]
    unsaid = [
        "Traceback (most recent call last):",
        "ValueError: no",
        "other: no",
        "error: a: b",
        "> x",
    ]
    (tmp_path / "lines").write_text("\n".join([*said, *unsaid]) + "\n")
    stages = {
        "ingest": {
            "foreach": ["my-talks"],
            "do": {"cmd": "cat lines; echo 1 > ${item}", "outs": ["${item}"]},
        }
    }
    root = make_project(tmp_path, stages)
    watcher = Quiet()
    walk(root, read_plan(root), watcher, jobs=1)
    assert watcher.heard == [("ingest@my-talks", line) for line in said]


def test_progress_is_told_every_half_minute_and_all_else_at_once(capsys, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(telling, "time", SimpleNamespace(monotonic=lambda: now[0]))
    teller = telling.Teller(Plan(), None)
    teller.started("train@a-b")
    told = []
    for at, line in (
        (101, "train@a-b: 1/9 runs, 0:10 left"),
        (102, "train@a-b: methods.b has no teacher"),
        (131, "train a-b, seed 0, fold 0: epoch 2 of at most 60, at most 9:00 left"),
        (132, "train@a-b: 2/9 runs, 0:10 left"),
        (150, "train@a-b: faces: status ok, clips 12"),
        (162, "train@a-b: 3/9 runs, 0:10 left"),
    ):
        now[0] = at
        teller.said("train@a-b", line)
        told += [at] * bool(capsys.readouterr().err.count(line))
    assert told == [102, 131, 150, 162]


def test_an_unchanged_out_cuts_off_what_follows(tmp_path):
    root = make_project(
        tmp_path,
        {
            "a": {"cmd": "echo same > a", "deps": ["source"], "outs": ["a"]},
            "b": {"cmd": "cp a b", "deps": ["a"], "outs": ["b"]},
        },
    )
    (root / "source").write_text("1")
    walk(root, read_plan(root), Quiet(), jobs=2)
    (root / "source").write_text("2")
    assert states(walk(root, read_plan(root), Quiet(), jobs=2)) == {
        "a": "reproduced", "b": "cached",
    }  # fmt: skip


def test_a_forced_stage_runs_although_it_is_fresh_and_events_are_told(tmp_path):
    root = chain(tmp_path)
    walk(root, read_plan(root), Quiet(), jobs=1)
    plan, told = read_plan(root), []
    plan.tell = told.append
    plan.force(["b"])
    outcomes = walk(root, plan.upstream_of(plan.match(["b"])), Quiet(), jobs=1)
    assert states(outcomes) == {"a": "cached", "b": "reproduced"}
    assert [(e["event"], e.get("stage"), e.get("state")) for e in told] == [
        ("began", None, None), ("ended", "a", "cached"),
        ("started", "b", None), ("ended", "b", "reproduced"),
    ]  # fmt: skip


def test_independent_stages_run_side_by_side(tmp_path):
    stages = {name: {"cmd": f"sleep 2; echo {name} > {name}", "outs": [name]} for name in "abc"}
    root = make_project(tmp_path, stages)
    watcher = Quiet()
    outcomes = walk(root, read_plan(root), watcher, jobs=3)
    assert {o.state for o in outcomes} == {"reproduced"}
    begun = watcher.started_at.values()
    assert max(begun) - min(begun) < 2


def test_stopping_leaves_no_process_and_no_lock(tmp_path):
    root = make_project(tmp_path, {"slow": {"cmd": "sleep 987", "outs": ["never"]}})
    outcomes = walk(root, read_plan(root), _StopSoon(), jobs=1)
    assert states(outcomes) == {"slow": "stopped"}
    assert outcomes[0].reason == "while it was at work"
    assert outcomes[0].seconds > 2
    assert not processes("sleep 987")
    lock = root / ".dvc" / "tmp" / "rwlock"
    held = json.loads(lock.read_text() or "{}") if lock.exists() else {}
    assert not any(held.values())


class _StopSoon(Quiet):
    def must_stop(self) -> bool:
        return bool(self.started_at) and time.monotonic() - min(self.started_at.values()) > 2.5


def test_interrupting_the_command_stops_its_stages(tmp_path):
    root = make_project(tmp_path, {"slow": {"cmd": "sleep 986", "outs": ["never"]}})
    (root / "params.yaml").write_text("{}\n")
    code = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1])\n"
        "from flows.telling import Teller\nfrom flows.plan import read_plan\n"
        "from flows.walk import walk\n"
        "plan = read_plan(Path('.'))\nwalk(Path('.'), plan, Teller(plan, None), 1)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(ROOT)], cwd=root, stderr=subprocess.DEVNULL
    )
    end = time.monotonic() + 60
    while not processes("sleep 986") and time.monotonic() < end:
        time.sleep(0.1)
    assert processes("sleep 986")
    process.send_signal(signal.SIGINT)
    process.wait(timeout=30)
    assert not processes("sleep 986")


def test_ctrl_c_interrupts_a_wait_although_polars_is_imported(tmp_path):
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\nimport subprocess\nimport polars\n"
        "from flows.pipeline import stop_on_signal\nstop_on_signal()\n"
        "child = subprocess.Popen(['sleep', '980'])\n"
        "try:\n    child.wait()\nexcept KeyboardInterrupt:\n    child.kill()\n    sys.exit(7)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(ROOT)], cwd=tmp_path)
    try:
        end = time.monotonic() + 60
        while not processes("sleep 980") and time.monotonic() < end:
            time.sleep(0.1)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 7
    finally:
        for pid in processes("sleep 980"):
            os.kill(pid, signal.SIGKILL)
        process.kill()


def processes(command: str) -> list[int]:
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            try:
                line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if line.strip() == command:
                found.append(int(folder.name))
    return found


def test_the_lock_file_is_put_in_one_order(tmp_path):
    text = "schema: '2.0'\nstages:\n  b:\n    cmd: x\n  a:\n    cmd: y\n"
    (tmp_path / "dvc.lock").write_text(text)
    sort_lock(tmp_path)
    found = (tmp_path / "dvc.lock").read_text()
    assert found.index("  a:") < found.index("  b:")
    assert yaml.safe_load(found) == yaml.safe_load(text)


def test_names_select_groups_and_what_they_need(tmp_path):
    plan = read_plan(chain(tmp_path))
    assert set(plan.upstream_of(plan.match(["b"])).nodes) == {"a", "b"}
    with pytest.raises(UserError, match="no stage 'zz'; stages: a, b, c, x"):
        plan.match(["zz"])


def test_two_pipelines_at_once_are_refused(tmp_path):
    second = only_one(tmp_path)
    with only_one(tmp_path), pytest.raises(UserError, match="another `affectloom run`"):
        second.__enter__()


def test_data_under_dvc_add_are_part_of_the_walk(tmp_path, monkeypatch):
    root = make_project(
        tmp_path, {"a": {"cmd": "cp data/raw/mine a", "deps": ["data/raw/mine"], "outs": ["a"]}}
    )
    monkeypatch.chdir(root)
    corpus = root / "data/raw/mine"
    corpus.parent.mkdir(parents=True)
    corpus.write_text("one\n")
    with Repo(".") as repo:
        repo.add(["data/raw/mine"])
    walk(root, read_plan(root), Quiet(), jobs=1)
    corpus.unlink()  # DVC makes it a read-only link to its cache where it can
    corpus.write_text("two\n")
    watcher = Quiet()
    walk(root, read_plan(root), watcher, jobs=1)
    states = [(one.address, one.state) for one in watcher.outcomes]
    assert states == [("data/raw/mine.dvc", "reproduced"), ("a", "reproduced")]
    assert (root / "a").read_text() == "two\n"

    corpus.unlink()
    shutil.rmtree(root / ".dvc/cache")
    watcher = Quiet()
    walk(root, read_plan(root), watcher, jobs=1)
    assert watcher.outcomes[0].state == "failed"
    assert watcher.outcomes[0].reason == (
        "data/raw/mine is not here; `dvc checkout` or `dvc pull data/raw/mine.dvc` brings it"
    )
