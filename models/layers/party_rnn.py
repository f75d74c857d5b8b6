"""DialogueRNN's recurrences: global history, party states, emotion states.

The recurrence is sequential in the utterances, so everything else runs side by side: dialogues,
directions and modality streams are one batched matrix product per step, and what does not depend on
the past is computed before the loop. Only the speaking party changes state, so only that one is
computed. Axis G counts the streams (directions times modalities).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.layers.sequence import reorder, reversal


@dataclass(frozen=True)
class Sizes:
    """Widths of the states.

    Attributes:
        glob: D_g, the dialogue so far.
        party: D_p, each participant.
        emotion: D_e, the emotion of the current turn.
    """

    glob: int
    party: int
    emotion: int


class Memory(Protocol):
    """What a step recalls of the global states before it. Made anew for every forward pass."""

    def read(self, step: int) -> Tensor:
        """(G, B, D_g) context of this step."""
        ...

    def write(self, state: Tensor) -> None:
        """Remember the global state (G, B, D_g) of this step."""
        ...


class PartyCell(nn.Module):
    """Weights of one stream in one direction, but for those that recall the past.

    Args:
        width_in: D of an utterance.
        sizes: D_g, D_p, D_e.
        has_listener: also update the parties that are silent.
    """

    def __init__(self, width_in: int, sizes: Sizes, has_listener: bool = False) -> None:
        super().__init__()
        self.width_in = width_in
        self.global_gru = nn.GRUCell(width_in + sizes.party, sizes.glob)
        self.party_gru = nn.GRUCell(width_in + sizes.glob, sizes.party)
        self.emotion_gru = nn.GRUCell(sizes.party, sizes.emotion)
        self.listener_gru = (
            nn.GRUCell(width_in + sizes.party, sizes.party) if has_listener else None
        )


class _Gru:
    """The same GRU of several streams, its products with the utterances already done."""

    def __init__(self, cells: Sequence[nn.GRUCell], known: Sequence[Tensor] | None) -> None:
        """Stack the weights.

        Steps are unbound once: the gradient of an index into the whole would be as large as the
        whole, at every step.

        Args:
            cells: one per stream.
            known: the utterances (B, U, D), the first D columns of the cells' input; or None.
        """
        width = [0] * len(cells) if known is None else [x.shape[-1] for x in known]
        pairs = list(zip(cells, width, strict=True))
        self.rest = torch.stack([cell.weight_ih[:, start:].T for cell, start in pairs])
        self.state = torch.stack([cell.weight_hh.T for cell in cells])
        self.bias = torch.stack([cell.bias_hh for cell in cells]).unsqueeze(1)
        if known is None:
            self.known = (torch.stack([cell.bias_ih for cell in cells]).unsqueeze(1),)
        else:
            parts = zip(pairs, known, strict=True)
            self.known = torch.stack(
                [F.linear(x, cell.weight_ih[:, :start], cell.bias_ih) for (cell, start), x in parts]
            ).unbind(2)

    def step(self, known: Tensor, rest: Tensor, state: Tensor) -> Tensor:
        """One step: (G, B, 3H), (G, B, R), (G, B, H) -> (G, B, H)."""
        size = state.shape[-1]
        x = torch.baddbmm(known, rest, self.rest)
        h = torch.baddbmm(self.bias, state, self.state)
        gates = torch.sigmoid(x[..., : 2 * size] + h[..., : 2 * size])
        new = torch.tanh(x[..., 2 * size :] + gates[..., :size] * h[..., 2 * size :])
        return torch.lerp(new, state, gates[..., size:])


def run_parties(
    cells: Sequence[PartyCell],
    inputs: Sequence[Tensor],
    speakers: Tensor,
    memory: Memory,
    dropout: float = 0.0,
) -> Tensor:
    """Walk through the dialogues, all streams abreast.

    Args:
        cells: one per stream.
        inputs: (B, U, D) of each stream.
        speakers: (G, B, U) long; each stream has its own order of utterances.
        memory: fresh; recalls the global states.
        dropout: rate on global, party and emotion states at every step; 0 in evaluation.

    Returns:
        (G, B, U, D_e) emotion states.
    """
    global_gru = _Gru([cell.global_gru for cell in cells], inputs)
    party_gru = _Gru([cell.party_gru for cell in cells], inputs)
    emotion_gru = _Gru([cell.emotion_gru for cell in cells], None)
    listeners = [cell.listener_gru for cell in cells if cell.listener_gru is not None]
    listener_gru = _Gru(listeners, inputs) if listeners else None

    groups, batch, length = speakers.shape
    parties = int(speakers.max()) + 1
    speaks = F.one_hot(speakers, parties).bool().unsqueeze(-1)  # (G, B, U, S, 1)
    glob = inputs[0].new_zeros(groups, batch, global_gru.state.shape[1])
    party = glob.new_zeros(groups, batch, parties, party_gru.state.shape[1])
    emotion = glob.new_zeros(groups, batch, emotion_gru.state.shape[1])
    emotion_bias = emotion_gru.known[0].expand(-1, batch, -1)

    emotions = []
    for step in range(length):
        now = speaks[:, :, step]  # (G, B, S, 1)
        mine = (party * now).sum(2)  # (G, B, D_p)
        context = memory.read(step)
        glob = _drop(global_gru.step(global_gru.known[step], mine, glob), dropout)
        memory.write(glob)
        mine = _drop(party_gru.step(party_gru.known[step], context, mine), dropout)
        if listener_gru is not None:
            party = _listen(listener_gru, step, mine, party, dropout)
        party = torch.where(now, mine.unsqueeze(2), party)
        emotion = _drop(emotion_gru.step(emotion_bias, mine, emotion), dropout)
        emotions.append(emotion)
    return torch.stack(emotions, 2)


def _listen(gru: _Gru, step: int, spoken: Tensor, party: Tensor, dropout: float) -> Tensor:
    """All parties as listeners: (G, B, D_p), (G, B, S, D_p) -> (G, B, S, D_p)."""
    parties = party.shape[2]
    known = gru.known[step].unsqueeze(2).expand(-1, -1, parties, -1)
    rest = spoken.unsqueeze(2).expand_as(party)
    heard = gru.step(known.flatten(1, 2), rest.flatten(1, 2), party.flatten(1, 2))
    return _drop(heard, dropout).view_as(party)


def _drop(x: Tensor, rate: float) -> Tensor:
    return F.dropout(x, rate) if rate > 0 else x


class PartyRnn(nn.Module):
    """Bidirectional DialogueRNN recurrences of one or several streams.

    Subclasses write ``memory``, and name a ``cell`` of their own where it needs weights.

    Args:
        dims: stream to width D of its utterances.
        sizes: D_g, D_p, D_e.
        dropout: rate on states at every step.
        has_listener: also update the parties that are silent.
    """

    cell: ClassVar[type[PartyCell]] = PartyCell

    def __init__(
        self,
        dims: Mapping[str, int],
        sizes: Sizes,
        dropout: float = 0.1,
        has_listener: bool = False,
    ) -> None:
        super().__init__()
        self.dropout = dropout
        self.onward, self.backward = (
            nn.ModuleDict({name: self.cell(dim, sizes, has_listener) for name, dim in dims.items()})
            for _ in range(2)
        )

    def memory(self, cells: Sequence[PartyCell], inputs: Sequence[Tensor]) -> Memory:
        """A fresh memory for one pass over ``inputs``, forward streams first."""
        raise TypeError(f"{type(self).__name__} has no memory()")

    def sides(self, streams: Mapping[str, Tensor]) -> tuple[Mapping[str, Tensor], ...]:
        """What the forward and the backward walk read, both in the order of the dialogue."""
        return streams, streams

    def cells(self, stream: str) -> list[PartyCell]:
        """The two cells of a stream."""
        return [cast(PartyCell, side[stream]) for side in (self.onward, self.backward)]

    def forward(
        self, streams: Mapping[str, Tensor], speakers: Tensor, mask: Tensor
    ) -> dict[str, Tensor]:
        """Encode.

        Args:
            streams: (B, U, D) each.
            speakers: (B, U) long.
            mask: (B, U) bool.

        Returns:
            (B, U, 2 D_e) each, forward then backward states.
        """
        with torch.autocast(mask.device.type, enabled=False):
            # Rounding errors of half precision add up over a long recurrence.
            full = {name: values.float() for name, values in streams.items()}
            return self._forward(full, speakers, mask)

    def _forward(
        self, streams: Mapping[str, Tensor], speakers: Tensor, mask: Tensor
    ) -> dict[str, Tensor]:
        names = list(streams)
        index = reversal(mask)
        both = [self.cells(name) for name in names]
        cells = [ahead for ahead, _ in both] + [back for _, back in both]
        ahead, back = self.sides(streams)
        inputs = [ahead[name] for name in names]
        inputs += [reorder(back[name], index) for name in names]
        turned = speakers.gather(1, index)
        who = torch.stack([speakers] * len(names) + [turned] * len(names))
        states = run_parties(
            cells, inputs, who, self.memory(cells, inputs), self.dropout if self.training else 0.0
        )
        forth, turned_back = states.split(len(names))
        return {
            name: torch.cat([forth[i], reorder(turned_back[i], index)], -1)
            for i, name in enumerate(names)
        }
