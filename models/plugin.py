"""Balancing plug-ins: they change how a backbone is trained, never how it predicts.

``attach(backbone, plugin)`` makes a method of the two. In ``params.yaml``:
``methods.<name>: {backbone: mmgcn, plugin: ogm_ge, ogm_alpha: 0.4}``; ``plugin: none`` gives the
same network without any, to compare with.
"""

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, field, fields, make_dataclass
from functools import cache
from typing import Any, ClassVar, Literal, cast

import torch
from torch import Tensor, nn

from models import registry
from models.backbone import Backbone, joint
from models.batch import Batch
from models.errors import UserError, hint
from models.layers.balance import counted_generator
from models.method import Data, Method, Spec, Stepper, find_method, method_names, total

#: What a plug-in scales to slow a weight. Adam divides a gradient by its usual size, so a factor on
#: gradients that changes little from step to step nearly cancels there; one on updates does not.
Scale = Literal["gradient", "update"]


class Plugin(nn.Module):
    """Base of plug-ins. Everything that must survive a restart is a buffer.

    The backbone is handed to every hook rather than kept, so that the plug-in can be its child.
    """

    #: A frozen dataclass; names are distinct from those of every backbone.
    config_type: ClassVar[type]
    #: Trainer settings that differ from the backbone's.
    recipe: ClassVar[Mapping[str, object]] = {}
    #: It weighs probabilities of classes.
    needs_classes: ClassVar[bool] = True

    def __init__(self, backbone: Backbone, config: Any) -> None:
        super().__init__()
        self.config = config
        self.may_step = True
        self._slowed: dict[nn.Parameter, Tensor] = {}
        self.register_buffer("seed", torch.randint(2**31, ()))
        self.register_buffer("draws", torch.zeros((), dtype=torch.long))
        self.register_buffer("epoch", torch.zeros((), dtype=torch.long))

    def losses(self, backbone: Backbone, batch: Batch) -> dict[str, Tensor]:
        """Losses of a training step; sets ``may_step`` to False when there is nothing to learn."""
        output = joint(backbone.unimodal(batch))
        return {backbone.target.name: backbone.task_loss(output, batch)}

    def on_epoch(self, backbone: Backbone, epoch: int, train: Data) -> Sequence[int] | None:
        """Called before epoch 1, 2, ...; returns the items to train on, or None for all."""
        cast(Tensor, self.epoch).fill_(epoch)
        return None

    def whole_from(self, backbone: Backbone, train: Data) -> int:
        """See ``Method.whole_from``."""
        return 1

    def after_clip(self, backbone: Backbone, batch: Batch) -> None:
        """Called between the clipping of gradients and the optimiser's step."""

    def slow(self, weight: nn.Parameter, factor: Tensor, how: Scale) -> None:
        """Let a weight learn slower in the coming step.

        Args:
            weight: has a gradient.
            factor: in [0, 1], of a shape that broadcasts to the weight's.
            how: scale its ``gradient``, or the ``update`` that the optimiser makes of the gradient.
        """
        if how == "gradient":
            cast(Tensor, weight.grad).mul_(factor)
        else:
            self._slowed[weight] = factor * self._slowed.get(weight, 1.0)

    def taken(self) -> dict[nn.Parameter, Tensor]:
        """What is slowed in the coming step; from then on nothing is."""
        taken, self._slowed = self._slowed, {}
        return taken

    def diagnostics(self) -> dict[str, Tensor]:
        """Named scalars of the last step, for the history."""
        return {}

    def generator(self, device: torch.device) -> torch.Generator:
        """A new source of noise at every call, the same after a restart."""
        draws = cast(Tensor, self.draws)
        draws.add_(1)
        return counted_generator(cast(Tensor, self.seed), draws, device)


class Plugged(Backbone):
    """A backbone with a plug-in; ``attach`` puts the backbone's class behind this one."""

    plugin_class: ClassVar[type[Plugin]]

    def __init__(self, spec: Spec, config: Any) -> None:
        super().__init__(spec, config)
        name = self.plugin_class.__name__
        if self.plugin_class.needs_classes and self.target.kind != "category":
            raise UserError(
                f"plug-in {name} weighs probabilities of classes, but '{self.target.name}' is a "
                f"target of {self.target.kind}; train the backbone without it"
            )
        if len(spec.modalities) < 2:
            raise UserError(
                f"plug-in {name} balances modalities and got only '{', '.join(spec.dims)}'; "
                "give it two or three, or train the backbone without it"
            )
        if not self.is_separable:
            separable = [key for key, form in self.variants.items() if form.is_separable]
            raise UserError(
                f"plug-in {name} needs an output per modality, which variant '{config.variant}' "
                f"does not have; use variant {' or '.join(separable)}"
            )
        self.plugin = self.plugin_class(self, config)

    @classmethod
    def recipe_for(cls, config: Any) -> Mapping[str, object]:
        """The settings of the backbone's variant, and over them those of the plug-in."""
        return {**super().recipe_for(config), **cls.plugin_class.recipe}

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The plug-in's losses in training, the backbone's otherwise."""
        return self.plugin.losses(self, batch) if self.training else super().losses(batch)

    def on_epoch(self, epoch: int, train: Data) -> Sequence[int] | None:
        """See ``Plugin.on_epoch``."""
        return self.plugin.on_epoch(self, epoch, train)

    def whole_from(self, train: Data) -> int:
        """See ``Plugin.whole_from``."""
        return self.plugin.whole_from(self, train)

    def after_clip(self, batch: Batch, epoch: int) -> None:
        """See ``Plugin.after_clip``. The epoch is the one that ``on_epoch`` announced."""
        self.plugin.after_clip(self, batch)

    def slowed(self) -> Mapping[nn.Parameter, Tensor]:
        """See ``Plugin.slow``."""
        return self.plugin.taken()

    def update(self, batch: Batch, optimizer: Stepper) -> dict[str, Tensor]:
        """One step, unless the plug-in left nothing to learn from."""
        losses = self.losses(batch)
        if self.plugin.may_step:
            optimizer.backward(total(losses))
            if optimizer.is_last_part:
                optimizer.clip()
                self.after_clip(batch, optimizer.epoch)
            optimizer.step(self.slowed())
        return losses | self.plugin.diagnostics()


@cache
def attach(backbone: type[Method], plugin: type[Plugin] | None) -> type[Backbone]:
    """A method that trains ``backbone`` with ``plugin``.

    Its options are those of both; ``variant`` defaults to the backbone's form for plug-ins.

    Args:
        backbone: a subclass of ``Backbone``.
        plugin: None gives the plug-in's form of the backbone without a plug-in.
    """
    if not issubclass(backbone, Backbone):
        raise UserError(
            f"method '{registry.name_of(backbone.__module__)}' is no backbone: it has no output "
            f"per modality for a plug-in to balance; backbones: {', '.join(backbone_names())}"
        )
    variant = backbone.plugin_variant
    extra = [] if plugin is None else [_as_field(item) for item in fields(plugin.config_type)]
    taken = {item.name for item in fields(backbone.config_type)} & {name for name, _, _ in extra}
    if taken:
        raise TypeError(f"{backbone.__name__} and {plugin} share the options {sorted(taken)}")
    config = make_dataclass(
        "Config",
        [("variant", str, field(default=variant)), *extra],
        bases=(backbone.config_type,),
        frozen=True,
    )
    what = plugin.__name__ if plugin else "no plug-in"
    members: dict[str, Any] = {
        "__doc__": f"{backbone.__name__} trained with {what}.",
        "__module__": backbone.__module__,
        "config_type": config,
        "recipe": {**backbone.variants[variant].recipe, **(plugin.recipe if plugin else {})},
    }
    if plugin is None:
        return type(backbone.__name__, (backbone,), members)
    members["plugin_class"] = plugin
    return type(f"{backbone.__name__}With{plugin.__name__}", (Plugged, backbone), members)


def _as_field(item: Any) -> tuple[str, Any, Any]:
    if item.default is MISSING:
        raise TypeError(f"option '{item.name}' has no plain default value")
    return item.name, item.type, field(default=item.default)


def check_choice(name: str, value: str, allowed: Sequence[str]) -> None:
    """Refuse a value of a plug-in's option that is none of ``allowed``."""
    if value not in allowed:
        raise UserError(f"{name} is '{value}', expected one of {', '.join(allowed)}")


def plugin_names() -> list[str]:
    """Every plug-in there is, by file name."""
    return registry.names("plugins")


def backbone_names() -> list[str]:
    """Every method that a plug-in can be attached to, by file name."""
    return [name for name in method_names() if issubclass(find_method(name), Backbone)]


def find_plugin(name: str) -> type[Plugin] | None:
    """The ``PLUGIN`` of ``models/plugins/<name>.py``; None for ``none``."""
    if name == "none":
        return None
    if name not in plugin_names():
        near = hint(name, plugin_names(), "")
        raise UserError(
            f"there is no plug-in '{name}'{near and f'; {near}'} "
            f"Plug-ins: none, {', '.join(plugin_names())}"
        )
    return registry.load("plugins", name).PLUGIN


def find_balanced(backbone: str, plugin: str) -> type[Backbone]:
    """``attach`` by names, as ``params.yaml`` gives them."""
    return attach(find_method(backbone), find_plugin(plugin))
