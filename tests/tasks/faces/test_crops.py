import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import UserError
from tasks.faces.crops import (
    TEMPLATE,
    align,
    decode,
    encode,
    make_crop,
    pose,
    quality,
    similarity,
    thin,
)
from tests.face_factory import draw_face, room


def placed(scale: float, turn_deg: float, x: float, y: float) -> tuple[np.ndarray, np.ndarray]:
    """The template as landmarks of a face of ``scale`` pixels, and its box."""
    turn = np.exp(1j * np.radians(turn_deg)) * scale
    z = (TEMPLATE - 0.5) @ [1, 1j] * turn + complex(x, y)
    half = scale / 2
    points = np.stack([z.real, z.imag], axis=1).astype(np.float32)
    return points, np.array([x - half, y - half, x + half, y + half], np.float32)


@settings(max_examples=80)
@given(
    st.floats(20, 400), st.floats(-45, 45), st.floats(0, 500), st.floats(0, 500), st.floats(0, 0.4)
)
def test_the_landmarks_of_an_average_face_land_on_the_template(scale, turn_deg, x, y, margin):
    landmarks, box = placed(scale, turn_deg, x, y)
    matrix = similarity(landmarks, box, margin)
    landed = landmarks @ matrix[:, :2].T + matrix[:, 2]
    np.testing.assert_allclose(landed, TEMPLATE * (1 - 2 * margin) + margin, atol=1e-3)


def test_a_profile_is_not_turned_but_placed_by_its_box():
    landmarks, box = placed(100, 0, 200, 150)
    landmarks[1, 0] = landmarks[0, 0] + 5
    matrix = similarity(landmarks, box, 0.1)
    assert matrix[0, 1] == matrix[1, 0] == 0
    np.testing.assert_allclose(matrix[:, :2] @ [200, 150] + matrix[:, 2], [0.5, 0.5])


def test_coinciding_landmarks_still_give_a_crop():
    crop = align(room(), np.full((5, 2), 100.0), np.array([80, 80, 120, 120.0]), 64, 0.1)
    assert crop.shape == (64, 64, 3)


@pytest.mark.parametrize("scale", [60, 150, 700])
@pytest.mark.parametrize("turn_deg", [0, 30])
def test_a_crop_is_upright_and_shows_what_was_at_each_landmark(scale, turn_deg):
    landmarks, box = placed(scale, turn_deg, 500, 450)
    frame = room(900, 1000)
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255)]
    for point, colour in zip(landmarks, colours, strict=True):
        at = (round(float(point[0])), round(float(point[1])))
        cv2.circle(frame, at, max(3, scale // 16), colour, -1)
    crop = align(frame, landmarks, box, 128, 0.1)
    for point, colour in zip((TEMPLATE * 0.8 + 0.1) * 128, colours, strict=True):
        x, y = np.floor(point).astype(int)
        assert np.abs(crop[y, x].astype(int) - colour).max() < 40


def test_a_face_at_the_border_repeats_the_border_instead_of_inventing_black():
    landmarks, box = placed(100, 0, 10, 10)
    assert (align(room(), landmarks, box, 64, 0.1) == 110).all()


def test_quality_falls_with_blur_size_and_turning():
    landmarks, box = placed(120, 0, 160, 120)
    frame = draw_face(room(), 160, 120, 150)
    sharp = make_crop(frame, landmarks, box, 112, 0.1)
    blurred = make_crop(cv2.GaussianBlur(frame, (0, 0), 4), landmarks, box, 112, 0.1)
    small = quality(cv2.cvtColor(sharp.pixels, cv2.COLOR_RGB2GRAY), landmarks, box * 0.3)
    turned = landmarks.copy()
    turned[2] = turned[1]
    assert blurred.quality < sharp.quality
    assert small < sharp.quality
    assert make_crop(frame, turned, box, 112, 0.1).quality < sharp.quality
    assert blurred.quality >= 0
    assert sharp.quality <= 1


def test_pose_is_one_from_the_front_and_less_to_the_side():
    landmarks, _ = placed(100, 20, 0, 0)
    assert pose(landmarks) == pytest.approx(1, abs=1e-5)
    landmarks[2] += [10, 0]
    assert 0 < pose(landmarks) < 0.9
    assert pose(np.zeros((5, 2))) == 0


def test_thinning_keeps_the_best_of_each_part_of_time():
    rng = np.random.default_rng(0)
    thumbnails = list(rng.normal(size=(8, 4, 4)))
    qualities = np.array([0.1, 0.9, 0.3, 0.2, 0.5, 0.5, 0.7, 0.8])
    assert thin(thumbnails, qualities, np.arange(8) / 10, 4, 0.1) == [1, 2, 4, 7]


def test_thinning_leaves_out_what_shows_the_same_again():
    same = [np.ones((4, 4))] * 4 + [np.zeros((4, 4))] * 4
    kept = thin(same, np.linspace(0.1, 0.8, 8), np.arange(8) / 10, 8, 0.5)
    assert kept == [0, 4]


def test_thinning_keeps_a_single_face_and_none_of_none():
    assert thin([np.zeros((4, 4))], np.array([0.0]), np.array([3.0]), 16, 0.5) == [0]
    assert thin([], np.zeros(0), np.zeros(0), 16, 0.5) == []


@settings(max_examples=30)
@given(st.integers(1, 40), st.integers(1, 10))
def test_thinning_never_keeps_more_than_wanted_and_keeps_the_order(count, wanted):
    rng = np.random.default_rng(count)
    kept = thin(
        list(rng.normal(size=(count, 4, 4))), rng.random(count), np.arange(count), wanted, 0
    )
    assert 1 <= len(kept) <= wanted
    assert kept == sorted(set(kept))


def test_encoding_gives_the_same_bytes_and_png_the_same_pixels():
    pixels = draw_face(room(), 160, 120, 150)[40:200, 80:240]
    assert encode(pixels, "jpeg", 90) == encode(pixels, "jpeg", 90)
    assert encode(pixels, "jpeg", 90).startswith(b"\xff\xd8")
    np.testing.assert_array_equal(decode(encode(pixels, "png", 90)), pixels)
    assert np.abs(decode(encode(pixels, "jpeg", 95)).astype(int) - pixels).mean() < 3


def test_bytes_that_are_no_picture_are_refused():
    with pytest.raises(UserError, match="rerun stage faces"):
        decode(b"not a picture")
