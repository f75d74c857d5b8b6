"""A medium is opened once, and its handle serves everything that is asked of it."""

import io
import os
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tasks.media.decoding import FrameSampling, Span, decode, probe
from tasks.media.opening import Medium, open_medium
from tasks.media.probing import probe_tracks
from tasks.media.tracks import decode_tracks
from tests.tasks.media_factory import tone, write

NEAR, FAR = (0.5, 1.5), (4.25, 5.125)


class Counted(Medium):
    """Counts its readers: every container that is opened over it takes one."""

    readers = 0

    def reader(self):
        Counted.readers += 1
        return super().reader()


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    """Six seconds of sound in containers that differ in clock, index and stated length."""
    folder = tmp_path_factory.mktemp("media")
    times_s = np.arange(36) / 6
    made = {
        name: write(folder / name, sound=tone(6, 44100), rate_hz=44100, audio_codec=codec, **more)
        for name, codec, more in [
            ("film.mp4", "aac", {"times_s": times_s, "gop": 6}),
            ("film.mkv", "aac", {"times_s": times_s, "gop": 6}),
            ("voice.wav", "pcm_s16le", {}),
            ("voice.mp3", "libmp3lame", {}),
        ]
    }
    return made | {"nothing.mkv": _without_content(made["film.mkv"], folder / "nothing.mkv")}


def _without_content(whole, path):
    """A Matroska file that ends after its header."""
    content = whole.read_bytes()
    path.write_bytes(content[: content.index(b"\x1f\x43\xb6\x75")])  # the first cluster
    return path


@pytest.fixture(scope="module")
def openings():
    """Paths as Python opens them; the interpreter keeps the hook, so one serves all tests."""
    seen = []

    def hook(event, arguments):
        if event == "open" and isinstance(arguments[0], str | os.PathLike):
            seen.append(os.fspath(arguments[0]))

    sys.addaudithook(hook)
    return seen


@pytest.mark.parametrize("span", [(None, None), NEAR, FAR], ids=["whole", "near", "far"])
@pytest.mark.parametrize("name", ["film.mp4", "film.mkv", "voice.wav", "voice.mp3", "nothing.mkv"])
def test_a_file_is_opened_once_for_a_span_and_once_to_be_probed(media, openings, name, span):
    path = str(media[name])
    openings.clear()
    decode(Span(path, *span), audio_rate_hz=16000, frame_times=FrameSampling(rate_hz=5))
    assert openings.count(path) == 1
    openings.clear()
    probe(path)
    assert openings.count(path) == 1


def test_a_picture_is_opened_once_even_when_damaged(tmp_path, openings):
    whole, cut = tmp_path / "whole.png", tmp_path / "cut.png"
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    Image.fromarray(noise).save(whole)
    cut.write_bytes(whole.read_bytes()[:-200])
    for path, status in ((whole, "ok"), (cut, "failed")):
        openings.clear()
        clip = decode(str(path), audio_rate_hz=None, frame_times=FrameSampling())
        assert (clip.status, openings.count(str(path))) == (status, 1)


# A second container is opened where no header states the length, so that packets are counted, and
# where the clock is coarser than a sample, so that the first frames tell where later ones begin.
@pytest.mark.parametrize(
    ("name", "span", "containers"),
    [
        ("film.mp4", NEAR, 1),
        ("film.mp4", FAR, 1),
        ("film.mkv", NEAR, 1),
        ("film.mkv", FAR, 2),
        ("voice.wav", NEAR, 1),
        ("voice.wav", FAR, 1),
        ("voice.mp3", NEAR, 2),
        ("voice.mp3", FAR, 2),
    ],
)
def test_a_span_takes_one_container_but_where_a_pass_is_needed_before(
    media, name, span, containers
):
    with open_medium(media[name]) as medium:
        counted = Counted(**vars(medium))
        Counted.readers = 0
        clip = decode_tracks(counted, Span(str(medium), *span), 16000, FrameSampling(rate_hz=5))
        assert (clip.audio is None, Counted.readers) == (False, containers)


@pytest.mark.parametrize(("name", "containers"), [("film.mp4", 1), ("voice.mp3", 2)])
def test_probing_takes_one_container_but_where_the_length_is_counted(media, name, containers):
    with open_medium(media[name]) as medium:
        Counted.readers = 0
        assert probe_tracks(Counted(**vars(medium))).duration_s == pytest.approx(6, abs=0.1)
        assert Counted.readers == containers


_MOVES = st.lists(
    st.one_of(
        st.tuples(st.just("read"), st.integers(-1, 60)),
        st.tuples(st.just("seek"), st.integers(0, 60), st.just(os.SEEK_SET)),
        st.tuples(st.just("seek"), st.integers(-5, 60), st.just(os.SEEK_CUR)),
        st.tuples(st.just("seek"), st.integers(-50, 9), st.just(os.SEEK_END)),
        st.tuples(st.just("tell")),
    ),
    max_size=12,
)


@given(first=_MOVES, second=_MOVES)
def test_readers_side_by_side_behave_like_files_of_their_own(tmp_path_factory, first, second):
    content = bytes(range(50))
    path = tmp_path_factory.getbasetemp() / "fifty"
    path.write_bytes(content)
    with open_medium(path) as medium:
        pairs = [(medium.reader(), io.BytesIO(content), moves) for moves in (first, second)]
        for step in range(max(len(first), len(second))):
            for reader, model, moves in pairs:
                if step < len(moves):
                    name, *arguments = moves[step]
                    if name == "seek" and arguments[1] == os.SEEK_CUR:
                        # where a file would refuse, both are told to stay
                        arguments[0] = max(arguments[0], -model.tell())
                    found = getattr(reader, name)(*arguments)
                    assert found == getattr(model, name)(*arguments)


def test_a_place_before_the_beginning_is_refused(tmp_path):
    path = tmp_path / "one"
    path.write_bytes(b"x")
    with open_medium(path) as medium, pytest.raises(OSError, match="before the beginning"):
        medium.reader().seek(-2, os.SEEK_END)
