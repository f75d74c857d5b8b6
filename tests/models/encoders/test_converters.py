"""Networks in foreign forms become the same networks here; written and read back at toy size."""

import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import WhisperConfig, WhisperModel

from models import speech_activity
from models.encoders.converters import convert
from models.encoders.encoder import Settings, Sound
from models.encoders.ge2e import Ge2e, SpeakerNetwork, louder
from models.errors import UserError
from models.layers import efficientnet_lite
from models.layers.efficientnet_lite import EfficientNetLite0
from models.speech_activity import FRAME, RATE_HZ, SpeechActivity, stretches


def write_ctranslate2(file: Path, tensors: dict[str, np.ndarray]) -> None:
    """As CTranslate2 6 keeps a network."""
    kinds = {"float32": 0, "int16": 2, "float16": 4}

    def text(word: str) -> bytes:
        return struct.pack("<H", len(word) + 1) + word.encode() + b"\0"

    with file.open("wb") as stream:
        stream.write(
            struct.pack("<I", 6) + text("WhisperSpec") + struct.pack("<II", 3, len(tensors))
        )
        for name, value in tensors.items():
            stream.write(text(name) + struct.pack(f"<B{value.ndim}I", value.ndim, *value.shape))
            stream.write(struct.pack("<BI", kinds[str(value.dtype)], value.nbytes))
            stream.write(value.tobytes())
        stream.write(struct.pack("<I", 1))
        stream.write(text("decoder/projection/weight") + text("decoder/embeddings/weight"))


def as_ctranslate2(model: WhisperModel) -> dict[str, np.ndarray]:
    """The tensors of a Whisper by the names that CTranslate2 gives them."""
    ours = {name: value.detach().numpy() for name, value in model.state_dict().items()}
    found: dict[str, np.ndarray] = {}

    def linear(theirs: str, *names: str) -> None:
        weights = [ours[f"{name}.weight"] for name in names]
        zeros = np.zeros(len(weights[0]), np.float32)
        biases = [ours.get(f"{name}.bias", zeros) for name in names]
        found[f"{theirs}/weight"], found[f"{theirs}/bias"] = map(np.concatenate, (weights, biases))

    def norm(theirs: str, name: str) -> None:
        found[f"{theirs}/gamma"] = ours[f"{name}.weight"]
        found[f"{theirs}/beta"] = ours[f"{name}.bias"]

    for side in ("encoder", "decoder"):
        found[f"{side}/num_heads"] = np.array(4, np.int16)
        found[f"{side}/position_encodings/encodings"] = ours[f"{side}.embed_positions.weight"]
        norm(f"{side}/layer_norm", f"{side}.layer_norm")
        layers = {name.split(".")[2] for name in ours if name.startswith(f"{side}.layers.")}
        for number in layers:
            name, theirs = f"{side}.layers.{number}", f"{side}/layer_{number}"
            attention = [f"{name}.self_attn.{letter}_proj" for letter in "qkv"]
            linear(f"{theirs}/self_attention/linear_0", *attention)
            linear(f"{theirs}/self_attention/linear_1", f"{name}.self_attn.out_proj")
            norm(f"{theirs}/self_attention/layer_norm", f"{name}.self_attn_layer_norm")
            linear(f"{theirs}/ffn/linear_0", f"{name}.fc1")
            linear(f"{theirs}/ffn/linear_1", f"{name}.fc2")
            norm(f"{theirs}/ffn/layer_norm", f"{name}.final_layer_norm")
            if side == "decoder":
                across = f"{name}.encoder_attn"
                linear(f"{theirs}/attention/linear_0", f"{across}.q_proj")
                linear(f"{theirs}/attention/linear_1", f"{across}.k_proj", f"{across}.v_proj")
                linear(f"{theirs}/attention/linear_2", f"{across}.out_proj")
                norm(f"{theirs}/attention/layer_norm", f"{across}_layer_norm")
    found["decoder/embeddings/weight"] = ours["decoder.embed_tokens.weight"]
    for name in ("conv1", "conv2"):
        for kind in ("weight", "bias"):
            found[f"encoder/{name}/{kind}"] = ours[f"encoder.{name}.{kind}"]
    return found


@pytest.fixture(scope="module")
def whisper():
    """As small as one with the whole vocabulary can be."""
    layers = dict(encoder_layers=2, decoder_layers=1, encoder_ffn_dim=32, decoder_ffn_dim=16)
    heads = dict(encoder_attention_heads=4, decoder_attention_heads=4)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return WhisperModel(WhisperConfig(vocab_size=51865, d_model=16, **layers, **heads)).eval()


def test_a_whisper_of_ctranslate2_is_the_same_whisper(whisper, tmp_path):
    file = tmp_path / "model.bin"
    write_ctranslate2(file, as_ctranslate2(whisper))
    convert(file, "wheel:w==1/model.bin", tmp_path)
    found, told = WhisperModel.from_pretrained(str(tmp_path), output_loading_info=True)
    assert not told["missing_keys"]
    state = found.state_dict()
    for name, value in whisper.state_dict().items():
        torch.testing.assert_close(state[name], value, rtol=0, atol=0)
    for key in ("d_model", "encoder_layers", "decoder_layers", "encoder_attention_heads"):
        assert getattr(found.config, key) == getattr(whisper.config, key)


def test_a_whisper_that_is_cut_off_is_refused(whisper, tmp_path):
    file = tmp_path / "model.bin"
    write_ctranslate2(file, as_ctranslate2(whisper))
    file.write_bytes(file.read_bytes()[:-2000])
    with pytest.raises(UserError, match="it ends in the middle of a tensor"):
        convert(file, "wheel:w==1/model.bin", tmp_path)


def test_a_published_efficientnet_is_the_same_network(tmp_path):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        state = EfficientNetLite0().state_dict()
    parts = {ours: theirs for theirs, ours in efficientnet_lite._PARTS.items()}
    inner = {ours: theirs for theirs, ours in efficientnet_lite._INNER.items()}

    def published(name: str) -> str:
        part, rest = name.rsplit(".", 1)
        if part.startswith("blocks."):
            _, number, layer = part.split(".", 2)
            return f"_blocks.{number}.{inner[layer]}.{rest}"
        return f"{parts[part]}.{rest}"

    torch.save({published(name): value for name, value in state.items()}, tmp_path / "net.pth")
    convert(tmp_path / "net.pth", "wheel:e==1/net.pth", tmp_path)
    found = load_file(tmp_path / "model.safetensors")
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], state[name]) for name in state)


def test_padding_of_a_stride_puts_the_odd_place_last():
    convolution = efficientnet_lite.SameConv2d(1, 1, 3, 2, bias=False)
    torch.nn.init.ones_(convolution.weight)
    with torch.inference_mode():
        even = convolution(torch.ones(1, 1, 4, 4))
        odd = convolution(torch.ones(1, 1, 5, 5))
    torch.testing.assert_close(even[0, 0], torch.tensor([[9.0, 6.0], [6.0, 4.0]]))
    assert odd.shape[-2:] == (3, 3)
    assert odd[0, 0, 0, 0] == odd[0, 0, 2, 2] == 4


@pytest.fixture
def speakers(tmp_path):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_file(SpeakerNetwork().state_dict(), tmp_path / "model.safetensors")
    return Ge2e(Settings(checkpoint=tmp_path, device="cpu"))


def test_a_voice_is_a_vector_of_length_one_that_depends_on_its_sound_alone(speakers):
    random = np.random.default_rng(0)
    sounds = [
        Sound(random.normal(0, 0.1, int(seconds * RATE_HZ)).astype(np.float32), RATE_HZ)
        for seconds in (4.0, 0.7, 2.2, 0.05)
    ]
    together = speakers.encode(sounds)
    for sound, found in zip(sounds[:3], together[:3], strict=True):
        (alone,) = speakers.encode([sound])
        np.testing.assert_array_equal(found.pooled, alone.pooled)
        assert np.linalg.norm(found.pooled) == pytest.approx(1, abs=1e-5)
    assert [len(found.sequence) for found in together[:3]] == [4, 1, 2]
    assert (together[3].pooled, together[3].reason) == (None, "too_short")


def test_a_quiet_voice_is_heard_as_a_loud_one(speakers):
    loud = np.sin(np.arange(2 * RATE_HZ) / 9).astype(np.float32) * 0.03
    found = speakers.encode([Sound(loud, RATE_HZ), Sound(loud / 50, RATE_HZ)])
    np.testing.assert_allclose(found[0].pooled, found[1].pooled, atol=1e-4)
    silence = np.zeros(800, np.float32)
    assert louder(silence) is silence


def test_speech_activity_of_a_prefix_is_the_prefix_of_its_activity():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = SpeechActivity().eval()
    samples = np.random.default_rng(0).normal(0, 0.1, 10 * FRAME + 100).astype(np.float32)
    whole = speech_activity.probabilities(model, samples)
    assert len(whole) == 11
    part = speech_activity.probabilities(model, samples[: 4 * FRAME])
    np.testing.assert_allclose(part, whole[:4], atol=1e-6)


def test_a_stretch_of_speech_survives_short_silence_and_is_padded():
    certainty = np.zeros(100)
    certainty[20:50] = 0.9
    certainty[30:32] = 0.1  # 64 ms
    certainty[70:74] = 0.9  # 128 ms: too short
    assert stretches(certainty, 3.2) == [(0.61, 1.63)]


@given(st.lists(st.floats(0, 1, width=32), max_size=200))
def test_stretches_are_in_order_apart_and_inside_the_sound(certainty):
    length_s = len(certainty) * FRAME / RATE_HZ
    bounds = [bound for stretch in stretches(certainty, length_s) for bound in stretch]
    assert bounds == sorted(bounds)
    assert not bounds or (bounds[0] >= 0 and bounds[-1] <= length_s)
