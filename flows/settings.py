"""``params.yaml``, read and checked for the commands; a mistake shows before hours of work."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flows import graph
from flows.execution import execution
from models.errors import UserError
from tasks import dvc_lock
from tasks.corpora.raw_folders import check_folder
from tasks.layout import Layout
from tasks.params.model import Params

#: Sections whose entries are named by the user.
_NAMED = ("corpora", "encoders", "methods")
#: The section that stands last in params.yaml as it is shipped; no stage depends on it.
_LAST = "execution"
#: Of the keys below ``params.yaml:`` of a stage in dvc.lock.
_KEY_INDENT = 8


def read_params(root: Path) -> Params:
    """The parameters; sections and named entries are known to be mappings."""
    raw = graph.read_raw_params(root)
    for section, values in raw.items():
        _check_mapping(str(section), values)
        if section in _NAMED:
            for name, entry in (values or {}).items():
                _check_mapping(f"{section}.{name}", entry)
    return Params(raw)


def read_whole(root: Path) -> Params:
    """The parameters, known to be those of a whole file, and fit to write ``dvc.yaml`` from."""
    params = read_params(root)
    check_whole(params.raw, root)
    check_before_graph(params)
    return params


def check_whole(raw: Mapping[str, Any], root: Path) -> None:
    """Refuse a file that was cut off, which else would pass for one that asks for less.

    Entries and comments may go; a section goes by being left empty.
    """
    known = _locked_sections(dvc_lock.read_text(root / "dvc.lock"))
    missing = sorted((known | {_LAST}) - {str(key) for key in raw})
    if missing:
        names = ", ".join(missing)
        raise UserError(
            f"params.yaml has no {names}: it looks cut off; bring it back (`git checkout "
            f"params.yaml`), or write `{missing[0]}: {{}}` where nothing is meant to stand there"
        )


def _locked_sections(text: str) -> set[str]:
    """Sections of params.yaml on which stages of a ``dvc.lock`` depend.

    Read from its lines, since reading YAML of thousands of lines takes a second.
    """
    found, is_inside = set(), False
    for line in text.splitlines():
        if len(line) - len(line.lstrip(" ")) < _KEY_INDENT:
            is_inside = line.strip() == "params.yaml:"
        elif is_inside and (key := re.match(rf" {{{_KEY_INDENT}}}(\w+)[.:\w-]*:", line)):
            found.add(key[1])
    return found


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
