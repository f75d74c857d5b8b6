"""``readout``: classes as an encoder's own network says them; nothing is learnt.

Some encoders end in a classifier, and the last of their features are its probabilities (``fer``,
with one for each of seven expressions). Their logarithms are the outputs here, so the softmax of an
utterance is the mean of its frames' probabilities, and of training rows nothing counts but the
names of their classes. Beside trained methods it tells what the network is worth as it comes;
alone it puts such a network to use without a second training.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from models.batch import MODALITIES, Batch
from models.errors import UserError
from models.method import Data, Method, Spec

#: The least that a probability counts as.
_EDGE = 1e-6


@dataclass(frozen=True)
class Config:
    """What the features are.

    Attributes:
        modality: whose last features are probabilities.
        classes: what they are of, in order, by the corpus's names; empty: its names by alphabet.
    """

    modality: str = "video"
    classes: tuple[str, ...] = ()


class Readout(Method):
    """The logarithms of an encoder's probabilities, in the order of the target's classes."""

    level = "utterance"
    kinds = frozenset({"category"})
    not_standardised = frozenset(MODALITIES)
    config_type = Config
    recipe: ClassVar[Mapping[str, object]] = {"batch_size": 256}

    def __init__(self, spec: Spec, config: Config) -> None:
        super().__init__(spec, config)
        (target,) = spec.targets
        classes = config.classes or target.names
        if target.kind != "category":
            raise UserError(f"readout reads classes, but {target.name} is of {target.kind}")
        if unknown := sorted(set(target.names) - set(classes)):
            raise UserError(
                f"readout: the corpus has {', '.join(unknown)}, the encoder only "
                f"{', '.join(classes)}; name them alike with `labels` or `classes` in params.yaml"
            )
        width = spec.dims.get(config.modality, 0)
        if width < len(classes):
            raise UserError(
                f"readout: the modality '{config.modality}' has {width} features, which cannot end "
                f"in {len(classes)} probabilities; name another encoder, `modality` or `classes`"
            )
        start = width - len(classes)
        self.places = [start + classes.index(name) for name in target.names]

    def prepare(self, train: Data) -> None:
        """Nothing of the training rows is used."""

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        """(B, U, C) logits, all alike where the modality is absent."""
        shares = batch.features[self.config.modality][..., self.places]
        logits = shares.clamp(min=_EDGE).log()
        absent = ~batch.present[self.config.modality].unsqueeze(-1)
        (target,) = self.spec.targets
        return {target.name: torch.where(absent, 0.0, logits)}


METHOD = Readout
