"""The generator of the sample corpus: layout, awkward clips, repeatability, media, adapter."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import av
import cv2
import numpy as np
import polars as pl
import pytest
import torch
from facenet_pytorch import MTCNN
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from models.errors import UserError
from tasks.corpora.adapter import find_adapter
from tasks.corpora.adapters import sample as adapter
from tasks.sample.clip import write_clip
from tasks.sample.face import Expression, draw_clip, draw_look, draw_room
from tasks.sample.process import draw_factors, stream
from tasks.sample.stage import AWKWARD, DUPLICATE_OF, SampleParams, make, write_sentences
from tasks.sample.text import compose
from tasks.sample.voice import draw_speaker, natural_duration_s, speak, syllables
from tasks.tables.annotations import ANNOTATIONS
from tasks.tables.utterances import UTTERANCES

SMALL = SampleParams(
    seed=3, dialogues=6, single_file_dialogues=1, mean_turns=5, min_duration_s=0.6,
    max_duration_s=0.9, fps=8, width_px=160, height_px=120,
)  # fmt: skip


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("raw") / "sample"
    make(SMALL, folder)
    return folder


@pytest.fixture(scope="module")
def utterances(corpus: Path) -> pl.DataFrame:
    return pl.read_csv(corpus / "utterances.csv", infer_schema_length=None)


def fingerprint(folder: Path) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def streams(path: Path) -> dict[str, float]:
    """Type of each stream and its length in seconds."""
    with av.open(str(path)) as container:
        return {s.type: float(s.duration * s.time_base) for s in container.streams}


def pictures(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def test_same_seed_gives_the_same_bytes_in_another_process(corpus: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tasks.sample.stage import SampleParams, make;"
        f"make(SampleParams.model_validate_json({SMALL.model_dump_json()!r}), Path(sys.argv[1]))"
    )
    env = {**os.environ, "PYTHONHASHSEED": "77", "TZ": "Asia/Tokyo", "OMP_NUM_THREADS": "2"}
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "again")], check=True, env=env)
    assert fingerprint(tmp_path / "again") == fingerprint(corpus)


def test_containers_carry_no_version_and_no_time(corpus: Path) -> None:
    for file in corpus.rglob("*.mp4"):
        assert b"Lavf" not in file.read_bytes()
    whole = corpus / "media/d01/d01_u00.mp4"
    with av.open(str(whole)) as container:
        assert "creation_time" not in container.metadata


def test_media_cover_what_the_table_says(corpus: Path, utterances: pl.DataFrame) -> None:
    assert utterances["utterance"].is_unique().all()
    whole = utterances.filter(~pl.col("utterance").is_in([AWKWARD["truncated"]]))
    for row in whole.filter(pl.col("start_s").is_null()).iter_rows(named=True):
        length_s = streams(corpus / row["media"])["video"]
        assert 0.6 <= length_s <= 0.9 + 1 / SMALL.fps
    for (media,), spans in whole.drop_nulls("start_s").group_by("media"):
        assert spans.height >= 3
        assert spans["start_s"][0] == 0
        assert spans["start_s"][1:].to_list() == spans["end_s"][:-1].to_list()
        found = streams(corpus / str(media))
        assert found["video"] == pytest.approx(spans["end_s"][-1], abs=1e-3)
        assert found["audio"] == pytest.approx(spans["end_s"][-1], abs=0.1)


def test_the_last_dialogues_are_single_files(utterances: pl.DataFrame) -> None:
    single = utterances.drop_nulls("start_s")
    assert single["dialogue"].unique().to_list() == ["d06"]
    assert single["media"].unique().to_list() == ["media/d06.mp4"]


def test_each_awkward_clip_exists_exactly_once(corpus: Path, utterances: pl.DataFrame) -> None:
    clips = utterances.filter(pl.col("start_s").is_null())
    media = {row["utterance"]: corpus / row["media"] for row in clips.iter_rows(named=True)}
    unreadable, silent = [], []
    for name, path in media.items():
        try:
            kinds = streams(path)
        except av.error.FFmpegError:
            unreadable.append(name)
            continue
        if "audio" not in kinds:
            silent.append(name)
    assert unreadable == [AWKWARD["truncated"]]
    assert silent == [AWKWARD["no_audio"]]
    speechless = utterances.filter(pl.col("text").is_null())["utterance"].to_list()
    assert speechless == [AWKWARD["no_text"]]
    hashes = {name: path.read_bytes() for name, path in media.items()}
    twins = sorted(name for name in hashes if list(hashes.values()).count(hashes[name]) > 1)
    assert twins == sorted([AWKWARD["duplicate"], DUPLICATE_OF])
    said = (corpus / "README.txt").read_text()
    assert all(name in said for name in AWKWARD.values())
    assert "synthetic" in said


@pytest.fixture(scope="module")
def detector() -> Iterator[MTCNN]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield MTCNN(keep_all=True)
    torch.set_num_threads(threads)


def test_mtcnn_finds_exactly_one_face_in_pictures_of_everybody(detector: MTCNN) -> None:
    params = SampleParams()
    factors = draw_factors(params)
    frames, speakers = [], set()
    for row in factors[:: factors.height // 40].iter_rows(named=True):
        dialogue, turn, person = int(row["dialogue"][1:]), row["turn"], int(row["speaker"][1:])
        room = draw_room(320, 240, stream(params.seed, "scene", dialogue))
        face = Expression(row["face_valence"], row["face_arousal"], row["face_dominance"])
        rng = stream(params.seed, "face", dialogue, turn)
        look = draw_look(stream(params.seed, "look", person, 2))
        frames.append(draw_clip(look, room, face, np.linspace(0, 1, 3), rng)[turn % 3])
        speakers.add(person)
    boxes, _ = detector.detect(frames)
    assert len(speakers) == params.speakers
    found = [box is not None and len(box) == 1 for box in boxes]
    assert np.mean(found) >= 0.95


@pytest.mark.slow
def test_mtcnn_finds_the_face_in_encoded_pictures(detector: MTCNN, tmp_path: Path) -> None:
    make(SampleParams(), tmp_path / "sample")
    found = []
    for file in sorted(tmp_path.rglob("*.mp4")):
        if file.stem not in (AWKWARD["no_face"], AWKWARD["truncated"]):
            boxes, _ = detector.detect(pictures(file)[::8])
            found += [box is not None for box in boxes]
    assert len(found) > 400
    assert np.mean(found) >= 0.95


def test_the_scenery_has_no_face(corpus: Path, detector: MTCNN) -> None:
    clip = pictures(corpus / f"media/d02/{AWKWARD['no_face']}.mp4")
    boxes, _ = detector.detect([cv2.resize(picture, (320, 240)) for picture in clip[:3]])
    assert list(boxes) == [None, None, None]


@pytest.mark.parametrize(
    ("rows", "columns", "low", "high"),
    [
        (slice(135, 180), slice(120, 200), Expression(-1, 0, 0), Expression(1, 0, 0)),  # mouth
        (slice(80, 130), slice(100, 220), Expression(0, -1, 0), Expression(0, 1, 0)),  # eyes
        (slice(60, 110), slice(100, 220), Expression(0, 0, -1), Expression(0, 0, 1)),  # brows
    ],
)
def test_each_dimension_changes_its_part_of_the_face(
    rows: slice, columns: slice, low: Expression, high: Expression
) -> None:
    look, room = draw_look(np.random.default_rng(4)), np.full((240, 320, 3), 128, np.uint8)
    a, b = (
        draw_clip(look, room, shown, np.zeros(1), np.random.default_rng(8))[0].astype(int)
        for shown in (low, high)
    )
    change = np.abs(a - b).sum(axis=2)
    inside = change[rows, columns].sum()
    assert inside > 0.6 * change.sum()
    assert inside > 5_000


@settings(max_examples=15)
@given(
    seed=st.integers(0, 99),
    cues=st.tuples(*[st.floats(-1.5, 1.5)] * 3),
    opening=st.floats(0, 1),
)
def test_any_expression_can_be_drawn(
    seed: int, cues: tuple[float, float, float], opening: float
) -> None:
    room = draw_room(160, 120, np.random.default_rng(seed))
    look = draw_look(np.random.default_rng([seed, 1]))
    rng = np.random.default_rng([seed, 2])
    (picture,) = draw_clip(look, room, Expression(*cues), np.array([opening]), rng)
    assert picture.shape == (120, 160, 3)
    assert picture.dtype == np.uint8


@settings(max_examples=15)
@given(
    text=st.text(min_size=0, max_size=60),
    cues=st.tuples(*[st.floats(-1.5, 1.5)] * 3),
    seed=st.integers(0, 99),
)
def test_any_text_can_be_spoken(text: str, cues: tuple[float, float, float], seed: int) -> None:
    speaker = draw_speaker(np.random.default_rng(seed))
    speech = speak(text, cues, speaker, 12_345, 16_000, np.random.default_rng(seed))
    assert speech.samples.shape == (12_345,)
    assert np.isfinite(speech.samples).all()
    assert np.abs(speech.samples).max() <= 1
    assert speech.opening.min() >= -1e-9
    assert speech.opening.max() <= 1 + 1e-9


def voice(cues: tuple[float, float, float]) -> np.ndarray:
    speaker = draw_speaker(np.random.default_rng(5))
    text = "Well, we talked about the concert."
    return speak(text, cues, speaker, 28_800, 16_000, np.random.default_rng(6)).samples


def pitch_hz(sound: np.ndarray) -> float:
    """Median of the strongest lag of 40 ms frames."""
    found = []
    for start in range(3200, 24_000, 640):
        frame = sound[start : start + 640] - sound[start : start + 640].mean()
        lags = np.correlate(frame, frame, "full")[639:]
        found.append(16_000 / (40 + lags[40:270].argmax()))
    return float(np.median(found))


def test_arousal_raises_pitch_loudness_and_tempo() -> None:
    calm, excited = voice((0, -1, 0)), voice((0, 1, 0))
    assert pitch_hz(excited) > 1.2 * pitch_hz(calm)
    assert excited.std() > 2 * calm.std()
    assert natural_duration_s("a long sentence", 1) < natural_duration_s("a long sentence", -1)


def test_dominance_makes_the_voice_brighter() -> None:
    yielding, commanding = voice((0, 0, -1)), voice((0, 0, 1))
    spectra = [np.abs(np.fft.rfft(sound)) ** 2 for sound in (yielding, commanding)]
    hertz = np.fft.rfftfreq(28_800, 1 / 16_000)
    shares = [power[hertz > 1000].sum() / power.sum() for power in spectra]
    assert shares[1] > 1.2 * shares[0]


def test_sentences_are_many_and_readable() -> None:
    params = SampleParams()
    texts = write_sentences(params, draw_factors(params))["text"]
    assert texts.n_unique() >= 180
    assert texts.str.contains(r"^[A-Z][A-Za-z ,:]+\.$").all()
    assert 5 <= np.mean([syllables(text) for text in texts]) <= 12


def test_words_follow_valence_unless_sarcastic() -> None:
    rng = np.random.default_rng(0)
    bad = {compose(-2, 0, False, rng) for _ in range(50)}
    ironic = {compose(2, 0, True, rng) for _ in range(50)}
    assert all(any(w in s for w in ("hate", "terrible", "miserable", "disaster", "ruined",
                                    "bear")) for s in bad)  # fmt: skip
    assert all(any(w in s for w in ("great", "needed", "lovely", "perfect")) for s in ironic)


def test_a_run_replaces_an_older_corpus_and_leaves_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "sample"
    target.mkdir()
    (target / "old.txt").write_text("old")
    make(SMALL.model_copy(update={"fps": 4, "max_duration_s": 0.6}), target)
    assert not (target / "old.txt").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["sample"]


def test_a_failed_run_leaves_the_older_corpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    target = tmp_path / "sample"
    target.mkdir()
    (target / "old.txt").write_text("old")
    monkeypatch.setattr("tasks.sample.stage.write_clip", full)
    with pytest.raises(UserError, match=r"cannot write .*No space left on device"):
        make(SMALL, target)
    assert (target / "old.txt").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["sample"]


def test_a_destination_under_a_file_is_one_clear_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="cannot write"):
        make(SMALL, tmp_path / "file" / "sample")
    with pytest.raises(UserError, match="cannot write"):
        write_clip(tmp_path / "file" / "a.mp4", [], 12, 16_000)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"speakers": 13}, "multiple of sessions"),
        ({"speakers": 8}, "at least three"),
        ({"dialogues": 8, "single_file_dialogues": 4}, "one for each awkward clip"),
        ({"min_duration_s": 3.0}, "must not exceed"),
        ({"sed": 1}, "sed"),
    ],
)
def test_impossible_parameters_are_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SampleParams.model_validate(change)


def test_adapter_reads_what_the_stage_wrote(corpus: Path) -> None:
    found = find_adapter("sample")(corpus, {})
    assert found.card.synthetic
    assert found.quarantine.is_empty()
    assert set(found.utterances.columns) <= set(UTTERANCES.columns)
    for name, dtype in found.utterances.schema.items():
        assert UTTERANCES.columns[name].dtype == dtype, name
    ANNOTATIONS.check(found.annotations, "annotations")
    raw = pl.read_csv(corpus / "annotations.csv", infer_schema_length=None)
    assert found.annotations.height == raw.height
    ids = found.utterances["utterance_id"]
    assert found.annotations["utterance_id"].is_in(ids.to_list()).all()
    assert ids.str.contains(r"^(d\d\d)/d\d\d_u\d\d$").all()
    assert all((corpus / media).is_file() for media in found.utterances["media"])
    spoken = found.utterances.filter(pl.col("text").is_null())["utterance_id"].to_list()
    assert spoken == [f"{AWKWARD['no_text'][:3]}/{AWKWARD['no_text']}"]


def test_adapter_names_a_wrong_column_and_a_missing_file(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"utterances\.csv does not exist; run stage sample"):
        adapter.read(tmp_path, {})
    table = pl.read_csv(corpus / "utterances.csv", infer_schema=False)
    table.rename({"speaker": "spekaer"}).write_csv(tmp_path / "utterances.csv")
    with pytest.raises(UserError, match="lacks column speaker"):
        adapter.read(tmp_path, {})
    table.with_columns(turn=pl.lit("first")).write_csv(tmp_path / "utterances.csv")
    with pytest.raises(UserError, match="not readable"):
        adapter.read(tmp_path, {})
    with pytest.raises(UserError, match="no option 'folder'"):
        adapter.read(corpus, {"folder": "x"})
