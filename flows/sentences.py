"""Errors of the machine as one sentence that says what to do."""

import errno
import sqlite3

from models.errors import UserError
from tasks.atomic import disk_error

_REMEDIES = {
    errno.ENOSPC: "free some space and run the same command again",
    errno.EDQUOT: "free some space and run the same command again",
    errno.EROFS: "make the folder writable, or set AFFECTLOOM_CACHE to one that is",
    errno.EACCES: "allow this user to read and write there",
    errno.EPERM: "allow this user to read and write there",
    errno.ENOTDIR: "a file lies where a folder belongs; move it away",
    errno.EEXIST: "something else lies where this belongs; move it away",
    errno.EISDIR: "a folder lies where a file belongs; move it away",
    errno.ENOENT: "bring it back, or run the stage that makes it",
    errno.EFBIG: "raise the limit of file sizes (ulimit -f)",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
}


#: What goes wrong with the machine, and is no defect of the code; DVC keeps a data base of files.
MACHINE = (OSError, sqlite3.OperationalError)


def told(error: Exception) -> str | None:
    """One sentence for a mistake of the user's or a fault of the machine; None for a defect."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, MACHINE):
        return sentence(error)
    found = disk_error(error)  # which some libraries put into errors of their own
    return sentence(found) if found else None


def sentence(error: OSError | sqlite3.OperationalError) -> str:
    """What went wrong, where, and the remedy where there is a usual one."""
    if isinstance(error, sqlite3.OperationalError):
        return (
            f"DVC's data base of files: {error}; look for a full disk, a limit of "
            "file sizes (ulimit -f) or a folder that cannot be written, and run again"
        )
    where = f"{error.filename}: " if error.filename else ""
    what = error.strerror or str(error) or type(error).__name__
    remedy = _REMEDIES.get(error.errno or 0, "run again with AFFECTLOOM_DEBUG=1 to see where")
    return f"{where}{what}; {remedy}"
