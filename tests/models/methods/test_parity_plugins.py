"""SPCL, OGM-GE and FAGM against their published code; see ``parity/plugins.md``."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from models.backbone import Backbone, BackboneConfig, Variant
from models.batch import MODALITIES, Batch, Target
from models.method import Spec, configure
from models.plugin import attach, find_plugin

FOLDER = Path(__file__).parent / "parity"
DIMS = {"audio": 5, "video": 4, "text": 6}
SIX = Target("category", "category", ("happy", "sad", "neutral", "angry", "excited", "frustrated"))
CLOSE = {"atol": 5e-7, "rtol": 1e-5}


@dataclass(frozen=True)
class Config(BackboneConfig):
    """Whether streams meet before they vote."""

    is_shared: bool = True


class Toy(Backbone):
    """An encoder and four features a modality; everyone votes, as where absence is only zeros."""

    config_type = Config
    variants: ClassVar[Mapping[str, Variant]] = {"toy": Variant(True)}
    plugin_variant = "toy"

    def __init__(self, spec: Spec, config: Config) -> None:
        super().__init__(spec, config)
        width, dims = 4 * len(spec.dims), spec.dims.items()
        self.encoders = nn.ModuleDict(
            {m: nn.Sequential(nn.Linear(d, 4), nn.Tanh(), nn.Linear(4, 4)) for m, d in dims}
        )
        self.heads = nn.ModuleDict({m: nn.Linear(4, SIX.width) for m in spec.dims})
        if config.is_shared:
            self.shared = nn.Sequential(nn.Linear(width, 9), nn.Tanh(), nn.Linear(9, width))

    def encode(self, batch: Batch) -> dict[str, Tensor]:
        """(B, U, 4) per modality."""
        x = [self.encoders[name](values) for name, values in self.inputs(batch).items()]
        if self.config.is_shared:
            x = self.shared(torch.cat(x, -1)).split(4, -1)
        return dict(zip(self.spec.modalities, x, strict=True))

    def encoder(self, stream: str) -> Iterable[nn.Module]:
        """Left to be found out where there is anything to be told apart from."""
        return [] if self.config.is_shared else [self.encoders[stream]]

    def decode(self, features: Mapping[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """(B, U, C) per modality, absent ones too."""
        return {name: self.heads[name](values) for name, values in features.items()}


def plugged(plugin: str, names: Iterable[str], **options: object) -> Backbone:
    """The toy under a plug-in, with weights that depend on nothing but their names and shapes."""
    kind = attach(Toy, find_plugin(plugin))
    options = configure(kind.config_type, options, plugin)
    method = kind(Spec({m: DIMS[m] for m in names}, (SIX,), 2), options).train()
    draw = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for _, weight in sorted(method.named_parameters()):
            weight.copy_((torch.rand(weight.shape, generator=draw) * 2 - 1) * 0.6)
    return method


def batch_of(labels: Tensor, lengths: Tensor, features: Mapping[str, Tensor]) -> Batch:
    """Dialogues padded to the longest, of utterances in a row: labels (L,), features (L, D)."""
    parts = lengths.tolist()
    mask = torch.arange(max(parts)) < lengths[:, None]
    return Batch(
        mask=mask,
        speakers=torch.zeros_like(mask, dtype=torch.long),
        features={m: pad_sequence(x.split(parts), True) for m, x in features.items()},
        present=dict.fromkeys(features, mask),
        targets={SIX.name: pad_sequence(labels.split(parts), True, -1)},
        index=torch.arange(mask.numel()).reshape(mask.shape),
    )


def of(stored: Mapping[str, Tensor], kind: str) -> dict[str, Tensor]:
    """What the file has of a kind, by modality."""
    return {m: stored[f"{kind}.{m}"] for m in MODALITIES if f"{kind}.{m}" in stored}


# --- SPCL ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["spcl", "spcl_pair"])
def test_spcl_selects_and_paces_like_the_published_code(name):
    stored = load_file(FOLDER / f"{name}.safetensors")
    logits, first = of(stored, "logits"), float(stored["thresholds"][0])
    options = {"spcl_threshold": first, "spcl_growth": 1.25, "spcl_norm": "all"}
    method = plugged("spcl", logits, **options)
    batch = batch_of(stored["labels"], stored["lengths"], logits)
    votes = {m: x.requires_grad_() for m, x in batch.features.items()}
    method.unimodal = lambda _batch: votes
    for epoch, threshold in enumerate(stored["thresholds"], 1):
        method.on_epoch(epoch, ())
        torch.testing.assert_close(method.plugin.threshold, threshold)
        if epoch <= len(stored["loss"]):
            loss = method.losses(batch)[SIX.name]
            torch.testing.assert_close(loss, stored["loss"][epoch - 1], **CLOSE)
            taken = method.plugin.share * batch.mask.sum()
            torch.testing.assert_close(taken, stored["taken"][epoch - 1].float())
            for grad in torch.autograd.grad(loss, list(votes.values())):
                torch.testing.assert_close(grad[batch.mask], stored["grad"][epoch - 1], **CLOSE)
                assert not grad[~batch.mask].any()
    assert len(set(stored["taken"].tolist())) > 3


# --- OGM-GE --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "alpha"), [("ogm_ge", 0.3), ("ogm_ge_sum", 0.8)])
@pytest.mark.parametrize(("has_noise", "kind"), [(False, "scaled"), (True, "noisy")])
def test_ogm_ge_scales_gradients_like_the_published_code(name, alpha, has_noise, kind, monkeypatch):
    stored = load_file(FOLDER / f"{name}.safetensors")
    features = of(stored, "features")
    method = plugged("ogm_ge", features, ogm_alpha=alpha, ogm_noise=has_noise)
    for m, head in method.heads.items():
        state = {"weight": stored[f"weight.{m}"], "bias": stored[f"bias.{m}"]}
        head.load_state_dict(state)
    batch = batch_of(stored["labels"], torch.tensor([3, 4]), features)
    method.encode = lambda _batch: batch.features
    torch.testing.assert_close(method.losses(batch)[SIX.name], stored["loss"], **CLOSE)
    torch.testing.assert_close(method.plugin.factors, stored["factors"], **CLOSE)
    weights = {m: nn.Parameter(torch.zeros_like(x)) for m, x in of(stored, "plain").items()}
    for m, weight in weights.items():
        weight.grad = stored[f"plain.{m}"].clone()
    method.encoder_parameters = lambda m: [weights[m]]
    # Every draw is one deviation above the mean, there as here.
    monkeypatch.setattr(torch, "randn", lambda shape, **_: torch.ones(shape))
    method.on_epoch(1, ())
    method.after_clip(batch, 1)
    for m, weight in weights.items():
        torch.testing.assert_close(weight.grad, stored[f"{kind}.{m}"], **CLOSE)
    assert stored["factors"].min() < 0.5


# --- FAGM ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("fagm", {"fagm_beta": 0.9, "fagm_gamma": 0.3}),
        ("fagm_pair", {"fagm_beta": 0.8, "fagm_gamma": 0.05}),
        ("fagm_late", {"is_shared": False, "fagm_erase": "features", "fagm_gamma": 0.1}),
    ],
)
def test_fagm_scales_gradients_like_the_published_code(name, options):
    stored = load_file(FOLDER / f"{name}.safetensors")
    features = of(stored, "features")
    method = plugged("fagm", features, **options)
    batch = batch_of(stored["labels"], torch.tensor([len(stored["labels"])]), features)
    if method.config.is_shared:
        method.plugin.owner.copy_(method.plugin.find_owners(method, batch))
    method.losses(batch)[SIX.name].backward()
    plain = {n: p.grad.clone() for n, p in method.named_parameters()}
    method.after_clip(batch, 1)
    torch.testing.assert_close(method.plugin.weights, stored["importance"], **CLOSE)
    grads = {n: p.grad for n, p in method.named_parameters()}
    for key in stored:
        if key.startswith("grad."):
            torch.testing.assert_close(grads[key[5:]], stored[key], **CLOSE)
    slowed = {n.split(".")[0] for n in grads if not torch.equal(grads[n], plain[n])}
    assert slowed == ({"encoders", "shared"} if method.config.is_shared else {"encoders"})
