"""The drawn video: its times, its way up, its sound, and what is drawn where."""

from dataclasses import replace

import av
import numpy as np
import pytest

from models.errors import UserError
from tasks.media.decoding import FrameSampling, decode, probe
from tasks.predict.answer import Face, Medium
from tasks.predict.output.overlay import write_overlay
from tasks.predict.output.overlay.lettering import drawable, font_for, wrapped
from tasks.predict.output.overlay.paths import FacePaths
from tests.tasks import media_factory
from tests.tasks.predict.answers import HOSTILE, answer, utterance

QUARTER_TURN = [0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30]


def silent(size_px, *utterances, faces=()):
    """An answer that draws nothing but what is given."""
    found = answer(0)
    medium = Medium("talk.mp4", "video", 9.0, size_px)
    return replace(found, medium=medium, utterances=utterances, faces=tuple(faces))


def frames(path):
    return decode(path, audio_rate_hz=None, frame_times=FrameSampling())


def test_uneven_times_of_frames_are_kept(tmp_path):
    times_s = np.array([0.0, 0.04, 0.1, 0.45, 0.5, 1.3, 1.34])
    medium = media_factory.write(tmp_path / "a.mp4", times_s=times_s)
    write_overlay(silent((64, 48)), medium, tmp_path / "o.mp4")
    found = frames(tmp_path / "o.mp4")
    np.testing.assert_allclose(found.times_s, times_s, atol=1e-4)
    assert media_factory.numbers(found.frames) == list(range(7))


@pytest.mark.parametrize("matrix", [None, QUARTER_TURN])
def test_pictures_are_upright_without_a_turn_left_to_the_player(tmp_path, matrix):
    medium = media_factory.write(
        tmp_path / "a.mp4", times_s=np.arange(4) / 10, matrix=matrix,
        pictures=[media_factory.corners()] * 4,
    )  # fmt: skip
    write_overlay(silent(None), medium, tmp_path / "o.mp4")
    before, after = frames(medium).frames, frames(tmp_path / "o.mp4").frames
    assert after.shape == before.shape
    assert media_factory.corner_names(after[0]) == media_factory.corner_names(before[0])
    assert probe(tmp_path / "o.mp4").rotation_deg == 0


def test_sound_is_kept_at_its_time(tmp_path):
    sound = np.concatenate([np.zeros((1, 16000), np.float32), media_factory.tone(1.0, 16000)], 1)
    medium = media_factory.write(
        tmp_path / "a.mkv", times_s=np.arange(20) / 10, sound=sound, audio_codec="pcm_s16le"
    )
    write_overlay(silent((64, 48)), medium, tmp_path / "o.mp4")
    found = decode(tmp_path / "o.mp4", audio_rate_hz=16000, frame_times=None).audio
    assert found is not None
    onset = int(np.argmax(np.abs(found) > 0.1)) / 16000
    assert onset == pytest.approx(1.0, abs=0.03)
    assert np.sqrt(np.mean(found[17000:31000] ** 2)) == pytest.approx(0.25, abs=0.03)


def test_boxes_move_between_the_frames_that_were_looked_at(tmp_path):
    times_s = np.arange(21) / 10
    pictures = [np.full((240, 320, 3), 120, np.uint8)] * 21
    medium = media_factory.write(
        tmp_path / "a.mp4", times_s=times_s, pictures=pictures, size=(320, 240)
    )
    said = utterance(1, 0.0, 2.0, text=None, values={}, speaker=None)
    faces = [Face("1", 0.0, 0, (40, 90, 100, 160), 1), Face("1", 2.0, 0, (200, 90, 260, 160), 1)]
    write_overlay(silent((320, 240), said, faces=faces), medium, tmp_path / "o.mp4")
    found = frames(tmp_path / "o.mp4").frames
    lit = np.abs(found[10][125].astype(int) - 120).sum(-1) > 60  # a row through the box
    assert np.flatnonzero(lit).min() == pytest.approx(120, abs=3)
    assert np.flatnonzero(lit).max() == pytest.approx(180, abs=3)
    assert (np.abs(found[20][125].astype(int) - 120).sum(-1) < 60).all()  # nobody speaks there


def test_a_box_is_not_drawn_where_nobody_knows():
    faces = [Face("1", t, 0, (0, 0, 9, 9), 1) for t in (1.0, 2.0, 9.0)]
    paths = FacePaths(faces)
    assert [bool(paths.at("1", t)) for t in (0.5, 0.8, 1.5, 2.2, 5.0, 8.8, 9.5)] == [
        False, True, True, True, False, True, False
    ]  # fmt: skip
    assert paths.at("2", 1.0) == {}


def test_every_text_can_be_drawn(tmp_path):
    medium = media_factory.write(tmp_path / "a.mp4", times_s=np.arange(5) / 4, size=(64, 48))
    texts = (HOSTILE, "你好 " * 40, "x" * 500, "\x00\x07\n", "é̂ 🙂 אב", " ")
    said = [
        utterance(n + 1, n / 6, n / 6 + 0.3, text=text, speaker=text, far="far", reason=text)
        for n, text in enumerate(texts)
    ]
    told = []
    write_overlay(silent((64, 48), *said), medium, tmp_path / "o.mp4", told.append)
    assert len(frames(tmp_path / "o.mp4").frames) == 5
    assert told == sorted(told)
    assert told[-1] == pytest.approx(1.0)


def test_lines_fit_and_end_in_an_ellipsis():
    font = font_for("words", 20)
    lines = wrapped("many words " * 30 + "w" * 90, font, 150, 3)
    assert len(lines) == 3
    assert all(font.getlength(line) <= 150 for line in lines)
    assert lines[-1].endswith("…")
    assert wrapped("", font, 150, 3) == []
    assert drawable("a\x00b", font) == "ab"


def test_odd_sizes_become_even_and_many_frames_stay_few_in_memory(tmp_path):
    pictures = [np.full((49, 65, 3), 200, np.uint8)] * 3
    medium = media_factory.write(
        tmp_path / "a.mkv", times_s=np.arange(3) / 10, pictures=pictures, size=(65, 49),
        pix_fmt="yuv444p",
    )  # fmt: skip
    write_overlay(silent(None), medium, tmp_path / "o.mp4")
    with av.open(str(tmp_path / "o.mp4")) as found:
        assert (found.streams.video[0].width, found.streams.video[0].height) == (64, 48)


def test_what_has_no_pictures_is_one_sentence_and_no_file(tmp_path):
    sound = media_factory.write(tmp_path / "a.wav", sound=media_factory.tone(0.2, 16000))
    (tmp_path / "b.mp4").write_bytes(b"nothing")
    for medium, kind, message in (
        (sound, "audio", "is no video"),
        (sound, "video", "no picture that can be decoded"),
        (tmp_path / "b.mp4", "video", "does not begin like any known media"),
        (tmp_path / "c.mp4", "video", "does not exist"),
    ):
        found = replace(answer(0), medium=Medium("a", kind, 1.0))
        with pytest.raises(UserError, match=message):
            write_overlay(found, medium, tmp_path / "o.mp4")
    assert not (tmp_path / "o.mp4").exists()


def test_a_video_cut_short_is_drawn_as_far_as_it_goes(tmp_path):
    medium = media_factory.write(tmp_path / "a.mkv", times_s=np.arange(50) / 20, size=(160, 120))
    whole = medium.read_bytes()
    medium.write_bytes(whole[: len(whole) * 2 // 3])
    write_overlay(silent((160, 120)), medium, tmp_path / "o.mp4")
    assert 10 < len(frames(tmp_path / "o.mp4").frames) < 50
