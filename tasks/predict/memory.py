"""Memory that is free goes back to the system, so that hours of media hold what minutes do.

Left alone, the C library learns from the largest buffer that was freed so far: buffers up to its
size come from heaps from then on, of which every thread has one, and a heap keeps up to twice as
much when all of it is free. Threads that come and go make more of them. What polars and Arrow keep
is settled for every process, in ``flows``.
"""

import ctypes
import os

#: Larger buffers come straight from the system, and no heap keeps more than this at its end.
_KEPT_BYTES = 1 << 20
#: Settings of glibc: for processes begun from now on, the number of the same for this one, and what
#: it becomes. A heap of its own for each thread, which the last holds back, would be free for most.
_SETTINGS = {
    "MALLOC_TRIM_THRESHOLD_": (-1, _KEPT_BYTES),
    "MALLOC_MMAP_THRESHOLD_": (-3, _KEPT_BYTES),
    "MALLOC_ARENA_MAX": (-8, 1),
}


def hold_little() -> None:
    """From now on keep no more than is in use, here and in decoders that are begun.

    What the environment says already holds; C libraries without such settings stay as they are.
    """
    settle = getattr(ctypes.CDLL(None), "mallopt", None)
    for name, (number, value) in _SETTINGS.items():
        if settle is not None and name not in os.environ:
            os.environ[name] = str(value)
            settle(number, value)
