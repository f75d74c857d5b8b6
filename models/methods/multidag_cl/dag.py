"""DAG-ERC's recurrence over the utterances of a dialogue, batched over dialogues.

The recurrence is sequential by nature: an utterance needs this layer's states of those before it.
What can be saved is everything around it. Dialogues are sorted by length and laid out step by step
(as in a packed sequence), so a step touches only dialogues that still run; products that do not
wait are done for all steps at once; the backward pass is written by hand so that the gradients of
the weights are one product over all steps instead of one small product per step. ``plain`` is the
same without any of this, and what the tests hold it against.
"""

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class Schedule:
    """The order in which a batch of dialogues is walked through.

    Attributes:
        order: (L,) long; places in the flattened (B * U) of the rows, step by step.
        steps: per utterance index: first row, number of dialogues still running, and the earliest
            utterance that any of them looks back to.
        edges: (B, U, U) bool, [target, source]; longest dialogue first.
        same: (B, U, U) bool; longest dialogue first.
    """

    def __init__(self, mask: Tensor, edges: Tensor, same: Tensor) -> None:
        """Plan.

        Args:
            mask: (B, U) bool; real utterances.
            edges: (B, U, U) bool, [target, source]; every source lies before its target.
            same: (B, U, U) bool; both utterances are of one speaker.
        """
        longest_first = torch.argsort(mask.sum(1), descending=True, stable=True)
        places = torch.arange(mask.numel(), device=mask.device).view_as(mask)[longest_first]
        self.order = places.T[mask[longest_first].T]
        self.edges, self.same = edges[longest_first], same[longest_first]
        running = mask.sum(0)
        earliest = edges.any(0).to(torch.uint8).argmax(1)  # of several maxima, the first
        starts = torch.cumsum(running, 0) - running
        table = torch.stack([starts, running, earliest], 1).tolist()
        self.steps = [(start, count, early) for start, count, early in table if count]

    def unpack(self, rows: Tensor) -> Tensor:
        """(L, D) rows, step by step, to (B, U, D) in the order of the batch; 0 on padding."""
        shape = self.edges.shape[:2]
        padded = rows.new_zeros(shape.numel(), rows.shape[-1])
        return padded.index_copy(0, self.order, rows).unflatten(0, shape)

    def pack(self, padded: Tensor) -> Tensor:
        """(B, U, D) to (L, D) rows, step by step."""
        return padded.flatten(0, 1).index_select(0, self.order)


class DagLayer(nn.Module):
    """Every utterance gathers messages from those before it, at this layer, and updates twice.

    With q the state below and h_j the states of this layer that are already known:
    alpha = softmax_j(w [q; h_j] + beta), M = sum_j alpha_j (W_same h_j or W_other h_j),
    h = GRU_context(input q, hidden M) + GRU_person(input M, hidden q). Without predecessors M = 0.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.attention = nn.Linear(2 * width, 1)
        self.same = nn.Linear(width, width, bias=False)
        self.other = nn.Linear(width, width, bias=False)
        self.context = nn.GRUCell(width, width)
        self.person = nn.GRUCell(width, width)

    def forward(self, rows: Tensor, schedule: Schedule) -> Tensor:
        """(L, H) rows, step by step, to (L, H)."""
        # sums over a hundred steps want full precision, whatever the surroundings compute in
        with torch.autocast(rows.device.type, enabled=False):
            q = rows.to(self.attention.weight.dtype)
            given = torch.cat(
                [
                    q @ self.context.weight_ih.T + self.context.bias_ih,
                    q @ self.person.weight_hh.T + self.person.bias_hh,
                ],
                -1,
            )
            query_weight, key_weight = self.attention.weight[0].split(self.width)
            return _Recurrence.apply(
                q,
                given[:, _blocks(self.width, q.device)],
                q @ query_weight + self.attention.bias,
                key_weight,
                torch.cat([self.same.weight, self.other.weight], 1).T,
                self._later(self.context.weight_hh, self.person.weight_ih).T,
                self._later(self.context.bias_hh, self.person.bias_ih),
                schedule,
            )

    def _later(self, context: Tensor, person: Tensor) -> Tensor:
        return torch.cat([context, person])[_blocks(self.width, context.device)]


def plain(layer: DagLayer, q: Tensor, edges: Tensor, same: Tensor) -> Tensor:
    """What ``DagLayer`` computes, as its formulas say; autograd does the rest.

    Args:
        layer: whose weights.
        q: (U, H) states below, of one dialogue.
        edges: (U, U) bool, [target, source].
        same: (U, U) bool; both utterances are of one speaker.

    Returns:
        (U, H).
    """
    states: list[Tensor] = []
    for i, state in enumerate(q):
        message = torch.zeros_like(state)
        heard = edges[i].nonzero().flatten().tolist()
        if heard:
            pairs = torch.stack([torch.cat([state, states[j]]) for j in heard])
            alpha = layer.attention(pairs).squeeze(1).softmax(0)
            values = [(layer.same if same[i, j] else layer.other)(states[j]) for j in heard]
            message = alpha @ torch.stack(values)
        row, hidden = state[None], message[None]
        states.append((layer.context(row, hidden) + layer.person(hidden, row))[0])
    return torch.stack(states)


def _blocks(width: int, device: torch.device) -> Tensor:
    """Index that takes (r, z, n) of context and person to (r r, z z, n n)."""
    blocks = torch.arange(6 * width, device=device).view(6, width)
    return blocks[[0, 3, 1, 4, 2, 5]].flatten()


class _Recurrence(torch.autograd.Function):
    """The sequential part of a layer.

    Gates of both cells stand side by side, context first: reset and update (r, z), candidate
    n = tanh(added + r * scaled), result n + z * (kept - n). What waits for the message M and what
    does not are on opposite sides in the two cells: of the context cell M gives ``scaled`` and is
    ``kept``, of the person cell it gives ``added``.
    """

    @staticmethod
    def forward(ctx, q, given, query, key_weight, message, later, later_bias, schedule):
        """(L, H) new states; see ``DagLayer.forward`` for what the arguments are."""
        total, width = q.shape
        two, four, five = 2 * width, 4 * width, 5 * width
        dialogues, length = schedule.edges.shape[:2]
        states = q.new_zeros(length, dialogues, width)
        keys = q.new_zeros(dialogues, length)
        attention = q.new_zeros(dialogues, length, length)
        gathered = q.new_zeros(total, two)
        gates = given[:, :four].clone()
        scaled, added = given[:, four:].clone(), given[:, four:].clone()
        kept = torch.cat([torch.zeros_like(q), q], 1)
        out = torch.empty_like(q)
        for i, (start, count, early) in enumerate(schedule.steps):
            now = slice(start, start + count)
            m = kept[now, :width]
            if i > 0:
                scores = keys[:count, early:i] + query[now, None]
                is_edge = schedule.edges[:count, i, early:i]
                # a finite floor and the mask: who hears nobody gets M = 0, not NaN
                alpha = scores.masked_fill_(~is_edge, -1e30).softmax(-1).mul_(is_edge)
                attention[:count, i, early:i] = alpha
                own = alpha * schedule.same[:count, i, early:i]
                heard = states[early:i, :count].transpose(0, 1)
                sums = torch.stack([own, alpha - own], 1) @ heard  # (b, 2, H)
                gathered[now] = sums.flatten(1)
                torch.mm(gathered[now], message, out=m)
            waited = torch.addmm(later_bias, m, later)
            gate = gates[now].add_(waited[:, :four]).sigmoid_()
            scaled[now, :width] = waited[:, four:five]
            added[now, width:] = waited[:, five:]
            candidate = added[now].addcmul_(gate[:, :two], scaled[now]).tanh_()
            both = torch.lerp(candidate, kept[now], gate[:, two:])
            state = torch.add(both[:, :width], both[:, width:], out=out[now])
            states[i, :count] = state
            keys[:count, i] = state @ key_weight
        ctx.schedule = schedule
        ctx.save_for_backward(
            states, attention, gathered, gates, scaled, added, kept, out,
            key_weight, message, later,
        )  # fmt: skip
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        """Gradients of everything but the schedule, walking the steps backwards."""
        (
            states, attention, gathered, gates, scaled, candidates, kept, out,
            key_weight, message, later,
        ) = ctx.saved_tensors  # fmt: skip
        schedule = ctx.schedule
        width = gradient.shape[1]
        two, four, five = 2 * width, 4 * width, 5 * width
        # what does not depend on the gradient, for all steps at once
        reset, update = gates.split(two, 1)
        to_candidate = (1 - update) * (1 - candidates**2)
        to_update = (kept - candidates) * update * (1 - update)
        to_reset = scaled * reset * (1 - reset)
        d_states = torch.zeros_like(states)
        d_keys = gradient.new_zeros(attention.shape[:2])
        d_query = torch.zeros_like(gradient[:, 0])
        d_key_rows = torch.zeros_like(d_query)
        d_waited = gradient.new_empty(len(gates), 6 * width)
        d_message = gradient.new_zeros(gradient.shape)
        d_candidate = torch.empty_like(candidates)
        d_kept = torch.empty_like(kept)
        for i in range(len(schedule.steps) - 1, -1, -1):
            start, count, early = schedule.steps[i]
            now = slice(start, start + count)
            d_key = d_keys[:count, i]
            d_key_rows[now] = d_key
            d = gradient[now] + d_states[i, :count] + d_key[:, None] * key_weight
            d = d.repeat(1, 2)
            d_cand = torch.mul(d, to_candidate[now], out=d_candidate[now])
            torch.mul(d, update[now], out=d_kept[now])
            dw = d_waited[now]
            torch.mul(d_cand, to_reset[now], out=dw[:, :two])
            torch.mul(d, to_update[now], out=dw[:, two:four])
            torch.mul(d_cand[:, :width], reset[now, :width], out=dw[:, four:five])
            dw[:, five:] = d_cand[:, width:]
            if i == 0:
                continue  # nobody was heard, so M = 0 is a constant
            d_m = torch.addmm(d_kept[now, :width], dw, later.T, out=d_message[now])
            d_sums = (d_m @ message.T).unflatten(1, (2, width))
            alpha = attention[:count, i, early:i]
            same = schedule.same[:count, i, early:i]
            own = alpha * same
            heard = states[early:i, :count].transpose(0, 1)
            d_heard = torch.stack([own, alpha - own], 2) @ d_sums  # (b, k, H)
            d_states[early:i, :count] += d_heard.transpose(0, 1)
            d_both = d_sums @ heard.mT  # (b, 2, k)
            d_alpha = torch.where(same, d_both[:, 0], d_both[:, 1])
            d_score = alpha * (d_alpha - (alpha * d_alpha).sum(1, keepdim=True))
            d_keys[:count, early:i] += d_score
            d_query[now] = d_score.sum(1)
        d_given = torch.cat(
            [d_waited[:, :four], d_candidate[:, :width], d_candidate[:, width:] * reset[:, width:]],
            1,
        )
        return (
            d_kept[:, width:],
            d_given,
            d_query,
            out.T @ d_key_rows,
            gathered.T @ d_message,
            kept[:, :width].T @ d_waited,
            d_waited.sum(0),
            None,
        )
