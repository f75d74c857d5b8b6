"""Where the weights of an encoder lie, what their hash is, and whether they were ever trained.

A checkpoint is named in one of five ways::

    data/checkpoints/<name>        a folder of this project, made by the stage checkpoints
    /some/folder or ./weights.pt   any other local folder or file
    package:<package>              weights that an installed Python package carries
    random:<seed>                  drawn at random from the seed (families that allow it)
    <owner>/<name>                 a model hub; needs a pinned ``revision``

Weights that were fetched lie beside a record of their checksums, and are compared with it each time
they are used. Nothing here imports torch, so that a stage with nothing to compute starts at once.
"""

import hashlib
import importlib.util
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from models.errors import UserError

#: What counts as weights; the best kind that a folder has is hashed.
_WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt")
_HUB_NAME = re.compile(r"^[\w.-]+/[\w.-]+$")
_PINNED = re.compile(r"^[0-9a-f]{40}$")
#: In a fetched folder: where it comes from and the checksum of each file.
RECORD = ".affectloom.json"

#: Weights that are single files somewhere else than on a hub: name to address.
FILES = {
    "facenet:vggface2": "https://github.com/timesler/facenet-pytorch/releases/download/v2.2.9/20180402-114759-vggface2.pt",
    "facenet:casia-webface": "https://github.com/timesler/facenet-pytorch/releases/download/v2.2.9/20180408-102900-casia-webface.pt",
}


@dataclass(frozen=True)
class Weights:
    """Weights that were found.

    Attributes:
        path: folder, file, or None for weights drawn at random.
        sha256: hash over names and contents of everything that shapes the result.
        trained: False for weights that nobody trained.
        seed: of weights drawn at random.
    """

    path: Path | None
    sha256: str
    trained: bool
    seed: int | None = None

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
        revision: commit of a hub checkpoint, 40 hexadecimal digits.
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
    return Weights(path, hash_weights(path, cache), is_trained(path))


def locate(checkpoint: str, revision: str | None, cache: Path, root: Path = Path()) -> Path:
    """Folder or file of a checkpoint; a hub checkpoint that is not here yet is fetched."""
    if checkpoint.startswith("package:"):
        return _in_package(checkpoint.removeprefix("package:"))
    local = _local(checkpoint, root)
    if local is not None:
        return local
    kept = fetched_path(checkpoint, revision, cache)
    if kept.exists():
        return kept
    from models.encoders.fetching import fetch  # which reads this file

    return fetch(checkpoint, revision, cache)


def fetched_path(checkpoint: str, revision: str | None, cache: Path) -> Path:
    """Folder in which a fetched checkpoint lies."""
    if checkpoint in FILES:
        return cache / "weights" / checkpoint.replace(":", "--")
    if not _HUB_NAME.match(checkpoint):
        raise UserError(
            f"checkpoint '{checkpoint}' is neither a local folder, nor package:<package>, nor "
            "random:<seed>, nor <owner>/<name> on a hub; mend it in params.yaml"
        )
    if not is_pinned(revision):
        raise UserError(
            f"checkpoint '{checkpoint}' needs its `revision` pinned to a commit of 40 hexadecimal "
            f"digits in params.yaml, got {revision!r}, because a branch changes with time; "
            "`affectloom fetch --pin` writes the commit there"
        )
    return cache / "weights" / f"{checkpoint.replace('/', '--')}@{revision}"


def is_pinned(revision: str | None) -> bool:
    """Whether a revision is a commit, whose content never changes."""
    return revision is not None and _PINNED.match(revision) is not None


def write_record(
    folder: Path, checkpoint: str, revision: str | None, converted: Mapping[str, str]
) -> None:
    """Note the checksum of every file of a folder that was just fetched.

    Args:
        folder: holds the files.
        checkpoint: its name.
        revision: its commit.
        converted: SHA-256 of pickled files that safetensors were made from, by name.
    """
    files = {
        file.name: {"sha256": hash_file(file), "bytes": file.stat().st_size}
        for file in sorted(folder.iterdir())
        if file.name != RECORD
    }
    content = {
        "checkpoint": checkpoint,
        "revision": revision,
        "converted_from": dict(converted),
        "files": files,
    }
    text = json.dumps(content, indent=2, sort_keys=True) + "\n"
    (folder / RECORD).write_text(text, encoding="utf-8")


def read_record(folder: Path) -> dict[str, dict[str, str | int]]:
    """Name to SHA-256 (``sha256``) and size (``bytes``) of the files of a fetched folder."""
    try:
        return json.loads((folder / RECORD).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"{folder} has no readable record of its checksums ({RECORD}); delete the folder and "
            "run `affectloom fetch` again"
        ) from error


def check_record(folder: Path, checkpoint: str, cache: Path | None = None) -> None:
    """Raise where a fetched folder is not as it was fetched.

    Args:
        folder: of the checkpoint.
        checkpoint: its name.
        cache: remembers hashes of files that did not change since; None: read every byte.
    """
    for name, noted in read_record(folder).items():
        file = folder / name
        if not file.is_file():
            raise UserError(
                f"checkpoint '{checkpoint}': {file} is missing; delete the folder and run "
                f"`affectloom fetch {checkpoint}` again"
            )
        if (hash_file(file) if cache is None else _hash_file(file, cache)) != noted["sha256"]:
            raise UserError(
                f"checkpoint '{checkpoint}': {file} is not what was fetched (its checksum "
                f"differs); delete the folder and run `affectloom fetch {checkpoint}` again"
            )


def hash_file(file: Path) -> str:
    """SHA-256 of a file."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def hash_weights(path: Path, cache: Path) -> str:
    """SHA-256 over the files that shape the result: weights, configuration, tokenizer."""
    files = [path] if path.is_file() else _shaping_files(path)
    total = hashlib.sha256()
    for file in files:
        name = file.name if path.is_file() else file.relative_to(path).as_posix()
        total.update(f"{name}\0{_hash_file(file, cache)}\n".encode())
    return total.hexdigest()


def is_trained(path: Path) -> bool:
    """False where the checkpoint's own config.json says that nobody trained it."""
    config = path / "config.json"
    if not config.is_file():
        return True
    return bool(json.loads(config.read_text(encoding="utf-8")).get("affectloom_trained", True))


def _local(checkpoint: str, root: Path) -> Path | None:
    path = root / checkpoint
    if path.exists():
        return path
    if checkpoint.startswith("data/checkpoints/"):
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


def _hash_file(file: Path, cache: Path) -> str:
    """SHA-256 of a file, remembered by path, size and time of change."""
    stat = file.stat()
    identity = f"{file.resolve()}\0{stat.st_size}\0{stat.st_mtime_ns}\0{stat.st_ino}"
    memory = cache / "hashes" / hashlib.sha256(identity.encode()).hexdigest()
    try:
        remembered = memory.read_text(encoding="ascii")
        if re.fullmatch(r"[0-9a-f]{64}", remembered):
            return remembered
    except FileNotFoundError:
        pass
    digest = hash_file(file)
    if stat.st_size > 10_000_000:  # hashing less is faster than remembering
        memory.parent.mkdir(parents=True, exist_ok=True)
        partial = memory.with_name(f"{memory.name}.{os.getpid()}.tmp")
        partial.write_text(digest, encoding="ascii")
        partial.replace(memory)
    return digest


def first_line(error: BaseException) -> str:
    """What an error says, without what follows."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
