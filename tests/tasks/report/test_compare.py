import json
import subprocess
from dataclasses import replace

import polars as pl
import pytest
import yaml

from models.errors import UserError
from tasks.dvc_lock import cause_of, read_lock
from tasks.report.compare import compare_refs, to_json, to_text
from tasks.tables.parquet import files_of, read_table, write_table
from tasks.tables.utterances import UTTERANCES
from tests.places import here
from tests.tasks.report_factory import Scene, make_project

SCENE = Scene(targets=("category", "vad"), dialogues=12)


def write_lock(code="1", lr=0.1, split="s"):
    stages = {
        f"train@toy-{method}": {
            "deps": [
                {"path": "tasks/train/stage.py", "md5": code},
                {"path": f"models/methods/{method}.py", "md5": f"m{method}"},
                {"path": "data/splits/toy.parquet", "md5": split},
                {"path": "data/features/toy/tiny", "md5": "f"},
            ],
            "params": {"params.yaml": {f"methods.{method}": {"lr": lr}, "train.seeds": [0, 1]}},
        }
        for method in SCENE.methods
    }
    with open("dvc.lock", "w") as stream:
        yaml.safe_dump({"schema": "2.0", "stages": stages}, stream)


def write_report(method, seed, lr):
    folder = here().runs("toy", method) / f"seed{seed}" / "category"
    folder.mkdir(parents=True)
    report = {
        "corpus": "toy", "method": method, "seed": seed, "targets": [{"name": "category"}],
        "method_options": {"hidden": 8}, "training": {"lr": lr}, "inputs": {"audio": "tiny"},
    }  # fmt: skip
    (folder / "report.json").write_text(json.dumps(report))
    return folder


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AFFECTLOOM_CACHE", raising=False)
    raw = make_project(tmp_path, SCENE)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw))
    write_lock()
    return raw


def one(first, second):
    (found,) = compare_refs(here(), first, second, resamples=300)
    return found


def test_methods_are_tested_in_pairs_with_metric_deltas(project):
    found = one("corect", "constant")
    vad = next(t for t in found.targets if t.target == "vad")
    assert vad.comparison.metric == "ccc"
    assert vad.comparison.difference > 0.1
    assert "corect is significantly better than constant in ccc" in vad.sentence
    delta = {d.metric: d for d in vad.deltas}["ccc"]
    assert delta.difference == pytest.approx(vad.comparison.difference)


def test_models_are_permuted_where_both_sides_have_as_many_seeds(project):
    vad = next(t for t in one("corect", "constant").targets if t.target == "vad")
    assert vad.p_models < 0.05
    text = to_text([one("corect", "constant")])
    assert f"Of these very models (permutation test): p = {vad.p_models:.3g}" in text
    lone = one(str(write_report("linear", 0, 0.1)), "constant")
    assert lone.targets[0].p_models is None
    assert "permutation" not in to_text([lone])


def test_swapping_the_sides_turns_the_difference(project):
    ahead, behind = one("corect", "constant"), one("constant", "corect")
    for mine, theirs in zip(ahead.targets, behind.targets, strict=True):
        assert mine.comparison.difference == pytest.approx(-theirs.comparison.difference)
        assert mine.comparison.p_value == pytest.approx(theirs.comparison.p_value)


def test_causes_name_the_method_its_code_and_nothing_shared(project):
    causes = {(c.kind, c.what) for c in one("corect", "constant").causes}
    assert ("method", "name") in causes
    assert ("code", "models/methods/corect.py") in causes
    assert ("code", "tasks/train/stage.py") not in causes
    assert not [what for kind, what in causes if kind in ("split", "features", "data")]


def test_runs_of_other_seeds_differ_in_the_seed_and_options(project):
    first, second = write_report("linear", 0, 0.1), write_report("linear", 1, 0.2)
    found = one(str(first), str(second))
    assert [t.target for t in found.targets] == ["category"]
    assert found.targets[0].comparison.seeds == (1, 1)
    causes = {(c.kind, c.what): (c.first, c.second) for c in found.causes}
    assert causes["seed", "seeds"] == ("0", "1")
    assert causes["parameters", "training.lr"] == ("0.1", "0.2")


def test_a_folder_outside_the_project_is_refused(project, tmp_path):
    folder = write_report("linear", 0, 0.1)
    other = tmp_path / "elsewhere"
    other.mkdir()
    (other / "report.json").write_text((folder / "report.json").read_text())
    with pytest.raises(UserError, match="lies outside data/runs/toy/linear"):
        one(str(other), "linear")


def test_the_same_runs_are_not_compared(project):
    with pytest.raises(UserError, match="same runs"):
        one("linear", "linear")


def test_other_label_sets_are_refused(project):
    file = here().details("toy", "linear")
    details = json.loads(file.read_text())
    details["targets"]["category"]["names"].append("surprise")
    file.write_text(json.dumps(details))
    with pytest.raises(UserError, match=r"label sets differ \(.*surprise against"):
        one("linear", "corect")


def test_other_test_rows_are_refused(project):
    file = here().predictions("toy", "linear")
    pl.read_parquet(file).filter(pl.col("utterance_id") != "toy/d005/u01").write_parquet(file)
    with pytest.raises(UserError, match=r"0 rows are only in the first and 1 only in .*d005/u01"):
        one("linear", "corect")


def test_other_labels_of_the_same_rows_are_refused(project):
    file = here().predictions("toy", "linear")
    changed = pl.read_parquet(file).with_columns(
        pl.when(pl.col("utterance_id") == "toy/d005/u01")
        .then(pl.lit("sad"))
        .otherwise(pl.lit("angry"))
        .alias("target_category")
    )
    changed.write_parquet(file)
    with pytest.raises(UserError, match="test rows have other labels"):
        one("linear", "corect")


def test_json_is_plain(project):
    text = json.dumps(
        to_json(compare_refs(here(), "linear", "corect", resamples=200)), allow_nan=False
    )
    assert json.loads(text)[0]["targets"][0]["target"] == "category"


def test_without_a_lock_code_is_said_to_be_unrecorded(project, tmp_path):
    (tmp_path / "dvc.lock").unlink()
    found = one("linear", "corect")
    assert any(what.startswith("code") for what in found.unrecorded)
    assert "not recorded: code" in to_text([found])


def test_causes_follow_from_folders():
    assert cause_of("data/features/toy/tiny") == "features"
    assert cause_of("data/splits/toy.parquet") == "split"
    assert cause_of("models/batch.py") == "code"
    assert cause_of(str(here().labels("toy"))) == "data"
    assert read_lock("") == {}


def git(*arguments):
    subprocess.run(["git", "-c", "user.email=a@b", "-c", "user.name=t", *arguments], check=True)


@pytest.fixture
def revisions(project, tmp_path):
    """Two commits that differ in predictions, code, split and a parameter."""
    from dvc.repo import Repo

    git("init", "-q", "-b", "main")
    Repo.init(".").close()
    (tmp_path / ".gitignore").write_text(".dvc/tmp\n")
    git("add", ".")
    git("commit", "-qm", "one")
    table = pl.read_parquet(here().predictions("toy", "corect"))
    table.with_columns(
        pl.col("prediction_valence", "prediction_arousal", "prediction_dominance") * 0.5
    ).write_parquet(here().predictions("toy", "corect"))
    write_lock(code="2", lr=0.2, split="t")
    git("commit", "-qam", "two")


def test_revisions_are_compared_with_causes(revisions):
    found = compare_refs(here(), "HEAD~1", "HEAD", resamples=200)
    assert [pair.first for pair in found] == [f"HEAD~1:{m}" for m in sorted(SCENE.methods)]
    corect = found[1]
    vad = next(t for t in corect.targets if t.target == "vad")
    assert vad.comparison.difference > 0
    causes = {(c.kind, c.what): (c.first, c.second) for c in corect.causes}
    assert causes["code", "tasks/train/stage.py"] == ("1", "2")
    assert causes["split", "data/splits/toy.parquet"] == ("s", "t")
    assert causes["parameters", "method.lr"] == ("0.1", "0.2")


def test_a_method_is_compared_with_itself_in_another_revision(revisions):
    found = one("HEAD~1:corect", "corect")
    assert (found.first, found.second) == ("HEAD~1:corect", "corect")
    assert [c.kind for c in found.causes].count("code") == 1


def test_a_long_table_is_read_in_every_revision(revisions):
    by_file = [one(first, "corect") for first in ("HEAD:linear", "linear")]
    table = read_table(UTTERANCES, here().utterances("toy"))
    write_table(replace(UTTERANCES, part_rows=20), table, here().utterances("toy"))
    assert len(files_of(here().utterances("toy"))) > 2
    git("add", ".")
    git("commit", "-qm", "three")
    assert [one(first, "corect").targets for first in ("HEAD:linear", "linear")] == [
        each.targets for each in by_file
    ]


def test_unknown_names_get_a_hint(revisions):
    with pytest.raises(UserError, match="no method, run folder or git revision; did you mean 'lin"):
        one("lineer", "corect")
    with pytest.raises(UserError, match="HEAD has no method 'nothing'; its methods: con"):
        one("HEAD:nothing", "corect")


def test_utterances_of_the_factory_keep_their_contract(project):
    assert read_table(UTTERANCES, here().utterances("toy")).height == 3 * 12 * 6
