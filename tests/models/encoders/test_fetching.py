"""Checkpoints of a hub: copied out of its cache, checked, and never kept as a pickle."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from models.encoders.encoder import Settings, Text
from models.encoders.fetching import fetch, resolve
from models.encoders.hf_text import HfText
from models.encoders.records import RECORD, check_record, hash_file, read_record
from models.encoders.weights import find_weights
from models.errors import UserError
from tasks.checkpoints.stage import TinyCheckpoint, make_checkpoint
from tests.hub_factory import COMMIT, NAME, pickle_weights, write_hub_cache


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A tiny BERT in a folder."""
    folder = tmp_path_factory.mktemp("tiny") / "bert"
    return make_checkpoint(TinyCheckpoint(kind="bert", width=32), 1, folder)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty cache of the hub on a machine without a network."""
    folder = tmp_path / "hub"
    monkeypatch.setenv("HF_HUB_CACHE", str(folder))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    return folder


def test_a_checkpoint_in_the_hubs_cache_needs_no_network(hub, tiny, tmp_path):
    write_hub_cache(hub, tiny)
    folder = fetch(NAME, COMMIT, tmp_path)
    assert not any(file.is_symlink() for file in folder.iterdir())
    noted = read_record(folder)
    assert set(noted) == {file.name for file in tiny.iterdir()}
    for file in tiny.iterdir():
        assert (folder / file.name).read_bytes() == file.read_bytes()
        assert noted[file.name] == {"sha256": hash_file(file), "bytes": file.stat().st_size}
    found = find_weights(NAME, COMMIT, tmp_path)
    assert found.path == folder.resolve()
    assert not found.trained  # the config of a tiny checkpoint says so
    # where the files came from shapes no feature
    assert found.sha256 == find_weights(str(tiny), None, tmp_path).sha256


def test_a_pickle_becomes_safetensors_with_the_same_features(hub, tiny, tmp_path):
    old = tmp_path / "old"
    shutil.copytree(tiny, old)
    pickle_weights(old)
    digest = hash_file(old / "pytorch_model.bin")
    write_hub_cache(hub, old)
    folder = fetch(NAME, COMMIT, tmp_path)
    assert not list(folder.glob("*.bin"))
    record = json.loads((folder / RECORD).read_text())
    assert record["converted_from"] == {"pytorch_model.bin": digest}
    left, right = load_file(folder / "model.safetensors"), load_file(tiny / "model.safetensors")
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)
    pooled = [
        HfText(Settings(checkpoint=each)).encode([Text("well then")])[0].pooled
        for each in (folder, tiny)
    ]
    np.testing.assert_array_equal(*pooled)


def test_tensors_that_share_memory_are_written_apart(hub, tiny, tmp_path):
    old = tmp_path / "old"
    shutil.copytree(tiny, old)
    whole = torch.arange(6.0)
    pickle_weights(old, {"a": whole, "b": whole[2:], "steps": 3})
    write_hub_cache(hub, old)
    found = load_file(fetch(NAME, COMMIT, tmp_path) / "model.safetensors")
    assert {name: value.tolist() for name, value in found.items()} == {
        "a": [0, 1, 2, 3, 4, 5],
        "b": [2, 3, 4, 5],
    }


class Sneaky:
    """Pickled, it would make a file when read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_a_pickle_that_runs_code_is_refused_and_nothing_of_it_runs(hub, tiny, tmp_path):
    old = tmp_path / "old"
    shutil.copytree(tiny, old)
    pickle_weights(old, {"a": Sneaky(tmp_path / "ran")})
    write_hub_cache(hub, old)
    with pytest.raises(UserError, match=r"somebody/net.*holds more than tensors"):
        fetch(NAME, COMMIT, tmp_path)
    assert not (tmp_path / "ran").exists()
    assert not list((tmp_path / "weights").iterdir())


def test_damage_in_the_hubs_cache_is_not_taken_over(hub, tiny, tmp_path):
    snapshot = write_hub_cache(hub, tiny)
    blob = (snapshot / "model.safetensors").resolve()
    content = bytearray(blob.read_bytes())
    content[-5] ^= 1
    blob.write_bytes(content)
    with pytest.raises(UserError, match="other bytes than were downloaded"):
        fetch(NAME, COMMIT, tmp_path)


def test_half_a_snapshot_is_as_good_as_none(hub, tiny, tmp_path):
    snapshot = write_hub_cache(hub, tiny)
    (snapshot / "model.safetensors").resolve().unlink()
    with pytest.raises(UserError, match=r"somebody/net.*cannot be downloaded"):
        fetch(NAME, COMMIT, tmp_path)
    assert not list((tmp_path / "weights").iterdir())


def test_a_fetched_file_that_changed_is_never_used(hub, tiny, tmp_path):
    write_hub_cache(hub, tiny)
    folder = fetch(NAME, COMMIT, tmp_path)
    file = folder / "config.json"
    file.write_text(file.read_text().replace("32", "48"))
    with pytest.raises(UserError, match=r"config.json is not what was fetched.*affectloom fetch"):
        find_weights(NAME, COMMIT, tmp_path)
    file.unlink()
    with pytest.raises(UserError, match=r"config.json is missing"):
        check_record(folder, NAME)


def test_a_download_takes_the_best_weights_and_is_checked_against_the_hub(
    hub, tiny, tmp_path, monkeypatch
):
    served = tmp_path / "served"
    shutil.copytree(tiny, served)
    (served / "pytorch_model.bin").write_bytes(b"never asked for")
    (served / "onnx").mkdir()
    (served / "onnx" / "model.onnx").write_bytes(b"never asked for")
    promised = {file.name: hash_file(file) for file in served.glob("*.safetensors")}
    siblings = [
        SimpleNamespace(
            rfilename=file.relative_to(served).as_posix(),
            lfs=SimpleNamespace(sha256=promised[file.name]) if file.name in promised else None,
        )
        for file in served.rglob("*")
        if file.is_file()
    ]

    def download(name, revision, local_dir, allow_patterns):
        assert (name, revision) == (NAME, COMMIT)
        for file in allow_patterns:
            shutil.copy(served / file, local_dir / file)

    answer = SimpleNamespace(siblings=siblings, sha=COMMIT)
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", lambda *_, **__: answer)
    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    folder = fetch(NAME, COMMIT, tmp_path)
    assert set(read_record(folder)) == {file.name for file in tiny.iterdir()}
    (served / "model.safetensors").write_bytes(b"something else")
    with pytest.raises(UserError, match="arrived with other bytes than the hub has"):
        fetch(NAME, COMMIT, tmp_path / "second")


def test_a_branch_is_resolved_by_the_hubs_cache_where_there_is_no_network(hub, tiny):
    write_hub_cache(hub, tiny)
    assert resolve(NAME, None) == resolve(NAME, "main") == COMMIT
    with pytest.raises(UserError, match=r"which commit 'dev' is .*affectloom fetch --pin"):
        resolve(NAME, "dev")
