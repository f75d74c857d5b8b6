"""What a decoder's process gives up before it touches a medium: writing, the network, programs.

Walls of the Linux kernel, none of which needs rights: Landlock (no file can be made, changed or
removed), a seccomp filter (no socket, no new process, no look into another one), resource limits
(no byte into a file, memory), and root's powers dropped. Reading files stays allowed: a decoder
reads media. They hold for the thread that puts them up and those it starts later.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import struct
from functools import cache
from typing import NamedTuple

_NO_NEW_PRIVS, _SET_SECCOMP, _FILTER = 38, 22, 2
_LANDLOCK_CREATE, _LANDLOCK_RESTRICT = 444, 446  # the same on every architecture
#: Rights over files that Landlock knows, by its version, and those that are kept: reading.
_RIGHTS, _READS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1}, 0b1100
_TCP, _SCOPES = 0b11, 0b11  # binding and connecting (version 4); signals, abstract sockets (6)
_CAPABILITIES, _MAY_READ = 0x20080522, 1 << 2  # root may go on reading what belongs to others

_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_LOAD, _IS, _ABOVE, _HAS_BITS, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_CLONE_THREAD = 0x10000
_PERM, _NO_SUCH_CALL = 1, 38
_CLONE3 = 435  # refused as unknown, so that the C library makes its threads by `clone`


class _Calls(NamedTuple):
    """Numbers of system calls on one architecture."""

    audit: int
    clone: int
    kills: tuple[int, ...]
    refused: tuple[int, ...]


#: The same everywhere: pidfd_send_signal, io_uring (3), pidfd_open, pidfd_getfd, fchmodat2.
_NEW = (424, 425, 426, 427, 434, 438, 452)
_CALLS = {
    "x86_64": _Calls(0xC000003E, 56, (62, 234), (
        41, 42, 49, 50,  # socket, connect, bind, listen
        57, 58, 59, 322,  # fork, vfork, execve, execveat
        101, 200, 310, 311, 321,  # ptrace, tkill, process_vm_readv and writev, bpf
        90, 91, 92, 93, 94, 260, 268,  # chmod and chown in all forms
        188, 189, 190, 197, 198, 199,  # extended attributes
        132, 235, 261, 280,  # times of files
        *_NEW,
    )),
    "aarch64": _Calls(0xC00000B7, 220, (129, 131), (
        198, 203, 200, 201, 221, 281, 117, 130, 270, 271, 280, 52, 53, 54, 55,
        5, 6, 7, 14, 15, 16, 88, *_NEW,
    )),
}  # fmt: skip


def confine(memory_bytes: int) -> None:
    """Give up, for good, all that decoding does not need.

    Args:
        memory_bytes: of address space beyond what the process has now.
    """
    _limits(memory_bytes)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "a decoder could not give up new rights")
    if landlock_version() > 0:
        _landlock(libc)
    _drop_capabilities(libc)
    if has_seccomp():
        _seccomp(libc)


def memory_limit() -> int:
    """Address space that a decoder may take: half of the machine's memory, and at least 4 GiB."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(4 << 30, machine // 2)


def missing_walls() -> list[str]:
    """Walls that this machine cannot put up, in words."""
    missing = []
    if landlock_version() == 0:
        missing.append("Landlock (decoders could write files that this user may write)")
    if not has_seccomp():
        missing.append("seccomp (decoders could open sockets)")
    return missing


@cache
def landlock_version() -> int:
    """The kernel's version of Landlock; 0 where it has none or it is switched off."""
    if platform.system() != "Linux":
        return 0
    return max(0, ctypes.CDLL(None).syscall(_LANDLOCK_CREATE, None, 0, 1))


@cache
def has_seccomp() -> bool:
    """Whether the kernel filters system calls and this file knows their numbers here."""
    if platform.system() != "Linux" or platform.machine() not in _CALLS:
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    # no filter is given: a kernel with seccomp says that the address is bad (14)
    return libc.prctl(_SET_SECCOMP, _FILTER, None, 0, 0) != 0 and ctypes.get_errno() == 14


def _limits(memory_bytes: int) -> None:
    with open("/proc/self/statm") as file:
        taken = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    for what, wished in (
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_AS, taken + memory_bytes),
    ):
        hard = resource.getrlimit(what)[1]
        limit = wished if hard == resource.RLIM_INFINITY else min(wished, hard)
        resource.setrlimit(what, (limit, limit))


def _landlock(libc: ctypes.CDLL) -> None:
    version = landlock_version()
    writes = _RIGHTS[min(version, 3)] & ~_READS
    rights = struct.pack("QQQ", writes, _TCP if version >= 4 else 0, _SCOPES if version >= 6 else 0)
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    ruleset = libc.syscall(_LANDLOCK_CREATE, rights, size, 0)
    if ruleset < 0 or libc.syscall(_LANDLOCK_RESTRICT, ruleset, 0) != 0:
        raise OSError(ctypes.get_errno(), "a decoder could not put up Landlock")
    os.close(ruleset)


def _drop_capabilities(libc: ctypes.CDLL) -> None:
    """Root reads as before, and can do no more than any other user."""
    header = struct.pack("II", _CAPABILITIES, 0)
    held = ctypes.create_string_buffer(24)
    if libc.capget(header, held) != 0:
        raise OSError(ctypes.get_errno(), "a decoder could not ask for its capabilities")
    kept = struct.unpack("6I", held.raw)[1] & _MAY_READ
    if libc.capset(header, struct.pack("6I", kept, kept, 0, 0, 0, 0)) != 0:
        raise OSError(ctypes.get_errno(), "a decoder could not give up its capabilities")


def _seccomp(libc: ctypes.CDLL) -> None:
    program = _program(_CALLS[platform.machine()])
    code = ctypes.create_string_buffer(b"".join(program))

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_void_p))

    held = Program(len(program), ctypes.addressof(code))
    if libc.prctl(_SET_SECCOMP, _FILTER, ctypes.byref(held), 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "a decoder could not put up its seccomp filter")


def _program(calls: _Calls) -> list[bytes]:
    """The filter, in the kernel's little language; jumps count instructions from the next one."""

    def step(code: int, value: int, then: int = 0, otherwise: int = 0) -> bytes:
        return struct.pack("HBBI", code, then, otherwise, value)

    program = [
        step(_LOAD, 4),  # the architecture
        step(_IS, calls.audit, 1, 0),
        step(_RETURN, _KILL),
        step(_LOAD, 0),  # the call's number
        step(_ABOVE, 0x40000000, 0, 1),  # x86's second table of calls
        step(_RETURN, _KILL),
        step(_IS, _CLONE3, 0, 1),
        step(_RETURN, _ERRNO | _NO_SUCH_CALL),
    ]
    for number in calls.refused:
        program += [step(_IS, number, 0, 1), step(_RETURN, _ERRNO | _PERM)]
    for number in calls.kills:  # a decoder that aborts signals itself; no one else
        program += [
            step(_IS, number, 0, 4),
            step(_LOAD, 16),
            step(_IS, os.getpid(), 1, 0),
            step(_RETURN, _ERRNO | _PERM),
            step(_RETURN, _ALLOW),
        ]
    return [
        *program,
        step(_IS, calls.clone, 0, 3),
        step(_LOAD, 16),  # its flags: threads may be made, processes not
        step(_HAS_BITS, _CLONE_THREAD, 1, 0),
        step(_RETURN, _ERRNO | _PERM),
        step(_RETURN, _ALLOW),
    ]
