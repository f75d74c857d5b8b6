"""Vox-Profile's teacher against the same network written as its makers describe it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from transformers import WavLMConfig, WavLMModel

from models.encoders.encoder import Settings, Sound
from models.encoders.vox_profile import LARGE, VoxProfile, trunk
from models.errors import UserError

WIDTH, HIDDEN, RANK = 32, 24, 4
TINY = WavLMConfig(
    hidden_size=WIDTH, num_hidden_layers=4, num_attention_heads=4, intermediate_size=48,
    conv_dim=(16,) * 7, do_stable_layer_norm=True, feat_extract_norm="layer",
    num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2, apply_spec_augment=False,
)  # fmt: skip


class LowRank(nn.Linear):
    """A layer whose addition is kept beside its weight, as loralib names it."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.lora_A = nn.Parameter(torch.randn(RANK, inputs))
        self.lora_B = nn.Parameter(torch.randn(outputs, RANK))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) + (x @ self.lora_A.T @ self.lora_B.T) / RANK


class Published(nn.Module):
    """The published architecture, by the names of its weights."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone_model = WavLMModel(TINY)
        for layer in self.backbone_model.encoder.layers[3:]:  # above the middle
            layer.feed_forward.intermediate_dense = LowRank(WIDTH, 48)
            layer.feed_forward.output_dense = LowRank(48, WIDTH)
        parts: list[nn.Module] = []
        for width in (WIDTH, HIDDEN, HIDDEN):
            parts += [nn.Conv1d(width, HIDDEN, 1), nn.ReLU(), nn.Dropout(0.1)]
        self.model_seq = nn.Sequential(*parts[:-2])
        self.weights = nn.Parameter(torch.randn(5))
        for name in ("arousal", "valence", "dominance"):
            head = [nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 1), nn.Sigmoid()]
            setattr(self, f"{name}_layer", nn.Sequential(*head))

    def forward(self, samples: torch.Tensor) -> dict[str, float]:
        signal = (samples - samples.mean()) / (samples.var(correction=0) + 1e-7).sqrt()
        states = self.backbone_model(signal[None], output_hidden_states=True).hidden_states
        mixed = (torch.stack(states) * self.weights.softmax(0).view(-1, 1, 1, 1)).sum(0)
        means = self.model_seq(mixed.transpose(1, 2)).mean(2)
        names = ("valence", "arousal", "dominance")
        return {name: float(getattr(self, f"{name}_layer")(means)) for name in names}


@pytest.fixture(scope="module")
def published() -> Published:
    with torch.random.fork_rng():
        torch.manual_seed(6)
        return Published().eval()


@pytest.fixture(scope="module")
def folder(published, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("vox")
    save_file(published.state_dict(), folder / "model.safetensors")
    return folder


def encoder(folder: Path, **options) -> VoxProfile:
    return VoxProfile(Settings(checkpoint=folder, device="cpu", **options), config=TINY)


def sound(samples: int, seed: int = 0) -> Sound:
    rng = np.random.default_rng(seed)
    return Sound((0.1 * rng.standard_normal(samples)).astype(np.float32), 16000)


def test_it_says_what_the_published_network_says(published, folder):
    sounds = [sound(9000), sound(12345, 1)]
    for one, found in zip(sounds, encoder(folder).encode(sounds), strict=True):
        with torch.no_grad():
            expected = published(torch.from_numpy(one.samples))
        np.testing.assert_allclose(
            found.pooled, [2 * value - 1 for value in expected.values()], atol=1e-4
        )
        assert found.sequence.shape[1] == WIDTH


def test_a_sound_does_not_depend_on_the_others(folder):
    sounds = [sound(9000), sound(5000, 1), sound(9000, 2), sound(300)]
    model = encoder(folder)
    together = model.encode(sounds)
    for one, beside in zip(sounds[:3], together, strict=False):
        np.testing.assert_array_equal(model.encode([one])[0].pooled, beside.pooled)
    assert (together[3].pooled, together[3].reason) == (None, "too_short")


def test_older_names_of_normed_weights_are_known(published, folder, tmp_path):
    new = published.state_dict()
    parts = {"original0": "weight_g", "original1": "weight_v"}
    old = {}
    for name, value in new.items():
        stem, _, last = name.rpartition(".")
        old[f"{stem.removesuffix('.parametrizations.weight')}.{parts[last]}"
            if last in parts else name] = value  # fmt: skip
    assert old.keys() != new.keys()
    save_file(old, tmp_path / "model.safetensors")
    (a,), (b,) = (encoder(where).encode([sound(9000)]) for where in (folder, tmp_path))
    np.testing.assert_array_equal(a.pooled, b.pooled)


def test_the_published_size_is_wavlm_large():
    with torch.device("meta"):
        network = WavLMModel(LARGE)
    assert sum(value.numel() for value in network.parameters()) == 315_453_120
    assert "encoder.layers.0.attention.rel_attn_embed.weight" in network.state_dict()


@pytest.mark.parametrize(
    ("gone", "expected"),
    [
        ("weights", "lacks weights; vox_profile takes"),
        ("valence_layer.2.bias", r"lacks valence_layer\.2\.bias"),
        ("backbone_model.encoder.layer_norm.bias", "does not hold every weight"),
    ],
)
def test_a_checkpoint_that_lacks_something_is_refused(published, tmp_path, gone, expected):
    state = published.state_dict()
    del state[gone]
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=expected):
        encoder(tmp_path)
    with pytest.raises(UserError, match=r"no readable model\.safetensors"):
        encoder(tmp_path / "nowhere")


def test_options_that_do_nothing_are_refused(folder):
    with pytest.raises(UserError, match="leave `layer`"):
        encoder(folder, layer=3)


def test_additions_are_scaled_by_their_rank():
    state = {
        "backbone_model.a.weight": torch.zeros(2, 3),
        "backbone_model.a.lora_A": torch.ones(4, 3),
        "backbone_model.a.lora_B": torch.ones(2, 4),
    }
    assert torch.equal(trunk(state)["a.weight"], torch.ones(2, 3))
