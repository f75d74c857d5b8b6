"""What a run keeps on its way: its state, to go on from, and weights of some epochs."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from models.method import Method
from models.training import TrainConfig
from tasks.atomic import replacing


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write the state of an unfinished run, whole or not at all."""
    with replacing(path) as temporary, temporary.open("wb") as stream:
        torch.save(state, stream)  # given a path, torch does not say that the disk is full


class Saver:
    """Saves the state of a run for a killed one to go on from, at a small share of the time.

    Attributes:
        share: of the time, spent on saving.
        first_s: seconds that a run may lose; one that is shorter leaves nothing to go on from.
        pause_s: seconds from one state to the next, at least: more of them would write the weights
            and the optimiser's moments many times for little that a kill could cost.

    Args:
        path: of the state.
        beside: writes what a run that goes on from there must find beside it.
    """

    share = 0.05
    first_s = 2.0
    pause_s = 30.0

    def __init__(self, path: Path, beside: Callable[[], None]) -> None:
        self.path, self.beside = path, beside
        self.not_before = time.monotonic() + self.first_s

    def __call__(self, state: Callable[[], Mapping[str, Any]]) -> None:
        """Save ``state()``, unless that was done a short while ago."""
        began = time.monotonic()
        if began < self.not_before:
            return
        self.beside()
        save_state(self.path, state())
        ended = time.monotonic()
        self.not_before = ended + max((ended - began) / self.share, self.pause_s)


class Snapshots:
    """Keeps the validated weights of evenly spaced epochs, as many as the budget allows.

    They wait in memory until the state of the run is saved, or the run is written: into one file,
    since DVC looks at each file of a run whenever it looks at anything.
    """

    def __init__(self, method: Method, config: TrainConfig, budget_mb: float, folder: Path) -> None:
        size_mb = sum(v.numel() * v.element_size() for v in method.state_dict().values()) / 1e6
        count = int(budget_mb / size_mb) if size_mb else 0
        self.stride = max(1, -(-config.epochs // count)) if count else 0
        self.folder = folder
        self._waiting: dict[str, dict[str, torch.Tensor]] = {}

    def keep(self, epoch: int, state: Mapping[str, torch.Tensor]) -> None:
        """Keep the weights of ``epoch`` if it is one of those chosen."""
        if self.stride and epoch % self.stride == 0:
            self._waiting[f"epoch{epoch:04d}.safetensors"] = dict(state)

    def flush(self) -> None:
        """Put what waits into the folder of the unfinished run."""
        for name, state in self._waiting.items():
            with replacing(self.folder / name) as temporary:
                save_file(state, temporary)
        self._waiting.clear()

    def write(self, run: Path) -> None:
        """Put the kept weights, as ``epoch0012/<name in the network>``, beside the chosen ones."""
        saved = {file.name: load_file(file) for file in self.folder.glob("epoch*.safetensors")}
        kept = saved | self._waiting
        found = {
            f"{Path(file).stem}/{name}": value
            for file, state in kept.items()
            for name, value in state.items()
        }
        if found:
            save_file(found, run / "snapshots.safetensors")
