"""Values of corpora that use one scale differently: a map for each part of a union, or an offset.

Parts are rated on equal ranges and differ in how they use them. A map takes the values of a part to
a scale in the middle of all parts, on which one network learns, and what the network says back
again, so that every score is on the part's own scale. Both are straight lines between knots, which
training rows alone decide. Rows of no known part are answered on the scale in the middle.

P parts   K values   Q knots   B, U as in ``models.batch``
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.batch import Batch, Target

Align = Literal["none", "zscore", "quantile"]
Line = tuple[float, ...]
#: Shares of a part's values at or below the knots of a quantile map.
LEVELS = np.linspace(0, 1, 21)


@dataclass(frozen=True)
class Knots:
    """Where a map of one column of one part bends; beyond its ends it goes straight on.

    Attributes:
        own: values on the part's scale, rising; empty where the scale stays as it is.
        common: the same on the scale in the middle.
    """

    own: Line = ()
    common: Line = ()


@dataclass(frozen=True)
class PartSpec:
    """What a method is built for that knows the parts of a union, as plain values.

    Attributes:
        columns: part to each column of values that its training rows are judged on; the order of
            the parts is that of the indices in ``Batch.parts``.
        has_offsets: each part has an offset and a slope of its own, learnt with the network.
    """

    columns: Mapping[str, Mapping[str, Knots]]
    has_offsets: bool = False

    @classmethod
    def of(cls, found: Mapping[str, object]) -> "PartSpec":
        """What ``dataclasses.asdict`` made of one, out of JSON."""
        columns = cast(Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]], found["columns"])
        return cls(
            {
                part: {
                    name: Knots(tuple(knots["own"]), tuple(knots["common"]))
                    for name, knots in own.items()
                }
                for part, own in columns.items()
            },
            bool(found["has_offsets"]),
        )


def fit_knots(align: Align, values: Mapping[str, np.ndarray]) -> dict[str, Knots]:
    """Part to its map of one column.

    Args:
        align: ``zscore``: means and deviations become the means of those of the parts;
            ``quantile``: so do all quantiles.
        values: part to its training values (n,), not all of them alike.
    """
    if align == "none":
        return dict.fromkeys(values, Knots())
    if align == "zscore":
        ends = {part: found.mean() + np.array([-1, 1]) * found.std(ddof=1)
                for part, found in values.items()}  # fmt: skip
    else:
        ends = {part: np.quantile(found, LEVELS) for part, found in values.items()}
    middle = np.mean(list(ends.values()), 0)
    return {part: _rising(own, middle) for part, own in ends.items()}


def _rising(own: np.ndarray, common: np.ndarray) -> Knots:
    """Knots that can be read both ways: a value that many share goes to the middle of its share."""
    points, which, count = np.unique(own, return_inverse=True, return_counts=True)
    means = np.bincount(which, common) / count
    return Knots(tuple(points.tolist()), tuple(means.tolist()))


class PartScales(nn.Module):
    """The maps of ``spec``, and offsets and slopes that are learnt.

    Args:
        spec: of the parts.
        targets: what the network predicts; those of values are mapped.
    """

    def __init__(self, spec: PartSpec, targets: Sequence[Target]) -> None:
        super().__init__()
        self.parts = tuple(spec.columns)
        self.has_offsets = spec.has_offsets
        self.targets = [target for target in targets if target.kind == "values"]
        for target in self.targets:
            own, common = _tables(spec, target)
            # out of the weights, for the run's options have them
            self.register_buffer(f"own_{target.name}", own, persistent=False)
            self.register_buffer(f"common_{target.name}", common, persistent=False)
            if spec.has_offsets:
                shares = _shares(spec, target)
                self.register_buffer(f"shares_{target.name}", shares, persistent=False)
                for what in ("slope", "offset"):  # from 1 and 0; weight decay draws them together
                    start = nn.Parameter(torch.zeros(len(self.parts), target.width))
                    self.register_parameter(f"{what}_{target.name}", start)

    def shifted(self, outputs: Mapping[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """Outputs (B, U, K) times the slope of each row's part, plus its offset.

        Rows of no known part, and columns that the part is not judged on, have the mean of the
        parts that are.
        """
        found = dict(outputs)
        for target in self.targets if self.has_offsets else ():
            name, values = target.name, outputs[target.name]
            is_of = F.one_hot(self._places(batch), len(self.parts) + 1).to(values.dtype)
            shares = self.get_buffer(f"shares_{name}").to(values.dtype)
            slope, offset = (
                is_of @ torch.einsum("pkq,qk->pk", shares, weight.to(values.dtype))
                for weight in map(self.get_parameter, (f"slope_{name}", f"offset_{name}"))
            )
            found[name] = values * (1 + slope) + offset
        return found

    def own(self, outputs: Mapping[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """Outputs (B, U, K) on the scale in the middle, on the scale of each row's part."""
        found = dict(outputs)
        for target in self.targets:
            own, common = (self.get_buffer(f"{s}_{target.name}") for s in ("own", "common"))
            found[target.name] = _through(found[target.name], self._places(batch), common, own)
        return found

    def common(self, target: Target, truth: Tensor, places: Tensor) -> Tensor:
        """Labels (..., K) of parts (...) on the scale in the middle; NaN stays."""
        own, common = (self.get_buffer(f"{s}_{target.name}") for s in ("own", "common"))
        return _through(truth, places, own, common)

    def aligned(self, batch: Batch) -> dict[str, Tensor]:
        """The labels of a batch, those of values on the scale in the middle."""
        mine = {t.name: t for t in self.targets}
        places = self._places(batch)
        return {
            name: self.common(mine[name], truth, places) if name in mine else truth
            for name, truth in batch.targets.items()
        }

    def _places(self, batch: Batch) -> Tensor:
        """(B, U) index of the part, the last one for rows of none."""
        stranger = len(self.parts)
        if batch.parts is None:
            return torch.full_like(batch.speakers, stranger)
        return batch.parts.masked_fill(batch.parts < 0, stranger)


def _tables(spec: PartSpec, target: Target) -> tuple[Tensor, Tensor]:
    """Knots as two tables (P + 1, K, Q), the last part that of strangers, whose map is none."""
    rows = [*spec.columns.values(), {}]
    knots = [[row.get(name, Knots()) for name in target.names] for row in rows]
    width = max(2, *(len(one.own) for row in knots for one in row))
    own, common = (
        torch.tensor([[_long(getattr(one, side), width) for one in row] for row in knots])
        for side in ("own", "common")
    )
    return own, common


def _long(line: Line, width: int) -> list[float]:
    """A line of so many knots: the last step goes on; 0, 1, 2 ... where there are none."""
    found = list(line) or [0.0, 1.0]
    step = found[-1] - found[-2]
    return found + [found[-1] + step * more for more in range(1, width - len(found) + 1)]


def _shares(spec: PartSpec, target: Target) -> Tensor:
    """(P + 1, K, P) how much each part counts for rows of a part; the last are strangers."""
    is_known = torch.tensor([[n in row for n in target.names] for row in spec.columns.values()])
    known = is_known.float()  # (P, K)
    mean = (known / known.sum(0).clamp(min=1)).T  # (K, P)
    itself = torch.eye(len(known)).unsqueeze(1).expand(-1, target.width, -1)
    mine = torch.where(is_known.unsqueeze(-1), itself, mean)
    return torch.cat([mine, mean.unsqueeze(0)])


def _through(values: Tensor, places: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """Values (..., K) of parts (...) along straight lines from ``start`` to ``end`` (P, K, Q)."""
    x, y = start[places].contiguous(), end[places]  # (..., K, Q)
    value = values.to(x.dtype).unsqueeze(-1).contiguous()
    after = torch.searchsorted(x, value).clamp(1, x.shape[-1] - 1)
    x0, x1, y0, y1 = (side.gather(-1, at) for side in (x, y) for at in (after - 1, after))
    return (y0 + (value - x0) * (y1 - y0) / (x1 - x0)).squeeze(-1).to(values.dtype)
