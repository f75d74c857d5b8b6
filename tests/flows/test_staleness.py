"""One change makes exactly those stages stale that depend on it, in DVC's own opinion."""

import re
from pathlib import Path

import pytest

from flows import graph
from flows.plan import read_plan
from tests.flows.placeholders import make_project
from tests.places import ROOT

METHODS = ("constant", "early_fusion", "late_fusion", "linear")


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A copy of the code whose outs are placeholders that DVC believes to be up to date."""
    kept = "".join(f"  {name}: {{}}\n" for name in METHODS)
    params = (ROOT / "params.yaml").read_text()
    params = re.sub(r"(?m)^methods:.*\n(?:(?:  .*)?\n)+", f"methods:\n{kept}\n", params)
    return make_project(tmp_path_factory.mktemp("project"), params)


@pytest.fixture
def changed(project):
    """Applies a change, tells which stages DVC would look at, and takes the change back."""
    files = {f: f.read_bytes() for f in project.rglob("*") if f.is_file() and _is_source(f)}

    def apply(file: str, old: str, new: str) -> set[str]:
        path = project / file
        path.parent.mkdir(parents=True, exist_ok=True)
        text = path.read_text() if path.exists() else ""
        assert old in text, f"{old!r} is not in {file}"
        path.write_text(text.replace(old, new, 1) if old else text + new)
        graph.sync(graph.read_raw_params(project), project)
        return set(read_plan(project).maybe)

    yield apply
    for path in list(project.rglob("*")):
        if path.is_file() and _is_source(path) and path not in files:
            path.unlink()
    for path, content in files.items():
        if path.read_bytes() != content:
            path.write_bytes(content)


def _is_source(path: Path) -> bool:
    inside = path.parts
    return ".dvc" not in inside and ".cache" not in inside and "__pycache__" not in inside


def per_method(*names: str) -> set[str]:
    return {f"{stage}@sample-{name}" for stage in ("train", "evaluate") for name in names}


ALL_METHODS = per_method(*METHODS) | {"report"}
VIDEO = {"features@sample-fer"}


def test_nothing_is_stale_before_a_change(project):
    assert read_plan(project).maybe == []


def test_an_encoder_key_reruns_that_encoder_and_what_reads_it(changed):
    found = changed("params.yaml", "mean_std, sequence: true", "mean_std")
    assert found == {"features@sample-prosody"} | ALL_METHODS


def test_an_encoder_that_no_method_reads_reruns_the_report_alone(changed):
    found = changed(
        "params.yaml",
        "checkpoint: data/checkpoints/hubert_tiny",
        "checkpoint: data/checkpoints/hubert_tiny\n    layer: 1",
    )
    assert found == {"report"}


def test_a_method_key_reruns_that_method(changed):
    found = changed("params.yaml", "  early_fusion: {}", "  early_fusion: {hidden: 32}")
    assert found == per_method("early_fusion") | {"report"}


def test_the_seed_list_reruns_training(changed):
    found = changed("params.yaml", "seeds: [0, 1]", "seeds: [0, 1, 2]")
    assert found == ALL_METHODS


def test_a_label_rule_reruns_labels_and_what_follows(changed):
    found = changed("params.yaml", "merge: mean", "merge: median")
    assert found == {"labels@sample", "splits@sample"} | ALL_METHODS


def test_a_face_parameter_reruns_faces_and_video_encoders(changed):
    found = changed("params.yaml", "crop_px: 96", "crop_px: 112")
    assert found == {"faces@sample"} | VIDEO | ALL_METHODS


def test_an_unrelated_source_file_reruns_nothing(changed):
    assert changed("flows/cli/main.py", "", "\n# a comment\n") == set()
    assert changed("models/methods/corect/method.py", "", "\n# a comment\n") == set()


def test_a_comment_in_params_reruns_nothing(changed):
    assert changed("params.yaml", "seed: 7", "seed: 7  # lucky") == set()


def test_a_new_method_file_trains_one_method(changed, project):
    text = (project / "models/methods/linear.py").read_text()
    assert changed("models/methods/brand_new.py", "", text) == set()
    found = changed("params.yaml", "  linear: {}", "  linear: {}\n  brand_new: {}")
    assert found == per_method("brand_new") | {"report"}


def test_the_code_of_one_method_reruns_that_method(changed):
    found = changed("models/methods/late_fusion.py", "", "\n# a comment\n")
    assert found == per_method("late_fusion") | {"report"}


def test_the_code_of_one_encoder_family_reruns_its_encoders(changed):
    found = changed("models/encoders/hf_text.py", "", "\n# a comment\n")
    assert found == {"features@sample-minilm"} | ALL_METHODS


def test_a_new_clip_is_seen_by_ingest_alone_and_the_rest_follows(changed, project):
    changed("data/raw/sample/media/new.mp4", "", "bytes")
    plan = read_plan(project)
    # the sample's folder is also an out of its generator; a user's folder is not
    assert set(plan.stale) == {"sample", "ingest@sample"}
    assert "checkpoints" not in plan.maybe


def test_who_does_the_work_reruns_nothing(changed):
    assert changed("params.yaml", "workers: 0", "workers: 7") == set()
    assert changed("params.yaml", "runner: processes", "runner: threads") == set()


def test_another_input_encoder_is_extracted_and_retrains(changed):
    found = changed("params.yaml", "  audio: prosody", "  audio: hubert_tiny")
    assert found == {"features@sample-hubert_tiny"} | ALL_METHODS


def test_an_encoder_beside_another_is_extracted_and_retrains(changed):
    found = changed("params.yaml", "  audio: prosody", "  audio: [prosody, hubert_tiny]")
    assert found == {"features@sample-hubert_tiny"} | ALL_METHODS


def test_an_encoder_of_one_method_retrains_that_method(changed):
    found = changed("params.yaml", "  linear: {}", "  linear: {inputs: {video: vit_tiny}}")
    assert found == {"features@sample-vit_tiny"} | per_method("linear") | {"report"}


def test_a_new_corpus_runs_its_own_stages_and_the_transfers_between_both(changed):
    found = changed("params.yaml", "corpora:", "corpora:\n  other: {adapter: table}")
    pairs = {f"{a}-{name}-{b}" for a, b in ("so", "os") for name in METHODS}
    words = {"s": "sample", "o": "other"}
    transfers = {f"transfer@{words[p[0]]}{p[1:-1]}{words[p[-1]]}" for p in pairs}
    assert {address for address in found if "@sample" in address} == {
        address for address in transfers if "@sample" in address
    }
    assert transfers < found
    assert all("@other" in address for address in found - transfers - {"report"})
