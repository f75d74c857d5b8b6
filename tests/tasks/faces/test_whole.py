import hashlib
import io

import numpy as np
import pytest
from PIL import Image

from tasks.faces.crops import decode
from tasks.faces.detection import detector
from tasks.faces.stage import FacesParams, run
from tasks.faces.whole import fit, quality
from tasks.plain_context import PlainContext
from tasks.tables.faces import FACES
from tasks.tables.parquet import read_metadata, read_table, write_table
from tasks.tables.utterances import UTTERANCES
from tests.face_factory import draw_face, room, write_video
from tests.places import here

PARAMS = FacesParams(detect="whole", crop_px=96, crop_format="png", crops_per_utterance=4)


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AFFECTLOOM_CACHE", str(tmp_path / "cache"))
    here().raw("toy").mkdir(parents=True)
    return here().raw("toy")


def table(folder, clips, params=PARAMS):
    """Faces of ``clips``: name to file and region."""
    rows = []
    for turn, (name, (file, region)) in enumerate(clips.items()):
        digest = hashlib.sha256((folder / file).read_bytes()).hexdigest()
        rows.append(
            {
                "utterance_id": f"toy/d/{name}",
                "dialogue_id": "toy/d",
                "turn": turn,
                "media": f"toy/{file}",
                "media_sha256": digest,
                "region": region,
            }
        )
    write_table(UTTERANCES, UTTERANCES.frame(rows), here().utterances("toy"))
    run(params, here(), PlainContext(stream=io.StringIO()), "toy")
    return read_table(FACES, here().faces("toy"))


def test_small_stills_are_kept_pixel_by_pixel_in_any_mode(project):
    asked = detector.cache_info()
    colour = noise(48, 40)
    grey = colour[..., 0]
    Image.fromarray(colour).save(project / "colour.png")
    Image.fromarray(grey).save(project / "grey.png")
    opaque = np.dstack([colour, np.full((48, 40), 255, np.uint8)])
    Image.fromarray(opaque).save(project / "layers.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(project / "deep.png")
    names = ("colour", "deep", "grey", "layers")
    found = table(project, {name: (f"{name}.png", None) for name in names})
    assert found["utterance_id"].to_list() == [f"toy/d/{name}" for name in names]
    assert found["chosen"].all()
    assert found["status"].to_list() == ["ok"] * 4
    assert found["box_px"].to_list() == [[0.0, 0.0, 40.0, 48.0]] * 4
    thrice = np.repeat(grey[..., None], 3, 2)
    for crop, expected in zip(found["crop"], (colour, thrice, thrice, colour), strict=True):
        np.testing.assert_array_equal(decode(crop), expected)
    assert read_metadata(here().faces("toy"))["detector"] == "none"
    assert detector.cache_info() == asked  # nobody asked for one


def test_a_region_is_the_picture_and_large_ones_keep_their_shape(project):
    pixels = noise(200, 400)
    Image.fromarray(pixels).save(project / "scene.png")
    clips = {"all": ("scene.png", None), "person": ("scene.png", [0.25, 0.5, 0.375, 0.8])}
    found = table(project, clips)
    whole, person = (decode(crop) for crop in found["crop"])
    assert whole.shape == (48, 96, 3)
    assert found["box_px"][1].to_list() == [100.0, 100.0, 150.0, 160.0]
    np.testing.assert_array_equal(person, pixels[100:160, 100:150])


def test_damaged_pictures_say_so_and_videos_give_several_crops(project):
    Image.fromarray(noise(60, 60)).save(project / "whole.jpg")
    data = (project / "whole.jpg").read_bytes()
    (project / "cut.jpg").write_bytes(data[: len(data) // 2])
    write_video(project / "film.mp4", [draw_face(room(), 100 + 9 * i, 120, 130) for i in range(20)])
    found = table(project, {"cut": ("cut.jpg", None), "film": ("film.mp4", None)})
    cut, film = found.partition_by("utterance_id")
    assert cut["status"].to_list() == ["quarantined"]
    assert cut["crop"].to_list() == [None]
    assert film.height > 4
    assert 1 <= film["crop"].count() <= 4
    assert film["time_s"].is_sorted()


def test_other_ways_of_looking_share_nothing_in_the_store(project):
    Image.fromarray(draw_face(room(), 160, 120, 140)).save(project / "still.png")
    clips = {"still": ("still.png", None)}
    whole = table(project, clips)
    found = table(project, clips, PARAMS.model_copy(update={"detect": "faces"}))
    assert found["landmarks_px"][0] is not None
    assert decode(whole["crop"][0]).shape != decode(found["crop"][0]).shape


@pytest.mark.parametrize("size", [(1, 500), (500, 1), (97, 96), (96, 96)])
def test_fitted_pictures_have_at_least_a_pixel_and_at_most_the_limit(size):
    small = fit(np.zeros((*size, 3), np.uint8), 96)
    assert max(small.shape[:2]) <= 96
    assert min(small.shape[:2]) >= 1


def test_sharp_and_large_is_better():
    sharp = noise(96, 96)[..., 0]
    assert 0 <= quality(np.full((48, 48), 7, np.uint8)) < quality(sharp[:24, :24]) < quality(sharp)
    assert quality(sharp) <= 1
