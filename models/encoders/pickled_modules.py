"""Tensors out of pickles that hold a whole module: its classes are not imported, nothing is run.

Some authors publish ``torch.save(network)``. Such a file names the classes of its parts and, for
each, its attributes. Here every class but tensors and plain containers is replaced by one that
keeps the attributes and does nothing: parameters come out by the names they have in the network.
"""

import pickle
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

import torch
from torch import Tensor

#: All that may be called: they make tensors and containers of what the file holds.
_ALLOWED = {
    ("collections", "OrderedDict"), ("torch", "Size"), ("torch._utils", "_rebuild_parameter"),
    ("torch._utils", "_rebuild_tensor_v2"), ("builtins", "set"),
}  # fmt: skip


class _Inert:
    """Stands for an object, or the result of a function, of any kind."""

    def __new__(cls, *_: object, **__: object) -> "_Inert":
        return object.__new__(cls)

    def __init__(self, *_: object, **__: object) -> None:
        self.kept: object = None

    def __setstate__(self, state: object) -> None:
        self.kept = state

    def __setitem__(self, *_: object) -> None:
        """What a dictionary would be given."""

    def append(self, *_: object) -> None:
        """What a list would be given."""

    extend = append


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        return super().find_class(module, name) if (module, name) in _ALLOWED else _Inert


def _load(file: IO[bytes], **options: Any) -> Any:
    return _Unpickler(file, **options).load()


def read_module(file: Path) -> dict[str, Tensor]:
    """Parameters and buffers of a pickled module by their names in it.

    Args:
        file: as ``torch.save`` writes one since version 1.6, a zip archive.
    """
    with zipfile.ZipFile(file) as archive:
        if any(name.endswith("/constants.pkl") for name in archive.namelist()):
            raise pickle.UnpicklingError("it is a program of TorchScript")  # torch would run it
    reader = SimpleNamespace(Unpickler=_Unpickler, load=_load, __name__="inert")
    try:
        content = torch.load(file, map_location="cpu", weights_only=False, pickle_module=reader)
    except (TypeError, AttributeError, IndexError) as error:  # of what makes tensors
        raise pickle.UnpicklingError("its tensors are not as torch writes them") from error
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
