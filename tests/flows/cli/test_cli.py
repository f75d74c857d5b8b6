"""The command ``affectloom``: help, exit codes, and sentences."""

import errno
import json
import os
import re
import subprocess
import sys

import pytest
import typer

from flows import doctor
from flows.cli import main as cli
from flows.graph import STAGES

COMMANDS = sorted(
    [(name,) for name in typer.main.get_command(cli.app).commands if name != "store"]
    + [("store", name) for name in typer.main.get_command(cli.store_app).commands]
)


@pytest.fixture
def sentence(command):
    """Runs a command that must fail with one sentence."""

    def run(*arguments: str) -> str:
        code, out, err = command(*arguments)
        assert code == 1
        assert out == ""
        assert len(err.splitlines()) == 1, err
        assert err.startswith("error: ")
        return err

    return run


def test_the_commands_are_those_of_the_design():
    names = {name[0] for name in COMMANDS}
    assert {"run", "status", "stage", "doctor", "ui", "import", "lint", "report"} <= names


@pytest.mark.parametrize("name", COMMANDS, ids=" ".join)
def test_the_help_of_every_command_has_an_example(command, name):
    code, out, _ = command(*name, "--help")
    assert code == 0
    shown = re.sub(r"\x1b\[[0-9;]*m", "", out)
    assert f"affectloom {' '.join(name)}" in re.sub(r"\s+", " ", shown.split("Example")[1])


def test_help_works_outside_a_project(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for arguments in (["--help"], ["-h"], ["run", "--help"], ["store", "--help"]):
        assert command(*arguments)[0] == 0


def test_other_commands_need_a_project(sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "is not inside an affectloom project" in sentence("status")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("\nfaces:", "\nfcaes:", "no section 'fcaes'; did you mean 'faces'?"),
        ("  merge: mean", "  mrege: mean", "labels.mrege; did you mean 'merge'?"),
        ("pooling: mean_std", "poling: mean", "encoders.prosody.poling; did you mean 'pooling'?"),
        ("  early_fusion: {}", "  early_fusion: {hiden: 8}", "did you mean 'hidden'?"),
        ("  runner: proc", "  runer: proc", "execution.runer; did you mean 'runner'?"),
        ("  prosody: {", "  prosody: [{", "not valid YAML"),
        ("  constant: {}", "  constant: [3]", "methods.constant is [3]; it must hold keys"),
    ],
)
@pytest.mark.parametrize("name", ["status", "run"])
def test_a_mistake_in_params_is_one_sentence_before_any_work(
    sentence, edit, clone, name, old, new, expected
):
    edit(old, new)
    said = sentence(name)
    assert "params.yaml" in said
    assert expected in said
    assert not (clone / "data").exists()


def test_status_tells_every_stage_and_its_reasons(command):
    code, out, _ = command("status", "--json")
    assert code == 0
    found = json.loads(out)
    assert found["dvc_yaml_out_of_step"] is False
    optional = {"transfer", "search", "transcribe"}  # the shipped params.yaml asks for none
    assert {address.split("@")[0] for address in found["stages"]} == set(STAGES) - optional
    for entry in found["stages"].values():
        assert set(entry) == {"state", "reasons"}
        assert entry["state"] in ("stale", "follows", "fresh")
        assert bool(entry["reasons"]) == (entry["state"] == "stale")
    assert found["stages"]["sample"]["state"] == "stale"


def test_status_for_people_counts_what_is_up_to_date(command):
    code, out, _ = command("status")
    assert code == 0
    assert re.search(r"^0 of \d+ stages are up to date$", out, re.M)


def test_status_tells_that_the_graph_is_out_of_step_and_leaves_it(command, edit, clone):
    edit("  constant: {}", "  constant: {}\n  another: {method: constant}")
    before = (clone / "dvc.yaml").read_text()
    code, out, _ = command("status")
    assert code == 0
    assert "dvc.yaml is not in step" in out
    assert (clone / "dvc.yaml").read_text() == before


def test_a_new_entry_shows_its_stages_before_sync(command, edit):
    edit("  constant: {}", "  constant: {}\n  another: {method: constant}")
    edit("  linear: {}\n", "")
    code, out, _ = command("status", "--json")
    assert code == 0
    found = json.loads(out)
    assert found["dvc_yaml_out_of_step"] is True
    assert found["stages"]["train@sample-another"]["state"] == "stale"
    assert "evaluate@sample-another" in found["stages"]
    assert "train@sample-linear" not in found["stages"]


@pytest.mark.parametrize("name", ["status", "run", "sync", "dag"])
def test_a_file_cut_in_the_middle_is_one_sentence(sentence, clone, name):
    text = (clone / "params.yaml").read_text()
    before = (clone / "dvc.yaml").read_text()
    (clone / "params.yaml").write_text(text[: text.index("\nevaluate:")])
    assert "params.yaml has no execution: it looks cut off" in sentence(name)
    assert (clone / "dvc.yaml").read_text() == before


def test_entries_and_comments_that_were_taken_out_are_no_cut(command, clone):
    text = (clone / "params.yaml").read_text()
    kept = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    kept.remove("  early_fusion: {}")
    (clone / "params.yaml").write_text("\n".join(kept) + "\n")
    assert command("status")[0] == 0


def test_a_sound_params_file_is_looked_through_once(command, monkeypatch, edit):
    from tasks.params.model import Params

    asked = []
    whole = Params.check_everything
    monkeypatch.setattr(Params, "check_everything", lambda self: asked.append(1) or whole(self))
    assert command("status")[0] == command("status")[0] == 0
    assert asked == [1]
    edit("  merge: mean", "  merge: median")
    assert command("status")[0] == 0
    assert asked == [1, 1]


def test_the_graph_is_drawn_with_each_stage_once(command):
    code, out, _ = command("dag")
    assert code == 0
    assert max(map(len, out.splitlines())) <= 100
    assert out.count("train (3)") == 1
    code, out, _ = command("dag", "--mermaid")
    assert out.splitlines()[0] == "flowchart TD"
    assert "  s_train --> s_evaluate" in out.splitlines()


def test_the_version_is_told_outside_a_project_too(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, _ = command("--version")
    assert code == 0
    assert re.fullmatch(r"affectloom \d+\.\d+.*\n", out)


def test_every_option_has_a_help():
    for name, found in typer.main.get_command(cli.app).commands.items():
        for one in [found, *getattr(found, "commands", {}).values()]:
            for parameter in one.params:
                assert parameter.help, f"{name}: {parameter.name}"


def test_a_dry_run_tells_stages_in_order_and_runs_none(command, clone):
    code, out, _ = command("run", "--dry-run", "labels")
    assert code == 0
    found = [line.partition(":")[0] for line in out.splitlines()]
    assert found[:-1] == ["sample", "ingest@sample", "labels@sample"]
    assert out.splitlines()[-1] == "3 of 3 stages would be looked at"
    code, out, _ = command("run", "--dry-run", "--json", "labels", "--force", "labels")
    events = [json.loads(line) for line in out.splitlines()]
    assert events[-1]["stage"] == "labels@sample"
    assert "asked for by --force" in events[-1]["reasons"]
    assert not (clone / "data").exists()


def test_a_plan_tells_what_is_known_and_what_is_not(command, clone):
    times = clone / ".cache" / "affectloom" / "times.jsonl"
    times.parent.mkdir(parents=True)
    times.write_text(
        '{"stage": "ingest@sample", "seconds": 90.0}\n{"stage": "train@other-x", "seconds": 30.0}\n'
    )
    code, out, _ = command("plan", "--json")
    assert code == 0
    found = json.loads(out)
    assert found["corpora"][0]["gigabytes"] is None
    stages = {one["address"]: one for one in found["stages"]}
    assert stages["ingest@sample"]["seconds"] == 90
    assert stages["train@sample-linear"]["seconds"] == 30
    assert stages["train@sample-linear"]["told_by"] == "1 runs of train here"
    assert stages["faces@sample"]["seconds"] is None
    trainings = [name for name in stages if name.startswith("train@")]
    assert found["seconds"] == 90 + 30 * -(-len(trainings) // found["jobs"])  # side by side
    code, out, _ = command("plan", "ingest")
    assert "1.5 min  ingest@sample: its last run here" in out
    assert out.splitlines()[-1].endswith("and 1 stages that nothing is known of")


def test_events_of_a_run_are_lines_of_json(command, monkeypatch):
    from flows.walk import Outcome

    def run(root, names, jobs, pull, force, tell):
        tell({"event": "started", "stage": "a"})
        return [Outcome("a", "cached")]

    monkeypatch.setattr("flows.pipeline.run_pipeline", run)
    monkeypatch.setattr("flows.pipeline.stop_on_signal", lambda: None)
    code, out, _ = command("run", "--json")
    assert (code, json.loads(out)) == (0, {"event": "started", "stage": "a"})


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("stage", "lables"), "no stage 'lables'; stages: sample, checkpoints"),
        (("stage", "labels", "--corpus", "x"), "no labels --corpus x; there is: labels@sample"),
        (("stage", "train", "--method", "linaer"), "train@sample-linear"),
        (("stage", "features", "--encoder", "prosdy"), "features@sample-prosody"),
        (("run", "lables"), "there is no stage 'lables'; stages:"),
        (("lint", "smaple"), "no corpus 'smaple'; it has: sample"),
        (("fetch", "prosdy"), "did you mean 'prosody'?"),
        (("lint",), "run stage"),
        (("report", "--latex", "--markdown"), "exclude each other"),
    ],
)
def test_a_wrong_name_is_answered_with_what_there_is(sentence, arguments, expected):
    assert expected in sentence(*arguments)


def test_an_unknown_command_or_option_ends_with_2(command):
    assert command("satus")[0] == 2
    assert command("status", "--jsn")[0] == 2


def _raise(error: BaseException):
    def fail(*args: object, **kwargs: object) -> None:
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "code", "expected"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "x"),
            1,
            "x: No space left on device; fr",
        ),
        (PermissionError(errno.EACCES, "Permission denied", "y"), 1, "y: Permission denied; allow"),
        (KeyError("q"), 1, "unexpected KeyError: 'q'; run again with --debug"),
        (KeyboardInterrupt(), 130, "stopped; run the same command again"),
    ],
)
def test_whatever_happens_is_one_sentence(command, monkeypatch, error, code, expected):
    monkeypatch.setattr("flows.plan.read_plan", _raise(error))
    found = command("status")
    assert found[0] == code
    assert expected in found[2]
    assert len(found[2].splitlines()) == 1


def test_a_failing_stage_makes_the_run_fail(command, monkeypatch):
    from flows.walk import Outcome

    outcomes = [Outcome("a", "failed", "why")]
    monkeypatch.setattr("flows.pipeline.run_pipeline", lambda *_, **__: outcomes)
    monkeypatch.setattr("flows.pipeline.stop_on_signal", lambda: None)
    assert command("run")[0] == 1
    outcomes[0] = Outcome("a", "cached")
    assert command("run")[0] == 0


@pytest.mark.parametrize("is_ok", [True, False])
def test_doctor_ends_with_1_when_something_is_wrong(command, monkeypatch, is_ok):
    findings = [
        doctor.Finding("disk", True, "much"),
        doctor.Finding("locks", is_ok, "some", "drop them"),
    ]
    monkeypatch.setattr(doctor, "examine", lambda root, fix: findings)
    code, out, _ = command("doctor")
    assert code == (0 if is_ok else 1)
    assert ("MEND locks: some; drop them" in out) is not is_ok
    code, out, _ = command("doctor", "--json")
    assert code == (0 if is_ok else 1)
    expected = {"what": "locks", "is_ok": is_ok, "detail": "some", "remedy": "drop them"}
    assert json.loads(out)[1] == expected


def test_an_empty_store_is_sound(command):
    assert command("store", "stats", "--json")[:2] == (0, "[]\n")
    assert command("store", "verify")[:2] == (0, "the store is sound\n")
    assert command("store", "prune")[:2] == (0, "0.0 MB freed\n")


def test_the_module_runs_as_a_program(clone):
    (clone / "params.yaml").write_text("lables: {}\n")
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli.main", "status"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1].endswith("did you mean 'labels'?")
    assert "Traceback" not in done.stderr


def test_a_locale_without_utf8_is_told_with_a_remedy(clone):
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli.main", "status"],
        env=os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: this shell's locale has file names and texts read as")
    assert "set PYTHONUTF8=1" in done.stderr


def test_status_reads_the_graph_that_will_be_where_dvc_cannot_read_the_old_one(command, edit):
    edit("  prosody:", "  pitch:")
    edit("audio: prosody", "audio: pitch")
    code, out, _ = command("status")
    assert code == 0
    assert out.startswith("dvc.yaml is not in step with params.yaml")
    assert "features@sample-pitch" in out


@pytest.mark.parametrize("arguments", [("status",), ("sync",), ("run",)])
@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"corpora: {}\nexecution: {}\n", "corpora is empty"),
        (b"corpora: {}\ncorpora: {}\n", "line 2: 'corpora' stands twice"),
        (b"- corpora\n", "is a list; it must hold keys and values"),
        (b"corpora: {\xff: {}}\n", "not UTF-8 text"),
        (b"corpora: {a/../../x: {adapter: sample}}\n", "has the name 'a/../../x'"),
        (
            b"corpora: {sample: {options: {x: 1}}}\nexecution: {}\n",
            "the adapter sample has no option 'x'",
        ),
    ],
    ids=["empty", "twice", "list", "latin", "path", "option"],
)
def test_every_command_says_what_is_wrong_with_the_parameters(
    sentence, clone, arguments, text, said
):
    (clone / "params.yaml").write_bytes(text)
    assert said in sentence(*arguments)
