"""Errors of the machine as one sentence that says what to do."""

import errno

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
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
}


def sentence(error: OSError) -> str:
    """What went wrong, where, and the remedy where there is a usual one."""
    where = f"{error.filename}: " if error.filename else ""
    what = error.strerror or str(error) or type(error).__name__
    remedy = _REMEDIES.get(error.errno or 0, "run again with AFFECTLOOM_DEBUG=1 to see where")
    return f"{where}{what}; {remedy}"
