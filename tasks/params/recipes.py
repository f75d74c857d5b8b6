"""An entry under ``methods`` in params.yaml, made into a method, its options and its training.

An entry is flat: options of the network, trainer settings, and a few keys of its own (``method``,
``backbone``, ``plugin``, ``modalities``, ``targets``, ``inputs``, ``corpora``, ``init_from``,
``search``). Every key is checked against what the method declares.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args, get_origin

from models import registry
from models.batch import MODALITIES, Target
from models.errors import UserError, hint
from models.hiding import most_hidden
from models.method import Method, Spec, configure, find_method
from models.training import TrainConfig
from tasks.params.inputs import Named, names_in
from tasks.train.warm_start import check_init_from

#: Keys of an entry that belong to neither the network nor the trainer.
_OWN_KEYS = (
    "method", "backbone", "plugin", "modalities", "targets", "inputs", "corpora", "init_from",
    "search",
)  # fmt: skip
#: Lowest and highest sensible value of trainer settings.
_LIMITS = {
    "lr": (0.0, math.inf),
    "weight_decay": (0.0, math.inf),
    "epochs": (1, math.inf),
    "patience": (0, math.inf),
    "batch_size": (1, math.inf),
    "clip_norm": (0.0, math.inf),
    "plateau_factor": (0.0, 1.0),
    "plateau_patience": (0, math.inf),
    "step_factor": (0.0, 1.0),
    "step_every": (1, math.inf),
    "step_from": (0, math.inf),
    "warmup": (0.0, 1.0),
    "ema_decay": (0.0, 1.0),
    "accumulate": (1, math.inf),
    "modality_dropout": (0.0, 1.0),
    "part_balance": (0.0, 1.0),
    "derived_weight": (0.0, 1.0),
    "validation_rate": (-1.0, 1.0),
    "validation_masks": (1, math.inf),
}

#: Options of networks that are numbers of things.
_AT_LEAST_ONE = ("hidden", "layers", "heads")

#: Trainer settings that count only beside another one: what it takes, and whether it is there.
_COUNTS_WITH: Mapping[str, tuple[str, Callable[["Recipe"], bool]]] = {
    **dict.fromkeys(
        ("plateau_on", "plateau_factor", "plateau_patience"),
        ("scheduler: plateau", lambda own: own.train.scheduler == "plateau"),
    ),
    **dict.fromkeys(
        ("step_factor", "step_every", "step_from", "step_unit"),
        ("scheduler: step", lambda own: own.train.scheduler == "step"),
    ),
    "t_max": ("scheduler: cosine", lambda own: own.train.scheduler == "cosine"),
    "warmup": (
        "scheduler: cosine and t_max: training",
        lambda own: (own.train.scheduler, own.train.t_max) == ("cosine", "training"),
    ),
    "ema_warmup": ("ema_decay above 0", lambda own: own.train.ema_decay > 0),
    "hide_rate": ("modality_dropout or missing_rate above 0", lambda own: own.hides > 0),
    **dict.fromkeys(
        ("hide_unit", "validation_masks"),
        (
            "modality_dropout, missing_rate or validation_rate above 0",
            lambda own: max(own.hides, own.train.validation_rate) > 0,
        ),
    ),
}


@dataclass(frozen=True)
class Recipe:
    """A method with its options, ready to be built.

    Attributes:
        name: key in params.yaml.
        method: the class.
        config: options of the network.
        train: trainer settings: defaults, then the recipe of the method with these options, then
            params.yaml.
        modalities: use only these.
        targets: train only these.
        init_from: ``method`` or ``corpus/method`` whose runs training begins from.
    """

    name: str
    method: type[Method]
    config: Any
    train: TrainConfig
    modalities: tuple[str, ...]
    targets: tuple[str, ...] | None
    init_from: str | None = None

    @property
    def max_frames(self) -> int:
        """Most frames of a sequence that the method is shown; 0 = all."""
        return getattr(self.config, "max_frames", 0)

    @property
    def hides(self) -> float:
        """The share of cells that training hides, whoever hides them."""
        return max(self.train.modality_dropout, getattr(self.config, "missing_rate", 0.0))

    def narrowed(self, target: Target) -> Target:
        """The target with no more than what this method predicts of it."""
        return replace(target, names=self.method.columns(target, self.config))

    def extra(self, inputs: Mapping[str, Named]) -> dict[str, str]:
        """Further inputs to the encoder that this method reads for each, where there is one."""
        wanted = [name for name in self.method.extra_inputs if name in inputs]
        return {name: names_in(inputs[name])[0] for name in wanted}

    def refuse_idle(self, entry: Mapping[str, Any]) -> None:
        """Refuse trainer settings of an entry that have no effect beside its others.

        An entry as it is written: a search may try a setting with and without what it needs.
        """
        searched = (entry.get("search") or {}).get("space", {})
        for key, (needed, is_there) in _COUNTS_WITH.items():
            if key in entry and not is_there(self) and not searched:
                raise UserError(
                    f"params.yaml: methods.{self.name}.{key} has no effect without {needed}; "
                    "add that, or leave it out"
                )

    def notes(self, inputs: Mapping[str, Named], pooled_only: Mapping[str, str]) -> list[str]:
        """A line for a person for each thing that the method could learn from and does not get.

        Args:
            inputs: modality or further input to its encoders, as params.yaml has them.
            pooled_only: see ``tasks.batches.source.Source``.
        """
        lines = [
            f"methods.{self.name} reads frames, but encoder {name} keeps none: of {modality} it "
            f"gets one vector an utterance; set encoders.{name}.sequence to true in params.yaml"
            for modality, name in pooled_only.items()
            if modality not in self.method.as_vectors
        ]
        read = [*self.inputs(inputs)]
        rate, limit = self.train.modality_dropout, most_hidden(len(read))
        if rate > limit:
            lines.append(
                f"methods.{self.name}.modality_dropout is {rate:g}, but an utterance keeps one "
                f"modality: of {len(read)} at most a share {limit:.2f} is hidden"
            )
        in_use = self.method.extra_in_use(self.config, read)
        return lines + [
            f"methods.{self.name} has no {name} to learn from; name an encoder as "
            f"inputs.{name} in params.yaml"
            for name in in_use
            if name not in inputs
        ]

    def inputs(self, inputs: Mapping[str, Named]) -> dict[str, tuple[str, ...]]:
        """Modality to the encoders that this method reads; none where it reads pictures alone."""
        if not self.method.needs & {"pooled", "frames"}:
            return {}
        usable = {
            m: names_in(inputs[m])
            for m in MODALITIES
            if m in inputs and m in self.modalities and m in self.method.can_use
        }
        if not usable and "images" not in self.method.needs and not self.method.is_blind:
            given = ", ".join(m for m in MODALITIES if m in inputs)
            raise UserError(
                f"params.yaml: methods.{self.name} can use {', '.join(sorted(self.modalities))} "
                f"but inputs names {'encoders for ' + given + ' only' if given else 'no encoder'}; "
                f"add one, or keep the method from this corpus with methods.{self.name}.corpora"
            )
        return usable

    def target_groups(
        self, found: Sequence[Target], wanted: Sequence[str] | None, corpus: str
    ) -> list[tuple[Target, ...]]:
        """The targets to train: one group per network."""
        names = [target.name for target in found]
        for asked in (*(self.targets or ()), *(wanted or ())):
            if asked not in names:
                raise UserError(
                    f"corpus {corpus} has no labels for target '{asked}' that "
                    f"methods.{self.name} is to predict; it has: {', '.join(names) or 'none'}"
                )
        chosen = [
            target
            for target in found
            if (not self.targets or target.name in self.targets)
            and (not wanted or target.name in wanted)
        ]
        if not chosen:
            if not found:
                raise UserError(
                    f"corpus {corpus} has nothing to predict: no values and fewer than two "
                    "categories; look at its labels table, or at labels in params.yaml"
                )
            raise UserError(
                f"params.yaml: train.targets is {', '.join(wanted or ())} but methods.{self.name} "
                f"is to predict only {', '.join(self.targets or ())}; name a target in both"
            )
        usable = [target for target in chosen if target.kind in self.method.kinds]
        refused = [target for target in chosen if target.kind not in self.method.kinds]
        if refused and (self.targets or not usable):
            raise UserError(
                f"params.yaml: methods.{self.name} cannot predict {refused[0].name} "
                f"({refused[0].kind}); it predicts: {', '.join(sorted(self.method.kinds))}"
            )
        return [tuple(usable)] if self.method.is_joint else [(target,) for target in usable]


def resolve(name: str, entry: Mapping[str, Any]) -> Recipe:
    """Check an entry of params.yaml and find what it names."""
    where = f"methods.{name}"
    trainer_keys = {item.name for item in fields(TrainConfig)}
    method = _find(name, entry)
    train = {k: v for k, v in entry.items() if k in trainer_keys}
    options = {k: v for k, v in entry.items() if k not in trainer_keys and k not in _OWN_KEYS}
    if "backbone" in entry and "plugin" not in entry:
        options["backbone"] = entry["backbone"]  # an option of the method itself, as for spcl
    modalities = _names(entry, "modalities", where) or MODALITIES
    for modality in modalities:
        _check_choice(modality, MODALITIES, f"{where}.modalities")
    targets = _names(entry, "targets", where)
    config = configure(method.config_type, options, where, also=trainer_keys | set(_OWN_KEYS))
    defaults = configure(TrainConfig, method.recipe_for(config), f"{where} recipe")
    trainer = configure(TrainConfig, {**vars(defaults), **train}, where)
    for item in fields(TrainConfig):
        if get_origin(item.type) is Literal:
            value = getattr(trainer, item.name)
            _check_choice(value, get_args(item.type), f"{where}.{item.name}")
    for key, (low, high) in _LIMITS.items():
        value = getattr(trainer, key)
        if not (low <= value <= high and math.isfinite(value)):
            limits = f"{low:g} or more" if high == math.inf else f"from {low:g} to {high:g}"
            raise UserError(f"params.yaml: {where}.{key} is {value!r}, expected {limits}")
    _check_ranges(config, where)
    if trainer.soft_labels and not method.learns_softly(config):
        raise UserError(
            f"params.yaml: {where}.soft_labels has no effect: with these options the method has a "
            "loss of its own; leave it out"
        )
    if 0 < trainer.derived_weight < 1 and not method.learns_softly(config):
        raise UserError(
            f"params.yaml: {where}.derived_weight is {trainer.derived_weight:g}, but with these "
            "options the method has a loss of its own; write 0 (left out) or 1 (like judged ones)"
        )
    if trainer.part_offset and not method.learns_offsets(config):
        raise UserError(
            f"params.yaml: {where}.part_offset has no effect: with these options the method has a "
            "loss of its own; leave it out, or take part_align"
        )
    if "images" in method.needs and "video" not in modalities:
        raise UserError(
            f"params.yaml: {where} looks at pictures, but its modalities leave out video; add it"
        )
    if getattr(config, "max_frames", 0) < 0:
        raise UserError(
            f"params.yaml: {where}.max_frames is {config.max_frames}, expected 0 (all) or more"
        )
    _check_own_inputs(entry, method, modalities, where)
    return Recipe(
        name=name,
        method=method,
        config=config,
        train=trainer,
        modalities=modalities,
        targets=targets,
        init_from=check_init_from(entry, method, where),
    )


def _check_ranges(config: Any, where: str) -> None:
    """Options of a network that every method with such a name means alike."""
    for item in fields(config):
        value = getattr(config, item.name)
        if value == item.default:  # some begin at a value that stands for another option's
            continue
        if item.name.endswith("dropout") and isinstance(value, float) and not 0 <= value < 1:
            raise UserError(
                f"params.yaml: {where}.{item.name} is {value!r}, expected 0 or more and below 1"
            )
        if item.name in _AT_LEAST_ONE and isinstance(value, int) and value < 1:
            raise UserError(f"params.yaml: {where}.{item.name} is {value!r}, expected 1 or more")


def _check_own_inputs(
    entry: Mapping[str, Any], method: type[Method], modalities: Sequence[str], where: str
) -> None:
    """Encoders that an entry names for itself are of something that it reads."""
    reads = method.can_use & set(modalities) if method.needs & {"pooled", "frames"} else set()
    known = [m for m in (*MODALITIES, *method.extra_inputs) if m in {*reads, *method.extra_inputs}]
    for name in entry.get("inputs") or {}:
        if name not in known:
            told = ", ".join(known) or "no features"
            raise UserError(
                f"params.yaml: {where}.inputs.{name} has no effect: the method reads {told}; "
                "leave it out"
            )


def _names(entry: Mapping[str, Any], key: str, where: str) -> tuple[str, ...] | None:
    """A list of names in an entry, None where there is none."""
    value = entry.get(key)
    if value is None:
        return None
    if not isinstance(value, list | tuple) or not all(isinstance(name, str) for name in value):
        raise UserError(f"params.yaml: {where}.{key} is {value!r}, expected a list of names")
    return tuple(value) or None


def _check_choice(value: object, choices: Sequence[object], where: str) -> None:
    if value in choices:
        return
    known = [str(choice) for choice in choices]
    raise UserError(f"params.yaml: {where} has '{value}'; {hint(value, known)}")


def _find(name: str, entry: Mapping[str, Any]) -> type[Method]:
    if entry.get("plugin"):
        # imported by name: a method without a plug-in does not depend on this file
        plugins = registry.part("models.plugin")
        backbone = entry.get("backbone") or entry.get("method") or name
        return plugins.attach(find_method(str(backbone)), plugins.find_plugin(str(entry["plugin"])))
    return find_method(str(entry.get("method") or name))


def build(recipe: Recipe, spec: Spec) -> Method:
    """The method, freshly initialised from the current random state."""
    return recipe.method(spec, recipe.config)
