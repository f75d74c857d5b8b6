"""Training that begins from the weights of another method's run: ``init_from`` of an entry."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from safetensors import SafetensorError
from safetensors.torch import load_file

from models.errors import UserError
from models.method import Method

WEIGHTS = "weights.safetensors"


def check_init_from(entry: Mapping[str, Any], method: type[Method], where: str) -> str | None:
    """The key of the method whose runs training begins from; None: it begins from scratch."""
    value = entry.get("init_from")
    if value is None:
        return None
    if not isinstance(value, str):
        raise UserError(f"params.yaml: {where}.init_from is {value!r}, expected a key of methods")
    if not callable(getattr(method, "warm_start", None)):
        raise UserError(
            f"params.yaml: {where} has init_from, but {method.__name__} cannot begin from the "
            "weights of another run; leave it out"
        )
    return value


def find_start(parent: Path, key: str, where: str) -> Path:
    """The run folder whose weights a run begins from.

    Args:
        parent: folder of one seed and fold of the other method, with a folder for each target.
        key: of the other method in params.yaml.
        where: the place of ``init_from`` in params.yaml, for messages.
    """
    found = sorted(file.parent for file in parent.glob(f"*/{WEIGHTS}"))
    if not found:
        raise UserError(
            f"params.yaml: {where}: there is no run in {parent}; run stage train of {key} on this "
            "corpus first, with the same seeds and folds"
        )
    if len(found) > 1:
        names = ", ".join(folder.name for folder in found)
        raise UserError(
            f"params.yaml: {where}: {parent} has runs of several targets ({names}); name one in "
            f"methods.{key}.targets"
        )
    return found[0]


def warm_start(method: Method, folder: Path) -> None:
    """Give ``method`` the weights of the run in ``folder``."""
    file = folder / WEIGHTS
    try:
        state = load_file(file)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{file}: cannot be read ({error}); run stage train again") from error
    try:
        cast(Any, method).warm_start(state)
    except (KeyError, RuntimeError, ValueError) as error:
        why = " ".join(str(error).split())
        raise UserError(
            f"{file}: these weights do not fit {type(method).__name__} ({why}); train both "
            "methods with the same options of the network"
        ) from error
