import errno
import shutil

import polars as pl
import pytest
import torch
from safetensors.torch import save_file

from models.errors import UserError
from tasks.atomic import disk_error, replacing, why
from tasks.train.saving import save_state
from tests.places import small_files

MANY = torch.arange(20_000.0)


def replace_by(write):
    def save(path):
        with replacing(path) as temporary:
            write(temporary)

    return save


def test_a_folder_copied_in_part_is_told_by_its_first_file():
    full = "[Errno 28] No space left on device: '/a/x.bin' -> '/b/x.bin'"
    error = shutil.Error([("/a/x.bin", "/b/x.bin", full), ("/a/y.bin", "/b/y.bin", full)])
    assert why(error) == "[Errno 28] No space left on device, first at x.bin"


def test_other_errors_are_told_as_the_system_does():
    assert why(OSError(errno.ENOSPC, "No space left on device")) == "No space left on device"
    assert why(shutil.Error("same file")) == "same file"


@pytest.mark.parametrize(
    "write",
    [
        replace_by(lambda path: save_file({"x": MANY}, path)),
        replace_by(lambda path: pl.DataFrame({"x": MANY.numpy()}).write_parquet(path)),
        replace_by(lambda path: path.write_text("x" * 20_000)),
        lambda path: save_state(path, {"x": MANY}),
    ],
    ids=["safetensors", "parquet", "text", "torch"],
)
def test_a_file_that_cannot_grow_is_one_sentence_whoever_writes_it(tmp_path, write):
    path = tmp_path / "x"
    with small_files(), pytest.raises(UserError) as told:
        write(path)
    assert str(told.value) == (
        f"cannot write {path}: File too large; free space or allow writing there"
    )
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_the_disk_is_found_behind_those_of_libraries(tmp_path):
    with small_files(), pytest.raises(Exception, match="os error") as raised:
        save_file({"x": MANY}, tmp_path / "x")
    found = disk_error(raised.value)
    assert found is not None
    assert (found.errno, found.strerror) == (errno.EFBIG, "File too large")
    error = KeyError("x")
    error.__cause__ = OSError(errno.ENOSPC, "No space left on device", "a.bin")
    assert str(disk_error(error)) == "[Errno 28] No space left on device: 'a.bin'"


def test_other_errors_are_none_of_the_disk():
    assert disk_error(ValueError("x")) is None
    assert disk_error(RuntimeError("cannot open (os error 2)")) is None
    error = KeyError("a")
    error.__context__ = FileNotFoundError(errno.ENOENT, "No such file", "a")
    assert disk_error(error) is None
