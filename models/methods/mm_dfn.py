"""MM-DFN: dynamic fusion across the layers of a multimodal graph.

Paper: Hu et al., "MM-DFN: multimodal dynamic fusion network for emotion recognition in
conversations", ICASSP 2022. Variant ``spcl``: the backbone of SPCL, which drops the gate between
layers and fuses pairs of modalities instead.
Reference code: zerohd4869/MM-DFN and the SPCL backbones (mattam301/experimental_MM_bachbones,
commit ccce08f), read; nothing copied.
Licence of the references: none stated.
What we changed and why:
    - each speaker's utterances are packed; the code runs the backward direction over zeros first;
    - the classifier of the concatenation is kept as one block per modality, the same function, so
      that plug-ins see each modality's vote;
    - selection is on validation data; the reference selects on test;
    - in ``spcl`` an absent partner leaves a modality as it is (gate 1), so nothing is fused with
      zeros.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from models.backbone import Backbone, BackboneConfig, Variant, visible, votes
from models.batch import MODALITIES, Batch
from models.errors import UserError
from models.layers.multimodal_graph import Gcnii
from models.layers.sequence import ContextEncoder
from models.method import Spec


@dataclass(frozen=True)
class Config(BackboneConfig):
    """Options of MM-DFN; None takes the variant's published value.

    Attributes:
        unified: width that every modality is brought to.
        hidden: width of the graph layers.
        layers: graph layers K.
        alpha: share of the initial features in every layer.
        decay: lambda of the identity mapping.
        dropout: in encoders, graph and before the classifier.
        speaker_weights: how much of the speaker-wise context is added to audio, video and text
            (``original`` only); (3, 0, 1) is IEMOCAP's, (0.5, 0.5, 1.5) MELD's.
    """

    unified: int | None = None
    hidden: int | None = None
    layers: int | None = None
    alpha: float | None = None
    decay: float = 0.5
    dropout: float = 0.4
    speaker_weights: tuple[float, ...] = (3.0, 0.0, 1.0)


class BiGru(nn.Module):
    """Two-layer bidirectional GRU over packed sequences; rows of length 0 come out 0."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.gru = nn.GRU(
            width, width // 2, 2, batch_first=True, bidirectional=True, dropout=dropout
        )

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """(N, U, D), (N,) -> (N, U, D)."""
        rows = lengths.nonzero().squeeze(1)
        packed = pack_padded_sequence(
            x[rows], lengths[rows].cpu(), batch_first=True, enforce_sorted=False
        )
        hidden, _ = self.gru(packed)
        padded, _ = pad_packed_sequence(hidden, batch_first=True, total_length=x.shape[1])
        return padded.new_zeros(x.shape).index_copy(0, rows, padded)


class PartyContext(nn.Module):
    """A GRU over the utterances of each speaker alone, shared by all modalities."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.gru = BiGru(width, dropout)

    def forward(self, x: Tensor, speakers: Tensor, mask: Tensor) -> Tensor:
        """Encode.

        Args:
            x: (M, B, U, D).
            speakers: (B, U) long.
            mask: (B, U) bool.

        Returns:
            (M, B, U, D).
        """
        modalities, batch, length, width = x.shape
        parties = int(speakers.max()) + 1
        said = F.one_hot(speakers, parties) * mask.unsqueeze(-1)  # (B, U, S)
        rank = (said.cumsum(1) - 1).gather(-1, speakers.unsqueeze(-1)).squeeze(-1).clamp(min=0)
        row = torch.arange(batch, device=x.device).unsqueeze(1) * parties + speakers
        slot = (row * length + rank)[mask]  # (L,) place of every utterance in its speaker's row
        sorted_x = x.new_zeros(modalities, batch * parties * length, width)
        sorted_x = sorted_x.index_copy(1, slot, x[:, mask])
        states = self.gru(
            sorted_x.view(modalities * batch * parties, length, width),
            said.sum(1).flatten().repeat(modalities),
        )
        back = states.view(modalities, -1, width)[:, slot]
        index = mask.flatten().nonzero().squeeze(1)
        placed = back.new_zeros(modalities, batch * length, width).index_copy(1, index, back)
        return placed.view_as(x)


class PairGate(nn.Module):
    """h_ij = g x_i + (1 - g) x_j with g = sigmoid(W [x_i ; x_j ; x_i x_j] + b)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate = nn.Linear(3 * width, width)

    def forward(self, own: Tensor, other: Tensor, is_there: Tensor) -> Tensor:
        """(B, U, H), (B, U, H), (B, U) bool -> (B, U, H); where the other is absent, own."""
        gate = torch.sigmoid(self.gate(torch.cat([own, other, own * other], -1)))
        return torch.where(is_there.unsqueeze(-1), torch.lerp(other, own, gate), own)


class MmDfn(Backbone):
    """MM-DFN with graph-based dynamic fusion, or SPCL's gated pairs."""

    config_type = Config
    variants: ClassVar[Mapping[str, Variant]] = {
        "original": Variant(
            True,
            {"unified": 200, "hidden": 100, "layers": 16, "alpha": 0.2},
            {
                "optimizer": "adam",
                "lr": 3e-4,
                "weight_decay": 1e-4,
                "batch_size": 32,
                "epochs": 60,
                "patience": 20,
            },
        ),
        "spcl": Variant(
            True,
            {"unified": 300, "hidden": 300, "layers": 2, "alpha": 0.1},
            {
                "optimizer": "adam",
                "lr": 1e-4,
                "weight_decay": 1e-8,
                "clip_norm": 2.0,
                "batch_size": 32,
                "epochs": 60,
                "patience": 0,
            },
        ),
    }
    plugin_variant = "spcl"
    recipe: ClassVar[Mapping[str, object]] = variants["original"].recipe

    def __init__(self, spec: Spec, config: Config) -> None:
        super().__init__(spec, config)
        unified, hidden = self.setting("unified"), self.setting("hidden")
        self.is_original = config.variant == "original"
        if not self.is_original and len(spec.modalities) < 2:
            raise UserError(
                "mm_dfn's variant 'spcl' fuses pairs of modalities and got one; "
                "use variant 'original' or more modalities"
            )
        self.graph = Gcnii(
            unified, hidden, self.setting("layers"), config.dropout,
            self.setting("alpha"), config.decay, has_gate=self.is_original,
        )  # fmt: skip
        width = self._build_original(unified) if self.is_original else self._build_spcl(unified)
        self.heads = nn.ModuleDict(
            {
                name: nn.Linear(unified + hidden if self.is_original else width, self.target.width)
                for name in spec.modalities
            }
        )

    def _build_original(self, unified: int) -> int:
        if len(self.config.speaker_weights) != len(MODALITIES):
            raise UserError(
                "mm_dfn: speaker_weights needs three numbers, for audio, video and text; "
                f"got {self.config.speaker_weights}"
            )
        given = zip(MODALITIES, self.config.speaker_weights, strict=True)
        self.party_weights = {name: float(w) for name, w in given if name in self.spec.dims}
        self.projects = nn.ModuleDict(
            {name: nn.Linear(dim, unified) for name, dim in self.stream_dims().items()}
        )
        dropout = self.config.dropout
        self.text_gru = BiGru(unified, dropout) if "text" in self.spec.dims else None
        has_parties = any(self.party_weights.values())
        self.party = PartyContext(unified, dropout) if has_parties else None
        self.late_dropout = nn.Dropout(dropout)
        return unified

    def _build_spcl(self, unified: int) -> int:
        names, dropout = self.spec.modalities, self.config.dropout
        states = unified + self.setting("hidden")
        self.encoders = nn.ModuleDict(
            {n: ContextEncoder(dim, unified, 2, dropout) for n, dim in self.stream_dims().items()}
        )
        self.narrow = nn.ModuleDict({n: nn.Linear(states, unified) for n in names})
        self.pairs = nn.ModuleDict(
            {f"{a}_{b}": PairGate(unified) for a in names for b in names if a != b}
        )
        self.narrow_dropout = nn.Dropout(0.5)
        return unified

    def encode(self, batch: Batch) -> dict[str, Tensor]:
        """(B, U, unified + hidden) per modality."""
        nodes = self._original_nodes(batch) if self.is_original else self._spcl_nodes(batch)
        exists = torch.stack([votes(batch, name) for name in self.spec.modalities], 2)
        states = self.graph.run(nodes, exists, batch.mask)
        if self.is_original:
            states = torch.relu(self.late_dropout(states))
        return dict(zip(self.spec.modalities, states.unbind(2), strict=True))

    def _original_nodes(self, batch: Batch) -> Tensor:
        """(B, U, M, unified): linear maps, text in its context, each speaker in theirs."""
        projected = {name: self.projects[name](x) for name, x in self.streams(batch).items()}
        nodes = dict(projected)
        if self.text_gru is not None:
            nodes["text"] = self.text_gru(projected["text"], batch.lengths)
        if self.party is not None:
            heard = [name for name, weight in self.party_weights.items() if weight]
            stacked = torch.stack([projected[name] for name in heard])
            parties = self.party(stacked, batch.speakers, batch.mask)
            for name, states in zip(heard, parties, strict=True):
                nodes[name] = nodes[name] + self.party_weights[name] * states
        return torch.stack(list(nodes.values()), 2)

    def _spcl_nodes(self, batch: Batch) -> Tensor:
        """(B, U, M, unified): a transformer for each modality."""
        return torch.stack(
            [self.encoders[n](x, visible(batch, n)) for n, x in self.streams(batch).items()], 2
        )

    def decode(self, features: Mapping[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """Votes of each modality; in ``spcl`` after every pair of modalities has met."""
        if self.is_original:
            return super().decode(features, batch)
        there = {name: votes(batch, name) for name in features}
        narrow = {
            name: self.narrow_dropout(torch.relu(self.narrow[name](values)))
            for name, values in features.items()
        }
        fused = {
            own: torch.stack(
                [
                    self.pairs[f"{own}_{other}"](narrow[own], narrow[other], there[other])
                    for other in narrow
                    if other != own
                ]
            ).sum(0)
            for own in narrow
        }
        return super().decode(fused, batch)

    def encoder(self, stream: str) -> Iterable[nn.Module]:
        """What turns a modality into nodes and nobody else uses."""
        if not self.is_original:
            return [self.encoders[stream]]
        own: list[nn.Module] = [self.projects[stream]]
        if stream == "text" and self.text_gru is not None:
            own.append(self.text_gru)
        return own


METHOD = MmDfn
