"""The page as bytes; tests/browser opens it."""

import json
import re
from dataclasses import replace

import numpy as np
from PIL import Image

from tasks.predict.answer import Face, Medium
from tasks.predict.output import timeline
from tasks.predict.output.timeline import write_timeline
from tests.tasks import media_factory
from tests.tasks.predict.answers import HOSTILE, answer, utterance


def content(page):
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page.read_text())
    assert found
    return json.loads(found[1])


def test_text_from_data_cannot_leave_the_data(tmp_path):
    hostile = utterance(1, 0, 1, text=HOSTILE, speaker=HOSTILE, reason=HOSTILE, far=HOSTILE)
    found = replace(answer(0, last=hostile, name=HOSTILE), notes=(HOSTILE, "<!--STYLE-->"))
    write_timeline(found, tmp_path / "none.mp4", tmp_path / "t.html")
    text = (tmp_path / "t.html").read_text()
    assert text.count("<script") == text.count("</script>") == 2
    assert "hacked'" in text
    assert "<img src=x" not in text
    assert content(tmp_path / "t.html")["utterances"][0]["text"] == HOSTILE
    assert content(tmp_path / "t.html")["notes"] == [HOSTILE, "<!--STYLE-->"]


def test_a_small_medium_is_in_the_page_and_a_large_one_is_linked(tmp_path, monkeypatch):
    medium = media_factory.write(tmp_path / "a #1.mp4", times_s=np.arange(5) / 10)
    (tmp_path / "out").mkdir()
    page = tmp_path / "out" / "t.html"
    write_timeline(answer(), medium, page)
    assert content(page)["source"].startswith("data:video/mp4;base64,")
    assert str(tmp_path) not in page.read_text()
    monkeypatch.setattr(timeline, "EMBEDDED_BYTES", 10)
    write_timeline(answer(), medium, page)
    assert content(page)["source"] == "../a%20%231.mp4"
    assert str(tmp_path) not in page.read_text()


def test_a_picture_and_a_sound_are_in_the_page(tmp_path):
    Image.new("RGB", (3000, 200), "red").save(tmp_path / "a.png")
    write_timeline(answer(1, kind="image"), tmp_path / "a.png", tmp_path / "t.html")
    assert content(tmp_path / "t.html")["source"].startswith("data:image/jpeg;base64,")
    sound = media_factory.write(tmp_path / "a.wav", sound=media_factory.tone(0.3, 16000))
    write_timeline(answer(1, kind="audio", size_px=None), sound, tmp_path / "t.html")
    assert content(tmp_path / "t.html")["source"].startswith("data:audio/wav;base64,")


def test_faces_of_hours_are_thinned_evenly_and_those_of_minutes_are_not(tmp_path, monkeypatch):
    found = replace(answer(2), faces=tuple(face(t, track) for t in range(8) for track in (0, 1)))
    monkeypatch.setattr(timeline, "_FACES", 16)
    write_timeline(found, tmp_path / "none.mp4", tmp_path / "t.html")
    assert len(content(tmp_path / "t.html")["faces"]) == 16
    monkeypatch.setattr(timeline, "_FACES", 5)
    write_timeline(found, tmp_path / "none.mp4", tmp_path / "t.html")
    kept = [(time_s, track) for _, time_s, track, *_ in content(tmp_path / "t.html")["faces"]]
    assert kept == [(0, 0), (0, 1), (4, 0), (4, 1)]


def face(time_s, track):
    return Face("1", float(time_s), track, (1.0, 2.0, 3.0, 4.0), 0.9)


def test_faces_are_in_the_page_beside_their_utterances(tmp_path):
    faces = {"2": b"a face"}
    write_timeline(answer(), tmp_path / "none.mp4", tmp_path / "t.html", portraits=faces)
    found = content(tmp_path / "t.html")["portraits"]
    assert found == {"2": "data:image/jpeg;base64,YSBmYWNl"}


def test_the_same_answer_gives_the_same_page(tmp_path):
    write_timeline(answer(), tmp_path / "none.mp4", tmp_path / "a.html")
    write_timeline(answer(), tmp_path / "none.mp4", tmp_path / "b.html")
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_a_thousand_utterances_stay_below_two_megabytes(tmp_path):
    found = replace(answer(1000), medium=Medium("long.mp4", "video", 1000.0, (320, 240)))
    write_timeline(found, tmp_path / "none.mp4", tmp_path / "t.html")
    assert (tmp_path / "t.html").stat().st_size < 2_000_000
