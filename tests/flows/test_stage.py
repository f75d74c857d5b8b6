"""``python -m flows.stage``: one sentence on bad input, and earlier outputs stay as they are."""

import errno
import hashlib
import json
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest

from flows import stage
from flows.graph import read_raw_params
from models.errors import UserError
from tasks import failures
from tasks.context import WorkerDied
from tasks.tables.annotations import ANNOTATIONS
from tasks.tables.parquet import write_table
from tasks.tables.quarantine import QUARANTINE
from tasks.tables.utterances import UTTERANCES
from tests.places import here

LABELS_STAGE = ["labels", "--corpus", "sample"]


@pytest.fixture
def say(clone, capsys):
    """Runs a stage here; what it says on stderr must be one sentence and no traceback."""

    def run(*arguments: str, code: int = 1) -> str:
        assert stage.main(list(arguments)) == code
        said = capsys.readouterr().err.strip()
        assert "Traceback" not in said
        assert len(said.splitlines()) == 1, said
        return said

    return run


@pytest.fixture
def tables(clone) -> Path:
    """Tables of ingest, valid and small."""
    rows = [
        {
            "utterance_id": f"sample/d{n}/0",
            "dialogue_id": f"sample/d{n}",
            "turn": 0,
            "speaker": f"s{n}",
            "text": f"the words of number {n}",
            "session": f"{n}",
        }
        for n in range(6)
    ]
    write_table(UTTERANCES, UTTERANCES.frame(rows), here().utterances("sample"))
    votes = [
        {
            "utterance_id": row["utterance_id"],
            "rater": f"r{rater}",
            "target": "category",
            "label": "joy",
            "source": "own",
        }
        for row in rows
        for rater in range(2)
    ]
    write_table(ANNOTATIONS, ANNOTATIONS.frame(votes), here().annotations("sample"))
    write_table(QUARANTINE, QUARANTINE.empty(), here().quarantine("sample"))
    return clone


def digests(root: Path) -> dict[str, str]:
    return {
        str(file.relative_to(root)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted((root / "data").rglob("*"))
        if file.is_file()
    }


@pytest.mark.parametrize(
    ("old", "new", "arguments", "expected"),
    [
        ("\nlabels:", "\nlables:", LABELS_STAGE, "did you mean 'labels'?"),
        ("  merge: mean", "  mrege: mean", LABELS_STAGE, "labels.mrege; did you mean 'merge'?"),
        (
            "pooling: mean_std", "poling: mean_std",
            ["features", "--corpus", "sample", "--encoder", "prosody"],
            "encoders.prosody.poling; did you mean 'pooling'?",
        ),
        (
            "  early_fusion: {}", "  early_fusion: {hiden: 8}",
            ["train", "--corpus", "sample", "--method", "early_fusion"],
            "methods.early_fusion has no option 'hiden'; did you mean 'hidden'?",
        ),
        (
            "  audio: prosody", "  audio: prosodi", LABELS_STAGE,
            "inputs.audio is 'prosodi', which is no key of encoders; did you mean 'prosody'?",
        ),
        ("  merge: mean", "  merge: maen", LABELS_STAGE, "params.yaml: labels.merge is 'maen'"),
        ("  constant: {}", "  constant: 3", LABELS_STAGE, "methods.constant is 3; it must hold"),
        ("labels:", "labels: [", LABELS_STAGE, "not valid YAML"),
    ],
)  # fmt: skip
def test_a_mistake_in_params_is_one_sentence(say, edit, old, new, arguments, expected):
    edit(old, new)
    said = say(*arguments)
    assert said.startswith("error: params.yaml")
    assert expected in said


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["labels", "--corpus", "smaple"], "no labels@smaple in params.yaml; there is: labels@s"),
        (["labels"], "there is: labels@sample"),
        (["features", "--corpus", "sample", "--encoder", "prosdy"], "features@sample-prosody"),
        (["train", "--corpus", "sample", "--method", "linaer"], "train@sample-linear"),
        (["report", "--corpus", "sample"], "there is: report"),
    ],
)
def test_a_wrong_name_is_answered_with_what_there_is(say, arguments, expected):
    assert expected in say(*arguments)


@pytest.mark.parametrize(
    ("arguments", "wants"),
    [(["faces"], "utterances"), (["features", "--encoder", "vit_tiny"], "vit_tiny")],
)
def test_what_nothing_reads_runs_when_it_is_asked_for(say, edit, arguments, wants):
    edit("  video: fer", "")
    said = say(arguments[0], "--corpus", "sample", *arguments[1:])
    assert "there is no" not in said
    assert wants in said


def test_an_unknown_stage_is_answered_with_the_stages(clone, capsys):
    with pytest.raises(SystemExit) as ended:
        stage.main(["lables"])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert "invalid choice: 'lables'" in said
    assert "labels" in said


def test_outside_a_project_is_one_sentence(say, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "is not inside an affectloom project" in say(*LABELS_STAGE)


def test_a_subfolder_of_the_project_will_do(say, clone, monkeypatch):
    (clone / "data" / "deep").mkdir(parents=True)
    monkeypatch.chdir(clone / "data" / "deep")
    assert "run stage ingest first" in say(*LABELS_STAGE)


def test_a_missing_raw_folder_is_one_sentence(say):
    assert "data/raw/sample" in say("ingest", "--corpus", "sample")


def test_missing_tables_name_the_stage_that_makes_them(say):
    assert "no such table; run stage ingest first" in say(*LABELS_STAGE)
    assert "run stage" in say("splits", "--corpus", "sample")


@pytest.mark.parametrize("broken", ["renamed", "wrong type", "not parquet"])
def test_a_broken_table_is_one_sentence_and_changes_nothing(tables, say, broken):
    assert stage.main(LABELS_STAGE) == 0
    file = here().annotations("sample")
    table = pq.read_table(file)
    if broken == "renamed":
        pq.write_table(table.rename_columns({"rater": "judge"}), file)
    elif broken == "wrong type":
        pl.DataFrame(pl.from_arrow(table)).with_columns(rater=pl.lit(3)).write_parquet(file)
    else:
        file.write_bytes(b"garbage")
    before = digests(tables)
    said = say(*LABELS_STAGE)
    assert "data/corpora/sample/annotations.parquet" in said
    if broken != "not parquet":
        assert "rater" in said.split("annotations.parquet")[1]
    assert digests(tables) == before


def test_splits_stop_at_judgements_with_a_wrong_column(tables, say):
    file = here().annotations("sample")
    pq.write_table(pq.read_table(file).rename_columns({ANNOTATIONS.key[0]: "id"}), file)
    said = say("splits", "--corpus", "sample")
    assert "data/corpora/sample/annotations.parquet" in said
    assert "utterance_id" in said
    assert not here().splits("sample").exists()


def test_a_file_where_the_output_folder_belongs_is_one_sentence(tables, say):
    Path("data/labels").write_text("in the way")
    said = say(*LABELS_STAGE)
    assert "cannot write data/labels/sample" in said
    assert Path("data/labels").read_text() == "in the way"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_full_or_read_only_disk_leaves_earlier_outputs(tables, say, monkeypatch, number):
    assert stage.main(LABELS_STAGE) == 0
    before = digests(tables)

    def fail(*args: object, **kwargs: object) -> None:
        raise OSError(number, "the disk says no")

    monkeypatch.setattr(pq.ParquetWriter, "__init__", fail)
    monkeypatch.setattr(pq, "write_table", fail)
    said = say(*LABELS_STAGE)
    assert "the disk says no" in said
    assert digests(tables) == before


def test_an_error_of_the_machine_elsewhere_is_one_sentence_too(say, monkeypatch):
    def fail(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "data/somewhere")

    monkeypatch.setattr(stage, "run_stage", fail)
    assert say(*LABELS_STAGE) == (
        "error: data/somewhere: No space left on device; "
        "free some space and run the same command again"
    )


def test_an_unwritable_cache_does_not_fail_a_stage_that_worked(tables, monkeypatch, caplog):
    Path("full").write_text("a file")
    monkeypatch.setenv("AFFECTLOOM_CACHE", "full")
    with caplog.at_level(logging.WARNING):
        assert stage.main(LABELS_STAGE) == 0
    assert "labels@sample: cannot note how it ended" in caplog.text
    assert here().labels("sample").exists()
    Path("full").unlink()


def test_how_a_stage_ended_is_noted(tables, say):
    file = here().annotations("sample")
    content = file.read_bytes()
    file.unlink()
    say(*LABELS_STAGE)
    assert "run stage ingest first" in failures.latest(here())["labels@sample"]
    file.write_bytes(content)
    assert stage.main(LABELS_STAGE) == 0
    assert failures.latest(here()) == {}
    times = (here().cache / "times.jsonl").read_text().splitlines()
    assert [json.loads(line)["stage"] for line in times] == ["labels@sample"]


def test_a_stage_tells_which_stages_a_plain_dvc_repro_leaves_out(edit, clone, caplog):
    stage._tell_unknown(read_raw_params(clone))
    assert not caplog.text
    edit("  constant: {}", "  constant: {}\n  another: {method: constant}")
    stage._tell_unknown(read_raw_params(clone))
    assert "does not know train@sample-another, evaluate@sample-another yet" in caplog.text
    assert "run `affectloom sync`" in caplog.text


@pytest.mark.parametrize("handler", [signal.default_int_handler, signal.SIG_IGN])  # of a script's &
def test_an_interruption_ends_with_130(say, monkeypatch, handler):
    def interrupt(*args: object) -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(stage, "run_stage", interrupt)
    before = signal.signal(signal.SIGINT, handler)
    try:
        said = say(*LABELS_STAGE, code=130)
    finally:
        signal.signal(signal.SIGINT, before)
    assert said == "stopped; run the same command again to go on from here"


def test_a_defect_keeps_its_traceback(clone, monkeypatch):
    def defect(*args: object) -> None:
        raise KeyError("a defect of the code")

    monkeypatch.setattr(stage, "run_stage", defect)
    with pytest.raises(KeyError):
        stage.main(LABELS_STAGE)


def test_debug_shows_where_a_user_error_comes_from(clone, monkeypatch):
    monkeypatch.setenv("AFFECTLOOM_DEBUG", "1")
    with pytest.raises(stage.UserError):
        stage.main(LABELS_STAGE)


def test_the_module_runs_as_dvc_runs_it(clone):
    done = subprocess.run(
        [sys.executable, "-m", "flows.stage", *LABELS_STAGE],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("error: data/corpora/sample/utterances.parquet: no such table")
    assert done.stdout == ""


def test_a_report_on_an_outdated_graph_writes_the_graph_and_stops(say, edit, clone):
    before = (clone / "dvc.yaml").read_text()
    edit("  constant: {}", "  constant: {}\n  another: {method: constant}")
    try:
        assert "dvc.yaml is up to date now" in say("report")
        assert "train@sample-another" not in before
        assert "sample-another" in (clone / "dvc.yaml").read_text()
    finally:
        (clone / "dvc.yaml").write_text(before)


class Flaky:
    """Stands for a stage that fails with ``errors`` one after another, then works."""

    def __init__(self, *errors: Exception) -> None:
        self.errors, self.calls = list(errors), 0

    def __call__(self, *given: object) -> None:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)


def _caused(cause: OSError) -> UserError:
    error = UserError("the file cannot be read")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "error",
    [
        ConnectionResetError("peer"),
        OSError(errno.ESTALE, "stale"),
        WorkerDied("a worker died"),
        _caused(OSError(errno.EIO, "the folder is away")),
    ],
)
def test_what_may_pass_is_tried_once_more(clone, monkeypatch, error):
    flaky = Flaky(error)
    monkeypatch.setattr(stage, "run_stage", flaky)
    monkeypatch.setattr(stage, "RETRIES_S", (0.0,))
    stage.execute("sample", {})
    assert flaky.calls == 2


def test_what_does_not_pass_fails_after_the_last_try(clone, monkeypatch):
    flaky = Flaky(ConnectionError("first"), ConnectionError("second"))
    monkeypatch.setattr(stage, "run_stage", flaky)
    monkeypatch.setattr(stage, "RETRIES_S", (0.0,))
    with pytest.raises(ConnectionError, match="second"):
        stage.execute("sample", {})
    assert flaky.calls == 2


@pytest.mark.parametrize("error", [UserError("row 3"), FileNotFoundError("clip"), ValueError("x")])
def test_a_mistake_is_not_tried_again(clone, monkeypatch, error):
    flaky = Flaky(error)
    monkeypatch.setattr(stage, "run_stage", flaky)
    with pytest.raises(type(error)):
        stage.execute("sample", {})
    assert flaky.calls == 1


def test_what_a_stage_freed_goes_back_to_the_system():
    script = "import flows, os, pyarrow as pa; print(pa.default_memory_pool().backend_name)"
    script += "; print(os.environ['_RJEM_MALLOC_CONF'])"
    names = ("ARROW_DEFAULT_MEMORY_POOL", "_RJEM_MALLOC_CONF")
    plain = {name: value for name, value in os.environ.items() if name not in names}
    done = subprocess.run(
        [sys.executable, "-c", script], env=plain, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["system", "dirty_decay_ms:0,muzzy_decay_ms:0"]
