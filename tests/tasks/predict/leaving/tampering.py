"""What somebody could do to a model that was given away, before others read it."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from models.errors import UserError
from tasks.predict.leaving.folder import CALIBRATION, CONFIG, ENCODERS, WEIGHTS, read_model
from tasks.predict.leaving.folder_sums import SUMS

Tampering = Callable[[Path], None]


def network(folder: Path) -> Path:
    """Folder of one network."""
    return min(folder.rglob(WEIGHTS)).parent


def change(file: Path, **changes: object) -> None:
    """Set keys of a JSON file."""
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, **changes}))


def _config(**changes: object) -> Tampering:
    return lambda folder: change(network(folder) / CONFIG, **changes)


def _encoders(**changes: object) -> Tampering:
    return lambda folder: change(folder / ENCODERS, **changes)


def _encoder(**entry: object) -> Tampering:
    return _encoders(encoders={"bert": {"family": "hf_text", **entry}})


def _added(name: str) -> Tampering:
    def add(folder: Path) -> None:
        (folder / "weights/bert" / name).write_bytes(b"import os")

    return add


def _pickle(folder: Path) -> None:
    torch.save({"weight": torch.zeros(1)}, network(folder) / WEIGHTS)


def _shape(folder: Path) -> None:
    file = network(folder) / WEIGHTS
    tensors = load_file(file)
    name = max(tensors, key=lambda one: tensors[one].numel())
    save_file({**tensors, name: torch.zeros(3)}, file)


def _bit(folder: Path) -> None:
    file = network(folder) / WEIGHTS
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def _swapped(folder: Path) -> None:
    shutil.copy(folder / "weights/vit/model.safetensors", folder / "weights/bert")


def _link(folder: Path) -> None:
    file = folder / "weights/bert/config.json"
    file.unlink()
    file.symlink_to("/etc/hostname")


def _sum_outside(folder: Path) -> None:
    with (folder / SUMS).open("a") as file:
        file.write("0" * 64 + "  ../x\n")


def _no_json(folder: Path) -> None:
    (folder / ENCODERS).write_text("{")


def _cold(folder: Path) -> None:
    values = {"kind": "values", "names": ["a"], "temperature": -1}
    change(folder / CALIBRATION, targets={"vad": values})


#: What was done, in words for docs/predict.md, and how.
TAMPERINGS: dict[str, Tampering] = {
    "a pickle in the place of weights": _pickle,
    "weights of another shape": _shape,
    "one bit of the weights turned round": _bit,
    "weights taken out": lambda folder: (network(folder) / WEIGHTS).unlink(),
    "weights of two encoders swapped": _swapped,
    "a program among an encoder's weights": _added("code.py"),
    "a pickle among them": _added("pytorch_model.bin"),
    "a link among them": _link,
    "an unknown key in `config.json`": _config(surprise=1),
    "a method that leads out of the folder": _config(method="../../evil"),
    "a method that is not there": _config(method="evil"),
    "an option that its method has not": _config(entry={"hiden": 3}),
    "an unknown key in `encoders.json`": _encoders(surprise=1),
    "an encoder by a path": _encoder(checkpoint="/etc"),
    "an encoder by a path with `..`": _encoder(checkpoint="data/../../x"),
    "an encoder of no known family": _encoder(family="evil"),
    "a hash that is none": _encoders(weights_sha256={}),
    "a checksum of a file outside": _sum_outside,
    "text that is no JSON": _no_json,
    "a temperature below 0": _cold,
}


def said(model: Path, what: str, folder: Path) -> str:
    """What ``predict --model`` says of a copy to which that was done.

    Args:
        model: as it was exported; stays as it is.
        what: key of ``TAMPERINGS``.
        folder: to work in.
    """
    copy = shutil.copytree(model, folder / "model")
    try:
        TAMPERINGS[what](copy)
        read_model(copy)
    except UserError as error:
        # methods and families that there are follow, which are no part of the table
        return re.sub(r"(; known| Methods): .*", "", str(error).replace(f"{folder}/", ""))
    finally:
        shutil.rmtree(copy)
    return "nothing: it is read"


def rows(model: Path, folder: Path) -> list[str]:
    """Lines of the table."""
    return [f"| {what} | {said(model, what, folder)} |" for what in TAMPERINGS]
