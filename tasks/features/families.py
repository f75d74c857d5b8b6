"""Encoder families: which there are, what they say about themselves, and one of them at work."""

import ast
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from models import encoders, registry
from models.encoders.encoder import Encoder, Pooling, Settings
from models.errors import UserError
from tasks.features.inputs import Modality


@dataclass(frozen=True)
class Family:
    """The constants of ``models/encoders/<name>.py``.

    Attributes:
        modality: what it reads.
        feature_version: raised when the same input gives other features.
        network_versions: by the checkpoint's ``model_type``: of networks that changed alone.
        libraries: packages whose versions can change the features.
        poolings: those it has, the default first.
        chunk: utterances that it likes to get at once; so many are kept in one segment.
        rate_hz: of the sound it reads.
        checkpoint: what it takes where none is named; ``required``: one must be named; None: it
            needs none.
    """

    name: str
    modality: Modality
    feature_version: int
    libraries: tuple[str, ...]
    poolings: tuple[Pooling, ...]
    chunk: int
    rate_hz: int
    checkpoint: str | None
    network_versions: Mapping[str, int] = field(default_factory=dict)

    def version(self, network: str | None) -> int:
        """Which version of its features a network of this family gives."""
        return self.network_versions.get(network or "", self.feature_version)


@cache
def family_constants(name: str) -> Family:
    """What a family's file says about itself, read without running it: torch is slow to import."""
    file = next((file for file in _files() if file.stem == name), None)
    tree = ast.parse(file.read_text(encoding="utf-8")) if file else ast.Module([], [])
    constants: dict[str, Any] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            try:
                constants[node.targets[0].id] = ast.literal_eval(node.value)
            except ValueError:
                continue
    if "MODALITY" not in constants:
        raise UserError(
            f"params.yaml: no encoder family is called '{name}'; known: {', '.join(families())}"
        )
    return Family(
        name,
        constants["MODALITY"],
        constants["FEATURE_VERSION"],
        constants["LIBRARIES"],
        constants["POOLINGS"],
        constants["CHUNK"],
        constants.get("RATE_HZ", 0),
        constants.get("CHECKPOINT", "required"),
        constants.get("NETWORK_VERSIONS", {}),
    )


def families() -> list[str]:
    """Names of all encoder families."""
    files = [file for file in _files() if "\nENCODER = " in file.read_text(encoding="utf-8")]
    return sorted(file.stem for file in files)


def _files() -> Iterator[Path]:
    """Where Python looks for modules of ``models.encoders``: whatever it finds there may serve."""
    for folder in encoders.__path__:
        yield from Path(folder).glob("[a-z]*.py")


def load_encoder(family: str, settings: Settings) -> Encoder:
    """The encoder itself, ready to compute; kept for the next shard of this process."""
    with _loading:
        if (family, settings) not in _loaded:
            _loaded.clear()
            module = registry.load("encoders", family)
            _loaded[family, settings] = module.ENCODER(settings)
        return _loaded[family, settings]


_loading = threading.Lock()
_loaded: dict[tuple[str, Settings], Encoder] = {}
