"""A model hub's cache as its library lays it out: blobs by hash, snapshots that link to them."""

import hashlib
from pathlib import Path

import torch
from safetensors.torch import load_file

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NAME = "somebody/net"


def write_hub_cache(hub: Path, source: Path, name: str = NAME, commit: str = COMMIT) -> Path:
    """Lay the files of folder ``source`` into cache ``hub`` as revision ``commit``, branch main."""
    repository = hub / f"models--{name.replace('/', '--')}"
    snapshot = repository / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    for file in sorted(source.iterdir()):
        content = file.read_bytes()
        is_large = file.suffix in {".safetensors", ".bin"}
        digest = (
            hashlib.sha256(content)
            if is_large
            else hashlib.sha1(b"blob %d\0" % len(content) + content)
        ).hexdigest()
        (repository / "blobs" / digest).write_bytes(content)
        (snapshot / file.name).symlink_to(Path("../../blobs") / digest)
    return snapshot


def pickle_weights(folder: Path, content: object = None) -> None:
    """Replace the safetensors of a folder by what older checkpoints have: a pickle."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(tensors if content is None else content, folder / "pytorch_model.bin")
