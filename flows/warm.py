"""Processes that begin warm: forked from one that has imported the large libraries already.

A fresh interpreter spends up to three seconds of processor time on importing torch, polars and DVC,
more than many stages work. Here a server imports them once; it is asked over a socket to fork, and
tells over the same socket how its children end. Nothing of this project is imported before a fork,
so that every stage runs the code that lies there when it begins.
"""

import gc
import importlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Protocol

#: What a child finds imported, and what more where it computes.
_LIBRARIES = (
    *("dvc.cli", "dvc.cli.parser", "dvc.repo", "dvc.repo.reproduce", "dvc.commands.repro"),
    *("numpy", "polars", "pydantic", "yaml"),
)
_HEAVY_LIBRARIES = (
    *("pyarrow.parquet", "safetensors.torch", "torch"),
    *("scipy.optimize", "scipy.sparse", "scipy.stats"),
)
_REQUEST_BYTES = 1 << 17


class Process(Protocol):
    """The part of ``subprocess.Popen`` that the walk over the stages uses."""

    pid: int

    @property
    def returncode(self) -> int | Any:
        """The exit status, once there is one."""
        ...

    @property
    def stdout(self) -> IO[str] | None:
        """What it prints."""
        ...

    def poll(self) -> int | None:
        """The exit status, once there is one."""
        ...


class _Forked:
    """A child of the server; a ``Process``."""

    def __init__(self, server: "Server", pid: int, stdout: IO[str]) -> None:
        self.pid, self.stdout = pid, stdout
        self.returncode: int | None = None
        self._server = server

    def poll(self) -> int | None:
        """See ``Process.poll``."""
        if self.returncode is None:
            self.returncode = self._server.status(self.pid)
        return self.returncode


class Server:
    """Starts ``flows.repro`` without waiting for what it imports.

    Args:
        root: of the project.
        environment: of the server; what libraries read when they are imported stands in it.
        is_heavy: whether its children compute, with torch.
    """

    def __init__(self, root: Path, environment: Mapping[str, str], is_heavy: bool) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._is_ready = False
        self._ended: dict[int, int] = {}
        self._alive: set[int] = set()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "flows.warm", str(theirs.fileno()), *["heavy"] * is_heavy],
            cwd=root,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
        theirs.close()

    @property
    def is_ready(self) -> bool:
        """Whether the libraries are imported; until then a new interpreter is faster."""
        self._listen()
        return self._is_ready

    def start(self, argv: Sequence[str], environment: Mapping[str, str]) -> Process:
        """``python -m flows.repro ARGV``, in a session of its own.

        Raises:
            OSError: the server is gone, or the environment too large to be sent.
        """
        request = json.dumps([list(argv), dict(environment)]).encode()
        if len(request) > _REQUEST_BYTES:
            raise OSError("the environment is too large to be sent")
        ours, theirs = os.pipe()
        try:
            socket.send_fds(self._socket, [request], [theirs])
            pid = None
            while pid is None:
                pid = self._hear()
        except OSError:
            os.close(ours)
            raise
        finally:
            os.close(theirs)
        return _Forked(self, pid, open(ours, encoding="utf-8", errors="replace"))

    def status(self, pid: int) -> int | None:
        """The exit status of a child, once there is one; that of a kill where the server died."""
        self._listen()
        return self._ended.get(pid)

    def close(self) -> None:
        """End the server; its children go on."""
        self._socket.close()
        self._process.terminate()
        self._process.wait()

    def _listen(self) -> None:
        """Hear all that was said until now."""
        self._socket.setblocking(False)
        try:
            while True:
                self._hear()
        except BlockingIOError:
            pass
        except OSError:  # nobody will say any more how the children end
            self._is_ready = False
            for lost in self._alive:
                _kill(lost)
                self._ended[lost] = -signal.SIGKILL
            self._alive.clear()
        finally:
            self._socket.setblocking(True)

    def _hear(self) -> int | None:
        """The child that began, where the server says so; it may say who ended, and once hello."""
        said = self._socket.recv(4096)
        if not said:
            raise ConnectionResetError("the server of stages is gone")
        pid, code = json.loads(said)
        if pid == os.getpid():
            self._is_ready = True
            return None
        if code is None:
            self._alive.add(pid)
            self._ended.pop(pid, None)  # of an earlier child, whose number the system gave anew
            return pid
        self._alive.discard(pid)
        self._ended[pid] = code
        return None


def _kill(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def serve(connection: socket.socket) -> Callable[[], int]:
    """Fork for whoever asks until he is gone; what a child has to do is given back in the child."""
    woken, wakes = os.pipe()
    os.set_blocking(woken, False)
    os.set_blocking(wakes, False)
    signal.set_wakeup_fd(wakes)
    signal.signal(signal.SIGCHLD, lambda *_: None)  # else it wakes nobody
    with selectors.DefaultSelector() as selector:
        selector.register(connection, selectors.EVENT_READ)
        selector.register(woken, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj == woken:
                    os.read(woken, 4096)
                    _tell_ended(connection)
                    continue
                request, files, *_ = socket.recv_fds(connection, _REQUEST_BYTES, 1)
                if not request:
                    return lambda: 0
                pid = os.fork()
                if pid == 0:
                    signal.set_wakeup_fd(-1)
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    for file in (woken, wakes, connection.detach()):
                        os.close(file)
                    argv, environment = json.loads(request)
                    return lambda: _begin(argv, environment, files[0])
                os.close(files[0])
                connection.send(json.dumps([pid, None]).encode())


def _tell_ended(connection: socket.socket) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        connection.send(json.dumps([pid, os.waitstatus_to_exitcode(status)]).encode())


def _begin(argv: list[str], environment: dict[str, str], output: int) -> int:
    os.setsid()
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["flows.repro", *argv]
    from flows.repro import main as repro

    return repro(argv, is_warm=True)


def main() -> int:
    """The server, and each of its children."""
    connection = socket.socket(fileno=int(sys.argv[1]))
    for name in (*_LIBRARIES, *(_HEAVY_LIBRARIES if "heavy" in sys.argv[2:] else ())):
        importlib.import_module(name)
    gc.freeze()  # else each child would walk and copy all of it
    try:
        connection.send(json.dumps([os.getppid(), None]).encode())
        todo = serve(connection)
    except ConnectionError:  # whoever asked is gone
        return 0
    return todo()


if __name__ == "__main__":
    sys.exit(main())
