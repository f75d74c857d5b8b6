"""The genome of HAEMSA: 23 integer genes, each an index into a list of choices.

The lists, the default genome, the repair and the seeds follow section 3 and 7 of our design (the
paper's own constants are not public).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

from models.errors import UserError
from models.evolution import Genome, GenomeSpace
from models.methods.haemsa.experts import ExpertKind

Fusion = Literal["gated_sum", "concat", "attention"]

#: Modalities in the order of the genes, which is not the project's order.
GENE_MODALITIES = ("text", "audio", "video")
#: Subsets that may have a combination expert, in the order of the genes 14 to 17.
COMBINATIONS: tuple[tuple[str, ...], ...] = (
    ("text", "audio"),
    ("text", "video"),
    ("audio", "video"),
    ("text", "audio", "video"),
)

_COUNTS, _DEPTHS = (1, 2, 4), (1, 2, 3)
_LOCAL: tuple[ExpertKind, ...] = ("mlp", "conv", "gru", "attn")
_SHARED: tuple[ExpertKind, ...] = ("mlp", "attn")
_FUSIONS: tuple[Fusion, ...] = ("gated_sum", "concat", "attention")

#: Name and choices of every gene. ``top_k`` 0 stands for all experts.
GENES: tuple[tuple[str, tuple[int | float | str, ...]], ...] = (
    ("width", (64, 128, 256)),
    *(
        gene
        for modality in GENE_MODALITIES
        for gene in (
            (f"{modality}_experts", _COUNTS),
            (f"{modality}_kind", _LOCAL),
            (f"{modality}_depth", _DEPTHS),
        )
    ),
    ("shared_experts", _COUNTS),
    ("shared_kind", _SHARED),
    ("shared_depth", _DEPTHS),
    ("top_k", (1, 2, 0)),
    *(("+".join(members), (0, 1)) for members in COMBINATIONS),
    ("fusion", _FUSIONS),
    ("dropout", (0.0, 0.1, 0.3, 0.5)),
    ("weight_transfer", (0.0, 0.1, 0.5, 1.0)),
    ("weight_orthogonality", (0.0, 0.01, 0.1)),
    ("weight_second", (0.0, 0.1, 0.5, 1.0)),
)
#: Genes 14 to 17, of which one must be on.
_SWITCHES = slice(14, 18)

DEFAULT: Genome = (1, 1, 0, 1, 0, 2, 0, 0, 1, 0, 1, 0, 0, 1, 1, 0, 0, 1, 0, 1, 2, 1, 2)


@dataclass(frozen=True)
class Experts:
    """A group of experts of one kind.

    Attributes:
        count: how many.
        kind: what they are made of.
        depth: layers of each.
    """

    count: int
    kind: ExpertKind
    depth: int


@dataclass(frozen=True)
class Plan:
    """A genome spelt out.

    Attributes:
        width: d of every layer.
        text: local experts of text.
        audio: local experts of audio.
        video: local experts of video.
        shared: experts that serve every modality.
        top_k: experts that a router keeps; 0 = all.
        combinations: subsets of modalities that have an expert.
        fusion: how the levels become one vector.
        dropout: rate everywhere.
        weight_transfer: of the knowledge transfer.
        weight_orthogonality: of keeping shared and specific apart.
        weight_second: of the second task.
    """

    width: int
    text: Experts
    audio: Experts
    video: Experts
    shared: Experts
    top_k: int
    combinations: tuple[tuple[str, ...], ...]
    fusion: Fusion
    dropout: float
    weight_transfer: float
    weight_orthogonality: float
    weight_second: float

    def local(self, modality: str) -> Experts:
        """The experts of one modality."""
        return cast(Experts, getattr(self, modality))


def settings(genome: Sequence[int]) -> dict[str, int | float | str]:
    """Gene name to its choice, for people and records."""
    return {
        name: choices[index] for (name, choices), index in zip(GENES, checked(genome), strict=True)
    }


def decode(genome: Sequence[int]) -> Plan:
    """Spell a genome out."""
    found = settings(genome)

    def experts(name: str) -> Experts:
        return Experts(
            cast(int, found[f"{name}_experts"]),
            cast(ExpertKind, found[f"{name}_kind"]),
            cast(int, found[f"{name}_depth"]),
        )

    return Plan(
        width=cast(int, found["width"]),
        text=experts("text"),
        audio=experts("audio"),
        video=experts("video"),
        shared=experts("shared"),
        top_k=cast(int, found["top_k"]),
        combinations=tuple(m for m in COMBINATIONS if found["+".join(m)]),
        fusion=cast(Fusion, found["fusion"]),
        dropout=cast(float, found["dropout"]),
        weight_transfer=cast(float, found["weight_transfer"]),
        weight_orthogonality=cast(float, found["weight_orthogonality"]),
        weight_second=cast(float, found["weight_second"]),
    )


def encode(plan: Plan) -> Genome:
    """The genome of a plan; the inverse of ``decode``."""
    values: dict[str, object] = {
        name: getattr(plan, name) for name, _ in GENES if hasattr(plan, name)
    }
    for name in (*GENE_MODALITIES, "shared"):
        group = cast(Experts, getattr(plan, name))
        values |= {
            f"{name}_experts": group.count,
            f"{name}_kind": group.kind,
            f"{name}_depth": group.depth,
        }
    values |= {"+".join(m): int(m in plan.combinations) for m in COMBINATIONS}
    return tuple(choices.index(cast(int, values[name])) for name, choices in GENES)


def checked(genome: Sequence[int]) -> Genome:
    """``genome`` as a tuple, or an error that names what is wrong with it."""
    genes = tuple(genome)
    if len(genes) != len(GENES):
        raise UserError(f"a genome has {len(GENES)} genes, but {list(genes)} has {len(genes)}")
    for place, (gene, (name, choices)) in enumerate(zip(genes, GENES, strict=True)):
        if isinstance(gene, bool) or not isinstance(gene, int) or not 0 <= gene < len(choices):
            raise UserError(
                f"gene {place} ({name}) of the genome is {gene!r}, expected an index from 0 to "
                f"{len(choices) - 1} into {', '.join(map(str, choices))}"
            )
    if not any(genes[_SWITCHES]):
        raise UserError(
            "the genome switches every combination expert off (genes 14 to 17 are 0); "
            "set gene 17 to 1"
        )
    return genes


def repair(genome: Genome) -> Genome:
    """With no combination expert at all, switch on the one of all three modalities."""
    return genome if any(genome[_SWITCHES]) else (*genome[:17], 1, *genome[18:])


def text_of(genome: Sequence[int]) -> str:
    """The canonical text: a JSON array without spaces."""
    return json.dumps(list(genome), separators=(",", ":"))


SPACE = GenomeSpace(tuple(len(choices) for _, choices in GENES), DEFAULT, repair, settings)
