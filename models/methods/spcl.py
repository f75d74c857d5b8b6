"""SPCL as a method of its own: a backbone trained with the ``spcl`` plug-in.

Paper: see ``models/plugins/spcl.py``, which holds the method.
Reference code: mattam301/experimental_MM_bachbones, commit ccce08f, read; nothing copied.
Licence of the reference: none stated.
What we changed and why:
    - any backbone of this project serves, by name; its own options stay at their defaults here, and
      ``{backbone: ..., plugin: spcl}`` gives access to them;
    - the trainer's settings are those published for the chosen backbone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import ClassVar

from torch import Tensor

from models.backbone import SPCL
from models.batch import Batch
from models.method import Data, Method, Spec, Stepper, find_method
from models.plugin import attach
from models.plugins.spcl import Config as SpclConfig
from models.plugins.spcl import Spcl as SpclPlugin


@dataclass(frozen=True)
class Config(SpclConfig):
    """Options of SPCL and the backbone it trains.

    Attributes:
        backbone: ``mmgcn``, ``dialogue_gcn``, ``mm_dfn``, ``biddin``, ``bc_lstm`` or
            ``dialogue_rnn``.
    """

    backbone: str = "mmgcn"


class Spcl(Method):
    """A backbone under self-paced curriculum learning."""

    kinds = frozenset({"category"})
    config_type = Config
    recipe: ClassVar[Mapping[str, object]] = {**SPCL, "lr": 1e-4, "epochs": 60}

    @classmethod
    def recipe_for(cls, config: Config) -> Mapping[str, object]:
        """The settings published for the backbone under this plug-in."""
        balanced = attach(find_method(config.backbone), SpclPlugin)
        return {**cls.recipe, **balanced.recipe_for(balanced.config_type())}

    def __init__(self, spec: Spec, config: Config) -> None:
        super().__init__(spec, config)
        options = asdict(config)
        balanced = attach(find_method(options.pop("backbone")), SpclPlugin)
        self.inner = balanced(spec, balanced.config_type(**options))
        # One set of feature statistics, seen under both names.
        self.normalise = self.inner.normalise

    def prepare(self, train: Data) -> None:
        """See ``Backbone.prepare``."""
        self.inner.prepare(train)

    def unimodal(self, batch: Batch) -> dict[str, Tensor]:
        """(B, U, C) per modality."""
        return self.inner.unimodal(batch)

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        """(B, U, C) logits."""
        return self.inner.predict(batch)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy over the selected utterances."""
        return self.inner.losses(batch)

    def whole_from(self, train: Data) -> int:
        """The epoch of the last threshold."""
        return self.inner.whole_from(train)

    def on_epoch(self, epoch: int, train: Data) -> Sequence[int] | None:
        """Raise the threshold."""
        return self.inner.on_epoch(epoch, train)

    def update(self, batch: Batch, optimizer: Stepper) -> dict[str, Tensor]:
        """One step, unless nothing was selected."""
        return self.inner.update(batch, optimizer)


METHOD = Spcl
