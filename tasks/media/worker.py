"""Decode in other processes, so that a crash or a hang costs one clip and never the run.

Each worker is a fresh Python process that speaks through a socket pair. It is not made by
`multiprocessing`, which would import the caller's main module (and so torch) again in every worker
and needs an `if __name__` guard there. Workers die with their caller: when it closes the socket,
when it vanishes (they watch a pipe that only it holds open), and in any case by an alarm clock
that runs in the kernel a little after the time limit.

Media come from strangers, so a worker is no more trusted than they are: before the first item it
gives up writing, the network and other programs (`tasks.media.confined`), and its answers are read
as plain values that cannot carry code (`tasks.media.plain`). Only the caller speaks pickle.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing import BufferTooShort
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Any, Generic, TypeVar

from models.errors import UserError
from tasks.media.confined import confine, memory_limit
from tasks.media.plain import BrokenAnswer, pack, unpack
from tasks.media.types import Clip, Problem

I = TypeVar("I")  # noqa: E741
R = TypeVar("R")

_ALARM_GRACE_S = 5.0  # the caller's own limit comes first and can say why
_START_LIMIT_S = 120.0  # for Python and the function's modules to load, on a very busy machine
_ANSWER_PAUSE_S = 60  # within an answer, after which its worker is given up
_HEAD_BYTES = 64 << 20  # most of an answer but its arrays
_LOOKAHEAD = 4  # items per worker that may be finished before the oldest one is


@dataclass(frozen=True, eq=False)
class Outcome(Generic[R]):
    """What became of one item: the function's value, or the reason why there is none."""

    value: R | None
    problem: Problem | None = None


class WorkerError(RuntimeError):
    """The function raised in a worker; the message holds the worker's traceback."""


class Decoders:
    """A pool of worker processes for functions that touch media from strangers.

    Use as a context manager; one `map` at a time. Threads that work side by side each take their
    own pool.

    Args:
        workers: Number of processes; by default one per processor this process may use.
        timeout_s: Time limit for one item, unless `map` is given another.
    """

    def __init__(self, workers: int | None = None, timeout_s: float = 120.0) -> None:
        self.workers = workers or len(os.sched_getaffinity(0))
        self.timeout_s = timeout_s
        self._idle: list[_Worker] = []
        self._busy: list[_Worker] = []
        self._in_use = threading.Lock()

    def __enter__(self) -> Decoders:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all workers; those at work are killed."""
        for worker in (*self._idle, *self._busy):
            worker.kill()
        self._idle, self._busy = [], []

    def rest(self) -> None:
        """End the workers that have nothing to do; others begin when they are needed."""
        for worker in self._idle:
            worker.kill()
        self._idle = []

    def map(
        self, function: Callable[[I], R], items: Iterable[I], timeout_s: float | None = None
    ) -> Iterator[Outcome[R]]:
        """Yield the outcome of every item, in the order of the items.

        Items are taken as workers become free, and a slow item lets at most a few later ones
        finish before it, so memory does not grow with the number of items.

        Args:
            function: A function that a fresh process can import: defined at the top of a module.
                What it returns must be able to cross, see `tasks.media.plain`.
            items: Anything picklable.
            timeout_s: Time limit for one item.

        Yields:
            The value, or a problem `timeout` or `crashed`.

        Raises:
            UserError: As the function raised it.
            WorkerError: The function raised anything else: a fault of the program, not of a file.
        """
        if not self._in_use.acquire(blocking=False):
            raise RuntimeError("this Decoders is busy with another map; take one per thread")
        try:
            yield from self._map(function, iter(items), timeout_s or self.timeout_s)
        finally:
            # Whoever is still busy here works for a map that nobody reads any more.
            for worker in self._busy:
                worker.kill()
            self._busy = []
            self._in_use.release()

    def _map(
        self, function: Callable[[I], R], items: Iterator[I], timeout_s: float
    ) -> Iterator[Outcome[R]]:
        order: deque[int] = deque()
        done: dict[int, Outcome[R]] = {}
        number = 0
        is_open = True
        while is_open or order:
            while is_open and len(self._busy) < self.workers and self._has_room(order):
                try:
                    item = next(items)
                except StopIteration:
                    is_open = False
                    break
                self._start(number, function, item, timeout_s)
                order.append(number)
                number += 1
            while order and order[0] in done:
                yield done.pop(order.popleft())
            if self._busy and (not order or order[0] not in done):
                self._collect(done, timeout_s)

    def _has_room(self, order: deque[int]) -> bool:
        return len(order) < _LOOKAHEAD * self.workers

    def _start(self, number: int, function: Callable[[I], R], item: I, timeout_s: float) -> None:
        worker = self._idle.pop() if self._idle else _Worker()
        self._busy.append(worker)
        worker.start(number, function, item, timeout_s)

    def _collect(self, done: dict[int, Outcome[R]], timeout_s: float) -> None:
        """Wait until at least one worker has answered, died or passed its limit."""
        until = min(worker.deadline for worker in self._busy)
        ready = set(wait([w.connection for w in self._busy], max(0.0, until - time.monotonic())))
        for worker in list(self._busy):
            if worker.connection in ready:
                try:
                    if worker.has_begun(timeout_s):
                        continue
                    outcome = Outcome(worker.receive())
                except BrokenAnswer as error:
                    detail = f"{worker.task}: its process gave a broken answer ({error})"
                    outcome = Outcome[R](None, Problem("crashed", detail))
                    worker.kill()
                except (EOFError, ConnectionError):
                    detail = f"{worker.task} ended its process ({worker.exit_reason()})"
                    outcome = Outcome[R](None, Problem("crashed", detail))
                    worker.kill()
                else:
                    self._idle.append(worker)
            elif time.monotonic() >= worker.deadline:
                worker.kill()
                detail = f"{worker.task} took longer than {timeout_s:g} s"
                outcome = Outcome(None, Problem("timeout", detail))
            else:
                continue
            self._busy.remove(worker)
            done[worker.number] = outcome

    def clips(
        self, function: Callable[[I], Clip], items: Iterable[I], timeout_s: float | None = None
    ) -> Iterator[Clip]:
        """Like `map` for functions that give a clip; a crash or time-out is a failed clip."""
        for outcome in self.map(function, items, timeout_s):
            if outcome.problem is not None or outcome.value is None:
                yield Clip.failed(outcome.problem or Problem("crashed", "no clip was returned"))
            else:
                yield outcome.value


_local = threading.local()


def thread_decoders() -> Decoders:
    """This thread's decoding process, kept from one piece of work to the next until it ends."""
    if not hasattr(_local, "decoders"):
        _local.decoders = Decoders(workers=1)
    return _local.decoders


class _Worker:
    """One process, from the caller's side."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        watched, self._lifeline = os.pipe()
        environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        command = [sys.executable, "-c", _BOOT, str(theirs.fileno()), str(watched)]
        try:
            self.process = subprocess.Popen(
                [*command, *sys.path],
                pass_fds=(theirs.fileno(), watched),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,  # what the program prints is never a decoder's
            )
        finally:
            theirs.close()
            os.close(watched)
        pause = struct.pack("ll", _ANSWER_PAUSE_S, 0)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, pause)
        self.connection = Connection(ours.detach())
        self.number = -1
        self.task = ""
        self._is_running = False
        self.deadline = 0.0

    def start(self, number: int, function: Callable[[I], R], item: I, timeout_s: float) -> None:
        """Send one item; its time limit begins when the process says that it has it."""
        self.number, self.task, self._is_running = number, _name(item), False
        self.deadline = time.monotonic() + _START_LIMIT_S
        # A worker that is already dead is noticed when its answer is read.
        with contextlib.suppress(ConnectionError):
            order = (os.getcwd(), function, item, timeout_s + _ALARM_GRACE_S)
            self.connection.send_bytes(pickle.dumps(order))

    def has_begun(self, timeout_s: float) -> bool:
        """Whether the message that lies there says that work on the item begins."""
        if self._is_running:
            return False
        if _bytes(self.connection, len(_BEGUN)) != _BEGUN:
            raise BrokenAnswer("it says something else than that it has begun")
        self._is_running = True
        self.deadline = time.monotonic() + timeout_s
        return True

    def receive(self) -> Any:
        """The function's value.

        Raises:
            EOFError: The process died.
            BrokenAnswer: It answered what no function here answers.
        """
        match _receive(self.connection):
            case [str(kind), value]:
                pass
            case _:
                raise BrokenAnswer("neither a value nor an error")
        if kind == "user_error":
            raise UserError(value)
        if kind == "error":
            raise WorkerError(f"{self.task}: the function raised in a worker\n{value}")
        return value

    def exit_reason(self) -> str:
        """How the process ended, in words."""
        try:
            code = self.process.wait(timeout=5.0)
        except subprocess.TimeoutExpired:
            return "it closed its connection"
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"

    def kill(self) -> None:
        """End the process at once and free what belongs to it."""
        if self._lifeline < 0:
            return
        self.connection.close()
        os.close(self._lifeline)
        self._lifeline = -1
        self.process.kill()
        self.process.wait()

    def __del__(self) -> None:
        # A pool that was never closed must not leave processes behind either.
        if hasattr(self, "connection"):
            self.kill()


_BEGUN = b"begun"
# Ctrl-C reaches the whole process group, also while this one is still importing; what to do about
# it is the caller's decision.
_BOOT = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); sys.path[:] = sys.argv[3:]; "
    "from tasks.media.worker import serve; serve(int(sys.argv[1]), int(sys.argv[2]))"
)


def serve(connection_fd: int, lifeline_fd: int) -> None:
    """The worker's side: answer items until the caller closes the connection or vanishes."""
    # The default action ends the process even while C code holds the interpreter.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    connection = Connection(connection_fd)
    is_confined = False
    while True:
        try:
            folder, function, item, alarm_s = pickle.loads(connection.recv_bytes())
        except (EOFError, ConnectionError):
            os._exit(0)
        except Exception:  # the function cannot be imported here: the caller must be told
            connection.send_bytes(_BEGUN)
            _send(connection, ("error", traceback.format_exc()))
            continue
        if not is_confined:  # its modules are loaded, no medium was touched, no thread begun
            confine(memory_limit())
            # Until here a caller that vanishes is noticed as the end of the connection.
            threading.Thread(target=_die_with_caller, args=(lifeline_fd,), daemon=True).start()
            is_confined = True
        connection.send_bytes(_BEGUN)
        signal.setitimer(signal.ITIMER_REAL, alarm_s)
        try:
            os.chdir(folder)  # paths may be relative, and the caller may have moved since the start
            answer = ("value", function(item))
        except UserError as error:
            answer = ("user_error", str(error))
        except MemoryError:
            os._exit(12)  # as if the system had ended it; a fresh process starts clean
        except Exception:
            answer = ("error", traceback.format_exc())
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        try:
            _send(connection, answer)
        except ConnectionError:
            os._exit(0)


def _die_with_caller(lifeline_fd: int) -> None:
    os.read(lifeline_fd, 1)  # returns only when the caller's end is closed
    os._exit(0)


def _send(connection: Connection, value: object) -> None:
    """Send an answer; arrays go as they lie in memory."""
    head, arrays = pack(value)
    connection.send_bytes(struct.pack(f"{len(arrays)}q", *(array.nbytes for array in arrays)))
    connection.send_bytes(head)
    for array in arrays:
        if array.nbytes:
            connection.send_bytes(array)


def _receive(connection: Connection) -> Any:
    """Read an answer; no size is believed beyond what a decoder may hold."""
    counted = _bytes(connection, 1 << 16)
    if len(counted) % 8:
        raise BrokenAnswer("sizes of arrays that are none")
    sizes = [size for (size,) in struct.iter_unpack("q", counted)]
    head = _bytes(connection, _HEAD_BYTES)
    if any(size < 0 for size in sizes) or sum(sizes) > memory_limit():
        raise BrokenAnswer(f"arrays of {sum(sizes)} bytes")
    buffers = [bytearray(size) for size in sizes]
    for buffer in buffers:
        try:
            if buffer and connection.recv_bytes_into(buffer) != len(buffer):
                raise BrokenAnswer("an array that is shorter than its size")
        except (BufferTooShort, BlockingIOError) as error:
            raise BrokenAnswer(str(error) or "an array that is longer than its size") from None
    return unpack(head, buffers)


def _bytes(connection: Connection, most: int) -> bytes:
    try:
        return connection.recv_bytes(most)
    except (EOFError, ConnectionError):
        raise
    except OSError as error:  # the message says that it is longer, or its rest does not come
        raise BrokenAnswer(f"a message that does not end ({error})") from None


def _name(item: object) -> str:
    text = str(item)
    return text if len(text) <= 200 else f"{text[:200]}..."
