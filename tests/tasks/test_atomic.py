import errno
import shutil

from tasks.atomic import why


def test_a_folder_copied_in_part_is_told_by_its_first_file():
    full = "[Errno 28] No space left on device: '/a/x.bin' -> '/b/x.bin'"
    error = shutil.Error([("/a/x.bin", "/b/x.bin", full), ("/a/y.bin", "/b/y.bin", full)])
    assert why(error) == "[Errno 28] No space left on device, first at x.bin"


def test_other_errors_are_told_as_the_system_does():
    assert why(OSError(errno.ENOSPC, "No space left on device")) == "No space left on device"
    assert why(shutil.Error("same file")) == "same file"
