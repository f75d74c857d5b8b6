"""Several devices train one network: a process each, gradients as on one device.

Lightning Fabric starts the processes, gives each its device and adds up gradients
(``DistributedDataParallel``); it is imported only here and only when more than one device is
asked for. Every batch is cut into one share a device. A loss is a mean over labelled cells, and
shares hold different numbers of them, so each share's loss is weighed by ``Method.loss_units``
before the gradients are added: the sum is that of the whole batch, up to rounding. Only random
draws, as of dropout, differ from one device.
"""

import os
import pickle
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from models.batch import Batch
from models.errors import UserError
from models.method import Method, Stepper, total

if TYPE_CHECKING:
    from lightning_fabric import Fabric

Out = TypeVar("Out")

#: Hooks that look at the gradients or losses of a whole batch.
_WHOLE_BATCH = ("update", "after_backward", "after_clip", "slowed")


def launch(devices: int, work: Callable[["Team"], Out]) -> Out:
    """Run ``work`` in one process a device and return what the first of them returns.

    Args:
        devices: how many; GPUs where there are any, otherwise processes on the CPU.
        work: can be pickled; raises ``UserError`` in all processes alike or not at all.
    """
    gpus = torch.cuda.device_count()
    if 0 < gpus < devices:
        raise UserError(
            f"params.yaml: train.devices is {devices} but this machine has {gpus} GPU"
            f"{'s' if gpus > 1 else ''}; lower it"
        )
    from lightning_fabric import Fabric
    from lightning_fabric.strategies.ddp import DDPStrategy

    # a modality absent from a whole share leaves its weights without gradient: that is looked for,
    # and torch's advice to switch the search off is not wanted
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    strategy = DDPStrategy(start_method="spawn", find_unused_parameters=True)
    fabric = Fabric(accelerator="cuda" if gpus else "cpu", devices=devices, strategy=strategy)
    with TemporaryDirectory() as folder:
        answer = Path(folder) / "answer"
        fabric.launch(cast(Any, _run), work, answer)  # its type knows no further arguments
        found = pickle.loads(answer.read_bytes())  # written by our own process just now
    if isinstance(found, UserError):
        raise found
    return found


def _run(fabric: "Fabric", work: Callable[["Team"], object], answer: Path) -> None:
    torch.set_num_threads(1)
    try:
        found = work(Team(fabric))
    except UserError as error:  # as a value: as an exception its type would be lost on the way
        found = error
    if fabric.global_rank == 0:  # as a file: Fabric's pipe holds 64 KiB, then it waits for ever
        answer.write_bytes(pickle.dumps(found))


def check(method: Method, name: str) -> None:
    """Raise unless the gradients of a batch that is cut into shares are those of the whole."""
    kind = type(method)
    changed = [hook for hook in _WHOLE_BATCH if getattr(kind, hook) is not getattr(Method, hook)]
    remedy = "set train.devices to 1 in params.yaml"
    if changed:
        raise UserError(
            f"methods.{name} changes gradients by what it sees in a whole batch ({changed[0]}), "
            f"which several devices would cut into shares; {remedy}"
        )
    if _place(kind, "losses") < _place(kind, "loss_units"):
        raise UserError(
            f"methods.{name} has losses that it cannot add up over several devices; {remedy}"
        )
    if any(isinstance(module, _BatchNorm) for module in method.modules()):
        raise UserError(
            f"methods.{name} normalises by the statistics of a whole batch, which several "
            f"devices would cut into shares; {remedy}"
        )


def _place(kind: type, name: str) -> int:
    """How far up the class is that defines a member."""
    return next(i for i, base in enumerate(kind.__mro__) if name in vars(base))


class _Call(nn.Module):
    """Lets ``DistributedDataParallel`` see a method's losses as the output of one forward pass."""

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method = method

    def forward(self, losses: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        return losses()


class Team:
    """The processes that train together, as one of them sees the others."""

    def __init__(self, fabric: "Fabric") -> None:
        self.fabric = fabric
        self.wrapped: nn.Module | None = None

    @property
    def device(self) -> torch.device:
        """Where this process computes."""
        return self.fabric.device

    @property
    def rank(self) -> int:
        """Number of this process, from 0."""
        return self.fabric.global_rank

    @property
    def size(self) -> int:
        """How many processes there are."""
        return self.fabric.world_size

    def join(self, method: Method) -> None:
        """Train ``method`` together from now on; all have the same weights."""
        self.wrapped = self.fabric.setup_module(_Call(method), move_to_device=False)

    def share(self, group: Sequence[int]) -> list[int]:
        """This process's items of a batch; one of another's where there are not enough for all."""
        return list(group[self.rank :: self.size]) or [group[0]]

    def is_surplus(self, group: Sequence[int]) -> bool:
        """Whether the items of ``share`` are another's, and must not count."""
        return self.rank >= len(group)

    def tell(self, value: float) -> float:
        """The first process's value."""
        return float(self.fabric.broadcast(value))

    def update(
        self, method: Method, batch: Batch, stepper: Stepper, is_surplus: bool
    ) -> dict[str, Tensor]:
        """One step on this process's share, like ``Method.update``.

        Returns:
            The losses of the whole batch.
        """
        assert self.wrapped is not None
        with self._syncing(stepper.is_last_part):
            losses = self.wrapped(lambda: method.losses(batch))
            weights = self._weights(method.loss_units(batch), losses, is_surplus)
            parts = {name: weights[name] * loss for name, loss in losses.items()}
            whole = self._sum({name: part.detach() for name, part in parts.items()})
            # gradients are averaged over processes, so the sum is ``size`` times as much
            loss = self.size * total(parts)
            # no process goes on when any has no finite loss
            stepper.backward(torch.where(torch.isfinite(total(whole)), loss, total(whole)))
        if stepper.is_last_part:
            method.after_backward(batch, stepper.epoch)
            stepper.clip()
            method.after_clip(batch, stepper.epoch)
        stepper.step()
        return whole

    def _syncing(self, now: bool) -> AbstractContextManager[None]:
        assert self.wrapped is not None
        return self.fabric.no_backward_sync(self.wrapped, enabled=not now)  # type: ignore[arg-type]

    def _weights(
        self, units: Mapping[str, Tensor], losses: Mapping[str, Tensor], is_surplus: bool
    ) -> dict[str, Tensor]:
        """Share of each loss that this process's part of the batch has."""
        mine = {name: 0.0 * units[name] if is_surplus else units[name] for name in losses}
        whole = self._sum(mine)
        return {name: mine[name] / whole[name].clamp(min=1e-12) for name in losses}

    def _sum(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Sums over all processes, of scalars."""
        if not values:
            return {}
        joined = torch.stack(
            [v.to(self.device, torch.float64).reshape(()) for v in values.values()]
        )
        summed = self.fabric.all_reduce(joined, reduce_op="sum")
        assert isinstance(summed, Tensor)
        return dict(zip(values, summed.float().unbind(), strict=True))
