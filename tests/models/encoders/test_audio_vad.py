"""The teacher of the voice's VAD: order of outputs, range, windows, and checkpoints that lack."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import Wav2Vec2Config, Wav2Vec2Model

from models.encoders.audio_vad import AudioVad, output_order, read_head, to_vad
from models.encoders.encoder import Settings, Sound
from models.encoders.hf_audio import HfAudio
from models.errors import UserError
from tasks.features.families import families, family_constants, load_encoder

RATE_HZ = 16000
ORDER = {0: "arousal", 1: "dominance", 2: "valence"}
WIDTH = 32


class Published(nn.Module):
    """The published architecture, by the names of its weights."""

    def __init__(self) -> None:
        super().__init__()
        self.config = Wav2Vec2Config(
            hidden_size=WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=64,
            conv_dim=(16, 16, 16, 16, 16, 16, 16),
            feat_extract_norm="layer",
            do_stable_layer_norm=True,
            num_conv_pos_embeddings=16,
            num_conv_pos_embedding_groups=4,
            id2label=ORDER,
            label2id={name: place for place, name in ORDER.items()},
        )
        self.wav2vec2 = Wav2Vec2Model(self.config)
        self.classifier = nn.ModuleDict(
            {"dense": nn.Linear(WIDTH, WIDTH), "out_proj": nn.Linear(WIDTH, 3)}
        )

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        mean = self.wav2vec2(values).last_hidden_state.mean(1)
        return self.classifier["out_proj"](torch.tanh(self.classifier["dense"](mean)))


def save(folder: Path, model: Published, **changes) -> Path:
    folder.mkdir()
    save_file(model.state_dict(), folder / "model.safetensors")
    config = model.config.to_dict() | {"architectures": ["Wav2Vec2ForSpeechClassification"]}
    (folder / "config.json").write_text(json.dumps(config | changes))
    return folder


@pytest.fixture(scope="module")
def model() -> Published:
    torch.manual_seed(4)
    return Published().eval()


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory) -> Path:
    return save(tmp_path_factory.mktemp("teacher") / "msp", model)


@pytest.fixture(scope="module")
def sounds() -> list[Sound]:
    rng = np.random.default_rng(5)
    return [
        Sound((0.1 * rng.standard_normal(length) + 0.05).astype(np.float32), RATE_HZ)
        for length in (16000, 9123, 9123, 12001, 5000)
    ]


def encoder(folder: Path, **options) -> AudioVad:
    return AudioVad(Settings(checkpoint=folder, device="cpu", **options))


def test_outputs_are_reordered_and_mapped_as_in_the_worked_example():
    raw = np.array([0.671707, 0.642131, 0.498813])  # arousal, dominance, valence
    vad = to_vad(raw[output_order(ORDER, Path("msp"))])
    np.testing.assert_allclose(vad, [-0.002374, 0.343414, 0.284263], atol=1e-6)


def test_opinions_equal_those_of_the_published_architecture(model, folder, sounds):
    for sound, found in zip(sounds, encoder(folder).encode(sounds), strict=True):
        samples = sound.samples
        values = (samples - samples.mean()) / np.sqrt(samples.var() + 1e-7)
        with torch.inference_mode():
            arousal, dominance, valence = model(torch.from_numpy(values)[None])[0].tolist()
        expected = [2 * valence - 1, 2 * arousal - 1, 2 * dominance - 1]
        np.testing.assert_allclose(found.pooled, expected, atol=1e-5)


def test_opinions_are_bitwise_the_same_alone_in_a_batch_and_in_any_order(folder, sounds):
    teacher = encoder(folder)
    together = teacher.encode(sounds)
    backwards = teacher.encode(sounds[::-1])[::-1]
    for sound, found, other in zip(sounds, together, backwards, strict=True):
        np.testing.assert_array_equal(teacher.encode([sound])[0].pooled, found.pooled)
        np.testing.assert_array_equal(other.pooled, found.pooled)


def test_unequal_sounds_may_share_a_batch(folder, sounds):
    batched = AudioVad(Settings(checkpoint=folder, device="cpu"), batch=4)
    pairs = zip(encoder(folder).encode(sounds), batched.encode(sounds), strict=True)
    for left, right in pairs:
        np.testing.assert_allclose(left.pooled, right.pooled, atol=1e-5)


def test_the_sequence_is_the_last_layer_of_the_same_network(folder, sounds):
    found = encoder(folder).encode(sounds[:1])[0]
    plain = HfAudio(Settings(checkpoint=folder, device="cpu")).encode(sounds[:1])[0]
    np.testing.assert_array_equal(found.sequence, plain.sequence)
    assert found.hop_s == 0.02
    teacher = encoder(folder)
    assert (teacher.pooled_dim, teacher.frame_dim) == (3, WIDTH)


def test_long_sounds_are_judged_on_the_mean_of_all_their_windows(folder):
    rng = np.random.default_rng(7)
    sound = Sound(rng.standard_normal(3 * RATE_HZ).astype(np.float32), RATE_HZ)
    teacher = encoder(folder, max_s=1.0, overlap_s=0.4)
    found = teacher.encode([sound])[0]
    assert len(found.sequence) == 149
    mean = torch.from_numpy(found.sequence).mean(0)
    expected = to_vad(teacher.raw(mean).numpy()[[2, 0, 1]])
    np.testing.assert_allclose(found.pooled, expected, atol=1e-6)


def test_outputs_come_by_name_whatever_their_order(model, sounds, tmp_path, folder):
    labels = {"0": "Valence", "1": "arousal", "2": "dominance"}
    other = save(tmp_path / "turned", model, id2label=labels)
    turned = encoder(other).encode(sounds[:1])[0].pooled
    plain = encoder(folder).encode(sounds[:1])[0].pooled
    np.testing.assert_array_equal(turned, plain[[1, 2, 0]])


def test_values_beyond_the_scale_are_kept_and_flagged(model, sounds, tmp_path):
    shifted = {name: value.clone() for name, value in model.state_dict().items()}
    shifted["classifier.out_proj.bias"] = torch.tensor([0.5, 1.1, 1.4])
    shifted["classifier.out_proj.weight"] *= 1e-3
    there = save(tmp_path / "shifted", model)
    save_file(shifted, there / "model.safetensors")
    found = encoder(there).encode(sounds[:1])[0]
    np.testing.assert_allclose(found.pooled, [1.8, 0.0, 1.2], atol=0.02)
    assert found.reason == "vad_implausible"


def test_plausible_values_beyond_the_scale_are_not_flagged(model, sounds, tmp_path):
    shifted = {name: value.clone() for name, value in model.state_dict().items()}
    shifted["classifier.out_proj.bias"] = torch.tensor([0.5, 1.1, 0.5])
    shifted["classifier.out_proj.weight"] *= 1e-3
    there = save(tmp_path / "shifted", model)
    save_file(shifted, there / "model.safetensors")
    found = encoder(there).encode(sounds[:1])[0]
    assert found.pooled[2] > 1
    assert found.reason is None


def test_sounds_too_short_have_no_opinion(folder):
    found = encoder(folder).encode([Sound(np.zeros(399, np.float32), RATE_HZ)])[0]
    assert found.pooled is None
    assert found.reason == "too_short"


def test_weights_of_the_older_kind_are_read_without_running_code(model, folder, tmp_path):
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    expected = read_head(folder)
    for name, value in read_head(tmp_path).items():
        torch.testing.assert_close(value, expected[name])


@pytest.mark.parametrize(
    ("lost", "word"),
    [("classifier.dense", r"classifier\.dense\.weight"), ("wav2vec2.", r"wav2vec2\.\*")],
)
def test_a_checkpoint_without_head_or_network_is_refused(lost, word, folder, tmp_path):
    state = load_file(folder / "model.safetensors")
    kept = {name: value for name, value in state.items() if not name.startswith(lost)}
    save_file(kept, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    with pytest.raises(UserError, match=word):
        encoder(tmp_path)


def test_a_folder_without_weights_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"model\.safetensors"):
        encoder(tmp_path)


def test_outputs_without_names_are_refused(model, tmp_path):
    labels = {str(place): f"LABEL_{place}" for place in range(3)}
    with pytest.raises(UserError, match="id2label"):
        encoder(save(tmp_path / "nameless", model, id2label=labels))


def test_a_head_of_another_width_is_refused(model, tmp_path):
    there = save(tmp_path / "wide", model)
    state = load_file(there / "model.safetensors")
    state["classifier.out_proj.weight"] = torch.zeros(4, WIDTH)
    state["classifier.out_proj.bias"] = torch.zeros(4)
    save_file(state, there / "model.safetensors")
    with pytest.raises(UserError, match="3 outputs"):
        encoder(there)


@pytest.mark.parametrize("options", [{"layer": 1}, {"unit_norm": True}])
def test_other_layers_and_scaled_vectors_are_refused(options, folder):
    with pytest.raises(UserError, match="last layer"):
        encoder(folder, **options)


def test_the_family_is_found_by_its_constants(folder):
    assert "audio_vad" in families()
    family = family_constants("audio_vad")
    assert (family.modality, family.poolings, family.checkpoint) == ("audio", ("mean",), "required")
    loaded = load_encoder("audio_vad", Settings(checkpoint=folder, device="cpu"))
    assert isinstance(loaded, AudioVad)
