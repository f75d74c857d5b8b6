"""The house agrees with itself: dvc.yaml, params.yaml, imports, file names and the lock."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from flows import graph
from models.method import find_method, method_names
from tasks.params.model import Params
from tests.places import ROOT


@pytest.fixture(scope="module")
def raw():
    return graph.read_raw_params(ROOT)


def test_dvc_yaml_is_what_params_and_code_ask_for(raw):
    assert (ROOT / "dvc.yaml").read_text() == graph.render(raw, ROOT), "run `affectloom sync`"


def test_every_key_of_params_is_known(raw):
    Params(raw).check_everything()


def test_dvc_can_read_what_it_writes_for_an_experiment(tmp_path):
    from dvc.utils.hydra import apply_overrides

    for file in (ROOT / "params.yaml", *sorted((ROOT / "params").glob("*.yaml"))):
        copy = tmp_path / "params.yaml"
        copy.write_text(file.read_text())
        before = graph.read_raw_params(tmp_path)
        apply_overrides(str(copy), ["++train.snapshot_mb=1.5"])
        changed = {**before, "train": {**(before.get("train") or {}), "snapshot_mb": 1.5}}
        assert graph.read_raw_params(tmp_path) == changed, file.name


def test_orchestration_is_no_dependency_of_any_stage(raw):
    text = (ROOT / "dvc.yaml").read_text()
    assert not re.search(r"- flows/", text)
    assert "tasks/params/model.py" not in text


def test_every_method_file_has_a_method_of_its_name():
    for name in method_names():
        method = find_method(name)
        assert method.__name__.lower() == name.replace("_", "")


def test_lock_has_hashes_and_no_address():
    text = (ROOT / "requirements.lock").read_text()
    pinned = re.findall(r"^([a-zA-Z0-9_.-]+)==", text, re.MULTILINE)
    assert len(pinned) > 100
    assert "--hash=sha256:" in text
    assert "://" not in text
    assert "--index-url" not in text


@pytest.mark.parametrize(
    ("lock", "wanted"),
    [
        ("requirements-cluster.lock", {"distributed", "ray"}),
        ("requirements-onnx.lock", {"onnxruntime", "onnxscript", "onnx-ir"}),
    ],
)
def test_the_lock_of_an_extra_adds_to_the_lock_and_changes_nothing(lock, wanted):
    found = {}
    for name in ("requirements.lock", lock):
        text = (ROOT / name).read_text()
        found[name] = dict(re.findall(r"^([a-zA-Z0-9_.-]+)==(\S+) (?:;.*)?\\$", text, re.MULTILINE))
        assert "://" not in text
    base, more = found.values()
    assert wanted <= set(more)
    assert not wanted & set(base)
    assert {name: more[name] for name in more if name in base} == {
        name: base[name] for name in more if name in base
    }


def test_pins_that_matter_are_kept():
    text = (ROOT / "requirements.lock").read_text()
    version = re.search(r"^fastapi==0\.(\d+)", text, re.MULTILINE)
    assert version
    assert 139 <= int(version[1]) < 151
    assert re.search(r"^facenet-pytorch==2\.5\.3", text, re.MULTILINE)


def test_dvc_plots_need_no_network(tmp_path):
    from dvc.config import Config
    from dvc_render import render_html
    from dvc_render.vega import VegaRenderer

    template = ROOT / ".dvc" / Config(str(ROOT / ".dvc"))["plots"]["html_template"]
    plot = VegaRenderer([{"x": 1, "y": 2, "rev": "a"}], "p", template="simple", x="x", y="y")
    page = Path(render_html([plot], tmp_path / "page.html", template)).read_text()
    assert not re.search(r"<(script|link|img)[^>]*(src|href)=.(https?:|//)", page)
    assert "vegaEmbed(" in page
    assert len(re.findall("<script>", page)) == 3
    assert template.stat().st_size < 1_000_000


@pytest.fixture
def clone(tmp_path):
    """A folder with the project's rules on what git keeps, and a corpus that somebody put there."""
    for name in (".gitignore", "Makefile", "data/README.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    corpus = tmp_path / "data/raw/mine"
    corpus.mkdir(parents=True)
    (corpus / "clip.wav").write_bytes(b"sound")
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    return tmp_path


def _is_ignored(folder: Path, path: str) -> bool:
    command = ["git", "check-ignore", "-q", path]
    return subprocess.run(command, cwd=folder, check=False).returncode == 0


def test_git_keeps_no_out_but_the_page_on_data_and_notes_of_linked_corpora(clone):
    outs = []
    for stage in yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].values():
        outs += stage.get("outs") or stage["do"]["outs"]
    assert len(outs) > 10
    assert all(out.startswith("data/") and _is_ignored(clone, out) for out in outs)
    assert _is_ignored(clone, "data/raw/mine/clip.wav")
    assert not _is_ignored(clone, "data/README.md")
    assert not _is_ignored(clone, "data/raw/mine.dvc")


def test_a_corpus_can_be_put_under_version_control(clone):
    from dvc.repo import Repo

    with Repo.init(str(clone)) as repo:
        repo.add([str(clone / "data/raw/mine")])
    assert (clone / "data/raw/mine.dvc").exists()
    with Repo(str(clone)) as repo:  # else no repro, push or gc knows of the corpus
        assert [stage.path_in_repo for stage in repo.index.stages] == ["data/raw/mine.dvc"]
    added = subprocess.run(["git", "add", "data"], cwd=clone, check=False)
    assert added.returncode == 0
    listed = subprocess.run(["git", "ls-files", "data"], cwd=clone, capture_output=True, text=True)
    assert listed.stdout.split() == ["data/README.md", "data/raw/mine.dvc"]


def test_make_clean_spares_corpora(clone):
    for made in ("data/raw/sample/clip.wav", "data/runs/mine/weights", "data/reports/index.html"):
        (clone / made).parent.mkdir(parents=True)
        (clone / made).touch()
    subprocess.run(["make", "clean"], cwd=clone, check=True, capture_output=True)
    left = {str(f.relative_to(clone)) for f in (clone / "data").rglob("*") if f.is_file()}
    assert left == {"data/README.md", "data/raw/mine/clip.wav"}


def test_imports_go_down_only():
    executable = Path(sys.executable).parent / "lint-imports"
    result = subprocess.run([executable], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-2000:]


def test_no_file_is_called_utils():
    found = [f for package in ("flows", "tasks", "models") for f in (ROOT / package).rglob("util*")]
    assert not found
