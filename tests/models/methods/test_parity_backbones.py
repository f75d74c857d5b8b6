"""The backbones against their published code; ``parity/README.md`` says how that was run."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from models.backbone import Backbone
from models.batch import Batch, Target
from models.method import Spec, configure, find_method

FOLDER = Path(__file__).parent / "parity"
DIMS = {"audio": 5, "video": 4, "text": 6}
SIX = Target("category", "category", ("happy", "sad", "neutral", "angry", "excited", "frustrated"))


@dataclass(frozen=True)
class Case:
    """A published form.

    Attributes:
        method: whose ``original`` is built.
        options: of it, small.
        spread: weights are uniform in plus minus this.
        plain: endings of weights that the published code does not have: 0, of norms 1.
    """

    method: str
    options: dict[str, object] = field(default_factory=dict)
    spread: float = 0.3
    plain: tuple[str, ...] = ()


#: What BiDDIN's self-attention has not.
_UNBIASED = ("attention.inward.bias", "attention.outward.bias", "norm.weight", "norm.bias")
_GCN = {"hidden": 8, "graph": 5, "past": 2, "future": 3, "relation_sum": True}
CASES = {
    "bc_lstm": Case("bc_lstm", {"hidden": 8}),
    "bc_lstm_attention": Case("bc_lstm", {"hidden": 8, "has_attention": True}, 1.0),
    "dialogue_rnn": Case(
        "dialogue_rnn", {"global_size": 7, "party_size": 6, "emotion_size": 5, "hidden": 4}, 1.0
    ),
    "dialogue_rnn_listener": Case(
        "dialogue_rnn",
        {"global_size": 7, "party_size": 6, "emotion_size": 5, "hidden": 4, "has_listener": True},
        1.0,
    ),
    "dialogue_gcn": Case("dialogue_gcn", _GCN),
    "dialogue_gcn_nodal": Case("dialogue_gcn", {**_GCN, "has_nodal_attention": True}, 0.6),
    "dialogue_gcn_spcl": Case(
        "dialogue_gcn", {"variant": "spcl", "hidden": 8, "graph": 5, "past": 2, "future": 3}
    ),
    "mmgcn": Case("mmgcn", {"layers": 64}, 0.1),
    "mmgcn_spcl": Case("mmgcn", {"variant": "spcl", "unified": 8, "hidden": 8}),
    "mm_dfn": Case("mm_dfn", {"layers": 3}, 0.1),
    "mm_dfn_spcl": Case("mm_dfn", {"variant": "spcl", "unified": 8, "hidden": 8}),
    "biddin": Case(
        "biddin",
        {
            "width": 7,
            "global_size": 6,
            "party_size": 5,
            "emotion_size": 4,
            "hidden": 3,
            "has_batch_gate": True,
        },
        plain=_UNBIASED,
    ),
    "biddin_spcl": Case(
        "biddin",
        {"variant": "spcl", "global_size": 6, "party_size": 5, "emotion_size": 4, "hidden": 3},
        0.6,
        plain=_UNBIASED,
    ),
}


def seeded(case: Case) -> Backbone:
    """The network with weights that depend on nothing but their names and shapes."""
    backbone = find_method(case.method)
    config = configure(backbone.config_type, case.options, case.method)
    network = backbone(Spec(DIMS, (SIX,), 2), config).eval()
    draw = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, weight in sorted(network.named_parameters()):
            values = (torch.rand(weight.shape, generator=draw) * 2 - 1) * case.spread
            if name.endswith(case.plain or "-"):
                values = torch.full_like(values, float(name.endswith("norm.weight")))
            weight.copy_(values)
    return network


def dialogue(length: int, speakers: Tensor, features: dict[str, Tensor]) -> Batch:
    """One dialogue with all its modalities, without labels."""
    mask = torch.ones(1, length, dtype=torch.bool)
    return Batch(
        mask=mask,
        speakers=speakers.unsqueeze(0),
        features={name: values.unsqueeze(0) for name, values in features.items()},
        present=dict.fromkeys(features, mask),
        targets={},
        index=torch.arange(length).unsqueeze(0),
    )


@pytest.mark.parametrize("name", CASES)
def test_outputs_are_those_of_the_published_code(name):
    network, recorded = seeded(CASES[name]), load_file(FOLDER / f"{name}.safetensors")
    for which in ("long", "short"):
        features = {m: recorded[f"{which}.{m}"] for m in DIMS}
        speakers = recorded[f"{which}.speakers"]
        with torch.no_grad():
            found = network.predict(dialogue(len(speakers), speakers, features))["category"][0]
        expected = recorded[f"{which}.log_p"]
        torch.testing.assert_close(found.log_softmax(-1), expected, atol=5e-6, rtol=1e-5)
        assert expected.std(0).min() > 1e-4  # utterances are told apart
