"""What turns losses into steps: the optimiser with its rate, clipping, accumulation, averaging."""

import copy
import inspect
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from models.averaging import Average
from models.errors import NotFinite
from models.method import Method
from models.schedules import Schedule
from models.train_config import TrainConfig


def _uncompiled(kind: type[torch.optim.Optimizer]) -> Any:
    """``kind`` that steps the same without torch's compiler, whose import takes 1.8 s a process.

    ``step`` imports it to mark a border for networks that are compiled together with their
    optimiser, and a few methods to be left alone by it: it keeps what it makes of such a method
    under the name that is set here. A method that is compiled here is so by itself.
    """
    for member in vars(torch.optim.Optimizer).values():
        if getattr(member, "__globals__", {}).get("__name__") == "torch._compile":
            plain = member.__wrapped__
            vars(plain).setdefault("__dynamo_disable", plain)
    step = torch.no_grad()(inspect.unwrap(kind.step))
    return type(kind.__name__, (kind,), {"step": step})


_Adam, _AdamW, _Sgd = map(_uncompiled, (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD))


def make_optimizer(config: TrainConfig, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimiser that ``config`` names; it decays no vectors unless asked to."""
    # biases, norms and other vectors are not decayed unless asked for
    matrices = [p for p in parameters if p.ndim > 1]
    vectors = [p for p in parameters if p.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": vectors, "weight_decay": config.weight_decay if config.decay_vectors else 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    # one pass over the weights instead of one for each term of the update: a third of the time
    if config.optimizer == "adamw":
        return _AdamW(groups, lr=config.lr, fused=True)
    if config.optimizer == "adam":
        return _Adam(groups, lr=config.lr, fused=True)
    return _Sgd(groups, lr=config.lr, momentum=0.9, fused=True)


@contextmanager
def scaled_updates(factors: Mapping[nn.Parameter, Tensor]) -> Iterator[None]:
    """Scale what happens to parameters within; each factor broadcasts to its parameter."""
    before = {parameter: parameter.detach().clone() for parameter in factors}
    yield
    with torch.no_grad():
        for parameter, start in before.items():
            parameter.copy_(torch.lerp(start, parameter, factors[parameter].to(parameter)))


class Steps:
    """The steps of one training; the ``models.method.Stepper`` that methods see.

    Args:
        method: whose weights.
        config: optimiser, schedule, clipping, averaging.
        items: of the training data.
    """

    def __init__(self, method: Method, config: TrainConfig, items: int) -> None:
        self.method, self.config = method, config
        self.parameters = [p for p in method.parameters() if p.requires_grad]
        self.optimizer = make_optimizer(config, self.parameters)
        self.schedule = Schedule(config, items)
        self.average = Average(method, config) if config.ema_decay > 0 else None
        self.epoch = 0
        self.waiting, self.is_last_batch = 0, False

    def begin(self, epoch: int, batches: int) -> None:
        """An epoch of so many batches begins."""
        self.epoch, self.waiting = epoch, 0
        self.optimizer.zero_grad(set_to_none=True)
        self.schedule.begin(epoch, batches)

    def backward(self, loss: Tensor) -> None:
        """See ``Stepper.backward``."""
        if not torch.isfinite(loss):
            raise NotFinite(
                f"the training loss became {loss.item()} in epoch {self.epoch}; "
                "lower lr, or look for extreme values in the features"
            )
        (loss / self.config.accumulate).backward()

    @property
    def is_last_part(self) -> bool:
        """See ``Stepper.is_last_part``."""
        return self.waiting + 1 >= self.config.accumulate or self.is_last_batch

    def clip(self) -> float:
        """See ``Stepper.clip``."""
        limit = self.config.clip_norm or math.inf
        apart = self.method.apart()
        for group in apart:
            _clip(group, limit)
        elsewhere = {id(parameter) for group in apart for parameter in group}
        rest = [p for p in self.parameters if id(p) not in elsewhere]
        return _clip(rest, limit)

    def step(self, slowed: Mapping[nn.Parameter, Tensor] | None = None) -> None:
        """See ``Stepper.step``."""
        if not self.is_last_part:
            self.waiting += 1
            return
        self.waiting = 0
        for group in self.optimizer.param_groups:
            group["lr"] = self.schedule.now()
        with scaled_updates(slowed or {}):
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.schedule.steps += 1
        if self.average is not None:
            self.average.update()

    def end(self) -> None:
        """The epoch ends; a last batch may have made no step: a plug-in selected nothing of it."""
        if self.waiting:
            self.step()

    def averaged(self) -> AbstractContextManager[None]:
        """Within this context the method has its averaged weights, where there are any."""
        return nullcontext() if self.average is None else self.average

    def state(self) -> dict[str, Any]:
        """Everything needed to go on after this epoch, but for the method's own weights."""
        return {
            "optimizer": copy.deepcopy(self.optimizer.state_dict()),
            "average": None if self.average is None else self.average.state(),
            "schedule": self.schedule.state(),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Take over from ``state``."""
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            self.average.load(state["average"])
        self.schedule.load(state["schedule"])
        self.epoch = self.schedule.epoch


def _clip(parameters: Sequence[nn.Parameter], limit: float) -> float:
    """Shorten the gradient to ``limit``; one that is short enough is not even multiplied by 1."""
    norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    if not norm <= limit:  # one that is no number becomes no number everywhere, to be noticed
        nn.utils.clip_grads_with_norm_(parameters, limit, norm)
    return float(norm)
