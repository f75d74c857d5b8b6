"""Tensors out of pickles that hold a whole module: its classes are not imported, nothing is run.

Some authors publish ``torch.save(network)``. Such a file names the classes of its parts and, for
each, its attributes. torch's restricted reader reads it, with one inert class in place of each name
that it does not know: that keeps the attributes and does nothing, so parameters come out by the
names they have in the network.
"""

import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals


class _Inert:
    """Stands for an object, or the result of a function, of any kind."""

    kept: object = None

    def __new__(cls, *_: object) -> "_Inert":
        return object.__new__(cls)

    def __setstate__(self, state: object) -> None:
        self.kept = state


def read_module(file: Path) -> dict[str, Tensor]:
    """Parameters and buffers of a pickled module by their names in it.

    Args:
        file: as ``torch.save`` writes one since version 1.6, a zip archive.
    """
    try:
        unknown = get_unsafe_globals_in_checkpoint(file)
        with safe_globals([(_Inert, name) for name in unknown]):
            content = torch.load(file, map_location="cpu", weights_only=True)
    except (TypeError, ValueError, AttributeError, IndexError, RuntimeError) as error:
        raise pickle.UnpicklingError(f"no module of torch can be read from it: {error}") from error
    found = dict(_tensors(content))
    if not found:
        raise pickle.UnpicklingError("it is no module of torch")
    return found


def _tensors(module: object, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    kept = module.kept if isinstance(module, _Inert) else None
    if not isinstance(kept, Mapping):
        return
    for kind in ("_parameters", "_buffers"):
        for name, value in dict(kept.get(kind) or {}).items():
            if isinstance(value, Tensor):
                yield f"{prefix}{name}", value.detach().clone().contiguous()
    for name, child in dict(kept.get("_modules") or {}).items():
        yield from _tensors(child, f"{prefix}{name}.")
