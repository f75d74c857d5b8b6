"""What ``dvc.lock`` remembers of a stage: hashes of code and data, values of parameters."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from models.errors import UserError

Cause = Literal["code", "features", "split", "data"]

#: Folder of a dependency to what a difference in it means, first match wins.
_FOLDERS: tuple[tuple[str, Cause], ...] = (
    ("tasks/", "code"),
    ("models/", "code"),
    ("flows/", "code"),
    ("data/features/", "features"),
    ("data/splits/", "split"),
    ("data/", "data"),
)


@dataclass(frozen=True)
class Locked:
    """One stage instance as it last ran.

    Attributes:
        files: dependency to its hash.
        parameters: dotted key of params.yaml to its value.
    """

    files: Mapping[str, str]
    parameters: Mapping[str, Any]

    def by_cause(self, cause: Cause) -> dict[str, str]:
        """Dependencies of one kind."""
        return {path: md5 for path, md5 in self.files.items() if cause_of(path) == cause}

    def digest(self, cause: Cause) -> str:
        """One hash over the dependencies of one kind."""
        text = "\n".join(f"{path} {md5}" for path, md5 in sorted(self.by_cause(cause).items()))
        return hashlib.sha256(text.encode()).hexdigest()


def cause_of(path: str) -> Cause:
    """What kind of input a dependency is."""
    for folder, cause in _FOLDERS:
        if path.startswith(folder):
            return cause
    return "data"


def read_text(file: Path) -> str:
    """What stands in a ``dvc.lock``; nothing where there is none."""
    return decoded(file.read_bytes(), str(file)) if file.exists() else ""


def decoded(content: bytes, name: str) -> str:
    """The text of a ``dvc.lock`` that is called so."""
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{name}: byte {error.start + 1} is no UTF-8 text, so the file is damaged; bring it "
            "back (`git checkout dvc.lock`), or remove it: each stage then runs anew, or is "
            "restored from DVC's cache"
        ) from error


def read_lock(text: str) -> dict[str, Locked]:
    """Every stage instance of a ``dvc.lock``, by DVC's name of it."""
    stages = (yaml.safe_load(text) or {}).get("stages") or {}
    return {
        address: Locked(
            {dep["path"]: dep.get("md5", "") for dep in stage.get("deps") or []},
            flatten(
                {
                    key: value
                    for file in (stage.get("params") or {}).values()
                    for key, value in file.items()
                }
            ),
        )
        for address, stage in stages.items()
    }


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as dotted keys."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}.{key}" if prefix else str(key)
        if isinstance(value, Mapping) and value:
            found |= flatten(value, name)
        else:
            found[name] = value
    return found
