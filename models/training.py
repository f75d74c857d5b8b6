"""One trainer for every method: fit on training data, select on validation, know no test data.

``fit`` has no argument for test data, so nobody chooses on it by accident. Every epoch begins from
a random state derived from (seed, epoch), so a run that was killed and resumed at an epoch's end
makes bit for bit the weights of an undisturbed one.
"""

import copy
import math
import os
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import torch
from torch import Tensor, nn

from models.batch import Batch
from models.errors import UserError
from models.method import Data, Method
from models.schedules import cosine_to_the_end, returning_cosine, staircase

if TYPE_CHECKING:
    from models.parallel import Team

#: Called after each epoch with everything needed to go on from there.
SaveState = Callable[[Callable[[], dict[str, Any]]], None]
#: Higher is better; gets the outputs of ``predict`` on the validation data.
Score = Callable[[Mapping[str, Tensor]], float]


@dataclass(frozen=True)
class TrainConfig:
    """How a method is optimised. A method's ``recipe`` overrides these, ``params.yaml`` both.

    Attributes:
        optimizer: update rule.
        lr: learning rate, the peak where there is a warm-up.
        weight_decay: decoupled for ``adamw``, L2 for ``adam`` and ``sgd``.
        decay_vectors: decay biases, norms and other vectors too, as torch's optimisers do.
        epochs: at most this many.
        patience: stop after so many epochs without a better validation score; 0 = never.
        batch_size: dialogues (utterances, images) per step.
        clip_norm: largest L2 norm of the gradient; 0 = no clipping.
        scheduler: ``plateau`` follows the validation score, ``cosine`` falls from the peak,
            ``step`` lowers the rate every so many optimiser steps or epochs.
        plateau_factor: what ``plateau`` multiplies the rate by.
        plateau_patience: epochs that ``plateau`` waits.
        step_factor: what ``step`` multiplies the rate by.
        step_every: optimiser steps or epochs after which it does so.
        step_from: so many of them leave the rate as it is.
        step_unit: what both count; epochs are those that have ended.
        t_max: where ``cosine`` ends: with the ``training``, at 1 % of the peak; ``code``, as in
            CAGE's code: at 0 after ``batch_size * epochs`` steps, from where it comes back to the
            peak and so on, without a warm-up.
        warmup: share of all steps over which ``cosine`` rises linearly.
        ema_decay: decay of the averaged weights used for validation and kept; 0 = none.
        ema_warmup: let the decay grow as (1 + t) / (10 + t) up to ``ema_decay``.
        accumulate: batches per optimiser step.
        precision: ``bfloat16`` runs forward passes in autocast; ``auto`` does so on a GPU alone.
        modality_dropout: chance to hide each modality of an utterance in training, never all.
        drop_last: leave out a last batch smaller than ``batch_size`` (not when it is the only one).
    """

    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    lr: float = 1e-3
    weight_decay: float = 1e-2
    decay_vectors: bool = False
    epochs: int = 60
    patience: int = 10
    batch_size: int = 16
    clip_norm: float = 5.0
    scheduler: Literal["none", "plateau", "cosine", "step"] = "none"
    plateau_factor: float = 0.1
    plateau_patience: int = 10
    step_factor: float = 0.1
    step_every: int = 10_000
    step_from: int = 0
    step_unit: Literal["steps", "epochs"] = "steps"
    t_max: Literal["training", "code"] = "training"
    warmup: float = 0.05
    ema_decay: float = 0.0
    ema_warmup: bool = True
    accumulate: int = 1
    precision: Literal["float32", "bfloat16", "auto"] = "float32"
    modality_dropout: float = 0.0
    drop_last: bool = False


@dataclass
class Fitted:
    """What training leaves behind.

    Attributes:
        state: weights of the chosen epoch (averaged ones where there is an EMA).
        chosen_epoch: 1-based; 0 when there was nothing to optimise.
        score: validation score of the chosen epoch.
        history: one record per epoch: losses, validation score, learning rate.
        stopped_early: patience ran out before the last epoch.
    """

    state: dict[str, Tensor]
    chosen_epoch: int
    score: float
    history: list[dict[str, float]] = field(default_factory=list)
    stopped_early: bool = False


class NotFinite(UserError):
    """Training produced a loss or output that is not a number."""


def best_device() -> str:
    """Where to compute: on the GPU where there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def compute_steadily() -> None:
    """From here on this process makes the same sums in the same order, on one core or a GPU.

    Runs that go side by side have a process and a core each.
    """
    torch.set_num_threads(1)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # the next line needs it on a GPU
    torch.use_deterministic_algorithms(True)


def seed_everything(seed: int, epoch: int = 0, rank: int = 0) -> None:
    """Set all random generators from (seed, epoch) and, on a further device, its number."""
    source = [seed, epoch] if rank == 0 else [seed, epoch, rank]
    mixed = int(np.random.SeedSequence(source).generate_state(1, np.uint64)[0] >> 1)
    random.seed(mixed)
    np.random.seed(mixed % 2**32)
    torch.manual_seed(mixed)


def fit(
    method: Method,
    train: Data,
    validation: Data,
    score: Score,
    config: TrainConfig,
    *,
    seed: int,
    device: torch.device | str = "cpu",
    resume: Mapping[str, Any] | None = None,
    save: SaveState | None = None,
    on_epoch: Callable[[dict[str, float]], None] | None = None,
    keep: Callable[[int, Mapping[str, Tensor]], None] | None = None,
    team: "Team | None" = None,
) -> Fitted:
    """Train ``method`` and return the weights with the best validation score.

    Args:
        method: built with the same seed (``seed_everything`` before the constructor).
        train: the only data that gradients see.
        validation: the only data that selection sees.
        score: higher is better; must be finite.
        config: optimiser, schedule, stopping.
        seed: of shuffling, dropout and masks.
        device: where to compute.
        resume: state from ``save`` of an earlier, interrupted call with the same arguments.
        save: called after every epoch but the last with a function that makes the state to resume
            from; making it copies every weight, so it need not be asked for each time.
        on_epoch: called with each record of the history.
        keep: called with the validated weights of each epoch.
        team: the processes that train it together; all make this call with the same arguments, the
            first one alone validates and hears ``save``, ``on_epoch`` and ``keep``.
    """
    if len(train) == 0 or len(validation) == 0:
        which = "training" if len(train) == 0 else "validation"
        raise UserError(f"there is no labelled {which} data; look at the splits and labels tables")
    method.to(device)
    if resume is None:
        seed_everything(seed)
        method.prepare(train)
    parameters = [p for p in method.parameters() if p.requires_grad]
    if not parameters:
        value = _checked(score(predict(method, validation, config.batch_size, device)), 0)
        return Fitted(_copy_state(method), 0, value)

    run = _Run(method, parameters, config, len(train), seed, team)
    if resume is not None:
        run.load(resume)
    if team is not None:
        team.join(method)
    is_first = team is None or team.rank == 0
    while not run.is_done:
        epoch = run.epoch + 1
        seed_everything(seed, epoch)
        chosen = method.on_epoch(epoch, train)
        items = list(range(len(train))) if chosen is None else list(chosen)
        losses = run.train_epoch(epoch, train, items, device)
        with run.averaged():
            value = 0.0
            if is_first:
                try:
                    value = score(predict(method, validation, config.batch_size, device))
                except NotFinite:
                    if team is None:
                        raise
                    value = math.nan  # told to the others, so that all stop alike
            value = _checked(value if team is None else team.tell(value), epoch)
            run.note(epoch, value, losses)
            if keep is not None and is_first:
                keep(epoch, _copy_state(method))
        if on_epoch is not None and is_first:
            on_epoch(run.history[-1])
        if save is not None and is_first and not run.is_done:
            save(run.state)
    method.load_state_dict(run.best_state)
    return Fitted(run.best_state, run.best_epoch, run.best, run.history, run.stopped_early)


def predict(
    method: Method, data: Data, batch_size: int = 32, device: torch.device | str = "cpu"
) -> dict[str, Tensor]:
    """Outputs for every row of ``data``: target name to (N, C) or (N, K), rows by ``Batch.index``.

    What is said of a row that comes more than once (other pictures of it) is averaged. Labels are
    out of reach while predicting.
    """
    was_training = method.training
    method.to(device).eval()
    rows: dict[str, list[Tensor]] = {}
    order: list[Tensor] = []
    with torch.no_grad():
        groups = [
            range(start, min(start + batch_size, len(data)))
            for start in range(0, len(data), batch_size)
        ]
        for batch in data.batches(groups):
            batch = method.normalise(batch.to(device)).without_labels()
            outputs = method.predict(batch)
            order.append(batch.index[batch.mask].cpu())
            for name, values in outputs.items():
                rows.setdefault(name, []).append(values[batch.mask].float().cpu())
    method.train(was_training)
    _, place, count = torch.cat(order).unique(return_inverse=True, return_counts=True)
    found = {
        name: _mean_rows(torch.cat(parts), place, count.unsqueeze(1))
        for name, parts in rows.items()
    }
    for name, values in found.items():  # the largest of logits that are no numbers is a class too
        broken = int((~values.isfinite()).any(1).sum())
        if broken:
            raise NotFinite(
                f"the outputs for {name} are not finite in {broken} of {len(values)} rows; "
                "lower lr, or look for extreme values in the features"
            )
    return found


def _mean_rows(values: Tensor, place: Tensor, count: Tensor) -> Tensor:
    """(N, C) to their means by place: (L, C) for ``count`` (L, 1) of each."""
    sums = values.new_zeros(len(count), values.shape[1])
    return sums.index_add_(0, place, values) / count


class _Run:
    """The moving parts of one training run; also the ``Stepper`` that methods see."""

    def __init__(
        self,
        method: Method,
        parameters: list[nn.Parameter],
        config: TrainConfig,
        items: int,
        seed: int,
        team: "Team | None" = None,
    ) -> None:
        self.method, self.parameters, self.config = method, parameters, config
        self.seed, self.team = seed, team
        self.optimizer = _optimizer(config, parameters)
        self.batches_of_epoch = max(1, math.ceil(items / config.batch_size))
        self.steps_before_epoch = 0
        self.average = _Average(method, config) if config.ema_decay > 0 else None
        self.epoch = 0
        self.steps = 0
        self.waiting, self.is_last_batch = 0, False
        self.best, self.best_epoch = -math.inf, 0
        self.best_state: dict[str, Tensor] = {}
        self.history: list[dict[str, float]] = []
        self.plateau_best, self.plateau_wait = -math.inf, 0
        self.rate = config.lr
        self.stopped_early = False

    # what Method.update calls -------------------------------------------------------------

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
            nn.utils.clip_grad_norm_(group, limit)
        elsewhere = {id(parameter) for group in apart for parameter in group}
        rest = [p for p in self.parameters if id(p) not in elsewhere]
        return float(nn.utils.clip_grad_norm_(rest, limit))

    def step(self) -> None:
        """See ``Stepper.step``."""
        if not self.is_last_part:
            self.waiting += 1
            return
        self.waiting = 0
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate_now()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.steps += 1
        if self.average is not None:
            self.average.update()

    # one epoch ----------------------------------------------------------------------------

    def train_epoch(
        self, epoch: int, train: Data, items: list[int], device: torch.device | str
    ) -> dict[str, float]:
        """One pass over ``items`` in a random order; returns mean losses by name."""
        self.epoch = epoch
        self.method.train()
        self.optimizer.zero_grad(set_to_none=True)
        self.waiting = 0
        sums: dict[str, float] = {}
        count = 0
        groups = list(self._batches(items))
        self.batches_of_epoch = max(1, len(groups))
        self.steps_before_epoch = self.steps
        key = int(torch.randint(2**62, ()))
        mine = groups
        if self.team is not None:
            mine = [self.team.share(group) for group in groups]
            seed_everything(self.seed, epoch, self.team.rank)
        for group, batch in zip(groups, train.batches(mine, key), strict=True):
            # a last, incomplete group of accumulated batches still counts
            self.is_last_batch = count + 1 == len(groups)
            batch = batch.to(device)
            if self.config.modality_dropout > 0:
                batch = _hide_modalities(batch, self.config.modality_dropout)
            batch = self.method.normalise(batch)
            kind = torch.device(device).type
            is_half = _is_half(self.config.precision, kind)
            with torch.autocast(kind, torch.bfloat16, enabled=is_half):
                losses = self._update(batch, group)
            for name, loss in losses.items():
                sums[name] = sums.get(name, 0.0) + float(loss.detach())
            count += 1
        if self.waiting:  # the last batch made no step of its own: a plug-in selected nothing of it
            self.step()
        return {name: value / max(count, 1) for name, value in sums.items()}

    def _update(self, batch: Batch, group: Sequence[int]) -> dict[str, Tensor]:
        """One step on a batch, or on this process's share of one; returns losses by name."""
        if self.team is None:
            return self.method.update(batch, self)
        return self.team.update(self.method, batch, self, self.team.is_surplus(group))

    def _batches(self, items: list[int]) -> Iterator[Sequence[int]]:
        order = [items[i] for i in torch.randperm(len(items)).tolist()]
        size = self.config.batch_size
        for start in range(0, len(order), size):
            part = order[start : start + size]
            if self.config.drop_last and start and len(part) < size:
                return
            yield part

    def note(self, epoch: int, value: float, losses: Mapping[str, float]) -> None:
        """Record the epoch, keep the weights when they are the best so far."""
        record = {"epoch": float(epoch), "score": value, "lr": self._rate_now()}
        self.history.append(record | {f"loss_{name}": loss for name, loss in losses.items()})
        if value > self.best:
            self.best, self.best_epoch = value, epoch
            self.best_state = _copy_state(self.method)
        if self.config.scheduler == "plateau":
            self._follow_plateau(value)
        patience = self.config.patience
        self.stopped_early = bool(patience) and epoch - self.best_epoch >= patience

    @property
    def is_done(self) -> bool:
        """Nothing is left to do."""
        return self.stopped_early or self.epoch >= self.config.epochs

    def averaged(self):
        """Within this context the method has its averaged weights, where there are any."""
        return self.average if self.average is not None else _Nothing()

    def _rate_now(self) -> float:
        config = self.config
        if config.scheduler == "step":
            done = self.steps if config.step_unit == "steps" else self.epoch - 1
            stairs = config.step_from, config.step_every, config.step_factor
            return staircase(self.rate, done, *stairs)
        if config.scheduler != "cosine":
            return self.rate
        if config.t_max == "code":
            return returning_cosine(self.rate, self.steps, config.batch_size * config.epochs)
        # counted in epochs like this one: a method may train on part of the items
        in_epoch = math.ceil(self.batches_of_epoch / config.accumulate)
        at = (self.epoch - 1) * in_epoch + self.steps - self.steps_before_epoch
        return cosine_to_the_end(self.rate, at, config.epochs * in_epoch, config.warmup)

    def _follow_plateau(self, value: float) -> None:
        if value > self.plateau_best:
            self.plateau_best, self.plateau_wait = value, 0
            return
        self.plateau_wait += 1
        if self.plateau_wait > self.config.plateau_patience:
            self.rate *= self.config.plateau_factor
            self.plateau_wait = 0

    # stopping and going on ----------------------------------------------------------------

    _PLAIN = (
        "epoch", "steps", "best", "best_epoch", "history",
        "plateau_best", "plateau_wait", "rate", "stopped_early",
    )  # fmt: skip

    def state(self) -> dict[str, Any]:
        """Everything needed to go on after this epoch; tensors and plain values only."""
        return {
            "method": _copy_state(self.method),
            "optimizer": copy.deepcopy(self.optimizer.state_dict()),
            "average": None if self.average is None else self.average.state(),
            "best_state": self.best_state,
            **{name: copy.deepcopy(getattr(self, name)) for name in self._PLAIN},
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Take over from ``state``."""
        self.method.load_state_dict(state["method"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            self.average.load(state["average"])
        self.best_state = dict(state["best_state"])
        for name in self._PLAIN:
            setattr(self, name, state[name])


class _Nothing:
    def __enter__(self) -> None:
        return None

    def __exit__(self, *_) -> None:
        return None


class _Average:
    """Exponential moving average of the weights; as a context, swaps them in."""

    def __init__(self, method: Method, config: TrainConfig) -> None:
        self.method, self.config, self.t = method, config, 0
        self.shadow = {n: p.detach().clone() for n, p in method.named_parameters()}
        self.kept: dict[str, Tensor] = {}

    def update(self) -> None:
        """s <- d s + (1 - d) w, after each optimiser step."""
        self.t += 1
        decay = self.config.ema_decay
        if self.config.ema_warmup:
            decay = min(decay, (1 + self.t) / (10 + self.t))
        with torch.no_grad():
            for name, parameter in self.method.named_parameters():
                self.shadow[name].lerp_(parameter.detach(), 1 - decay)

    def __enter__(self) -> None:
        self.kept = {n: p.detach().clone() for n, p in self.method.named_parameters()}
        self._put(self.shadow)

    def __exit__(self, *_) -> None:
        self._put(self.kept)

    def _put(self, values: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            for name, parameter in self.method.named_parameters():
                parameter.copy_(values[name])

    def state(self) -> dict[str, Any]:
        """Steps so far and averaged weights."""
        return {"t": self.t, "shadow": {n: s.clone() for n, s in self.shadow.items()}}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take over from ``state``."""
        self.t = state["t"]
        for name, value in state["shadow"].items():
            self.shadow[name].copy_(value)


def _is_half(precision: str, kind: str) -> bool:
    """Whether forward passes on this kind of device run in bfloat16."""
    return precision == "bfloat16" or (precision == "auto" and kind == "cuda")


def _optimizer(config: TrainConfig, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    # biases, norms and other vectors are not decayed unless asked for
    matrices = [p for p in parameters if p.ndim > 1]
    vectors = [p for p in parameters if p.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": vectors, "weight_decay": config.weight_decay if config.decay_vectors else 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=config.lr)
    if config.optimizer == "adam":
        return torch.optim.Adam(groups, lr=config.lr)
    return torch.optim.SGD(groups, lr=config.lr, momentum=0.9)


def _hide_modalities(batch: Batch, chance: float) -> Batch:
    """Hide each present modality of each utterance with ``chance``, but never the last one."""
    names = list(batch.present)
    present = torch.stack([batch.present[name] for name in names], -1)  # (B, U, M)
    kept = present & (torch.rand(present.shape, device=present.device) >= chance)
    lost_all = present.any(-1) & ~kept.any(-1)
    kept = torch.where(lost_all.unsqueeze(-1), present, kept)
    return batch.with_present({name: kept[..., i] for i, name in enumerate(names)})


def _copy_state(method: Method) -> dict[str, Tensor]:
    return {name: value.detach().cpu().clone() for name, value in method.state_dict().items()}


def _checked(value: float, epoch: int) -> float:
    if not math.isfinite(value):
        raise NotFinite(
            f"the validation score of epoch {epoch} is {value}; "
            "the outputs are not finite or the validation split has no labels of this target"
        )
    return cast(float, float(value))
