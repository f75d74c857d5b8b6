"""Pickles from strangers: plain data comes out, everything else is refused by its name.

A pickle is a program. Its instructions can only reach outside through names such as ``os.system``,
and here every name is looked up in a short list of our own stand-ins; a name that is not on it ends
the reading before anything is called. Out come numpy arrays of numbers, text or plain objects,
dictionaries, lists, tuples, sets, text, bytes and numbers, and ``Record`` for the sample classes of
known projects, of which only the attributes are kept.

A few bytes can also ask for all memory, or nest tuples until the machine's own stack is full, which
no exception tells. So memory is limited while a file is read, and a file that is large enough to
nest so deeply is read in a process of its own first.
"""

import os
import pickle
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from models.errors import UserError
from tasks.corpora.imports.stand_ins import NAMES, Refused, unwrap

#: Fewer bytes cannot nest deeply enough to fill the stack: each level takes one.
_SHALLOW_BYTES = 1 << 15
#: Memory that reading may take: what Python's smallest objects need for each byte, and a start.
_BYTES_PER_BYTE, _BYTES_AT_ONCE = 300, 1 << 30
#: What ``torch.save`` began with before it wrote archives.
_TORCH_MAGIC = 0x1950A86A20F9469CFC6C
_REMEDIES = {
    "torch": "save tensors as numpy arrays first: {name: tensor.numpy()}",
    "pandas": "save the table as CSV or Parquet first",
    "scipy": "save sparse matrices as dense numpy arrays first",
}


class _Unpickler(pickle.Unpickler):
    """Knows ``NAMES`` and nothing else."""

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        if (module_name, global_name) not in NAMES:
            raise Refused(f"{module_name}.{global_name}")
        return NAMES[module_name, global_name]

    def persistent_load(self, pid: object) -> object:
        raise Refused("torch storage (a persistent id)")


def load(path: Path) -> Any:
    """The plain data in a pickle; raises ``UserError`` with the name of what is refused."""
    if path.is_file() and path.stat().st_size > _SHALLOW_BYTES:
        _rehearse(path)
    return _load(path)


def _rehearse(path: Path) -> None:
    """Read a file in a process of its own; raise where that ends the process."""
    code = f"import sys, pathlib, {__name__} as s; s._load(pathlib.Path(sys.argv[1]))"
    root = str(Path(__file__).resolve().parents[3])
    known = os.environ.get("PYTHONPATH")
    environment = os.environ | {"PYTHONPATH": f"{root}{os.pathsep}{known}" if known else root}
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], env=environment, capture_output=True, check=False
    )
    # what it raised is raised again by the reading that counts
    if done.returncode < 0:
        raise UserError(
            f"{path}: cannot be read, for it ends the process that reads it (signal "
            f"{-done.returncode}), as tuples nested too deeply do; nothing of it was run; save it "
            "as plain numpy arrays and containers first"
        )


@contextmanager
def _limited_memory(path: Path) -> Iterator[None]:
    """Let the process take no more memory than an honest file of this size can need."""
    pages = Path("/proc/self/statm")
    if not pages.is_file():
        yield
        return
    used = int(pages.read_text().split()[0]) * resource.getpagesize()
    limit = used + _BYTES_AT_ONCE + _BYTES_PER_BYTE * path.stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    lowest = min((one for one in (limit, soft) if one != resource.RLIM_INFINITY), default=limit)
    resource.setrlimit(resource.RLIMIT_AS, (lowest, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _load(path: Path) -> Any:
    try:
        with path.open("rb") as stream, _limited_memory(path):
            if stream.read(4) == b"PK\x03\x04":
                raise Refused("torch.save's archive")
            stream.seek(0)
            found = _Unpickler(stream, encoding="latin1").load()
            if found == _TORCH_MAGIC:
                raise Refused("torch.save's archive")
            if stream.read(1):
                raise UserError(f"{path}: holds more than one pickle; save them one by one")
        return unwrap(found, {})
    except Refused as refused:
        module = str(refused).split(".")[0].split(" ")[0]
        remedy = _REMEDIES.get(module, "save it as plain numpy arrays and containers first")
        raise UserError(
            f"{path}: refused, for it asks for {refused}, which is no plain data; nothing of it "
            f"was run; {remedy}"
        ) from refused
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error})") from error
    except MemoryError as error:
        raise UserError(
            f"{path} does not fit into memory, or claims to hold more than it does; check the file"
        ) from error
    except UserError:
        raise
    # damaged bytes make the machine fail in any of these ways
    except (
        pickle.UnpicklingError,
        EOFError,
        AttributeError,
        KeyError,
        IndexError,
        TypeError,
        ValueError,
        OverflowError,
        RecursionError,
        ImportError,
    ) as error:
        raise UserError(
            f"{path}: not a readable pickle ({type(error).__name__}: {error}); copy it again"
        ) from error
