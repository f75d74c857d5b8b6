"""One trainer for every method: fit on training data, select on validation, know no test data.

``fit`` has no argument for test data, so nobody chooses on it by accident. Every epoch begins from
a random state derived from (seed, epoch), so a run that was killed and resumed at an epoch's end
makes bit for bit the weights of an undisturbed one.
"""

import copy
import math
import os
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor

from models.batch import Batch
from models.errors import NotFinite, UserError
from models.hiding import Masked, hide
from models.kept import Kept
from models.method import Data, Method, total
from models.stepping import Steps
from models.train_config import TrainConfig

if TYPE_CHECKING:
    from models.parallel import Team

#: Higher is better; gets the outputs of ``predict`` on the validation data.
Score = Callable[[Mapping[str, Tensor]], float]
State = Mapping[str, Any]


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


class _Save(Protocol):
    def __call__(self, state: Callable[[], dict[str, Any]], /) -> None: ...


def _nothing(*_: object) -> None:
    """Hears of something and does nothing."""


@dataclass(frozen=True)
class Hooks:
    """Who hears of a training while it runs.

    Attributes:
        save: called after every epoch but the last with a function that makes the state to resume
            from; making it copies every weight, so it need not be asked for each time.
        on_epoch: called with each record of the history.
        keep: called with the validated weights of each epoch.
    """

    save: _Save = _nothing
    on_epoch: Callable[[dict[str, float]], None] = _nothing
    keep: Callable[[int, Mapping[str, Tensor]], None] | None = None


def best_device() -> str:
    """Where to compute: on the GPU where there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def compute_steadily() -> None:
    """From here on this process makes the same sums in the same order, on one core or a GPU.

    Runs that go side by side have a process and a core each.
    """
    torch.set_num_threads(1)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # the next line needs it on a GPU
    # use_deterministic_algorithms would tell the compiler too: a second's import in every process
    torch.set_deterministic_debug_mode("error")


def seed_everything(seed: int, epoch: int = 0, rank: int = 0) -> None:
    """Set all random generators from (seed, epoch) and, on a further device, its number."""
    source = [seed, epoch] if rank == 0 else [seed, epoch, rank]
    mixed = int(np.random.SeedSequence(source).generate_state(1, np.uint64)[0] >> 1)
    random.seed(mixed)
    np.random.seed(mixed % 2**32)
    # torch.manual_seed does the same after noting, for devices that are not there, who called it
    torch.default_generator.manual_seed(mixed)
    if torch.cuda.is_available():
        torch.cuda.manual_seed_all(mixed)


def fit(
    method: Method,
    train: Data,
    validation: Data,
    score: Score,
    config: TrainConfig,
    *,
    seed: int,
    where: "torch.device | str | Team" = "cpu",
    resume: State | None = None,
    hooks: Hooks = Hooks(),
) -> Fitted:
    """Train ``method`` and return the weights with the best validation score.

    Args:
        method: built with the same seed (``seed_everything`` before the constructor).
        train: the only data that gradients see.
        validation: the only data that selection sees.
        score: higher is better; must be finite.
        config: optimiser, schedule, stopping.
        seed: of shuffling, dropout and masks.
        where: the device, or the processes that train together: all make this call with the same
            arguments, the first one alone validates and talks to ``hooks``.
        resume: state that ``hooks.save`` got in an earlier, interrupted call with these arguments.
        hooks: who hears of it.
    """
    if len(train) == 0 or len(validation) == 0:
        which = "training" if len(train) == 0 else "validation"
        raise UserError(f"there is no labelled {which} data; look at the splits and labels tables")
    team = None if isinstance(where, torch.device | str) else where
    device = where if isinstance(where, torch.device | str) else where.device
    method.to(device)
    method.hide_rate, method.hide_unit = config.hide_rate, config.hide_unit
    if resume is None:
        seed_everything(seed)
        method.prepare(train)
    shown = _as_shown(method, Kept(validation), config)
    judge = _Judge(method, shown, score, config.batch_size, device, team)
    if not any(p.requires_grad for p in method.parameters()):
        return Fitted(_copy_state(method), 0, _checked(judge(), 0))
    steps = Steps(method, config, len(train))
    choice = _Choice(config.patience)
    if resume is not None:
        _load(resume, method, steps, choice)
    if team is not None:
        team.join(method)
    is_first = team is None or team.rank == 0
    while not choice.stopped_early and steps.epoch < config.epochs:
        epoch = steps.epoch + 1
        seed_everything(seed, epoch)
        losses = _train_epoch(steps, epoch, train, seed, device, team)
        with steps.averaged():
            value = _checked(judge(), epoch)
            record = {"epoch": float(epoch), "score": value, "lr": steps.schedule.now()}
            choice.whole_from = method.whole_from(train)
            choice.note(record | {f"loss_{name}": loss for name, loss in losses.items()}, method)
            if hooks.keep is not None and is_first:
                hooks.keep(epoch, _copy_state(method))
            if steps.schedule.follows_loss:
                value = _checked(-judge.loss(), epoch)
                choice.history[-1]["validation_loss"] = -value
        steps.schedule.hear(value)
        if is_first:
            hooks.on_epoch(choice.history[-1])
            if not choice.stopped_early and epoch < config.epochs:
                hooks.save(lambda: _state(method, steps, choice))
    method.load_state_dict(choice.weights)
    return Fitted(
        choice.weights, choice.epoch, choice.best, choice.history, choice.stopped_early
    )  # fmt: skip


def predict(
    method: Method, data: Data, batch_size: int = 32, device: torch.device | str = "cpu"
) -> dict[str, Tensor]:
    """Outputs for every row of ``data``: target name to (N, C) or (N, K), rows by ``Batch.index``.

    What is said of a row that comes more than once (other pictures of it) is averaged. Labels are
    out of reach while predicting.
    """
    was_training = method.training
    method.to(device).eval()
    rows: dict[str, _Rows] = {}
    order = _Rows()
    with torch.no_grad():
        for batch in data.batches(_in_order(data, batch_size)):
            batch = method.normalise(batch.to(device)).without_labels()
            outputs = method.answers(batch)
            order.add(batch.index[batch.mask].cpu())
            for name, values in outputs.items():
                rows.setdefault(name, _Rows()).add(values[batch.mask].float().cpu())
    method.train(was_training)
    _, place, count = order.all().unique(return_inverse=True, return_counts=True)
    found = {
        name: _mean_rows(parts.all(), place, count.unsqueeze(1)) for name, parts in rows.items()
    }
    for name, values in found.items():  # the largest of logits that are no numbers is a class too
        broken = int((~values.isfinite()).any(1).sum())
        if broken:
            raise NotFinite(
                f"the outputs for {name} are not finite in {broken} of {len(values)} rows; "
                "lower lr, or look for extreme values in the features"
            )
    return found


def _in_order(data: Data, batch_size: int) -> list[range]:
    return [
        range(start, min(start + batch_size, len(data)))
        for start in range(0, len(data), batch_size)
    ]


class _Rows:
    """Rows that come a few at a time: a tensor takes 650 bytes beside them, so few are held."""

    def __init__(self) -> None:
        self._long: list[Tensor] = []
        self._short: list[Tensor] = []

    def add(self, rows: Tensor) -> None:
        """Take the next ones."""
        self._short.append(rows)
        if len(self._short) == 256:
            self._long.append(torch.cat(self._short))
            self._short.clear()

    def all(self) -> Tensor:
        """All of them in the order in which they came."""
        return torch.cat([*self._long, *self._short])


def _mean_rows(values: Tensor, place: Tensor, count: Tensor) -> Tensor:
    """(N, C) to their means by place: (L, C) for ``count`` (L, 1) of each."""
    sums = values.new_zeros(len(count), values.shape[1])
    return sums.index_add_(0, place, values) / count


# one epoch ----------------------------------------------------------------------------------------


def _train_epoch(
    steps: Steps,
    epoch: int,
    train: Data,
    seed: int,
    device: torch.device | str,
    team: "Team | None",
) -> dict[str, float]:
    """One pass over the items of an epoch in a random order; returns mean losses by name."""
    method, config = steps.method, steps.config
    chosen = method.on_epoch(epoch, train)
    items = np.arange(len(train)) if chosen is None else np.asarray(chosen)
    groups = _Groups(items[torch.randperm(len(items)).numpy()], config)
    steps.begin(epoch, len(groups))
    method.train()
    key = int(torch.randint(2**62, ()))
    mine: Sequence[Sequence[int]] = groups
    if team is not None:
        mine = [team.share(group) for group in groups]
        seed_everything(seed, epoch, team.rank)
    kind = torch.device(device).type
    sums: dict[str, float] = {}
    for number, (group, batch) in enumerate(zip(groups, train.batches(mine, key), strict=True), 1):
        # a last, incomplete group of accumulated batches still counts
        steps.is_last_batch = number == len(groups)
        batch = batch.to(device)
        if config.modality_dropout > 0:
            batch = _hide_modalities(batch, config)
        batch = method.normalise(batch)
        with torch.autocast(kind, torch.bfloat16, enabled=is_half(config.precision, kind)):
            if team is None:
                losses = method.update(batch, steps)
            else:
                losses = team.update(method, batch, steps, team.is_surplus(group))
        for name, loss in losses.items():
            sums[name] = sums.get(name, 0.0) + float(loss.detach())
    steps.end()
    return {name: value / max(len(groups), 1) for name, value in sums.items()}


class _Groups(Sequence[list[int]]):
    """The items of each batch, listed when they are asked for: a million take 60 MB.

    Args:
        order: of all items.
        config: how large a batch is, and whether a smaller one counts after others.
    """

    def __init__(self, order: np.ndarray, config: TrainConfig) -> None:
        self._order, self._size = order, config.batch_size
        whole, rest = divmod(len(order), self._size)
        self._count = whole + (rest > 0 and not (config.drop_last and whole))

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number):
        begin = range(0, self._count * self._size, self._size)[number]
        return self._order[begin : begin + self._size].tolist()


def is_half(precision: str, kind: str) -> bool:
    """Whether forward passes on this kind of device run in bfloat16."""
    return precision == "bfloat16" or (precision == "auto" and kind == "cuda")


def _hide_modalities(batch: Batch, config: TrainConfig) -> Batch:
    """Hide a share of the cells of a training batch."""
    order, draws = torch.rand(2, *batch.mask.shape, len(batch.present)).to(batch.mask.device)
    rate: float | Tensor = config.modality_dropout
    if config.hide_rate == "random":
        rate = config.modality_dropout * torch.rand(len(batch.mask), 1, 1).to(batch.mask.device)
    return hide(batch, rate, order, draws, config.hide_unit == "dialogue")


# choosing the epoch -------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Judge:
    """The validation score of the weights that the method has when it is called.

    Attributes:
        shown: the validation data, once or under several masks, over which the score is averaged.
    """

    method: Method
    shown: Sequence[Data]
    score: Score
    batch_size: int
    device: torch.device | str
    team: "Team | None"

    def __call__(self) -> float:
        return self._by_the_first(self._score)

    def loss(self) -> float:
        """The mean loss of the validation data in one pass, over utterances."""
        return self._by_the_first(self._loss)

    def _by_the_first(self, judged: Callable[[], float]) -> float:
        if self.team is None:
            return judged()
        value = 0.0
        if self.team.rank == 0:
            try:
                value = judged()
            except NotFinite:
                value = math.nan  # told to the others, so that all stop alike
        return self.team.tell(value)

    def _score(self) -> float:
        scores = [
            self.score(predict(self.method, data, self.batch_size, self.device))
            for data in self.shown
        ]
        return sum(scores) / len(scores)

    def _loss(self) -> float:
        was_training = self.method.training
        self.method.eval()
        total_loss, utterances = 0.0, 0
        with torch.no_grad():
            for batch in self.shown[0].batches(_in_order(self.shown[0], self.batch_size)):
                batch = self.method.normalise(batch.to(self.device))
                if (scales := self.method.part_scales) is not None:
                    batch = replace(batch, targets=scales.aligned(batch))
                count = int(batch.mask.sum())
                total_loss += count * float(total(self.method.losses(batch)))
                utterances += count
        self.method.train(was_training)
        return total_loss / utterances


def _as_shown(method: Method, validation: Data, config: TrainConfig) -> list[Data]:
    """The validation data as epochs are chosen on them: with the share hidden that training hides.

    Masks differ neither from epoch to epoch nor between methods.
    """
    rate = config.validation_rate
    if rate < 0:
        rate = max(config.modality_dropout, method.missing_rate)
    if rate == 0:
        return [validation]
    count, rows = config.validation_masks, len(validation.truth(validation.targets[0]))
    rates = [rate] * count
    if config.hide_rate == "random" and config.validation_rate < 0:
        rates = [rate * (i + 0.5) / count for i in range(count)]
    by_dialogue = config.hide_unit == "dialogue"
    return [Masked(validation, rows, rates[i], i, by_dialogue) for i in range(count)]


@dataclass
class _Choice:
    """The best epoch so far, and whether it is worth while to look for a better one.

    Attributes:
        patience: epochs without a better score after which training stops; 0 = never.
        whole_from: the first epoch that sees all training data; those before it are not counted.
        best: score of ``epoch``, whose ``weights`` are kept.
    """

    patience: int
    whole_from: int = 1
    best: float = -math.inf
    epoch: int = 0
    weights: dict[str, Tensor] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)
    stopped_early: bool = False

    def note(self, record: dict[str, float], method: Method) -> None:
        """Record an epoch, keep the weights when they are the best so far."""
        self.history.append(record)
        value, epoch = record["score"], int(record["epoch"])
        if value > self.best:
            self.best, self.epoch, self.weights = value, epoch, _copy_state(method)
        waited = epoch - max(self.epoch, self.whole_from - 1)
        self.stopped_early = bool(self.patience) and waited >= self.patience


def _checked(value: float, epoch: int) -> float:
    if not math.isfinite(value):
        raise NotFinite(
            f"the validation score of epoch {epoch} is {value}; "
            "the outputs are not finite or the validation split has no labels of this target"
        )
    return float(value)


# stopping and going on ----------------------------------------------------------------------------


def _state(method: Method, steps: Steps, choice: _Choice) -> dict[str, Any]:
    """Everything needed to go on after this epoch; tensors and plain values only."""
    kept = {name: copy.deepcopy(value) for name, value in vars(choice).items() if name != "weights"}
    return {
        "method": _copy_state(method),
        "steps": steps.state(),
        "choice": {**kept, "weights": choice.weights},
    }


def _load(state: State, method: Method, steps: Steps, choice: _Choice) -> None:
    """Take over from ``state``."""
    method.load_state_dict(state["method"])
    steps.load(state["steps"])
    for name, value in state["choice"].items():
        setattr(choice, name, copy.copy(value))


def _copy_state(method: Method) -> dict[str, Tensor]:
    return {name: value.detach().cpu().clone() for name, value in method.state_dict().items()}
