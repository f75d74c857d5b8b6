"""The timeline in a real browser: no request, and everything a reader does works."""

import io
import time
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from tasks.predict.answer import Face, Medium
from tasks.predict.output.timeline import write_timeline
from tests.browser.chromium import EXECUTABLE
from tests.tasks import media_factory
from tests.tasks.predict.answers import HOSTILE, answer, utterance

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not EXECUTABLE.exists(), reason=f"{EXECUTABLE} is not installed"),
]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("timeline")
    times_s = np.arange(200) / 20
    pictures = [np.full((240, 320, 3), 20 + n, np.uint8) for n in range(200)]
    # VP8 and Vorbis: every build of Chromium plays them
    medium = media_factory.write(
        folder / "talk.webm", times_s=times_s, pictures=pictures, size=(320, 240),
        video_codec="libvpx", b_frames=0,
    )  # fmt: skip
    hostile = utterance(
        9, 8.2, 9.5, text=HOSTILE, speaker=HOSTILE, reason=HOSTILE, far=HOSTILE, language=HOSTILE
    )
    found = replace(answer(8, last=hostile, name=HOSTILE), notes=(HOSTILE,))
    found = replace(found, medium=replace(found.medium, duration_s=10.0))
    write_timeline(found, medium, folder / "timeline.html")
    write_timeline(found, medium, folder / "faces.html", portraits={"1": _face(), "4": _face()})
    long = replace(answer(1000, step_s=3.0), medium=Medium("long.mp4", "video", 3000.0, (320, 240)))
    write_timeline(long, folder / "none.mp4", folder / "long.html")
    Image.new("RGB", (300, 400), "grey").save(folder / "face.png")
    face = replace(
        answer(0, kind="image", size_px=(300, 400), last=utterance(1, 0, 0, text=None)),
        faces=(Face("1", 0.0, 0, (90, 100, 200, 230), 0.9),),
    )
    write_timeline(face, folder / "face.png", folder / "picture.html")
    return folder / "timeline.html"


def _face():
    stream = io.BytesIO()
    Image.new("RGB", (64, 64), "brown").save(stream, "JPEG")
    return stream.getvalue()


@pytest.fixture(autouse=True)
def _playable(fresh, tab):
    until(tab, "document.querySelector('video').readyState >= 2")


def until(tab, condition):
    end = time.monotonic() + 20
    while not tab.run(condition):
        assert time.monotonic() < end, f"never: {condition}"
        time.sleep(0.05)


def at(tab):
    until(tab, "!document.querySelector('video')?.seeking")
    return tab.run("document.querySelector('video')?.currentTime ?? Number(seek.value)")


def now(tab):
    return tab.run("document.getElementById('now').textContent")


def press(tab, *names):
    codes = {"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, " ": 32}
    for name in names:
        tab.key(name, codes.get(name, 0))


def test_everything_is_drawn(tab):
    assert tab.run("document.querySelectorAll('#lanes rect.turn').length") == 9
    assert tab.run("document.querySelectorAll('#lanes path.curve').length") == 3
    assert tab.run("document.querySelectorAll('#lanes path.band').length") == 3
    assert tab.run("document.querySelectorAll('#lanes rect.gap').length") == 9
    assert tab.run("document.querySelectorAll('#words button').length") == 9
    assert tab.run("document.querySelectorAll('#lanes rect.turn[stroke]').length") == 1  # far
    assert "silence" in now(tab)


def test_text_from_data_is_never_run(tab):
    press(tab, "End", *["ArrowUp"])
    assert tab.run("document.title") == "affectloom timeline"
    assert "<img src=x onerror=alert(1)>" in now(tab)
    assert tab.run("document.querySelectorAll('main img, script').length") == 2  # our two scripts


def test_a_click_on_the_lanes_or_on_words_jumps(tab):
    tab.run(
        "(() => { const l = document.getElementById('lanes'), r = l.getBoundingClientRect();"
        "l.dispatchEvent(new MouseEvent('click', {clientX: r.left + 0.35 * l.scrollWidth,"
        "clientY: r.top + 30, bubbles: true})); })()"
    )
    assert at(tab) == pytest.approx(3.5, abs=0.05)
    assert "utterance 4" in now(tab)
    tab.run("document.querySelector('#words button[data-id=\"2\"]').click()")
    assert at(tab) == pytest.approx(1.2, abs=0.05)
    assert "utterance 2" in now(tab)
    assert tab.run("document.querySelector('#words [aria-current]').dataset.id") == "2"
    assert tab.run("document.querySelectorAll('#boxes rect').length") == 1


def test_what_was_not_understood_says_why(tab):
    tab.run("document.querySelector('#words button[data-id=\"3\"]').click()")
    assert "nobody is heard or seen" in now(tab)
    assert "no face (nobody is in the picture)" in now(tab)


def test_keys_move_and_play(tab):
    press(tab, "ArrowRight")
    assert at(tab) == pytest.approx(5.0, abs=0.05)
    press(tab, "ArrowLeft")
    assert at(tab) == pytest.approx(0.0, abs=0.05)
    press(tab, "ArrowDown", "ArrowDown")
    assert at(tab) == pytest.approx(1.2, abs=0.05)
    press(tab, "ArrowUp")
    assert at(tab) == pytest.approx(0.2, abs=0.05)
    press(tab, " ")
    until(tab, "document.querySelector('video').currentTime > 0.6")
    before = tab.run("document.getElementById('cursor').style.transform")
    press(tab, " ")
    assert tab.run("document.querySelector('video').paused")
    assert before != "translateX(0px)"


def test_of_many_jumps_at_once_the_last_one_counts(tab):
    tab.run(
        "(() => { for (const s of [1, 9, 2, 8, 7, 3.5]) { seek.value = s;"
        "seek.dispatchEvent(new Event('input')); } })()"
    )
    until(tab, "Math.abs(document.querySelector('video').currentTime - 3.5) < 0.05")
    assert "utterance 4" in now(tab)


def test_a_pause_before_it_has_begun_leaves_the_player(tab):
    tab.run("(() => { for (const _ of [1, 2]) document.getElementById('play').click(); })()")
    time.sleep(0.2)
    assert tab.run("document.querySelector('video').paused")


def test_zoom_shows_less_time_and_keeps_the_cursor_in_sight(tab):
    press(tab, "ArrowRight")
    tab.run("document.getElementById('closer').click()")
    room = tab.run("[lanes.scrollWidth, lanes.clientWidth, lanes.scrollLeft]")
    assert room[0] == pytest.approx(2 * room[1], abs=2)
    assert room[2] > 0


@pytest.mark.parametrize("pixels", [320, 390, 768])
def test_nothing_is_wider_than_a_phone(tab, home, pixels):
    tab.width(pixels)
    tab.open(home)
    tab.run("document.querySelector('#words button[data-id=\"9\"]').click()")
    assert tab.run("document.documentElement.scrollWidth - innerWidth") <= 0


@pytest.mark.parametrize("pixels", [320, 1180])
def test_faces_stand_beside_their_words(tab, home, pixels):
    tab.width(pixels)
    tab.open(home.with_name("faces.html"))
    assert tab.run("document.querySelectorAll('#words img.face').length") == 2
    tab.run("document.querySelector('#words button[data-id=\"4\"]').click()")
    assert tab.run("document.querySelector('#now img.face').naturalWidth") == 64
    texts = "[...document.querySelectorAll('#words .text')]"
    lefts = f"new Set({texts}.map((e) => e.getBoundingClientRect().left))"
    assert tab.run(f"{lefts}.size") == 1  # words stay in line, with a face or without
    assert tab.run("document.documentElement.scrollWidth - innerWidth") <= 0


def test_dark_has_the_reports_colours(tab):
    tab.scheme("dark")
    assert tab.run("getComputedStyle(document.body).backgroundColor") == "rgb(20, 24, 28)"
    tab.run("document.getElementById('theme').click()")
    assert tab.run("getComputedStyle(document.body).backgroundColor") == "rgb(251, 251, 249)"


def test_a_thousand_utterances_without_their_medium_stay_usable(tab, home):
    tab.open(home.with_name("long.html"))
    assert "cannot play long.mp4" in tab.run("document.getElementById('player').textContent")
    tab.run("document.querySelector('#words button[data-id=\"900\"]').click()")
    assert "utterance 900" in now(tab)
    press(tab, " ")
    until(tab, "Number(seek.value) > 2697.9")
    press(tab, " ", "ArrowDown")
    assert "utterance 901" in now(tab)


def test_a_picture_has_no_time_but_its_face_and_its_answer(tab, home):
    tab.open(home.with_name("picture.html"))
    assert "joy 60 %" in now(tab)
    assert tab.run("document.querySelectorAll('#boxes rect').length") == 1
    assert not tab.run(
        "['over-time', 'transport'].some((id) => document.getElementById(id).offsetHeight)"
    )
