from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.media.decoding import Span, decode
from tasks.media.sound import SoundCollector, to_channels, to_mono
from tests.tasks.media_factory import tone, write


def sound(path, start_s=None, end_s=None, rate_hz=16000):
    return decode(Span(str(path), start_s, end_s), audio_rate_hz=rate_hz, frame_times=None)


def reasons(clip):
    return [problem.reason for problem in clip.problems]


@pytest.fixture(scope="module")
def ramp(tmp_path_factory):
    """Six seconds at 16 kHz whose sample k has the value k - 48000, in 16-bit steps."""
    values = (np.arange(96000) - 48000) / 65536 * 0.999
    path = tmp_path_factory.mktemp("ramp") / "ramp.wav"
    return write(path, sound=values[None].astype(np.float32)), values


@pytest.fixture(scope="module")
def voices(tmp_path_factory):
    """The same six seconds of sound in every container and codec that people use."""
    folder = tmp_path_factory.mktemp("voices")
    made = {}
    for name, codec, rate, layout in [
        ("a.wav", "pcm_s16le", 44100, "stereo"),
        ("b.flac", "flac", 48000, "mono"),
        ("c.mp3", "libmp3lame", 44100, "stereo"),
        ("d.m4a", "aac", 44100, "stereo"),
        ("e.mkv", "aac", 44100, "mono"),
        ("f.webm", "libopus", 48000, "mono"),
        ("g.wav", "pcm_s32le", 8000, "mono"),
        ("h.aac", "aac", 22050, "mono"),
        ("i.mkv", "libmp3lame", 32000, "mono"),
    ]:
        data = tone(6, rate, 1 if layout == "mono" else 2)
        made[name] = write(
            folder / name, sound=data, rate_hz=rate, layout=layout, audio_codec=codec
        )
    return made


NAMES = ["a.wav", "b.flac", "c.mp3", "d.m4a", "e.mkv", "f.webm", "g.wav", "h.aac", "i.mkv"]


@settings(max_examples=40)
@given(first=st.integers(0, 95000), length=st.integers(1, 4000))
def test_a_span_gives_exactly_its_samples(ramp, first, length):
    path, values = ramp
    last = min(96000, first + length)
    clip = sound(path, first / 16000, last / 16000)
    assert len(clip.audio) == last - first
    assert np.abs(clip.audio - values[first:last]).max() < 1 / 32768
    assert clip.audio_start_s == first / 16000


@settings(max_examples=25)
@given(data=st.data())
def test_neighbouring_spans_join_to_the_whole(voices, data):
    name = data.draw(st.sampled_from(NAMES))
    rate = data.draw(st.sampled_from([16000, 22050, 8000]))
    times = sorted(data.draw(st.lists(st.floats(0.1, 5.5), min_size=3, max_size=3, unique=True)))
    if times[1] - times[0] < 0.05 or times[2] - times[1] < 0.05:
        times = [times[0], times[0] + 0.05, times[0] + 0.3]
    parts = [sound(voices[name], a, b, rate).audio for a, b in pairwise(times)]
    joined, whole = np.concatenate(parts), sound(voices[name], times[0], times[2], rate).audio
    assert len(joined) == len(whole)
    assert np.abs(joined - whole).max() < 2e-4


@pytest.mark.parametrize("name", NAMES)
def test_a_span_found_by_seeking_equals_the_same_part_of_the_file(voices, name):
    whole, part = sound(voices[name]), sound(voices[name], 4.25, 5.125)
    first = round((4.25 - whole.audio_start_s) * 16000)
    assert np.abs(part.audio - whole.audio[first : first + len(part.audio)]).max() < 2e-4


# Raw AAC and MP3 in Matroska do not state the encoder's delay, so nobody can undo it.
@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("h.aac", "i.mkv")])
def test_sound_lies_where_its_times_say(voices, name):
    clip = sound(voices[name], 2.0, 3.0)
    t = 2.0 + np.arange(16000) / 16000
    expected = 0.3 * np.sin(2 * np.pi * 220 * t) + 0.2 * np.sin(2 * np.pi * 0.37 * 220 * t + 1)
    lags = range(-40, 41)
    errors = [np.abs(np.roll(clip.audio, k) - expected)[100:-100].max() for k in lags]
    assert abs(lags[int(np.argmin(errors))]) <= 16  # a millisecond, Matroska's clock
    assert min(errors) < 0.05


@pytest.mark.parametrize("source_hz", [8000, 11025, 22050, 44100, 48000])
def test_the_resampler_keeps_tones_and_removes_what_cannot_be_kept(tmp_path, source_hz):
    t = np.arange(2 * source_hz) / source_hz
    kept = 0.5 * np.sin(2 * np.pi * 3000 * t)
    above = 0.4 * np.sin(2 * np.pi * 11000 * t) if source_hz > 22050 else 0 * t
    data = (kept + above)[None].astype(np.float32)
    path = write(tmp_path / "t.wav", sound=data, rate_hz=source_hz, audio_codec="pcm_f32le")
    clip = sound(path)
    expected = 0.5 * np.sin(2 * np.pi * 3000 * np.arange(32000) / 16000)
    assert len(clip.audio) == 32000
    assert np.abs(clip.audio - expected)[800:-800].max() < 2e-4


def test_very_low_rates_work(tmp_path):
    data = tone(30, 400, hz=40)
    path = write(tmp_path / "slow.wav", sound=data, rate_hz=400)
    clip = sound(path, 20.0, 21.0)
    t = 20 + np.arange(16000) / 16000
    expected = 0.3 * np.sin(2 * np.pi * 40 * t) + 0.2 * np.sin(2 * np.pi * 14.8 * t + 1)
    assert np.abs(clip.audio - expected).max() < 1e-3


def test_stereo_becomes_the_mean_of_both(tmp_path):
    left, right = tone(1, 16000, hz=200)[0], tone(1, 16000, hz=900)[0]
    path = write(tmp_path / "s.wav", sound=np.stack([left, right]), layout="stereo")
    assert np.abs(sound(path).audio - (left + right) / 2).max() < 1e-4


def test_the_centre_of_surround_sound_is_the_loudest_and_bass_effects_are_left_out():
    def mono_of(channel):
        data = np.zeros((6, 64), np.float32)
        data[channel] = 1.0
        frame = av.AudioFrame.from_ndarray(data, format="fltp", layout="5.1")
        frame.sample_rate = 16000
        return float(to_mono(*to_channels(frame))[0])

    left, right, centre, bass, back_left, back_right = (mono_of(i) for i in range(6))
    assert centre > left == right > back_left == back_right > 0
    assert bass == 0
    assert left + right + centre + back_left + back_right == pytest.approx(1)


@pytest.mark.parametrize(
    ("name", "scale"), [("u8", 128), ("s16", 2**15), ("s32", 2**31), ("flt", 1), ("dblp", 1)]
)
def test_every_sample_format_has_the_same_scale(name, scale):
    kind = {"u8": np.uint8, "s16": np.int16, "s32": np.int32, "flt": np.float32, "dblp": np.float64}
    values = np.array([[0.5, -0.25]]) * scale + (128 if name == "u8" else 0)
    frame = av.AudioFrame.from_ndarray(values.astype(kind[name]), format=name, layout="mono")
    frame.sample_rate = 8000
    assert to_mono(*to_channels(frame)).tolist() == [0.5, -0.25]
    assert to_mono(*to_channels(frame)).dtype == np.float32


def test_sound_that_begins_late_keeps_its_place(tmp_path):
    path = write(
        tmp_path / "late.mkv",
        times_s=np.arange(40) / 10,
        sound=tone(2, 16000),
        audio_start_s=1.5,
    )
    clip = sound(path, 1.0, 3.0)
    assert clip.audio_start_s == pytest.approx(1.5, abs=1e-3)
    assert reasons(clip) == ["audio_gap"]
    assert np.abs(clip.audio - tone(2, 16000)[0][: len(clip.audio)]).max() < 1e-3
    assert clip.audio_start_s + len(clip.audio) / 16000 == pytest.approx(3.0)


def test_a_hole_in_the_sound_is_filled_in_place_and_told(tmp_path):
    path, data = tmp_path / "hole.mkv", tone(1, 16000)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("pcm_s16le", rate=16000, layout="mono")
        for begin in [*range(0, 8000, 1000), *range(12000, 16000, 1000)]:
            values = np.round(data[:, begin : begin + 1000] * 32767).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(values, format="s16", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 16000, begin, Fraction(1, 16000)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    clip = sound(path)
    assert reasons(clip) == ["audio_gap"]
    assert "0.250 s" in clip.problems[0].detail
    assert not clip.audio[8100:11900].any()
    assert np.abs(clip.audio[12000:] - data[0][12000:]).max() < 1e-3


def test_silence_and_excess_are_told(tmp_path):
    quiet = write(tmp_path / "q.wav", sound=np.zeros((1, 8000), np.float32))
    assert reasons(sound(quiet)) == ["silent_audio"]
    loud = write(tmp_path / "l.wav", sound=3 * tone(1, 16000), audio_codec="pcm_f32le")
    clip = sound(loud)
    assert reasons(clip) == ["clipped_audio"]
    assert clip.clipped_samples > 1000
    assert np.abs(clip.audio).max() == 1.0


def opposite(seconds=1.0, share=1.0):
    left = tone(seconds, 16000)[0]
    return np.stack([left, -share * left])


@pytest.mark.parametrize("codec", ["pcm_s16le", "pcm_f32le"])
def test_channels_that_cancel_are_heard_by_the_louder_one_and_told(tmp_path, codec):
    data = opposite(share=0.95)
    path = write(tmp_path / "a.wav", sound=data, layout="stereo", audio_codec=codec)
    clip = sound(path)
    assert reasons(clip) == ["cancelling_channels"]
    assert "channel 1" in clip.problems[0].detail
    assert np.abs(clip.audio - data[0]).max() < 1 / 32000
    mirrored = write(tmp_path / "b.wav", sound=data[::-1], layout="stereo", audio_codec=codec)
    assert "channel 2" in sound(mirrored, 0.2, 0.7).problems[0].detail


def test_a_span_far_into_cancelling_sound_is_cut_to_the_sample(tmp_path):
    data = opposite(6.0)
    path = write(tmp_path / "a.wav", sound=data, layout="stereo")
    clip = sound(path, 4.0, 4.5)
    assert np.abs(clip.audio - data[0, 64000:72000]).max() < 1 / 32000


@pytest.mark.parametrize(
    "data",
    [
        np.stack([tone(1, 16000)[0], np.zeros(16000, np.float32)]),
        tone(1, 16000, 2),
        np.random.default_rng(0).uniform(-0.5, 0.5, (2, 16000)).astype(np.float32),
        opposite(share=0.7),
    ],
    ids=["one", "equal", "unrelated", "half"],
)
def test_the_mix_of_other_channels_is_the_plain_mean(tmp_path, data):
    path = write(tmp_path / "a.wav", sound=data, layout="stereo", audio_codec="pcm_f32le")
    clip = sound(path)
    assert clip.problems == ()
    half = np.float32(0.5)
    assert np.array_equal(clip.audio, (np.full((1, 2), half) @ data.astype(np.float32))[0])


def test_low_frequency_effects_alone_are_no_cancelling(tmp_path):
    data = np.zeros((6, 16000), np.float32)
    data[3] = tone(1, 16000)[0]
    path = write(tmp_path / "a.wav", sound=data, layout="5.1", audio_codec="pcm_f32le")
    assert reasons(sound(path)) == ["silent_audio"]


def test_samples_that_are_no_numbers_are_told(tmp_path):
    data = tone(1, 16000)
    data[0, 100:110] = np.nan
    clip = sound(write(tmp_path / "nan.wav", sound=data, audio_codec="pcm_f32le"))
    assert reasons(clip) == ["corrupt"]
    assert np.isfinite(clip.audio).all()


def test_a_late_span_does_not_hold_what_was_decoded_before_it(ramp):
    collector = SoundCollector(5.0, 5.5, 16000, 0)
    with av.open(str(ramp[0])) as container:
        for frame in container.decode(audio=0):
            collector.add(frame)
    held = {id(part.base): part.base for part in collector._chunks if part.base is not None}
    assert sum(one.nbytes for one in held.values()) < 4 * 16000
    assert (collector.result().samples == sound(ramp[0], 5.0, 5.5).audio).all()
