"""Training that begins from the weights of another run: ``init_from`` of an entry.

``init_from: cage`` means the run of ``cage`` on the same corpus, of the same seed and fold;
``init_from: affectnet/cage`` that on another corpus. A corpus with one split has one run for every
fold.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from safetensors import SafetensorError
from safetensors.torch import load_file

from models.errors import UserError
from models.method import Method
from tasks.layout import Layout
from tasks.params.starts import start_of

WEIGHTS = "weights.safetensors"


def check_init_from(entry: Mapping[str, Any], method: type[Method], where: str) -> str | None:
    """What ``init_from`` of an entry says; None: training begins from scratch."""
    value = entry.get("init_from")
    if value is None:
        return None
    if not isinstance(value, str):
        raise UserError(
            f"params.yaml: {where}.init_from is {value!r}, expected a key of methods, "
            "or corpus/method"
        )
    if not callable(getattr(method, "warm_start", None)):
        raise UserError(
            f"params.yaml: {where} has init_from, but {method.__name__} cannot begin from the "
            "weights of another run; leave it out"
        )
    return value


def find_start(
    layout: Layout, init_from: str, corpus: str, seed: int, fold: int | None, where: str
) -> Path:
    """The run folder whose weights a run begins from.

    Args:
        init_from: ``method`` or ``corpus/method``.
        corpus: that is trained on.
        seed: of the run; the other's is the same.
        fold: of the run; None where the corpus has one split.
        where: the place of ``init_from`` in params.yaml, for messages.
    """
    origin, method = start_of(init_from, corpus)
    parent = layout.runs(origin, method) / f"seed{seed}"
    if origin != corpus:
        fold = _fold_elsewhere(parent, origin, fold, where)
    if fold is not None:
        parent = parent / f"fold{fold}"
    found = sorted(file.parent for file in parent.glob(f"*/{WEIGHTS}"))
    if not found:
        raise UserError(
            f"params.yaml: {where}: there is no run in {parent}; run stage train of {method} on "
            f"corpus {origin} first, with the same seeds and folds"
        )
    if len(found) > 1:
        names = ", ".join(folder.name for folder in found)
        raise UserError(
            f"params.yaml: {where}: {parent} has runs of several targets ({names}); name one in "
            f"methods.{method}.targets"
        )
    return found[0]


def _fold_elsewhere(parent: Path, origin: str, fold: int | None, where: str) -> int | None:
    """The fold of a run on another corpus: the same one, or None where that has one split."""
    folds = sorted(folder.name for folder in parent.glob("fold*"))
    if not folds:
        return None
    if f"fold{fold}" not in folds:
        mine = "only one split" if fold is None else f"a fold {fold}"
        raise UserError(
            f"params.yaml: {where}: {parent} has runs of {len(folds)} folds, but this corpus has "
            f"{mine}; give both the same folds, or corpora.{origin}.splits a single one"
        )
    return fold


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
