import wave
from fractions import Fraction
from typing import get_args

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import UserError
from tasks.media.decoding import (
    REASONS,
    FrameSampling,
    Reason,
    Region,
    Span,
    decode,
    media_sha256,
    probe,
)
from tasks.media.pictures import FrameCollector, target_size
from tests.tasks.media_factory import corner_names, corners, numbers, shade, tone, write

EVERY = FrameSampling()
TIMES = np.arange(50) / 25  # 2 s at 25 frames per second


def pictures(path, start_s=None, end_s=None, sampling=EVERY, region=None):
    return decode(Span(str(path), start_s, end_s, region), audio_rate_hz=None, frame_times=sampling)


def reasons(thing):
    return [problem.reason for problem in thing.problems]


@pytest.fixture(scope="module")
def talk(tmp_path_factory):
    """Two seconds of 25 shaded frames a second, with B-frames, and stereo sound."""
    return write(
        tmp_path_factory.mktemp("talk") / "talk.mp4",
        times_s=TIMES,
        sound=tone(2, 44100, 2),
        rate_hz=44100,
        layout="stereo",
        audio_codec="aac",
    )


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """Eight seconds at 5 frames a second with a key frame each second: seeking pays."""
    return write(
        tmp_path_factory.mktemp("film") / "film.mp4",
        times_s=np.arange(40) / 5,
        gop=5,
        sound=tone(8, 16000),
        audio_codec="aac",
    )


def test_every_reason_has_a_meaning():
    assert set(REASONS) == set(get_args(Reason))
    assert all(len(meaning) > 20 for meaning in REASONS.values())


def test_probe_tells_what_a_file_holds(talk):
    media = probe(talk)
    assert (media.kind, media.status, media.problems) == ("video", "ok", ())
    assert (media.has_audio, media.has_video) == (True, True)
    assert (media.width_px, media.height_px, media.rotation_deg) == (64, 48, 0)
    assert (media.audio_rate_hz, media.channels) == (44100, 2)
    assert (media.video_codec, media.audio_codec) == ("h264", "aac")
    assert media.duration_s == pytest.approx(2.0, abs=0.05)


def test_one_pass_gives_picture_and_sound(talk):
    clip = decode(talk, audio_rate_hz=16000, frame_times=FrameSampling(rate_hz=5))
    assert clip.status == "ok"
    assert numbers(clip.frames) == list(range(0, 50, 5))
    assert clip.times_s.tolist() == pytest.approx(list(np.arange(10) / 5), abs=1e-4)
    assert len(clip.audio) == 32000
    assert np.abs(clip.audio - tone(2, 16000)[0])[400:-400].max() < 0.03


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (FrameSampling(rate_hz=5), [12, 17, 22, 27, 32]),
        (FrameSampling(count=2), [18, 31]),
        (FrameSampling(count=1), [25]),
        (FrameSampling(rate_hz=25, count=2), [18, 31]),
        (FrameSampling(rate_hz=2, count=9), [12, 25]),
        (FrameSampling(rate_hz=1000, count=None), list(range(12, 38))),
        (EVERY, list(range(12, 38))),
    ],
)
def test_frames_are_those_on_screen_at_the_wanted_times(talk, sampling, expected):
    # 0.5 s lies half way through frame 12, 1.5 s half way through frame 37.
    assert numbers(pictures(talk, 0.5, 1.5, sampling).frames) == expected


def test_variable_frame_times_are_honoured(tmp_path):
    times_s = np.array([0, 0.04, 0.08, 0.5, 0.51, 0.52, 1.2, 1.24])
    path = write(tmp_path / "vfr.mkv", times_s=times_s)
    clip = pictures(path, 0, 1.25, FrameSampling(rate_hz=4))
    # Wanted 0, .25, .5, .75, 1: what is shown then is 0, 2, 3, 5 (twice, kept once).
    assert numbers(clip.frames) == [0, 2, 3, 5]
    assert clip.times_s.tolist() == pytest.approx([0, 0.08, 0.5, 0.52], abs=1e-3)


@settings(max_examples=30)
@given(st.data())
def test_a_seek_gives_the_frames_that_decoding_everything_gives(film, data):
    start_s = data.draw(st.floats(0, 7.5))
    length_s = data.draw(st.floats(0.3, 3))
    rate_hz = data.draw(st.sampled_from([1.0, 2.5, 7.0]))
    end_s = min(start_s + length_s, 8.0)
    clip = pictures(film, start_s, end_s, FrameSampling(rate_hz=rate_hz))
    wanted = FrameSampling(rate_hz=rate_hz).wanted_s(start_s, end_s)
    expected = sorted({min(39, int(np.floor(t * 5 + 1e-4))) for t in wanted})
    assert numbers(clip.frames) == expected


def test_a_time_wanted_right_before_the_end_has_its_frame(film):
    assert numbers(pictures(film, 0.0, 1.00001, FrameSampling(rate_hz=1.0)).frames) == [0, 5]
    assert numbers(pictures(film, 0.0, 1.0, FrameSampling(rate_hz=1.0)).frames) == [0]


def test_what_lies_outside_the_span_is_not_decoded(film, tmp_path):
    content = bytearray(film.read_bytes())
    with av.open(str(film)) as container:
        for packet in container.demux(video=0):
            # whole from the key frame before the span to the next one after its last
            if packet.size and not 2.9 <= packet.pts * packet.time_base <= 6.1:
                content[packet.pos : packet.pos + packet.size] = bytes(packet.size)
    hurt = tmp_path / "hurt.mp4"
    hurt.write_bytes(content)
    assert "corrupt" in reasons(pictures(hurt))
    clip, whole = (pictures(path, 4.0, 5.0, FrameSampling(count=3)) for path in (hurt, film))
    assert clip.problems == ()
    assert np.array_equal(clip.frames, whole.frames)


def test_only_kept_frames_are_converted():
    converted = []

    def convert(number):
        converted.append(number)
        return np.zeros((2, 2, 3), np.uint8)

    collector = FrameCollector(0.0, 2.0, FrameSampling(count=3).wanted_s(0.0, 2.0), convert)
    for number, time_s in enumerate(TIMES):
        collector.add(number, float(time_s))
    collector.finish()
    assert converted == [8, 25, 41]  # on screen at 1/3, 1 and 5/3 s
    assert len(collector.frames()) == 3


CLOCKWISE = [0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30]
HALF_TURN = [-65536, 0, 0, 0, -65536, 0, 0, 0, 1 << 30]
COUNTER = [0, -65536, 0, 65536, 0, 0, 0, 0, 1 << 30]
MIRROR = [-65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30]
UPSIDE_DOWN = [65536, 0, 0, 0, -65536, 0, 0, 0, 1 << 30]
TRANSPOSE = [0, 65536, 0, 65536, 0, 0, 0, 0, 1 << 30]


@pytest.mark.parametrize(
    ("matrix", "names", "turn", "is_mirrored"),
    [
        (None, "rgbw", 0, False),
        (CLOCKWISE, "brwg", 90, False),
        (HALF_TURN, "wbgr", 180, False),
        (COUNTER, "gwrb", 270, False),
        (MIRROR, "grwb", 0, True),
        (UPSIDE_DOWN, "bwrg", 180, True),
        (TRANSPOSE, "rbgw", 270, True),
    ],
)
def test_display_matrix_turns_and_mirrors(tmp_path, matrix, names, turn, is_mirrored):
    path = write(
        tmp_path / "turned.mp4", times_s=TIMES[:3], pictures=[corners()] * 3, matrix=matrix
    )
    media, clip = probe(path), pictures(path)
    assert corner_names(clip.frames[0]) == names
    assert (media.rotation_deg, media.is_mirrored) == (turn, is_mirrored)
    assert clip.frames.shape[1:3] == (media.height_px, media.width_px)
    assert clip.frames.shape[1:3] == ((64, 48) if turn in (90, 270) else (48, 64))


def test_a_turn_by_no_right_angle_is_told(tmp_path):
    half = 46341  # the sine of 45 degrees
    matrix = [half, half, 0, -half, half, 0, 0, 0, 1 << 30]
    path = write(tmp_path / "turned.mp4", times_s=TIMES[:3], matrix=matrix)
    for found in (probe(path), pictures(path)):
        assert (found.status, reasons(found)) == ("degraded", ["tilted"])
        assert "45 degrees" in found.problems[0].detail
    assert len(pictures(path).frames) == 3
    slanted = [65530, 915, 0, -915, 65530, 0, 0, 0, 1 << 30]
    path = write(tmp_path / "level.mp4", times_s=TIMES[:3], matrix=slanted)
    assert reasons(probe(path)) == reasons(pictures(path)) == []


def test_a_matrix_of_zeros_says_nothing(tmp_path):
    path = write(tmp_path / "zeros.mp4", times_s=TIMES[:3], matrix=[0] * 9)
    assert reasons(probe(path)) == reasons(pictures(path)) == []


def test_region_is_a_part_of_the_upright_frame(tmp_path):
    path = write(
        tmp_path / "turned.mp4", times_s=TIMES[:3], pictures=[corners()] * 3, matrix=CLOCKWISE
    )
    left = pictures(path, region=Region(x1=0.5)).frames[0]
    assert left.shape == (64, 24, 3)
    assert corner_names(left) == "bbww"  # upright is br / wg
    low = pictures(path, region=Region(y0=0.5), sampling=FrameSampling(max_height_px=16)).frames[0]
    assert low.shape == (16, 24, 3)
    assert corner_names(low) == "wgwg"


@given(
    st.integers(1, 3000),
    st.integers(1, 3000),
    st.booleans(),
    st.integers(1, 2000),
    st.floats(0, 0.9),
    st.floats(0.05, 1),
)
def test_reduced_frames_are_never_higher_than_asked(width, height, turned, bound, y0, part):
    region = Region(y0=y0, y1=min(1.0, y0 + part))
    stored = target_size(width, height, turned, region, bound)
    upright_height = stored[0] if turned else stored[1]
    rows, _ = region.box_px(10, upright_height)
    assert rows.stop - rows.start <= bound or upright_height == 1
    assert stored[0] <= width
    assert stored[1] <= height


def test_pixels_that_are_not_square_are_made_square(tmp_path):
    path = write(tmp_path / "dv.mp4", times_s=TIMES[:3], aspect=Fraction(4, 3))
    assert pictures(path).frames.shape == (3, 48, 85, 3)
    assert (probe(path).width_px, probe(path).height_px) == (85, 48)


def test_colours_survive(tmp_path):
    path = write(tmp_path / "colours.mp4", times_s=TIMES[:2], pictures=[corners()] * 2)
    frame = pictures(path).frames[0].astype(int)
    assert np.abs(frame[12, 16] - (250, 0, 0)).max() < 12
    assert np.abs(frame[12, 48] - (0, 250, 0)).max() < 12


def test_the_larger_of_two_video_tracks_is_taken(tmp_path):
    path = tmp_path / "two.mkv"
    with av.open(str(path), "w") as out:
        streams = []
        for size in ((32, 24), (64, 48)):
            stream = out.add_stream("libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
            streams.append(stream)
        for number in range(10):
            for stream, grey in zip(streams, (shade(number), shade(number + 20)), strict=True):
                picture = np.full((stream.height, stream.width, 3), grey, np.uint8)
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts, frame.time_base = number, Fraction(1, 25)
                out.mux(stream.encode(frame))
        for stream in streams:
            out.mux(stream.encode(None))
    clip = pictures(path)
    assert clip.frames.shape == (10, 48, 64, 3)
    assert numbers(clip.frames) == list(range(20, 30))


def test_a_file_without_sound_is_degraded(tmp_path):
    path = write(tmp_path / "mute.mp4", times_s=TIMES)
    clip = decode(path, audio_rate_hz=16000, frame_times=EVERY)
    assert (clip.status, reasons(clip), len(clip.frames)) == ("degraded", ["no_audio"], 50)
    assert clip.audio is None


def test_a_sound_file_has_no_frames(tmp_path):
    path = write(tmp_path / "voice.wav", sound=tone(1, 8000), rate_hz=8000)
    both = decode(path, audio_rate_hz=8000, frame_times=EVERY)
    assert (both.status, reasons(both), both.kind) == ("degraded", ["no_video"], "audio")
    only = pictures(path)
    assert (only.status, reasons(only)) == ("failed", ["no_video"])


def test_what_is_not_asked_for_is_no_problem(talk):
    assert pictures(talk).status == "ok"
    assert decode(talk, audio_rate_hz=8000, frame_times=None).status == "ok"


def test_asking_for_nothing_is_an_error(talk):
    with pytest.raises(UserError, match="neither sound nor frames"):
        decode(talk, audio_rate_hz=None, frame_times=None)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: FrameSampling(rate_hz=0),
        lambda: FrameSampling(rate_hz=float("nan")),
        lambda: FrameSampling(count=0),
        lambda: FrameSampling(max_height_px=0),
        lambda: Region(x0=0.5, x1=0.5),
        lambda: Region(y1=1.5),
    ],
)
def test_impossible_wishes_are_errors(wrong):
    with pytest.raises(UserError):
        wrong()


@pytest.mark.parametrize(
    ("span", "status", "found"),
    [
        ((1.0, 1.0), "failed", ["empty_span"]),
        ((1.5, 1.0), "failed", ["empty_span"]),
        ((float("nan"), 1.0), "failed", ["empty_span"]),
        ((0.0, float("inf")), "failed", ["empty_span"]),
        ((-2.0, -1.0), "failed", ["empty_span"]),
        ((-1.0, 1.0), "degraded", ["span_before_start"]),
        ((1.0, 3.0), "degraded", ["span_beyond_end"]),
        ((1.9, 2.1), "ok", []),
    ],
)
def test_impossible_spans_have_a_reason(talk, span, status, found):
    clip = decode(Span(str(talk), *span), audio_rate_hz=16000, frame_times=EVERY)
    assert (clip.status, reasons(clip)) == (status, found)


@pytest.mark.parametrize("start_s", [2.5, 60.0])
def test_a_span_after_the_end_fails_and_says_so(talk, start_s):
    clip = decode(Span(str(talk), start_s, start_s + 1), audio_rate_hz=16000, frame_times=EVERY)
    assert clip.status == "failed"
    assert reasons(clip)[0] == "span_beyond_end"


def test_too_short_sound_is_marked(talk):
    clip = decode(
        Span(str(talk), 0, 0.1), audio_rate_hz=16000, frame_times=None, min_duration_s=0.25
    )
    assert (clip.status, reasons(clip)) == ("degraded", ["too_short"])


def test_files_that_hold_nothing_have_a_reason(tmp_path):
    def found(name, content):
        path = tmp_path / name
        path.write_bytes(content)
        media, clip = probe(path), decode(path, audio_rate_hz=16000, frame_times=EVERY)
        assert (media.status, clip.status, media.kind) == ("failed", "failed", None)
        assert reasons(media)[0] == reasons(clip)[0]
        return reasons(clip)[0]

    with wave.open(str(tmp_path / "none.wav"), "wb") as header:
        header.setparams((1, 2, 8000, 0, "NONE", ""))
    assert found("zero.mp4", b"") == "empty_file"
    assert found("header.wav", (tmp_path / "none.wav").read_bytes()) == "no_content"
    assert found("notes.mp4", b"these are not the bytes you are looking for\n" * 50) == "not_media"
    assert found("noise.wav", np.random.default_rng(0).bytes(20000)) == "not_media"


def test_a_play_list_cannot_open_other_files(tmp_path, talk):
    listing = tmp_path / "list.mp4"
    listing.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{talk}\n#EXT-X-ENDLIST\n")
    assert probe(listing).kind is None
    listing.write_text(f"ffconcat version 1.0\nfile {talk}\n")
    assert probe(listing).kind is None


def test_missing_files_and_folders_have_a_reason(tmp_path):
    assert reasons(probe(tmp_path / "none.mp4")) == ["missing"]
    assert reasons(probe(tmp_path)) == ["not_readable"]
    assert reasons(pictures(tmp_path / "none.mp4")) == ["missing"]


@pytest.mark.parametrize("share", [0.3, 0.5, 0.7])
def test_a_cut_matroska_file_gives_what_is_left(tmp_path, share):
    whole = write(tmp_path / "whole.mkv", times_s=np.arange(50) / 12.5, sound=tone(4, 16000))
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * share)])
    clip = decode(cut, audio_rate_hz=16000, frame_times=EVERY)
    assert (clip.status, reasons(clip)[0]) == ("degraded", "truncated")
    assert 5 < len(clip.frames) < 50
    assert numbers(clip.frames) == np.round(clip.times_s * 12.5).astype(int).tolist()


def test_a_cut_mp4_file_without_its_index_is_truncated(tmp_path, talk):
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(talk.read_bytes()[: int(talk.stat().st_size * 0.6)])
    assert reasons(probe(cut)) == ["truncated"]
    assert reasons(pictures(cut)) == ["truncated"]


def test_a_cut_wav_file_gives_what_is_left(tmp_path):
    whole = write(tmp_path / "whole.wav", sound=tone(2, 16000))
    cut = tmp_path / "cut.wav"
    cut.write_bytes(whole.read_bytes()[:32044])
    clip = decode(cut, audio_rate_hz=16000, frame_times=None)
    assert (clip.status, reasons(clip)) == ("degraded", ["truncated"])
    assert len(clip.audio) == pytest.approx(16000, abs=64)


def test_damage_costs_frames_up_to_the_next_key_frame(tmp_path):
    # A noisy picture gives packets large enough to overwrite in the middle.
    noise = np.random.default_rng(1)
    frames = [noise.integers(0, 255, (48, 64, 3), np.uint8) for _ in range(40)]
    path = write(tmp_path / "noise.mkv", times_s=np.arange(40) / 10, pictures=frames, gop=10)
    clean = pictures(path)
    with av.open(str(path)) as container:
        packet = [bytes(p) for p in container.demux(video=0) if p.size][13]
    content, zeros = path.read_bytes(), bytes(len(packet) // 2)
    content = content.replace(packet, zeros + packet[len(zeros) :])
    broken = tmp_path / "broken.mkv"
    broken.write_bytes(content)
    clip = pictures(broken)
    assert clip.status == "degraded"
    assert "corrupt" in reasons(clip)
    assert 20 <= len(clip.frames) < 40
    # Every frame that is served is one of the undamaged file, at its own time.
    place = {round(float(t), 3): i for i, t in enumerate(clean.times_s)}
    for frame, time_s in zip(clip.frames, clip.times_s, strict=True):
        assert np.array_equal(frame, clean.frames[place[round(float(time_s), 3)]])


@pytest.mark.parametrize(
    "name", ["-dash.mp4", "naïve 音声 🎬.mp4", "50%02d.mp4", "a:b.mp4", "x.txt"]
)
def test_names_and_extensions_have_no_say(tmp_path, talk, name):
    path = tmp_path / name
    path.write_bytes(talk.read_bytes())
    assert numbers(pictures(path, 0, 0.1).frames) == [0, 1, 2]
    assert probe(path).kind == "video"


def test_the_same_file_gives_the_same_bytes(talk):
    first, second = (
        decode(Span(str(talk), 0.3, 1.7), audio_rate_hz=16000, frame_times=FrameSampling(count=4))
        for _ in range(2)
    )
    assert first.frames.tobytes() == second.frames.tobytes()
    assert first.audio.tobytes() == second.audio.tobytes()


def test_hash_is_that_of_the_bytes(tmp_path):
    path = tmp_path / "abc"
    path.write_bytes(b"abc")
    assert media_sha256(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    with pytest.raises(UserError, match="gone"):
        media_sha256(tmp_path / "gone")
