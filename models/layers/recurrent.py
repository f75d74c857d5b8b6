"""Recurrent layers over dialogues of unequal length."""

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


class BiLstm(nn.Module):
    """Bidirectional LSTM that never sees padding.

    On the CPU the library's LSTM spends most of its time between small products: at 32 dialogues
    and 50 units it takes several times as long as needed. There, both directions run as one
    batched product per step, and weight gradients are one product over all steps.

    Args:
        width_in: D of the input.
        width_out: D of the output, half of it per direction; even.
        layers: stacked layers.
        dropout: rate between stacked layers.
    """

    def __init__(
        self, width_in: int, width_out: int, layers: int = 1, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.lstm = nn.LSTM(
            width_in,
            width_out // 2,
            layers,
            batch_first=True,
            bidirectional=True,
            dropout=dropout if layers > 1 else 0.0,
        )

    def forward(self, x: Tensor, lengths: Tensor, seen: Tensor | None = None) -> Tensor:
        """Encode.

        Args:
            x: (B, U, D).
            lengths: (B,) long; real utterances, which come first.
            seen: (B, U) bool; the input counts as 0 elsewhere.

        Returns:
            (B, U, D'), 0 on padding.
        """
        if x.is_cuda:
            x = x if seen is None else x.masked_fill(~seen.unsqueeze(-1), 0.0)
            packed = pack_padded_sequence(
                x, lengths.clamp(min=1).cpu(), batch_first=True, enforce_sorted=False
            )
            hidden, _ = self.lstm(packed)
            padded = pad_packed_sequence(hidden, batch_first=True, total_length=x.shape[1])[0]
            return padded * (lengths > 0)[:, None, None]
        walk = Walk(lengths, x.shape[1])
        rows = walk.pack(x)
        for layer in range(self.lstm.num_layers):
            if layer > 0:
                rows = nn.functional.dropout(rows, self.lstm.dropout, self.training)
            rows = self._both_ways(rows, layer, walk, seen if layer == 0 else None)[0]
        return walk.unpack(rows)

    def twice(
        self, x: Tensor, lengths: Tensor, seen: Tensor, complete: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Encode with the input 0 outside ``seen``, and again with it 0 outside ``complete``.

        The second has no gradient; on the CPU, with one layer, it costs much less than another
        call. Shapes as in ``forward``.
        """
        if x.is_cuda or self.lstm.num_layers > 1:
            with torch.no_grad():
                second = self(x, lengths, complete)
            return self(x, lengths, seen), second
        walk = Walk(lengths, x.shape[1])
        first, second = self._both_ways(walk.pack(x), 0, walk, seen, complete)
        return walk.unpack(first), walk.unpack(second.detach())

    def _both_ways(
        self,
        rows: Tensor,
        layer: int,
        walk: "Walk",
        seen: Tensor | None,
        complete: Tensor | None = None,
    ) -> list[Tensor]:
        """(L, D) rows step by step to (L, 2H), once or, with ``complete``, twice."""
        names = (f"l{layer}", f"l{layer}_reverse")
        # a hundred steps want full precision, whatever the surroundings compute in
        with torch.autocast(rows.device.type, enabled=False):
            weights = [getattr(self.lstm, f"weight_ih_{name}") for name in names]
            bias = torch.cat(
                [
                    getattr(self.lstm, f"bias_ih_{name}") + getattr(self.lstm, f"bias_hh_{name}")
                    for name in names
                ]
            )
            inner = torch.stack([getattr(self.lstm, f"weight_hh_{name}") for name in names])
            # an input of 0 gives 0, so masks can wait until after the product
            product = rows.to(bias.dtype) @ torch.cat(weights).T
            given = walk.directions(product, bias, seen)
            extra = None
            if complete is not None:
                extra = walk.directions(product.detach(), bias.detach(), complete)
            hidden = _Lstm.apply(given, inner, walk.counts, extra)
            pairs = zip(hidden[0::2], hidden[1::2], strict=True)
            return [torch.cat([forth, back[walk.flip]], 1) for forth, back in pairs]


class Walk:
    """Rows of dialogues step by step, longest dialogue first.

    Attributes:
        counts: dialogues still running at each step.
        forth: (L,) long; places of the rows in the flattened (B * U).
        flip: (L,) long; the row that takes a row's place when every dialogue runs backwards. Its
            own inverse.
    """

    def __init__(self, lengths: Tensor, utterances: int) -> None:
        self.shape = (len(lengths), utterances)
        step = torch.arange(utterances)
        order = torch.argsort(lengths, descending=True, stable=True)
        runs = step[:, None] < lengths[order]  # (U, B)
        self.counts = [count for count in runs.sum(1).tolist() if count]
        self.forth = (order * utterances + step[:, None])[runs]
        row = torch.cumsum(runs.flatten().long(), 0).view_as(runs) - 1
        mirrored = (lengths[order] - 1 - step[:, None]).clamp(min=0)
        self.flip = row.gather(0, mirrored)[runs]

    def pack(self, padded: Tensor) -> Tensor:
        """(B, U, D) to (L, D) rows."""
        return padded.flatten(0, 1).index_select(0, self.forth)

    def unpack(self, rows: Tensor) -> Tensor:
        """(L, D) rows to (B, U, D), 0 on padding."""
        padded = rows.new_zeros(self.shape[0] * self.shape[1], rows.shape[1])
        return padded.index_copy(0, self.forth, rows).unflatten(0, self.shape)

    def directions(self, product: Tensor, bias: Tensor, seen: Tensor | None) -> Tensor:
        """(L, 8H) products of all inputs to (2, L, 4H): masked, biased, the second reversed."""
        if seen is not None:
            product = product.masked_fill(~seen.flatten()[self.forth].unsqueeze(1), 0.0)
        forth, back = (product + bias).chunk(2, 1)
        return torch.stack([forth, back.index_select(0, self.flip)])


class _Lstm(torch.autograd.Function):
    """The sequential part of both directions; gates in the library's order i, f, g, o."""

    @staticmethod
    def forward(
        ctx, given: Tensor, weight: Tensor, counts: list[int], extra: Tensor | None
    ) -> Tensor:
        """(2, L, 4H) what inputs give, (2, 4H, H) recurrent weights -> (2, L, H) states.

        With ``extra``, a second pair of inputs without gradient, (4, L, H).
        """
        width = weight.shape[2]
        inner = weight.mT
        gates = given.clone()
        if extra is not None:
            gates, inner = torch.cat([given, extra]), torch.cat([inner, inner])
        inner = inner.contiguous()
        states, cells, before, before_cells = given.new_zeros(4, *gates.shape[:2], width)
        # views of every step at once: slicing again and again costs as much as the arithmetic
        steps = zip(
            counts, *(x.split(counts, 1) for x in (gates, states, cells, before, before_cells)),
            strict=True,
        )  # fmt: skip
        last_state = last_cell = states[:, :0]  # nothing comes before the first step
        for count, gate, state, cell, before_state, before_cell in steps:
            if last_state.shape[1]:
                before_state.copy_(last_state[:, :count])
                before_cell.copy_(last_cell[:, :count])
                gate.baddbmm_(before_state, inner)
            gate[..., : 2 * width].sigmoid_()
            gate[..., 2 * width : 3 * width].tanh_()
            gate[..., 3 * width :].sigmoid_()
            i, f, g, o = gate.split(width, 2)
            torch.mul(i, g, out=cell).addcmul_(f, before_cell)
            torch.mul(cell.tanh(), o, out=state)
            last_state, last_cell = state, cell
        ctx.counts = counts
        ctx.save_for_backward(*(x[:2] for x in (gates, cells, before, before_cells)), weight)
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor):
        """Gradients of ``given`` and ``weight``."""
        gates, cells, before, before_cells, weight = ctx.saved_tensors
        width = weight.shape[2]
        gradient = gradient[:2]
        i, f, g, o = gates.split(width, 2)
        squashed = cells.tanh()
        to_cell = o * (1 - squashed**2)
        # how gates move with the cell's gradient (i, f, g) and with the state's (o)
        slope = torch.cat(
            [g * i * (1 - i), before_cells * f * (1 - f), i * (1 - g**2), squashed * o * (1 - o)],
            2,
        )
        d_given = torch.empty_like(gates)
        d_state = gradient.new_zeros(2, max(ctx.counts, default=0), width)
        d_cell = torch.zeros_like(d_state)
        steps = zip(
            ctx.counts, *(x.split(ctx.counts, 1) for x in (gradient, to_cell, slope, f, d_given)),
            strict=True,
        )  # fmt: skip
        for count, given, cell_slope, gate_slope, forget, d_gate in reversed(list(steps)):
            dh = d_state[:, :count].add_(given)
            dc = d_cell[:, :count].addcmul_(dh, cell_slope)
            moves = torch.cat([dc, dc, dc, dh], 2)
            torch.mul(moves, gate_slope, out=d_gate)
            torch.bmm(d_gate, weight, out=dh)
            dc.mul_(forget)
        return d_given, d_given.mT @ before, None, None
