"""A model on a hub: pushed as it was exported, read back with suspicion."""

import filecmp
import importlib.util
import json
import shutil
from types import SimpleNamespace

import huggingface_hub.constants
import pytest

import affectloom
from models.errors import UserError
from tasks.layout import Layout
from tasks.params.model import Params
from tasks.predict.leaving.export import export, publish
from tasks.predict.leaving.folder import ENCODERS, WEIGHTS, read_model
from tasks.predict.leaving.hub import download, folder_of, push
from tests.hub_server import TOKEN, Repository, serving
from tests.hub_storage import LARGE_BYTES, Pointer
from tests.tasks.predict.projects import CORPUS, NAME, RAW, Project, fit


@pytest.fixture(scope="module")
def exported(project, tmp_path_factory):
    return export(NAME, project.layout, project.params, tmp_path_factory.mktemp("away") / "model")


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with serving() as found:
        monkeypatch.setenv("HF_ENDPOINT", found.url)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hub_home"))
        yield found


@pytest.fixture(params=["xet", "lfs"])
def large_hub(request, hub, monkeypatch):
    """The hub and how the library brings it large files."""
    if request.param == "lfs":
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    elif importlib.util.find_spec("hf_xet") is None:
        pytest.skip("hf_xet has no wheel for this machine")
    hub.way = request.param
    return hub


def same(one, other):
    names = sorted(str(f.relative_to(one)) for f in one.rglob("*") if f.is_file())
    assert names == sorted(str(f.relative_to(other)) for f in other.rglob("*") if f.is_file())
    return filecmp.cmpfiles(one, other, names, shallow=False)[0] == names


def test_a_model_comes_back_as_it_was_pushed(hub, exported, tmp_path):
    address = push(exported, "me/felt", is_bound=True)
    assert hub.repositories["me/felt"].private
    folder = download(address, tmp_path)
    assert same(folder, exported)
    assert len(read_model(folder).parts[0].runs) == 4


@pytest.fixture(scope="module")
def large(project, tmp_path_factory):
    """A model of four networks of 13 MB each; in a copy, so that nobody else meets its run."""
    root = tmp_path_factory.mktemp("wide")
    shutil.copytree(project.root, root, dirs_exist_ok=True)
    wide = {"method": "early_fusion", "hidden": 1024, "epochs": 1, "patience": 0}
    params = Params({**RAW, "methods": {"wide": wide}})
    copy = Project(root, Layout(root / "data", cache=root / "cache", project=root), params)
    fit(copy, "wide")
    return export(f"{CORPUS}/wide", copy.layout, params, root / "model")


def test_large_files_come_back_by_either_way(large_hub, large, tmp_path):
    networks = list(large.rglob(WEIGHTS))
    assert all(file.stat().st_size > LARGE_BYTES for file in networks)
    address = push(large, "me/wide", is_bound=True)
    stored = large_hub.repositories["me/wide"].commits[-1][1]
    for file in large.rglob("*.safetensors"):
        assert isinstance(stored[str(file.relative_to(large))], Pointer)
    asked = " ".join(large_hub.asked)
    assert ("PUT /lfs/" in asked) == (large_hub.way == "lfs")
    assert ("xet-write-token" in asked) == (large_hub.way == "xet")
    large_hub.asked.clear()
    folder = download(address, tmp_path)
    assert same(folder, large)
    assert len(read_model(folder).parts[0].runs) == len(networks) == 4
    asked = " ".join(large_hub.asked)
    assert ("GET /lfs/" in asked) == (large_hub.way == "lfs")
    assert ("xet-read-token" in asked) == (large_hub.way == "xet")


def test_what_is_stored_already_is_not_sent_again(hub, exported, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    push(exported, "me/felt", is_bound=True)
    assert any(one.startswith("PUT /lfs/") for one in hub.asked)
    hub.asked.clear()
    push(exported, "me/other", is_bound=True)
    assert not any(one.startswith("PUT /lfs/") for one in hub.asked)


def test_a_large_file_that_the_hub_does_not_take_is_one_sentence(hub, exported, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    hub.storage.refused = "the storage of me is full"
    with pytest.raises(UserError, match=r"the hub refuses .*the storage of me is full") as caught:
        push(exported, "me/felt", is_bound=True)
    assert "\n" not in str(caught.value)
    assert hub.repositories["me/felt"].commits == []


def test_a_commit_that_was_downloaded_asks_nobody(hub, exported, tmp_path):
    address = push(exported, "me/felt", is_bound=False)
    folder = download(address, tmp_path)
    hub.asked.clear()
    assert download(address, tmp_path) == folder
    assert hub.asked == []
    assert download("hub:me/felt", tmp_path) == folder  # main is that commit
    assert len(hub.asked) == 1


def test_networks_of_an_earlier_push_are_gone(hub, exported, tmp_path):
    hub.repositories["me/felt"] = Repository()
    hub.repositories["me/felt"].commit({"seed9/config.json": b"{}", "notes.txt": b"mine"})
    folder = download(push(exported, "me/felt", is_bound=True), tmp_path)
    assert same(folder, exported)


def test_data_that_bind_go_into_no_public_repository(hub, exported):
    hub.repositories["me/open"] = Repository(private=False)
    with pytest.raises(UserError, match="that repository is public"):
        push(exported, "me/open", is_bound=True)
    assert hub.repositories["me/open"].commits == []
    push(exported, "me/open", is_bound=False)
    assert hub.repositories["me/open"].commits


def test_python_and_the_command_read_addresses(hub, exported, tmp_path, monkeypatch):
    monkeypatch.setenv("AFFECTLOOM_CACHE", str(tmp_path))
    address = push(exported, "me/felt", is_bound=False)
    assert affectloom.load(address).modalities == ("audio", "video", "text")
    assert folder_of(address, tmp_path, tmp_path) == download(address, tmp_path)
    assert folder_of("mine", tmp_path, tmp_path) == tmp_path / "mine"


def test_a_run_is_bound_by_what_its_corpus_tells(hub, project, exported):
    hub.repositories["me/open"] = Repository(private=False)
    with pytest.raises(UserError, match="that repository is public"):  # nobody told its terms
        publish(NAME, project.layout, exported, "me/open")


def test_only_files_that_a_model_has_are_downloaded(hub, exported, tmp_path):
    push(exported, "me/felt", is_bound=False)
    hub.repositories["me/felt"].commit(
        {"evil.py": b"import os", "weights/bert/pytorch_model.bin": b"", ".hidden": b"",
         "seed0/x/../../../out.json": b"{}", "a.safetensors": b"", "seed0/network.onnx": b""}
    )  # fmt: skip
    folder = download("hub:me/felt", tmp_path)
    assert same(folder, exported)
    assert not any("evil" in one or "out.json" in one for one in hub.asked)


def test_what_comes_from_a_hub_is_checked_like_any_folder(hub, exported, tmp_path):
    push(exported, "me/felt", is_bound=False)
    encoders = json.loads((exported / ENCODERS).read_text())
    encoders["encoders"]["bert"]["checkpoint"] = "/etc"
    hub.repositories["me/felt"].commit({ENCODERS: json.dumps(encoders).encode()})
    with pytest.raises(UserError, match="another machine can have"):
        read_model(download("hub:me/felt", tmp_path))


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("hub:felt", "write hub:owner/name"),
        ("hub:me/felt@../x", "write hub:owner/name"),
        ("hub:me/none", "the hub refuses"),
        ("hub:me/other", r"there is no encoders\.json in it"),
    ],
)
def test_what_is_no_model_is_one_sentence(hub, tmp_path, address, expected):
    hub.repositories["me/other"] = Repository()
    hub.repositories["me/other"].commit({"config.json": b"{}"})
    with pytest.raises(UserError, match=expected) as caught:
        download(address, tmp_path)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.rglob("*.json"))


def test_strangers_and_silence_are_one_sentence(hub, exported, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(UserError, match="set HF_TOKEN to a token that may do this"):
        push(exported, "me/felt", is_bound=False)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UserError, match="the hub cannot be reached"):
        download("hub:me/felt", tmp_path)
    with pytest.raises(UserError, match="write owner/name"):
        push(exported, "felt", is_bound=False)


def test_a_hub_whose_commit_is_none_names_no_folder(tmp_path, monkeypatch):
    class Api:
        def model_info(self, name, **_):
            return SimpleNamespace(sha="../../../away", siblings=[])

    monkeypatch.setattr("tasks.predict.leaving.hub.hub_api", Api)
    with pytest.raises(UserError, match="hub:a/b: the hub names no commit"):
        download("hub:a/b", tmp_path)
    assert list(tmp_path.iterdir()) == []
