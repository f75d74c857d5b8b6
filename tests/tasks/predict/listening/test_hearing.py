"""Listening piece by piece hears what is there, where it is, once."""

import numpy as np
import pytest

from models.speech_activity import FRAME
from tasks.predict.listening import hearing
from tests.places import QUIET
from tests.tasks.media_factory import tone, write


def loud(network, samples):
    """Takes for speech what is loud: stands in for the network, whose weights tests do not have."""
    frames = np.pad(samples, (0, -len(samples) % FRAME)).reshape(-1, FRAME)
    return (np.square(frames).mean(axis=1) > 1e-3).astype(np.float32)


@pytest.fixture
def listen(tmp_path, monkeypatch):
    """Hears a file with the stand-in, in pieces of 3.2 s."""
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    monkeypatch.setattr(hearing, "_PIECE", 100)
    monkeypatch.setattr(hearing, "_LEAD", 10)
    monkeypatch.setattr(hearing, "load", lambda folder: None)
    monkeypatch.setattr(hearing, "probabilities", loud)

    def hear(path, length_s, sha256="0" * 64):
        return hearing.hear(path, sha256, length_s, tmp_path, tmp_path / "kept", QUIET)

    return hear


def sound(seconds, *spoken):
    """Silence with tones in it."""
    samples = np.zeros((1, seconds * 16000), np.float32)
    for start, end in spoken:
        low, high = round(start * 16000), round(end * 16000)
        samples[:, low:high] = tone(end - start, 16000)[:, : high - low]
    return samples


def test_stretches_across_pieces_are_whole(listen, tmp_path):
    path = write(tmp_path / "a.wav", sound=sound(12, (1, 2.5), (3, 7), (9, 11)), format="wav")
    heard = listen(path, 12.0)
    assert not heard.is_silent
    assert np.array(heard.speech) == pytest.approx(np.array([(1, 2.5), (3, 7), (9, 11)]), abs=0.08)


def test_sound_that_begins_late_is_heard_where_it_is(listen, tmp_path):
    path = write(
        tmp_path / "late.mkv",
        times_s=np.arange(50) / 10,
        sound=sound(3, (1, 2)),
        audio_start_s=2.0,
        format="matroska",
    )
    assert listen(path, 5.0).speech == ((pytest.approx(3, abs=0.08), pytest.approx(4, abs=0.08)),)


def test_silence_is_told_from_a_room_without_speech(listen, tmp_path):
    path = write(tmp_path / "a.wav", sound=sound(4), format="wav")
    assert listen(path, 4.0) == hearing.Heard((), True)
    path = write(tmp_path / "b.wav", sound=sound(4, (1, 2)) * 0.02, format="wav")
    assert listen(path, 4.0, "1" * 64) == hearing.Heard((), False)


def test_what_was_heard_is_kept_by_content(listen, tmp_path, monkeypatch):
    path = write(tmp_path / "a.wav", sound=sound(4, (1, 2)), format="wav")
    first = listen(path, 4.0)

    def never(folder):
        raise AssertionError("listened again")

    monkeypatch.setattr(hearing, "load", never)
    assert listen(path, 4.0) == first
    with pytest.raises(AssertionError, match="listened again"):
        listen(path, 4.0, "2" * 64)


def test_the_beginning_of_a_long_sound_is_heard_as_all_of_it_will_be(listen, tmp_path, monkeypatch):
    monkeypatch.setattr(hearing, "_EARLY_S", (2.0, 5.0))
    spoken = sound(12, (2.5, 3.2), (3.8, 4.8), (5.2, 8), (9, 11))
    path = write(tmp_path / "a.wav", sound=spoken, format="wav")
    about = (path, "0" * 64, 12.0, tmp_path, tmp_path / "kept", QUIET)
    early = hearing.hear_beginning(*about)
    assert len(early) == 1  # the second may go on
    assert hearing.hear(*about).speech[:1] == early
    assert hearing.hear_beginning(*about) == ()  # all of it is known now
    assert hearing.hear_beginning(path, "1" * 64, 3.0, *about[3:]) == ()
