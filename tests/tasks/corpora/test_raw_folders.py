"""Pipes, devices and links that go round are named before anything reads them."""

import os
from pathlib import Path

import pytest

from flows.settings import check_before_graph
from models.errors import UserError
from tasks.corpora.files import read_csv
from tasks.corpora.raw_folders import check_folder
from tasks.params.model import Params


def test_files_folders_and_links_to_them_pass(tmp_path):
    inside, outside = tmp_path / "raw", tmp_path / "disk"
    (inside / "a").mkdir(parents=True)
    outside.mkdir()
    (outside / "clip.wav").write_bytes(b"x")
    (inside / "a" / "clip.wav").symlink_to(outside / "clip.wav")
    (inside / "disk").symlink_to(outside)
    (inside / "gone").symlink_to(tmp_path / "nowhere")  # DVC leaves it out
    (tmp_path / "linked").symlink_to(inside)
    for folder in (inside, tmp_path / "linked", tmp_path / "absent"):
        check_folder(folder)


def _pipe(folder: Path) -> None:
    os.mkfifo(folder / "deep" / "clip.wav")


def _round(folder: Path) -> None:
    (folder / "deep" / "again").symlink_to(folder)


def _itself(folder: Path) -> None:
    (folder / "deep" / "loop").symlink_to(folder / "deep" / "loop")


def _device(folder: Path) -> None:
    (folder / "deep" / "zero").symlink_to("/dev/zero")


@pytest.mark.parametrize(
    ("put", "sentence"),
    [
        (_pipe, r"deep/clip\.wav is a pipe and no file"),
        (_round, r"deep/again is a link to a folder that it lies in"),
        (_itself, r"deep/loop cannot be looked at \(.*\); remove it"),
        (_device, r"deep/zero is a device and no file"),
    ],
)
def test_what_would_never_end_is_named(tmp_path, put, sentence):
    (tmp_path / "deep").mkdir()
    put(tmp_path)
    with pytest.raises(UserError, match=sentence):
        check_folder(tmp_path)


def test_a_device_is_no_table():
    with pytest.raises(UserError, match="/dev/zero is a device"):
        read_csv(Path("/dev/zero"))


def test_commands_look_before_dvc_does(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("data/raw/mine").mkdir(parents=True)
    os.mkfifo("data/raw/mine/clip.wav")
    params = Params({"corpora": {"mine": {"adapter": "sample"}}})
    with pytest.raises(UserError, match=r"data/raw/mine/clip\.wav is a pipe"):
        check_before_graph(params)
