"""Where the weights of an encoder lie, what their hash is, and whether they were ever trained.

A checkpoint is named in one of five ways::

    data/checkpoints/<name>        a folder of this project, made by the stage checkpoints
    /some/folder or ./weights.pt   any other local folder or file
    package:<package>              weights that an installed Python package carries
    random:<seed>                  drawn at random from the seed (families that allow it)
    <owner>/<name>                 a model hub; needs a pinned ``revision``

Nothing here imports torch, so that a stage with nothing to compute starts at once.
"""

import hashlib
import importlib.util
import json
import os
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from models.errors import UserError

#: What counts as weights; the best kind that a folder has is hashed.
_WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt")
_HUB_NAME = re.compile(r"^[\w.-]+/[\w.-]+$")
_PINNED = re.compile(r"^[0-9a-f]{40}$")
_ALWAYS = ("*.json", "*.txt", "*.model")

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
    return Weights(path, hash_weights(path, cache), is_trained(path))


def locate(checkpoint: str, revision: str | None, cache: Path, root: Path = Path()) -> Path:
    """Folder or file of a checkpoint; a hub checkpoint that is not here yet is fetched."""
    if checkpoint.startswith("package:"):
        return _in_package(checkpoint.removeprefix("package:"))
    local = _local(checkpoint, root)
    if local is not None:
        return local
    kept = fetched_path(checkpoint, revision, cache)
    return kept if kept.exists() else fetch(checkpoint, revision, cache)


def fetched_path(checkpoint: str, revision: str | None, cache: Path) -> Path:
    """Where ``fetch`` puts a checkpoint."""
    if checkpoint in FILES:
        return cache / "weights" / Path(FILES[checkpoint]).name
    if not _HUB_NAME.match(checkpoint):
        raise UserError(
            f"checkpoint '{checkpoint}' is neither a local folder, nor package:<package>, nor "
            "random:<seed>, nor <owner>/<name> on a hub; mend it in params.yaml"
        )
    if revision is None or not _PINNED.match(revision):
        raise UserError(
            f"checkpoint '{checkpoint}' needs its `revision` pinned to a commit of 40 hexadecimal "
            f"digits in params.yaml, got {revision!r}; what a branch name means changes with time"
        )
    return cache / "weights" / f"{checkpoint.replace('/', '--')}@{revision}"


def fetch(checkpoint: str, revision: str | None, cache: Path) -> Path:
    """Download a checkpoint into ``cache``, complete or not at all, and return where it lies."""
    target = fetched_path(checkpoint, revision, cache)
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent))
    try:
        if checkpoint in FILES:
            made = partial / "file"
            _download(FILES[checkpoint], made)
        else:
            made = partial
            _download_folder(checkpoint, str(revision), partial)
        made.replace(target)
    except OSError as error:
        raise UserError(
            f"checkpoint '{checkpoint}' is not on this machine and cannot be downloaded "
            f"({_first_line(error)}); run `affectloom fetch {checkpoint}` where there is a network"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


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
    files = sorted(file for file in folder.iterdir() if file.is_file())
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
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if stat.st_size > 10_000_000:  # hashing less is faster than remembering
        memory.parent.mkdir(parents=True, exist_ok=True)
        partial = memory.with_name(f"{memory.name}.{os.getpid()}.tmp")
        partial.write_text(digest, encoding="ascii")
        partial.replace(memory)
    return digest


def _download(address: str, target: Path) -> None:
    import urllib.request

    with urllib.request.urlopen(address, timeout=20) as source, target.open("wb") as stream:
        shutil.copyfileobj(source, stream)


def _download_folder(name: str, revision: str, folder: Path) -> None:
    """One revision of a hub repository; .bin weights only where it has no safetensors."""
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        # asked once and without retries: an unreachable hub must not cost half a minute
        found = HfApi().model_info(name, revision=revision, timeout=10).siblings or []
        is_safe = any(file.rfilename.endswith(".safetensors") for file in found)
        weights = "*.safetensors" if is_safe else "pytorch_model*.bin"
        snapshot_download(
            name,
            revision=revision,
            local_dir=folder,
            allow_patterns=[*_ALWAYS, weights],
            ignore_patterns=["*/*"],
        )
        shutil.rmtree(folder / ".cache", ignore_errors=True)
    except (HfHubHTTPError, LocalEntryNotFoundError) as error:
        raise OSError(_first_line(error)) from error
    except Exception as error:
        # the hub's HTTP library changes its name with its versions, and has no public base class
        if type(error).__module__.startswith(("httpx", "httpcore", "requests")):
            raise OSError(_first_line(error)) from error
        raise


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
