import hashlib
import json
import os
import shutil
import wave
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import polars as pl
import pytest

from tasks.context import Progress
from tasks.faces import detection
from tasks.faces import windows as face_media
from tasks.faces.clip import ClipFaces, _correlation, empty_row
from tasks.faces.crops import decode as decode_crop
from tasks.faces.detection import detect_clips
from tasks.faces.stage import FacesParams, run
from tasks.faces.table import write_faces
from tasks.faces.windows import ClipRequest, Window, decode_window, probe_file, windows
from tasks.media.decoding import Media, Problem, Region, Span
from tasks.plain_context import PlainContext
from tasks.tables.contract import TableError
from tasks.tables.faces import FACES
from tasks.tables.parquet import read_metadata, read_table, write_table
from tasks.tables.utterances import UTTERANCES
from tests.face_factory import draw_face, room, write_video
from tests.places import here

PARAMS = FacesParams(rate_hz=10, crop_px=64, min_difference=0.0, crops_per_utterance=4)
AWKWARD = Path(os.environ.get("AFFECTLOOM_SHARED", "../shared")) / "data" / "awkward"


@pytest.fixture(scope="module")
def media(tmp_path_factory) -> Path:
    """A folder of small files of every kind."""
    folder = tmp_path_factory.mktemp("media") / "toy"
    moving = [draw_face(room(), 100 + 4 * i, 120, 130) for i in range(16)]
    write_video(folder / "moving.mp4", moving)
    pair = draw_face(draw_face(room(), 80, 120, 140), 240, 120, 110)
    write_video(folder / "pair.mp4", [pair] * 6)
    write_video(folder / "empty_room.mp4", [room()] * 5)
    whole = (folder / "moving.mp4").read_bytes()
    (folder / "broken.mp4").write_bytes(whole[: len(whole) // 2])
    cv2.imwrite(str(folder / "still.png"), draw_face(room(), 160, 120, 140)[..., ::-1])
    with wave.open(str(folder / "voice.wav"), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes((np.sin(np.arange(4000) / 5) * 9000).astype("<i2").tobytes())
    return folder


CLIPS: list[dict] = [
    {"name": "broken", "media": "broken.mp4"},
    {"name": "empty_room", "media": "empty_room.mp4"},
    {"name": "gone", "media": "gone.mp4"},
    {"name": "left_half", "media": "pair.mp4", "region": [0.0, 0.0, 0.5, 1.0]},
    {"name": "moving", "media": "moving.mp4"},
    {"name": "pair", "media": "pair.mp4"},
    {"name": "right_half", "media": "pair.mp4", "region": [0.5, 0.0, 1.0, 1.0]},
    {"name": "silent", "media": None},
    {"name": "span", "media": "moving.mp4", "start_s": 0.5, "end_s": 1.0},
    {"name": "still", "media": "still.png"},
    {"name": "voice", "media": "voice.wav"},
]


def make_project(folder: Path, media: Path, clips: list[dict], monkeypatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("AFFECTLOOM_CACHE", str(folder / "cache"))
    here().media_root.mkdir(parents=True)
    here().raw("toy").symlink_to(media)
    write_corpus(media, clips)


def write_corpus(media: Path, clips: list[dict]) -> None:
    rows = []
    for turn, clip in enumerate(clips):
        file = media / (clip["media"] or "-")
        rows.append(
            {
                "utterance_id": f"toy/d/{clip['name']}",
                "dialogue_id": "toy/d",
                "turn": turn,
                "start_s": clip.get("start_s"),
                "end_s": clip.get("end_s"),
                "media": f"toy/{clip['media']}" if clip["media"] else None,
                "media_sha256": hashlib.sha256(
                    file.read_bytes() if file.exists() else b""
                ).hexdigest(),
                "region": clip.get("region"),
            }
        )
    write_table(UTTERANCES, UTTERANCES.frame(rows), here().utterances("toy"))


@pytest.fixture(scope="module")
def table(media, tmp_path_factory) -> pl.DataFrame:
    with pytest.MonkeyPatch.context() as patch:
        make_project(tmp_path_factory.mktemp("project"), media, CLIPS, patch)
        run(PARAMS, here(), PlainContext(), "toy")
        return read_table(FACES, here().faces("toy"))


def clip(table: pl.DataFrame, name: str) -> pl.DataFrame:
    return table.filter(pl.col("utterance_id") == f"toy/d/{name}")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("broken", "truncated"),
        ("empty_room", "no_face"),
        ("gone", "missing"),
        ("silent", "no_video"),
        ("voice", "no_video"),
    ],
)
def test_a_clip_without_faces_has_one_row_that_says_why(table, name, reason):
    (row,) = clip(table, name).to_dicts()
    assert (row["frame"], row["track"], row["status"]) == (-1, -1, "quarantined")
    assert row["reason"] == reason
    assert row["box_px"] is None
    assert row["crop"] is None


def test_a_moving_face_is_one_track_over_every_sampled_frame(table):
    moving = clip(table, "moving")
    assert moving["frame"].to_list() == list(range(16))
    assert moving["track"].unique().to_list() == [0]
    assert moving["chosen"].all()
    np.testing.assert_allclose(moving["time_s"], np.arange(16) / 10, atol=1e-6)
    centre = moving["box_px"].list.to_struct(fields=list("abcd")).struct.unnest()
    steps = np.diff((centre["a"] + centre["c"]) / 2)
    assert 2 < steps.mean() < 6


def test_frames_between_two_looks_are_interpolated(table):
    moving = clip(table, "moving")
    looked = moving.filter("is_detected")["frame"].to_list()
    assert {0, 4, 8, 12, 15} <= set(looked)
    assert len(looked) < 16
    boxes = dict(zip(moving["frame"], moving["box_px"].to_numpy(), strict=True))
    unseen = next(f for f in range(16) if f not in looked)
    before, after = max(f for f in looked if f < unseen), min(f for f in looked if f > unseen)
    share = (unseen - before) / (after - before)
    expected = boxes[before] + share * (boxes[after] - boxes[before])
    np.testing.assert_allclose(boxes[unseen], expected, atol=0.01)


def test_all_faces_are_tracked_and_the_larger_one_is_chosen(table):
    pair = clip(table, "pair")
    assert pair.group_by("frame").len()["len"].unique().to_list() == [2]
    chosen = pair.filter("chosen")["box_px"].to_numpy()
    other = pair.filter(~pl.col("chosen"))["box_px"].to_numpy()
    assert all(a[2] < b[0] for a, b in zip(chosen, other, strict=True))


def test_a_declared_half_shows_one_face_in_pixels_of_the_whole_frame(table):
    left, right = clip(table, "left_half"), clip(table, "right_half")
    assert left["track"].n_unique() == right["track"].n_unique() == 1
    assert all(0 <= box[0] < box[2] <= 160 for box in left["box_px"])
    assert all(160 <= box[0] < box[2] <= 320 for box in right["box_px"])
    whole = clip(table, "pair").filter(~pl.col("chosen"))["box_px"][0]
    np.testing.assert_allclose(right["box_px"][0], whole, atol=6)


def test_a_span_holds_the_frames_of_its_time_only(table):
    span = clip(table, "span")
    np.testing.assert_allclose(span["time_s"], np.arange(5, 10) / 10, atol=1e-6)
    assert span["frame"].to_list() == list(range(5))


def test_a_still_picture_is_one_frame_without_a_time(table):
    (row,) = clip(table, "still").to_dicts()
    assert (row["frame"], row["track"], row["status"]) == (0, 0, "ok")
    assert row["time_s"] is None
    assert row["crop"] is not None


def test_only_the_chosen_track_has_crops_and_no_more_than_wanted(table):
    kept = table.filter(pl.col("crop").is_not_null())
    assert kept["chosen"].all()
    counts = kept.group_by("utterance_id").len()["len"]
    assert counts.max() == 4
    for data in kept["crop"]:
        assert decode_crop(data).shape == (64, 64, 3)


def test_boxes_lie_inside_the_frame_and_scores_between_0_and_1(table):
    boxes = np.stack(table.filter(pl.col("frame") >= 0)["box_px"].to_list())
    assert (boxes >= 0).all()
    assert (boxes <= [320, 240, 320, 240]).all()
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    for column in ("quality", "confidence"):
        assert table[column].drop_nulls().is_between(0, 1).all()
        assert table[column].drop_nulls().len() > 20


def test_nothing_is_said_about_speaking_where_there_is_no_sound(table):
    assert table["speaking"].null_count() == table.height


def test_bytes_do_not_depend_on_workers_and_a_warm_run_detects_nothing(
    media, tmp_path, monkeypatch
):
    written = []
    clips = [c for c in CLIPS if c["name"] in ("moving", "pair", "span", "still", "voice")]
    for name, context in {
        "one": PlainContext(),
        "threads": PlainContext(workers=3, runner="threads"),
    }.items():
        (tmp_path / name).mkdir()
        make_project(tmp_path / name, media, clips, monkeypatch)
        run(PARAMS, here(), context, "toy")
        written.append(here().faces("toy").read_bytes())
    assert written[0] == written[1]

    here().raw("toy").unlink()  # who detects again finds no files
    run(PARAMS, here(), PlainContext(), "toy")
    assert here().faces("toy").read_bytes() == written[0]


def test_one_more_clip_is_one_more_detection_and_other_parameters_all(media, tmp_path, monkeypatch):
    seen: list[str] = []
    detect = detection.detect_clips

    def spy(params, clips):
        seen.extend(c.utterance_id for c in clips)
        return detect(params, clips)

    monkeypatch.setattr(detection, "detect_clips", spy)
    make_project(tmp_path, media, [{"name": "b", "media": "still.png"}], monkeypatch)
    run(PARAMS, here(), PlainContext(), "toy")
    # the same file under another name is the same work
    more = [{"name": n, "media": "still.png"} for n in "ab"] + [{"name": "c", "media": "pair.mp4"}]
    write_corpus(media, more)
    run(PARAMS, here(), PlainContext(), "toy")
    assert seen == ["toy/d/b", "toy/d/c"]
    found = read_table(FACES, here().faces("toy"))
    assert found.filter(pl.col("frame") == 0)["utterance_id"].n_unique() == 3
    run(PARAMS.model_copy(update={"crop_px": 48}), here(), PlainContext(), "toy")
    assert len(seen) == 4


def test_a_damaged_store_is_noticed_and_mended(media, tmp_path, monkeypatch):
    make_project(tmp_path, media, [{"name": "a", "media": "still.png"}], monkeypatch)
    run(PARAMS, here(), PlainContext(), "toy")
    before = here().faces("toy").read_bytes()
    (segment,) = (tmp_path / "cache").rglob("*.seg")
    damaged = bytearray(segment.read_bytes())
    damaged[-100] ^= 1
    segment.write_bytes(bytes(damaged))
    run(PARAMS, here(), PlainContext(), "toy")
    assert here().faces("toy").read_bytes() == before


def test_a_failure_of_the_moment_is_not_remembered(media, tmp_path, monkeypatch):
    make_project(tmp_path, media, [{"name": "a", "media": "still.png"}], monkeypatch)

    def slow(params, clips):
        for one in clips:
            yield FACES.frame([empty_row(one, "timeout")])

    with monkeypatch.context() as patch:
        patch.setattr(detection, "detect_clips", slow)
        run(PARAMS, here(), PlainContext(), "toy")
    assert read_table(FACES, here().faces("toy"))["reason"].to_list() == ["timeout"]
    run(PARAMS, here(), PlainContext(), "toy")
    assert read_table(FACES, here().faces("toy"))["status"].to_list() == ["ok"]


@pytest.mark.parametrize("reason", ["missing", "not_readable"])
def test_a_file_that_was_away_is_seen_once_it_is_back(media, tmp_path, monkeypatch, reason):
    folder = tmp_path / "media"
    folder.mkdir()
    shutil.copy(media / "still.png", folder)
    (tmp_path / "project").mkdir()
    clips = [{"name": "a", "media": "still.png"}]
    make_project(tmp_path / "project", folder, clips, monkeypatch)
    (folder / "still.png").rename(tmp_path / "away.png")
    if reason == "not_readable":
        (folder / "still.png").mkdir()
    run(PARAMS, here(), PlainContext(), "toy")
    assert read_table(FACES, here().faces("toy"))["reason"].to_list() == [reason]
    if reason == "not_readable":
        (folder / "still.png").rmdir()
    (tmp_path / "away.png").rename(folder / "still.png")
    run(PARAMS, here(), PlainContext(), "toy")
    assert read_table(FACES, here().faces("toy"))["status"].to_list() == ["ok"]


def test_progress_counts_every_clip_with_media_once(media, tmp_path, monkeypatch):
    told: list[Progress] = []

    class Listening(PlainContext):
        def progress(self, progress: Progress) -> None:
            told.append(progress)

    clips = [c for c in CLIPS if c["name"] in ("empty_room", "silent", "still", "voice")]
    make_project(tmp_path, media, clips, monkeypatch)
    run(PARAMS, here(), Listening(), "toy")
    run(PARAMS, here(), Listening(), "toy")
    assert told[-1] == Progress(3, 3, "clips", 0, 2, known=3)
    assert Progress(3, 3, "clips", 0, 2, known=0) in told[:-1]


def test_the_table_tells_how_it_was_made(media, tmp_path, monkeypatch):
    make_project(tmp_path, media, [{"name": "a", "media": None}], monkeypatch)
    run(PARAMS, here(), PlainContext(), "toy")
    made = read_metadata(here().faces("toy"))
    told = {key[6:]: json.loads(value) for key, value in made.items() if key.startswith("param.")}
    assert told == PARAMS.model_dump(mode="json")
    assert len(made["weights_sha256"]) == 64
    assert made["library.torch"]


def test_streaming_writes_the_bytes_of_write_table(tmp_path):
    rows = [
        {
            "utterance_id": f"toy/d/{clip:03d}",
            "frame": frame,
            "track": 0,
            "chosen": True,
            "is_detected": True,
            "status": "ok",
            "box_px": [0.0, 0.0, float(clip), 1.0],
            "crop": bytes([clip]) * frame,
        }
        for clip in range(9)
        for frame in range(37)
    ]
    whole = FACES.frame(rows)
    parts = whole.partition_by("utterance_id", maintain_order=True)
    write_table(FACES, whole, tmp_path / "whole.parquet", {"b": "2", "a": "1"})
    write_faces(iter(parts), tmp_path / "parts.parquet", {"b": "2", "a": "1"})
    assert (tmp_path / "parts.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    with pytest.raises(TableError, match="sort clips by id"):
        write_faces(iter(parts[::-1]), tmp_path / "parts.parquet", {})


@pytest.mark.parametrize("broken", [0, 127, 128, 199])
def test_a_row_that_breaks_the_contract_is_never_written(tmp_path, broken):
    file = tmp_path / "faces.parquet"
    clips = [ClipRequest(f"toy/d/{number:03d}") for number in range(200)]
    rows = [empty_row(one, "no_video") for one in clips]
    rows[broken]["status"] = "unheard-of"
    with pytest.raises(TableError, match=f"toy/d/{broken:03d}"):
        write_faces((FACES.frame([row]) for row in rows), file, {})
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_write_leaves_the_old_table(tmp_path):
    file = tmp_path / "faces.parquet"
    file.write_bytes(b"old")

    def breaks():
        yield FACES.frame([empty_row(ClipRequest("toy/d/a"), "no_video")])
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        write_faces(breaks(), file, {})
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]


def test_windows_cover_a_long_clip_without_gap_or_overlap():
    # seven frames of this size are as much as a window holds
    long = Media(kind="video", duration_s=10.3, has_video=True, width_px=10_000, height_px=720)
    parts = list(windows(Span("f"), long, 5.0, 1000, 720))
    assert [part.span.start_s for part in parts[1:]] == [part.span.end_s for part in parts[:-1]]
    assert (parts[0].span.start_s, parts[-1].span.end_s) == (0.0, 10.3)
    assert len(parts) == 8
    slower = list(windows(Span("f"), long, 5.0, 14, 720))
    assert len(slower) == 2
    assert slower[0].sampling.rate_hz == pytest.approx(14 / 10.3)


def test_a_window_of_large_frames_is_short():
    small = Media(kind="video", has_video=True, width_px=320, height_px=240)
    large = Media(kind="video", has_video=True, width_px=3840, height_px=2160)
    assert face_media.window_frames(small, None, 2160) == 240
    assert face_media.window_frames(large, None, 2160) * 3840 * 2160 * 3 <= 160_000_000
    half = face_media.window_frames(large, Region(0.0, 0.0, 0.5, 1.0), 2160)
    assert half == 2 * face_media.window_frames(large, None, 2160)


def test_a_clip_in_windows_gives_the_rows_of_one_window(media):
    span = Span(str(media / "moving.mp4"))
    known = probe_file(span.path)

    def rows(width_px: int, count: int) -> pl.DataFrame:
        """Rows of the clip in windows made for frames of this width."""
        wide = replace(known, width_px=width_px)
        asked = list(windows(span, wide, PARAMS.rate_hz, 1000, PARAMS.frame_height_px))
        assert len(asked) == count
        return collect(*(decode_window(request) for request in asked))

    whole, parts = rows(320, 1), rows(36_000, 3)
    same = ["frame", "time_s", "track", "chosen", "status"]
    assert parts.select(same).equals(whole.select(same))
    # the end of a window is looked at, so boxes differ a little where they were interpolated
    apart = np.stack(parts["box_px"].to_list()) - np.stack(whole["box_px"].to_list())
    assert np.abs(apart).max() < 6


def window(frames: list[np.ndarray], start_s: float, *problems: Problem) -> Window:
    times = start_s + np.arange(len(frames)) / 10
    return Window(np.stack(frames), times, np.zeros(0, np.float32), 0.0, False, problems)


def collect(*parts: Window, params: FacesParams = PARAMS) -> pl.DataFrame:
    known = Media(kind="video", has_video=True, width_px=320, height_px=240)
    detector = detection.detector(params.thresholds)
    clip_faces = ClipFaces(ClipRequest("toy/d/x", Span("x")), known, detector, params)
    for part in parts:
        clip_faces.add(part)
    return FACES.frame(clip_faces.rows())


def test_a_face_that_appears_between_two_looks_is_found_on_its_first_frame():
    face = draw_face(room(), 160, 120, 140)
    rows = collect(window([room()] * 6 + [face] * 3, 0.0))
    assert rows["frame"].to_list() == [6, 7, 8]


def test_no_track_goes_on_beyond_a_cut():
    stripes = np.kron(np.random.default_rng(2).integers(0, 255, (6, 8, 1)), np.ones((40, 40, 3)))
    first = draw_face(room(), 160, 120, 140)
    second = draw_face(stripes.astype(np.uint8), 165, 120, 140)
    rows = collect(window([first] * 5 + [second] * 5, 0.0))
    spans = (
        rows.filter(pl.col("confidence") > 0.9)
        .group_by("track")
        .agg(pl.col("frame").min().alias("first"), pl.col("frame").max().alias("last"))
    )
    assert sorted(spans.select("first", "last").rows()) == [(0, 4), (5, 9)]


def test_a_clip_of_which_a_part_is_usable_is_degraded():
    face = draw_face(room(), 160, 120, 140)
    rows = collect(window([face] * 3, 0.0, Problem("truncated", "the file ends early")))
    assert rows["status"].unique().to_list() == ["degraded"]
    assert rows["reason"].unique().to_list() == ["truncated"]


def test_frames_seen_twice_at_a_window_border_count_once():
    face = draw_face(room(), 160, 120, 140)
    rows = collect(window([face] * 3, 0.0), window([face] * 3, 0.2))
    assert rows["frame"].to_list() == [0, 1, 2, 3, 4]


def test_correlation_is_null_for_what_does_not_vary():
    rising = np.linspace(0, 1, 20)
    assert _correlation(rising, rising * 3 + 1) == pytest.approx(1)
    assert _correlation(rising, -rising) == pytest.approx(-1)
    assert _correlation(rising, np.full(20, 0.5)) is None
    assert _correlation(np.full(20, 0.5), rising) is None


def test_a_mouth_that_moves_with_the_voice_correlates_with_it():
    rng = np.random.default_rng(0)
    still = draw_face(room(), 160, 120, 160)
    loud = np.repeat([0, 1, 1, 0, 1, 0, 0, 1, 1, 0], 3)
    frames = []
    for is_loud in loud:
        frame = still.copy()
        if is_loud:
            half_px = int(rng.integers(2, 14))
            cv2.ellipse(frame, (160, 162), (16, half_px), 0, 0, 360, (40, 10, 10), -1)
        frames.append(frame)
    part = window(frames, 0.0)
    # the energy of a step is that of the time before its frame
    energy = np.repeat(np.where(loud[1:], 1e-2, 1e-6), 10).astype(np.float32)
    heard = Window(part.frames, part.times_s, energy, 0.0, False, ())
    params = PARAMS.model_copy(update={"detect_every": 4})
    speaking = collect(heard, params=params).filter("chosen")["speaking"][0]
    assert speaking > 0.5


def test_a_track_that_never_is_surely_a_face_is_left_out():
    face = draw_face(room(), 160, 120, 140)
    sure = collect(window([face] * 5, 0.0))
    assert sure["track"].unique().to_list() == [0]
    strict = PARAMS.model_copy(update={"min_confidence": 0.999999})
    (row,) = collect(window([face] * 5, 0.0), params=strict).to_dicts()
    assert (row["status"], row["reason"]) == ("quarantined", "no_face")


@pytest.mark.real
@pytest.mark.skipif(not AWKWARD.exists(), reason="the real files are not beside the project")
def test_every_awkward_file_gets_rows_or_a_reason():
    files = sorted(f for f in AWKWARD.iterdir() if f.suffix != ".csv")
    clips = [ClipRequest(f"toy/d/{f.name}", Span(str(f.resolve()))) for f in files]
    ends = {}
    for file, rows in zip(files, detect_clips(FacesParams(), clips), strict=True):
        FACES.check(rows, file.name)
        ends[file.name] = (rows["status"][0], rows["reason"][0], rows["track"].n_unique())
    assert ends["no_face.mp4"][:2] == ("quarantined", "no_face")
    assert ends["empty.webm"][:2] == ("quarantined", "empty_file")
    assert ends["audio_only.mp4"][:2] == ("quarantined", "no_video")
    assert ends["cartoon_no_face.jpg"][:2] == ("quarantined", "no_face")
    assert ends["nasa_two_video_streams.mp4"][:2] == ("quarantined", "no_face")
    assert ends["five_faces.jpg"] == ("ok", None, 5)
    assert ends["derived_portrait_face_rot90.mp4"][0] == "ok"
    assert ends["face_heavy_compression.mp4"][0] == "ok"
