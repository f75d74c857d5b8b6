"""DialogueGCN: speaker- and direction-typed graph over a window of the conversation.

Paper: Ghosal et al., "DialogueGCN: a graph convolutional neural network for emotion recognition in
conversation", EMNLP 2019. Variant ``spcl``: the backbone of SPCL (``models/methods/spcl.py``).
Reference code: declare-lab/conv-emotion and the SPCL backbones
(mattam301/experimental_MM_bachbones, commit ccce08f), read; nothing copied.
Licence of the references: MIT; none stated.
What we changed and why:
    - edge weights are the bilinear form of the paper; the first reference indexes them by position,
      which ties the network to 110 utterances;
    - ``original`` follows the paper: weights multiply the messages of the relational layer;
      ``weights_in: graphconv`` moves them to the second layer as newer ports and ``spcl`` do;
    - messages of a relation are averaged, as in the paper; the first reference sums them
      (``relation_sum: true``);
    - trainer settings are those of the first reference's README; nodal attention and class weights,
      which it also turns on, are in the preset of IEMOCAP and off otherwise;
    - the bilinear matrix starts Xavier-normal; the reference passes that variance as deviation;
    - windows, relations and weights are dense (target, source) matrices, so a batch of dialogues is
      a few products and nothing loops over utterances;
    - ``original`` concatenates the modalities, ``spcl`` has one network for each and sums votes.

Speakers: relations by index within the dialogue, as published; P people would make 2 P P of them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from models.backbone import PUBLISHED, SPCL, Backbone, BackboneConfig, Variant, visible
from models.batch import Batch
from models.errors import UserError
from models.layers.graph import masked_softmax, offsets, window_mask
from models.layers.recurrent import BiLstm
from models.layers.sequence import ContextEncoder, MatchingAttention
from models.method import Spec


@dataclass(frozen=True)
class Config(BackboneConfig):
    """Options of DialogueGCN; None takes the variant's published value.

    Attributes:
        hidden: width of the context encoder's output.
        feedforward: inner width of the feed-forward blocks of SPCL's context encoder.
        graph: width of the graph layers and of the hidden layer.
        past: how far back a source reaches.
        future: how far ahead a source reaches.
        bases: matrices from which the relations' weights are combined.
        dropout: in the context encoder and before the head.
        weights_in: layer that uses the edge weights, ``relations`` or ``graphconv``.
        relation_sum: sum the messages of a relation instead of averaging them.
        has_nodal_attention: let every utterance look at all of its dialogue after the graph.
    """

    hidden: int = 200
    feedforward: int = 2048
    graph: int = 100
    past: int | None = None
    future: int | None = None
    bases: int = 30
    dropout: float | None = None
    weights_in: str | None = None
    relation_sum: bool = False
    has_nodal_attention: bool = False


class EdgeWeights(nn.Module):
    """alpha_ji = softmax over the targets i of source j of h_j W h_i."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width, width))
        nn.init.xavier_normal_(self.weight)

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        """Weigh.

        Args:
            x: (B, U, D).
            edges: (B, U target, U source) bool.

        Returns:
            (B, U target, U source); every source with edges sums to 1 over its targets.
        """
        scores = (x @ self.weight) @ x.mT  # (B, U source, U target)
        return masked_softmax(scores, edges.mT).mT


class SpeakerConv(nn.Module):
    """Relational convolution with relations (speaker of source, speaker of target, direction).

    Args:
        width_in: D.
        width_out: H.
        speakers: S; relations are 2 S S.
        bases: matrices that all relations' weights are combinations of.
        is_summed: sum the messages of a relation; False averages them.
    """

    def __init__(
        self, width_in: int, width_out: int, speakers: int, bases: int, is_summed: bool = False
    ) -> None:
        super().__init__()
        self.speakers = speakers
        self.is_summed = is_summed
        self.bases = nn.Parameter(torch.empty(bases, width_in, width_out))
        self.mixture = nn.Parameter(torch.empty(2 * speakers * speakers, bases))
        self.root = nn.Linear(width_in, width_out)
        for basis in self.bases.data:
            nn.init.xavier_uniform_(basis)
        nn.init.xavier_uniform_(self.mixture)

    def forward(
        self, x: Tensor, edges: Tensor, speakers: Tensor, weights: Tensor | None = None
    ) -> Tensor:
        """Convolve.

        Args:
            x: (B, U, D).
            edges: (B, U target, U source) bool.
            speakers: (B, U) long, below S.
            weights: (B, U target, U source) factors of messages, or None.

        Returns:
            (B, U, H).
        """
        share = self.relation_shares(edges, speakers)
        if weights is not None:
            share = share * weights.unsqueeze(1)
        heard = (share @ x.unsqueeze(1)).permute(0, 2, 1, 3).flatten(2)  # (B, U, S 2 D)
        return self.root(x) + self._transform(heard, speakers)

    def relation_shares(self, edges: Tensor, speakers: Tensor) -> Tensor:
        """(B, 2 S, U, U): 1 over the number of sources with that speaker and direction, or 1."""
        is_later = offsets(edges.shape[-1], edges.device) >= 0  # source at or after the target
        direction = torch.stack([~is_later, is_later])  # (2, U, U)
        by = torch.arange(self.speakers, device=edges.device)
        said = speakers.unsqueeze(1) == by[:, None]  # (B, S, U source)
        cells = edges[:, None, None] & said[:, :, None, None, :] & direction
        cells = cells.flatten(1, 2).to(self.root.weight.dtype)
        return cells if self.is_summed else cells / cells.sum(-1, keepdim=True).clamp(min=1)

    def _transform(self, heard: Tensor, speakers: Tensor) -> Tensor:
        """Each target with the weights for its own speaker: (B, U, S 2 D) -> (B, U, H)."""
        count = self.speakers
        weight = torch.einsum("rb,bdh->rdh", self.mixture, self.bases)
        # relation id 2 (source S + target) + direction -> (target, source direction D, H)
        weight = weight.unflatten(0, (count, count, 2)).transpose(0, 1).flatten(1, 3)
        rows, who = heard.flatten(0, 1), speakers.flatten()
        order = torch.argsort(who, stable=True)
        sizes = torch.bincount(who, minlength=count).tolist()
        parts = rows[order].split(sizes)
        done = torch.cat([part @ weight[s] for s, part in enumerate(parts)])
        return torch.zeros_like(done).index_copy(0, order, done).unflatten(0, speakers.shape)


class GraphConv(nn.Module):
    """W_a x_i + sum over edges of w_ji W_b x_j + b."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.root = nn.Linear(width, width)
        self.neighbour = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        """(B, U, D), (B, U target, U source) -> (B, U, D)."""
        return self.root(x) + weights @ self.neighbour(x)


class Stream(nn.Module):
    """Context encoder, two graph layers, hidden layer."""

    def __init__(self, encoder: nn.Module, speakers: int, dropout: float, config: Config) -> None:
        super().__init__()
        width = config.hidden + config.graph
        self.encoder = encoder
        self.edge_weights = EdgeWeights(config.hidden)
        self.relations = SpeakerConv(
            config.hidden, config.graph, speakers, config.bases, config.relation_sum
        )
        self.graphconv = GraphConv(config.graph)
        self.attention = MatchingAttention(width, True) if config.has_nodal_attention else None
        self.project = nn.Linear(width, config.graph)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: Tensor, batch: Batch, seen: Tensor, edges: Tensor, speakers: Tensor, early: bool
    ) -> Tensor:
        """(B, U, D) -> (B, U, graph); ``early``: edge weights act in the relational layer."""
        is_packed = isinstance(self.encoder, BiLstm)
        context = self.encoder(x, batch.lengths if is_packed else seen)
        weights = self.edge_weights(context, edges)
        if early:
            hidden = self.relations(context, edges, speakers, weights)
            hidden = self.graphconv(hidden, edges.to(hidden.dtype))
        else:
            hidden = self.graphconv(self.relations(context, edges, speakers), weights)
        both = torch.cat([context, hidden], -1)
        if self.attention is not None:
            both = self.attention(both, seen)
        return self.dropout(torch.relu(self.project(both)))


class DialogueGcn(Backbone):
    """DialogueGCN on concatenated modalities, or one network per modality."""

    config_type = Config
    variants: ClassVar[Mapping[str, Variant]] = {
        "original": Variant(
            False,
            {"past": 10, "future": 10, "dropout": 0.4, "weights_in": "relations"},
            {**PUBLISHED, "lr": 3e-4, "weight_decay": 0.0, "batch_size": 32, "epochs": 60},
            {"iemocap": {"has_nodal_attention": True, "class_weights": True}},
            unused=frozenset({"feedforward"}),
        ),
        "spcl": Variant(
            True,
            {"past": 5, "future": 5, "dropout": 0.1, "weights_in": "graphconv"},
            {**SPCL, "lr": 1e-4, "epochs": 50},
        ),
    }
    plugin_variant = "spcl"
    recipe: ClassVar[Mapping[str, object]] = variants["original"].recipe

    def __init__(self, spec: Spec, config: Config) -> None:
        super().__init__(spec, config)
        self.is_early = self.setting("weights_in") == "relations"
        if self.setting("weights_in") not in ("relations", "graphconv"):
            raise UserError(
                f"dialogue_gcn: weights_in is '{config.weights_in}', "
                "expected 'relations' or 'graphconv'"
            )
        self.parties = max(spec.speakers, 1)
        dropout, dims = self.setting("dropout"), self.stream_dims()
        self.graphs = nn.ModuleDict(
            {
                name: Stream(self._encoder(dim, dropout), self.parties, dropout, config)
                for name, dim in dims.items()
            }
        )
        self.heads = nn.ModuleDict(
            {name: nn.Linear(config.graph, self.target.width) for name in dims}
        )

    def _encoder(self, width: int, dropout: float) -> nn.Module:
        config = self.config
        if config.variant == "original":
            return BiLstm(width, config.hidden, 2, dropout)
        return ContextEncoder(
            width, config.hidden, 2, dropout, heads_from=(1,), feedforward=config.feedforward
        )

    def encode(self, batch: Batch) -> dict[str, Tensor]:
        """(B, U, graph) per stream."""
        speakers = batch.speakers.clamp(max=self.parties - 1)
        past, future = self.setting("past"), self.setting("future")
        features = {}
        for name, x in self.streams(batch).items():
            seen = visible(batch, name)
            # A source reaching back ``past`` is heard by targets as something in their future.
            edges = window_mask(seen, past=future, future=past)
            features[name] = self.graphs[name](x, batch, seen, edges, speakers, self.is_early)
        return features

    def encoder(self, stream: str) -> Iterable[nn.Module]:
        """The whole network of a stream."""
        return [self.graphs[stream]]


METHOD = DialogueGcn
