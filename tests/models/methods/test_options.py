"""Every option of every method changes what is learnt or how, or is refused.

An option that does nothing is worse than none: an ablation by it compares a method with itself.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
import torch
from torch import Tensor, nn

from models.backbone import Backbone
from models.batch import Target
from models.errors import UserError
from models.method import Method, Spec, configure, find_method, total
from models.methods.emi.losses import PROTOTYPES
from models.plugin import find_balanced, plugin_names
from models.stepping import scaled_updates
from models.training import seed_everything
from tests.factories import CATEGORY, LABELS, VAD_TARGET, ToyData
from tests.models.methods.test_conformance import NAMES, SMALL, toy

#: What the options of a plug-in are tried on.
CARRIER = "bc_lstm"
#: Options that decide what data are read or where from, not what is learnt of given ones.
ELSEWHERE = {
    "max_frames", "pretrained", "pretrained_sha256", "crops", "compile", "augment", "standard",
}  # fmt: skip
#: What lets other options count within two epochs.
BESIDE: dict[str, dict[str, Any]] = {"opm": {"opm_warmup": 1}}
#: Options that so few dialogues and such small pictures cannot tell apart (SPCL selects all or
#: nothing of each batch; no map has more than 4 x 4 cells), and one that says what the targets must
#: be, which they are or training does not begin.
UNSEEN = {"spcl": {"spcl_norm"}, "huo_ge_vad": {"pool"}, "cage": {"variant"}}
#: Options without effect that are known and not yet mended, by method or plug-in. The test fails
#: for any other, and for one of these that has been mended: take it out then.
WITHOUT_EFFECT: dict[str, set[str]] = {}
#: Options beside which others count in dialogues this short and epochs this few.
FORMS: dict[str, dict[str, Any]] = {
    "ada2i": {"start_epoch": 1},
    "corect": {"window": (1, 2)},
}
EMI = Target("emi", "values", tuple(PROTOTYPES)[:3], 0.0, 1.0)


def values_for(kind: type, name: str) -> Iterator[Any]:
    """Other values for an option than its default."""
    default = getattr(kind(), name)
    hint = get_type_hints(kind).get(name)
    if get_origin(hint) is Literal:
        yield from (choice for choice in get_args(hint) if choice != default)
    elif isinstance(default, bool):
        yield not default
    elif isinstance(default, int):
        yield from (default + 1, 2 * default + 2, max(default - 1, 0), 1)
    elif isinstance(default, float):
        yield from (default / 2 + 0.07, 2 * default + 0.1, 0.0, 1.0, 0.6)
    elif isinstance(default, tuple):
        yield from (default[:-1], (*default, *default[-1:]))
    elif default is None:
        yield from (1, 3, 0.25, True, "none")


def words_for(kind: type[Method], config: type, name: str, data) -> list[str]:
    """Words that an option takes, from the sentence that refuses another one."""
    try:
        made(kind, config(**{name: "nonsense"}), data)
    except UserError as error:
        found = re.findall(r"[a-z][a-z0-9_]+", str(error))
        return [word for word in dict.fromkeys(found) if word != getattr(config(), name)]
    return []


def made(kind: type[Method], config: Any, data) -> Method:
    """The method in training mode, ready for its first epoch."""
    seed_everything(0)
    frame_dims = {modality: frames.values.shape[-1] for modality, frames in data._frames.items()}
    method = kind(Spec(data.dims, data.targets, 3, frame_dims), config)
    method.prepare(data)
    return method.train()


class Steps:
    """Plain gradient descent; a ``models.method.Stepper``."""

    def __init__(self, method: Method) -> None:
        self.method, self.epoch, self.is_last_part = method, 0, True

    def backward(self, loss: torch.Tensor) -> None:
        if loss.requires_grad:
            loss.backward()

    def clip(self) -> float:
        return 0.0

    def step(self, slowed: Mapping[nn.Parameter, Tensor] | None = None) -> None:
        with scaled_updates(slowed or {}), torch.no_grad():
            for parameter in self.method.parameters():
                if parameter.grad is not None:
                    parameter -= 0.05 * parameter.grad
        self.method.zero_grad(set_to_none=True)


def trace(kind: type[Method], config: Any, data) -> str:
    """Hash of everything that two epochs show: losses, weights, outputs, order, settings."""
    method = made(kind, config, data)
    seen = hashlib.sha256(repr((dict(kind.recipe_for(config)), method.main)).encode())
    steps = Steps(method)
    for epoch in (1, 2):
        seed_everything(1, epoch)
        chosen = method.on_epoch(epoch, data)
        items = list(range(len(data))) if chosen is None else list(chosen)
        steps.epoch = epoch
        seen.update(repr((items, method.whole_from(data))).encode())
        for part in (items[::2], items[1::2]):
            if not part:
                continue
            losses = method.update(method.normalise(data.batch(part)), steps)
            seen.update(repr([(n, float(v.detach())) for n, v in losses.items()]).encode())
    for name, value in method.state_dict().items():
        seen.update(name.encode() + value.detach().contiguous().numpy().tobytes())
    with torch.no_grad():
        method.eval()
        batch = method.normalise(data.batch(range(len(data))))
        seen.update(repr(float(total(method.losses(batch)))).encode())
        for name, value in method.predict(batch.without_labels()).items():
            seen.update(name.encode() + value[batch.mask].contiguous().numpy().tobytes())
    return seen.hexdigest()


def idle_options(kind: type[Method], fixed: dict, names: Iterable[str], sets: list) -> set[str]:
    """Options of which no other value changes anything on any data, though some are accepted."""
    before = [trace(kind, kind.config_type(**fixed), data) for data in sets]
    return {name for name in names if not has_effect(kind, fixed, name, sets, before)}


def has_effect(
    kind: type[Method], fixed: dict, name: str, sets: list, traces: Sequence[str]
) -> bool:
    """Whether some other value of an option changes something, on any data, or all are refused."""
    was_accepted, config = False, kind.config_type
    for data, before in zip(sets, traces, strict=True):
        candidates = list(values_for(config, name))
        if isinstance(getattr(config(), name), str) and not candidates:
            candidates = words_for(kind, config, name, data)
        for value in candidates:
            if value == getattr(config(), name):
                continue
            try:
                options = configure(config, {**fixed, name: value}, "method")
                after = trace(kind, options, data)
            except (UserError, ValueError, TypeError, RuntimeError, KeyError):
                continue  # refused, or no value of its kind
            was_accepted = True
            if after != before:
                return True
    return not was_accepted


def partly_labelled(name: str, *targets: Target) -> ToyData:
    """A few small dialogues with absent modalities and two utterances without a label."""
    data = toy(name, (3, 2, 4, 1), targets=targets, speakers=3, absent=0.2)
    for target in targets:
        data._labels[target.name][::6] = -1 if target.kind == "category" else torch.nan
    return data


def data_sets(name: str) -> list[ToyData]:
    """One for each kind of target that a method learns, and one with several for those that can."""
    kind = find_method(name)
    kinds = [t for t in (CATEGORY, VAD_TARGET, LABELS) if t.kind in kind.kinds]
    sets = [[target] for target in kinds]
    if name == "emi":
        sets.append([EMI])
    if kind.is_joint:
        sets.append([CATEGORY, VAD_TARGET])
    return [partly_labelled(name, *targets) for targets in sets]


def names_of(config: type) -> list[str]:
    return [item.name for item in fields(config) if item.name not in ELSEWHERE]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_option_of_a_method_has_an_effect_or_is_refused(name):
    kind, sets = find_method(name), data_sets(name)
    small, form = SMALL.get(name, {}), FORMS.get(name, {})
    options = set(names_of(kind.config_type)) - set(small) - UNSEEN.get(name, set())
    idle = idle_options(kind, small, options, sets)
    idle = idle_options(kind, small | form, idle, sets) if form else idle
    assert idle == WITHOUT_EFFECT.get(name, set())


@pytest.mark.slow
@pytest.mark.parametrize("plugin", plugin_names())
def test_every_option_of_a_plug_in_has_an_effect_or_is_refused(plugin):
    kind = find_balanced(CARRIER, plugin)
    base = find_method(CARRIER)
    assert issubclass(base, Backbone)
    own = set(names_of(kind.config_type)) - set(names_of(base.config_type))
    sets = [partly_labelled(CARRIER, CATEGORY)]
    own -= UNSEEN.get(plugin, set())
    idle = idle_options(kind, BESIDE.get(plugin, {}), own, sets)
    assert idle == WITHOUT_EFFECT.get(plugin, set())
