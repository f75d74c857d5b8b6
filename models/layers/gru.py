"""The library's GRU over sequences of unequal length, without its small products on the CPU.

There the library walks every direction by itself and adds to the gradient of its weights at every
step. Here the directions are one batched product a step, and weight gradients one over all steps:
a step over 128 frames costs a fraction of the time, and the same to within rounding.
"""

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from models.layers.recurrent import Walk


def encode(gru: nn.GRU, x: Tensor, lengths: Tensor) -> Tensor:
    """The states of the last layer.

    Args:
        gru: ``batch_first``, with biases.
        x: (N, T, D).
        lengths: (N,) long; real steps, which come first.

    Returns:
        (N, T, D'), 0 on padding.
    """
    if x.is_cuda:
        packed = pack_padded_sequence(
            x, lengths.clamp(min=1).cpu(), batch_first=True, enforce_sorted=False
        )
        padded, _ = pad_packed_sequence(gru(packed)[0], batch_first=True, total_length=x.shape[1])
        return padded * (lengths > 0)[:, None, None]
    walk = Walk(lengths, x.shape[1])
    rows = walk.pack(x)
    for layer in range(gru.num_layers):
        if layer > 0:
            rows = nn.functional.dropout(rows, gru.dropout, gru.training)
        rows = _layer(gru, rows, layer, walk)
    return walk.unpack(rows)


def _layer(gru: nn.GRU, rows: Tensor, layer: int, walk: Walk) -> Tensor:
    """(L, D) rows step by step to (L, D')."""
    names = [f"l{layer}", f"l{layer}_reverse"][: 1 + gru.bidirectional]

    def weights(what: str) -> list[Tensor]:
        return [getattr(gru, f"{what}_{name}") for name in names]

    # a hundred steps want full precision, whatever the surroundings compute in
    with torch.autocast(rows.device.type, enabled=False):
        bias = torch.cat(weights("bias_ih"))
        product = rows.to(bias.dtype) @ torch.cat(weights("weight_ih")).T + bias
        given = list(product.chunk(len(names), 1))
        given[1:] = [back.index_select(0, walk.flip) for back in given[1:]]
        inner, inner_bias = torch.stack(weights("weight_hh")), torch.stack(weights("bias_hh"))
        hidden = list(_Gru.apply(torch.stack(given), inner, inner_bias, walk.counts))
        hidden[1:] = [back.index_select(0, walk.flip) for back in hidden[1:]]
        return torch.cat(hidden, 1)


class _Gru(torch.autograd.Function):
    """The sequential part of all directions; gates in the library's order r, z, n."""

    @staticmethod
    def forward(ctx, given: Tensor, weight: Tensor, bias: Tensor, counts: list[int]) -> Tensor:
        """(D, L, 3H) what inputs give, (D, 3H, H) and (D, 3H) recurrent -> (D, L, H) states."""
        width = weight.shape[2]
        inner = weight.mT.contiguous()
        gates = given.clone()
        # what the state gives to every gate: its bias alone in the first step
        from_state = bias.unsqueeze(1).repeat(1, given.shape[1], 1)
        states, before = given.new_zeros(2, *given.shape[:2], width)
        last = states[:, :0]
        # views of every step at once: slicing again and again costs as much as the arithmetic
        steps = zip(
            counts, *(x.split(counts, 1) for x in (gates, from_state, states, before)), strict=True
        )
        for count, gate, told, state, previous in steps:
            if last.shape[1]:
                previous.copy_(last[:, :count])
                told.baddbmm_(previous, inner)
            both = gate[..., : 2 * width].add_(told[..., : 2 * width]).sigmoid_()
            reset, keep = both.split(width, 2)
            new = gate[..., 2 * width :].addcmul_(reset, told[..., 2 * width :]).tanh_()
            torch.lerp(new, previous, keep, out=state)
            last = state
        ctx.counts = counts
        ctx.save_for_backward(gates, from_state[..., 2 * width :], before, weight)
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor):
        """Gradients of ``given``, ``weight`` and ``bias``."""
        gates, told, before, weight = ctx.saved_tensors
        width = weight.shape[2]
        reset, keep, new = gates.split(width, 2)
        # how what goes into r, z and n moves with the state; then n's part from the inputs
        to_new = (1 - keep) * (1 - new**2)
        to_reset = to_new * told * reset * (1 - reset)
        to_keep = (before - new) * keep * (1 - keep)
        slope = torch.stack([to_reset, to_keep, to_new * reset, to_new], 2)  # (D, L, 4, H)
        moves = torch.empty_like(slope)
        flat = moves.flatten(2)[..., : 3 * width]  # (D, L, 3H), of the state's products
        d_state = gradient.new_zeros(len(weight), max(ctx.counts, default=0), width)
        views = (x.split(ctx.counts, 1) for x in (gradient, keep, slope, moves, flat))
        steps = zip(ctx.counts, *views, strict=True)
        for count, outer, kept, step_slope, move, of_state in reversed(list(steps)):
            d_now = d_state[:, :count].add_(outer)
            torch.mul(step_slope, d_now.unsqueeze(2), out=move)
            d_now.mul_(kept).baddbmm_(of_state, weight)
        d_given = torch.cat([moves[:, :, :2].flatten(2), moves[:, :, 3]], 2)
        return d_given, flat.mT @ before, flat.sum(1), None
