"""Words out of sound: against transformers' own writer, and against attention drawn by hand."""

import json

import numpy as np
import pytest
import torch
from transformers import GenerationConfig
from transformers.modeling_outputs import BaseModelOutput

from models.errors import UserError
from models.transcription import transcriber
from models.transcription.alignment import attention_of, starts
from models.transcription.transcriber import RATE_HZ, Transcriber, cuts
from models.transcription.vocabulary import read_vocabulary
from tests.whisper_factory import make_tokenizer, make_whisper


def sound(seconds: float, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    time_s = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    tone = np.sin(2 * np.pi * (150 + 40 * seed) * time_s) * 0.3
    return (tone + random.normal(0, 0.02, len(time_s))).astype(np.float32)


@pytest.fixture(scope="module")
def whisper(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whisper")
    return folder, make_whisper(folder)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_it_writes_what_transformers_writes(whisper, seed):
    folder, model = whisper
    writer = Transcriber(folder, device="cpu")
    states = writer.states_of(np.pad(sound(2.0, seed), (0, 28 * RATE_HZ)))
    prompt = writer.vocabulary.prompt("de")
    tokens, certainty = writer.greedy(states, prompt)
    settings = GenerationConfig.from_pretrained(str(folder))
    steering = [*writer.vocabulary.never]
    settings.suppress_tokens = steering
    expected = model.generate(
        encoder_outputs=BaseModelOutput(states), language="de", task="transcribe",
        generation_config=settings, max_new_tokens=writer.longest,
    )[0].tolist()  # fmt: skip
    assert [t for t in expected if t not in prompt][: len(tokens)] == tokens
    # the certainties are those of one pass over the whole of it
    with torch.no_grad():
        logits = model(
            encoder_outputs=BaseModelOutput(states),
            decoder_input_ids=torch.tensor([[*prompt, *tokens]]),
        ).logits[0, len(prompt) - 1 :]
    logits[:, steering] = -torch.inf
    logits[0, writer.vocabulary.end] = -torch.inf
    chances = logits.log_softmax(-1)
    every = [*tokens, writer.vocabulary.end][: len(certainty)]
    np.testing.assert_allclose(certainty, chances[range(len(every)), every], atol=1e-4)


def test_the_language_is_the_likeliest_token_after_the_first(whisper):
    folder, model = whisper
    writer = Transcriber(folder, device="cpu")
    states = writer.states_of(np.pad(sound(1.0), (0, 29 * RATE_HZ)))
    language, confidence, silent = writer.beginning(states)
    settings = GenerationConfig.from_pretrained(str(folder))
    found = model.detect_language(
        encoder_outputs=BaseModelOutput(states), generation_config=settings
    )
    assert found.tolist() == [writer.vocabulary.languages[str(language)]]
    assert 1 / 3 < float(confidence or 0) < 1
    assert 0 < silent < 1


def test_a_network_for_one_language_is_told_no_language(tmp_path):
    make_whisper(tmp_path, is_multilingual=False)
    writer = Transcriber(tmp_path, device="cpu")
    vocabulary = writer.vocabulary
    assert vocabulary.prompt(None) == [vocabulary.start, vocabulary.plain]
    assert writer.beginning(writer.states_of(sound(1.0)))[0] is None


def test_words_lie_in_the_sound_one_after_the_other(whisper, monkeypatch):
    monkeypatch.setattr(transcriber, "repeats_itself", lambda text: False)
    writer = Transcriber(whisper[0], device="cpu")
    spelt = list(b" no, nein")
    monkeypatch.setattr(writer, "greedy", lambda *_: (tokens_of(writer, spelt), [-0.1] * 10))
    writer.longest = 99
    found = writer.write(sound(40.0))  # two pieces
    assert [word.text for word in found.words] == ["no,", "nein"] * 2
    assert found.text == "no, nein no, nein"
    times = [time for word in found.words for time in (word.start_s, word.end_s)]
    assert times == sorted(times)
    assert times[0] >= 0
    assert times[-1] <= 40.0
    assert found.words[2].start_s >= 23.0
    assert found.confidence == pytest.approx(np.exp(-0.1))
    assert found.language in writer.vocabulary.languages
    assert found.reason is None


def tokens_of(writer: Transcriber, content: list[int]) -> list[int]:
    text = bytes(content).decode()
    return writer.vocabulary.tokenizer(text, add_special_tokens=False).input_ids


def test_words_that_repeat_without_end_are_heard_again_and_not_believed(whisper, monkeypatch):
    writer = Transcriber(whisper[0], device="cpu")
    heard: list[int] = []
    first = writer.states_of
    monkeypatch.setattr(writer, "states_of", lambda x: heard.append(len(x)) or first(x))
    tokens = tokens_of(writer, list(b" door" * 30))
    writer.longest = 500
    monkeypatch.setattr(writer, "greedy", lambda *_: (tokens, [-0.1] * (len(tokens) + 1)))
    found = writer.write(sound(2.0))
    assert (found.words, found.reason) == ((), "unclear_speech")
    assert heard == [6 * RATE_HZ, 30 * RATE_HZ]


def test_nothing_is_written_where_nobody_surely_speaks(whisper, monkeypatch):
    writer = Transcriber(whisper[0], device="cpu")
    tokens = tokens_of(writer, list(b" you"))
    monkeypatch.setattr(writer, "greedy", lambda *_: (tokens, [-2.0] * 5))
    monkeypatch.setattr(writer, "beginning", lambda *_: ("en", 0.4, 0.9))
    assert writer.write(sound(1.0)).reason == "no_speech"
    monkeypatch.setattr(writer, "beginning", lambda *_: ("en", 0.4, 0.1))
    assert writer.write(sound(1.0)).text == "you"
    assert writer.write(np.zeros(0, np.float32)).reason == "no_speech"


@pytest.mark.parametrize(
    ("text", "language", "words"),
    [
        (" Dogs, they say.", "en", ["Dogs,", "they", "say."]),
        (" Für Öl -- 3 €!", "de", ["Für", "Öl", "--", "3", "€!"]),
        ("狗在门边。", "zh", ["狗", "在", "门", "边。"]),
        ("don't", "en", ["don't"]),
    ],
)
def test_tokens_become_words(text, language, words, tmp_path):
    make_whisper(tmp_path)
    vocabulary = read_vocabulary(tmp_path, None, 265, (2, 4))
    tokens = vocabulary.tokenizer(text, add_special_tokens=False).input_ids
    found = vocabulary.words(tokens, language)
    assert [word for word, _ in found] == words
    assert sum(count for _, count in found) == len(tokens)


def test_half_a_letter_at_the_end_is_no_endless_loop(tmp_path):
    make_whisper(tmp_path)
    vocabulary = read_vocabulary(tmp_path, None, 265, (2, 4))
    tokens = vocabulary.tokenizer(" é", add_special_tokens=False).input_ids
    assert sum(count for _, count in vocabulary.words([*tokens[:-1]] * 7, "en")) == 14


def test_the_tokenizer_may_lie_elsewhere(tmp_path):
    make_whisper(tmp_path / "net")
    (tmp_path / "net" / "tokenizer.json").unlink()
    for file in (tmp_path / "net").glob("*token*"):
        file.unlink()
    with pytest.raises(UserError, match="holds no tokenizer"):
        Transcriber(tmp_path / "net", device="cpu")
    make_tokenizer(tmp_path / "words")
    writer = Transcriber(tmp_path / "net", tmp_path / "words", device="cpu")
    assert set(writer.vocabulary.languages) == {"en", "de", "zh"}


def test_what_no_file_says_is_as_published(tmp_path):
    special = make_tokenizer(tmp_path)
    found = read_vocabulary(tmp_path, None, 265, (6, 8))
    assert found.transcribe is None  # so small a vocabulary is of one language
    assert found.aligned[0] == (3, 1)
    (tmp_path / "generation_config.json").write_text(json.dumps({"is_multilingual": True}))
    assert read_vocabulary(tmp_path, None, 265, (1, 1)).languages["de"] == special["<|de|>"]


def test_the_path_through_attention_finds_when_each_token_was_said():
    frames = [(0, 20), (20, 25), (25, 60), (60, 80)]
    looks = torch.full((3, 4, 80), 0.001)
    for token, (low, high) in enumerate(frames):
        looks[:, token, low:high] = 0.05
    assert np.abs(starts(looks) - [low for low, _ in frames]).max() <= 2


def test_heads_that_are_not_known_are_the_upper_half():
    layers = tuple(torch.full((1, 2, 3, 5), float(n)) for n in range(4))
    assert attention_of(layers, ()).flatten().unique().tolist() == [2.0, 3.0]
    assert attention_of(layers, ((1, 0), (3, 1)))[:, 0, 0].tolist() == [1.0, 3.0]


@pytest.mark.parametrize("seconds", [0.1, 29.0, 29.1, 64.0])
def test_long_sounds_are_cut_at_quiet_moments(seconds):
    samples = np.ones(int(seconds * RATE_HZ), np.float32)
    samples[25 * RATE_HZ : 26 * RATE_HZ] = 0
    found = list(cuts(samples))
    assert [low for low, _ in found] == [0, *(high for _, high in found[:-1])]
    assert found[-1][1] == len(samples)
    assert all(high - low <= 29 * RATE_HZ for low, high in found)
    if len(found) > 1:
        assert 25 * RATE_HZ <= found[0][1] <= 26 * RATE_HZ
