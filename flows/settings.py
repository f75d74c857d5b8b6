"""``params.yaml``, read and checked for the commands; a mistake shows before hours of work."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flows import graph
from flows.execution import execution
from models.errors import UserError
from tasks.corpora.raw_folders import check_folder
from tasks.layout import Layout
from tasks.params import Params

#: Sections whose entries are named by the user.
_NAMED = ("corpora", "encoders", "methods")


def read_params(root: Path) -> Params:
    """The parameters; sections and named entries are known to be mappings."""
    raw = graph.read_raw_params(root)
    for section, values in raw.items():
        _check_mapping(str(section), values)
        if section in _NAMED:
            for name, entry in (values or {}).items():
                _check_mapping(f"{section}.{name}", entry)
    return Params(raw)


def check_before_graph(params: Params) -> None:
    """What ``dvc.yaml`` is written from: cheap, so it is looked at every time."""
    execution(params.raw)
    if not params.raw.get("corpora"):
        raise UserError("params.yaml: corpora is empty; name a corpus, such as sample: {}")
    for name in params.raw.get("corpora") or {}:
        params.ingest(name)
        check_folder(Layout().raw(name))  # before DVC reads it all, and hangs
    for name in params.raw.get("encoders") or {}:
        params.encoder(name)


def _check_mapping(where: str, value: Any) -> None:
    if value is not None and not isinstance(value, Mapping):
        raise UserError(f"params.yaml: {where} is {value!r}; it must hold keys and values")
