"""Baseline ``ridge``: ridge regression on the standardised features of all modalities.

Solved and not trained: epoch 1, 2, ... has the exact solution for a penalty on the squared weights
of 1000, 316, 100, ... times the number of rows, so validation chooses the penalty as it chooses
epochs. An absent modality contributes 0 and one offset of its own. Classes and labels are regressed
as 0 and 1, and their probabilities are the values cut to (0, 1).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.batch import Batch, Target
from models.method import Data, Method, Spec, is_known

_FIRST = 1e3
#: Epochs that lower the penalty to a tenth.
_PER_DECADE = 2
#: Weaker penalties do not change the solution in float32.
_WEAKEST = 1e-8
#: The nearest that a probability comes to 0 or 1.
_EDGE = 1e-3


@dataclass(frozen=True)
class Config:
    """Ridge regression has no options; ``epochs`` is how many penalties are tried."""


@dataclass(frozen=True)
class _System:
    """Normal equations of the columns that are known in the same rows, diagonalised.

    Attributes:
        columns: which of the target's (k,).
        inputs: mean of the inputs (D,).
        outputs: mean of the columns (k,).
        values: eigenvalues of the inputs' covariance (D,).
        vectors: its eigenvectors (D, D).
        products: covariance of inputs and columns in their coordinates (D, k).
    """

    columns: Tensor
    inputs: Tensor
    outputs: Tensor
    values: Tensor
    vectors: Tensor
    products: Tensor

    def solution(self, penalty: float) -> tuple[Tensor, Tensor]:
        """Weights (k, D) and offsets (k,) for a penalty per row."""
        weights = (self.vectors @ (self.products / (self.values + penalty).unsqueeze(1))).T
        return weights, self.outputs - weights @ self.inputs


class Ridge(Method):
    """One exactly solved linear layer per target."""

    level = "utterance"
    config_type = Config
    recipe: ClassVar[Mapping[str, object]] = {
        "batch_size": 256, "epochs": 17, "patience": 0, "scheduler": "none",
    }  # fmt: skip

    def __init__(self, spec: Spec, config: Config) -> None:
        super().__init__(spec, config)
        width = sum(spec.dims.values()) + len(spec.dims)
        self.heads = nn.ModuleDict({t.name: nn.Linear(width, t.width) for t in spec.targets})
        for parameter in self.heads.parameters():
            nn.init.zeros_(parameter)  # a column without a label stays 0
        self._systems: dict[str, list[_System]] = {}

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        """(B, U, C) logits or (B, U, K) values."""
        x = self._inputs(batch)
        return {t.name: _as_output(t, self.heads[t.name](x)) for t in self.spec.targets}

    def _inputs(self, batch: Batch) -> Tensor:
        """(B, U, D) features of all modalities, then a 1 for each that is absent."""
        names = self.spec.modalities
        features = torch.cat([batch.features[name] for name in names], -1)
        absent = torch.stack([~batch.present[name] for name in names], -1)
        return torch.cat([features, absent.to(features.dtype)], -1)

    def on_epoch(self, epoch: int, train: Data) -> None:
        """Take the solution for the next penalty."""
        if not self._systems:  # not kept with the weights: a resumed run makes them again
            self._systems = {t.name: self._solved(t, train) for t in self.spec.targets}
        penalty = max(_FIRST * 10 ** ((1 - epoch) / _PER_DECADE), _WEAKEST)
        for name, systems in self._systems.items():
            head = cast(nn.Linear, self.heads[name])
            with torch.no_grad():
                for system in systems:
                    weights, offsets = system.solution(penalty)
                    head.weight[system.columns] = weights.to(head.weight)
                    head.bias[system.columns] = offsets.to(head.bias)

    def after_clip(self, batch: Batch, epoch: int) -> None:
        """Nothing is left to learn: the optimiser passes over what has no gradient."""
        self.zero_grad(set_to_none=True)

    def _solved(self, target: Target, train: Data) -> list[_System]:
        known = torch.cat([_known(target, batch) for batch in self._batches(train)])
        masks, which = known.unique(dim=1, return_inverse=True)  # (N, P) and (K,)
        systems = []
        for i, mask in enumerate(masks.T):
            if mask.any():
                columns = (which == i).nonzero().squeeze(1)
                systems.append(self._system(target, columns, mask, train))
        return systems

    def _system(self, target: Target, columns: Tensor, mask: Tensor, train: Data) -> _System:
        width = sum(self.spec.dims.values()) + len(self.spec.dims)
        gram = torch.zeros(width, width, dtype=torch.float64)
        products = torch.zeros(width, len(columns), dtype=torch.float64)
        inputs, outputs = gram.new_zeros(width), gram.new_zeros(len(columns))
        count = int(mask.sum())
        at = 0
        for batch in self._batches(train):
            rows = mask[at : at + int(batch.mask.sum())]
            at += len(rows)
            x = self._inputs(batch)[batch.mask][rows].double()
            y = _as_numbers(target, batch)[rows][:, columns]
            gram += x.T @ x
            products += x.T @ y
            inputs += x.sum(0)
            outputs += y.sum(0)
        inputs, outputs = inputs / count, outputs / count
        values, vectors = torch.linalg.eigh(gram / count - torch.outer(inputs, inputs))
        products = vectors.T @ (products / count - torch.outer(inputs, outputs))
        return _System(columns, inputs, outputs, values.clamp(min=0.0), vectors, products)

    def _batches(self, train: Data) -> Iterator[Batch]:
        """The training rows in order, standardised, where sums are made."""
        size = 256
        starts = range(0, len(train), size)
        device = next(self.parameters()).device
        for batch in train.batches([range(at, min(at + size, len(train))) for at in starts]):
            yield self.normalise(batch.to(device)).to("cpu")


def _known(target: Target, batch: Batch) -> Tensor:
    """(N, K) bool: the labelled cells of the real rows; a category is known whole or not at all."""
    known = is_known(target, batch)[batch.mask]
    return known.unsqueeze(1).expand(-1, target.width) if known.ndim == 1 else known


def _as_numbers(target: Target, batch: Batch) -> Tensor:
    """(N, K) float64 labels of the real rows; what is not labelled may hold anything."""
    truth = batch.targets[target.name][batch.mask]
    if target.kind == "category":
        truth = F.one_hot(truth.clamp(min=0), target.width)
    return truth.double()


def _as_output(target: Target, values: Tensor) -> Tensor:
    """Regressed values as what their kind of target is read from."""
    if target.kind == "values":
        return values
    if target.kind == "category":
        return values.clamp(min=_EDGE).log()
    return values.clamp(_EDGE, 1 - _EDGE).logit()


METHOD = Ridge
