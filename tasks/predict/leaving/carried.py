"""Weights of encoders that have no public address: they travel inside a model's folder."""

import shutil
from pathlib import Path

from models.encoders.weights import hash_weights
from models.errors import UserError
from tasks.features.params import EncoderParams
from tasks.predict.outside import layout_for

#: Folder of weights in a part of a model, and how such a checkpoint is named: this and the encoder.
CARRIED = "weights"
_WEIGHTS = ".safetensors"
#: Configuration and tokenizers; nothing that could hold code.
_BESIDE = (".json", ".txt", ".model")


def is_local(entry: EncoderParams, project: Path) -> bool:
    """Whether the weights of an encoder lie in a folder or file of this machine only."""
    name = entry.checkpoint or ""
    return ":" not in name and bool(name) and (project / name).exists()


def carry(encoder: str, source: Path, part: Path) -> str:
    """Copy an encoder's weights into a part of a model.

    Returns:
        The name of the checkpoint there.
    """
    files = sorted(f for f in source.iterdir() if f.is_file()) if source.is_dir() else []
    weights = [file for file in files if file.suffix == _WEIGHTS]
    if not weights:
        raise UserError(
            f"encoder {encoder}: {source} is no folder with weights as safetensors, so it cannot "
            "be given away"
        )
    target = part / CARRIED / encoder
    target.mkdir(parents=True)
    for file in files:
        if file.suffix in {_WEIGHTS, *_BESIDE} and not file.name.startswith("."):
            shutil.copyfile(file, target / file.name)
    return f"{CARRIED}/{encoder}"


def read_carried(encoder: str, entry: EncoderParams, part: Path, sha256: str) -> EncoderParams:
    """The entry with its weights found in the folder; files of another kind are refused."""
    if entry.checkpoint != f"{CARRIED}/{encoder}":
        return entry
    folder = part / CARRIED / encoder
    if not folder.is_dir() or folder.is_symlink():
        raise UserError(f"{folder}: the weights of {encoder} are not there; take the model again")
    for file in sorted(folder.iterdir()):
        is_known = file.suffix in {_WEIGHTS, *_BESIDE} and not file.name.startswith(".")
        if file.is_symlink() or not file.is_file() or not is_known:
            raise UserError(f"{file} is nothing that the weights of an encoder have; remove it")
    if hash_weights(folder, layout_for().cache) != sha256:
        raise UserError(
            f"{folder} holds other weights than the networks learnt from; take the model from its "
            "maker again"
        )
    return entry.model_copy(update={"checkpoint": str(folder.resolve())})
