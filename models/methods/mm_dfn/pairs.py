"""The backbone of SPCL: transformers, a short graph, and gates between pairs of modalities."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from models.backbone import visible, votes
from models.batch import Batch
from models.layers.sequence import ContextEncoder
from models.methods.mm_dfn.fusion import Shape


class PairGate(nn.Module):
    """h_ij = g x_i + (1 - g) x_j with g = sigmoid(W [x_i ; x_j ; x_i x_j] + b)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate = nn.Linear(3 * width, width)

    def forward(self, own: Tensor, other: Tensor, is_there: Tensor) -> Tensor:
        """(B, U, H), (B, U, H), (B, U) bool -> (B, U, H); where the other is absent, own."""
        gate = torch.sigmoid(self.gate(torch.cat([own, other, own * other], -1)))
        return torch.where(is_there.unsqueeze(-1), torch.lerp(other, own, gate), own)


class GatedPairs(nn.Module):
    """A transformer for each modality, the graph without a gate, then every pair meets."""

    def __init__(self, dims: Mapping[str, int], shape: Shape) -> None:
        super().__init__()
        self.graph = shape.graph(has_gate=False)
        unified = shape.unified
        self.encoders = nn.ModuleDict(
            {n: ContextEncoder(dim, unified, 2, shape.dropout) for n, dim in dims.items()}
        )
        self.narrow = nn.ModuleDict({n: nn.Linear(unified + shape.hidden, unified) for n in dims})
        self.pairs = nn.ModuleDict(
            {f"{a}_{b}": PairGate(unified) for a in dims for b in dims if a != b}
        )
        self.narrow_dropout = nn.Dropout(0.5)
        #: Width of what the classifier sees.
        self.width = unified

    def encode(self, inputs: Mapping[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """(B, U, D) -> (B, U, unified + hidden) per modality."""
        nodes = [self.encoders[name](x, visible(batch, name)) for name, x in inputs.items()]
        exists = torch.stack([votes(batch, name) for name in inputs], 2)
        states = self.graph.run(torch.stack(nodes, 2), exists, batch.mask)
        return dict(zip(inputs, states.unbind(2), strict=True))

    def meet(self, features: Mapping[str, Tensor], batch: Batch) -> Mapping[str, Tensor]:
        """(B, U, unified + hidden) -> (B, U, unified): the gated sums over the other modalities."""
        there = {name: votes(batch, name) for name in features}
        narrow = {
            name: self.narrow_dropout(torch.relu(self.narrow[name](values)))
            for name, values in features.items()
        }
        return {
            own: torch.stack(
                [
                    self.pairs[f"{own}_{other}"](narrow[own], narrow[other], there[other])
                    for other in narrow
                    if other != own
                ]
            ).sum(0)
            for own in narrow
        }

    def encoder(self, stream: str) -> Iterable[nn.Module]:
        """The transformer of a modality."""
        return [self.encoders[stream]]
