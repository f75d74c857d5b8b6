import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from models.mtcnn.detector import Faces
from tasks.faces.tracking import Track, Tracker, choose, glance, iou, is_cut, is_steady, match

SIZE = 200.0


def faces(boxes: list, confidence: float = 0.99) -> Faces:
    array = np.array(boxes, np.float32).reshape(-1, 4)
    centre = (array[:, :2] + array[:, 2:]) / 2
    points = np.repeat(centre[:, None], 5, axis=1)
    return Faces(array, points, np.full(len(array), confidence, np.float32))


def box(x: float, y: float, side: float = 40.0) -> list[float]:
    return [x, y, x + side, y + side]


boxes_in_frame = st.lists(
    st.tuples(
        st.floats(0, SIZE - 60), st.floats(0, SIZE - 60), st.floats(5, 60), st.floats(5, 60)
    ).map(lambda b: [b[0], b[1], b[0] + b[2], b[1] + b[3]]),
    max_size=4,
)


@settings(max_examples=60)
@given(st.lists(boxes_in_frame, min_size=1, max_size=6))
def test_every_box_of_a_track_lies_inside_the_frame(per_frame):
    tracker = Tracker(max_gap_s=5.0)
    for number, boxes in enumerate(per_frame):
        tracker.update(3 * number, 0.3 * number, faces(boxes))
    frames = np.arange(3 * len(per_frame))
    for track in tracker.tracks:
        for face in track.at(frames, frames * 0.1):
            assert (face.box_px >= 0).all()
            assert (face.box_px <= SIZE + 1e-3).all()
            assert (face.box_px[2:] > face.box_px[:2]).all()


@settings(max_examples=60)
@given(st.lists(boxes_in_frame, min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_tracks_do_not_depend_on_the_order_of_faces(per_frame, random):
    ordered, shuffled = Tracker(), Tracker()
    for number, boxes in enumerate(per_frame):
        other = list(boxes)
        random.shuffle(other)
        ordered.update(number, 0.2 * number, faces(boxes))
        shuffled.update(number, 0.2 * number, faces(other))
    assert len(ordered.tracks) == len(shuffled.tracks)
    for ours, theirs in zip(ordered.tracks, shuffled.tracks, strict=True):
        assert ours.frames == theirs.frames
        np.testing.assert_array_equal(ours.boxes_px, theirs.boxes_px)


@settings(max_examples=40)
@given(st.floats(-8, 8), st.floats(-8, 8), st.lists(st.floats(0.01, 0.2), min_size=8, max_size=8))
def test_interpolation_is_exact_for_linear_motion_at_uneven_times(speed_x, speed_y, steps):
    times = np.concatenate([[0.0], np.cumsum(steps)])
    where = [np.array(box(80 + speed_x * t, 80 + speed_y * t)) for t in times]
    track = Track(0)
    for frame in (0, 4, 8):
        track.add(frame, times[frame], faces([where[frame]]), 0)
    for face in track.at(np.arange(9), times):
        np.testing.assert_allclose(face.box_px, where[face.frame], atol=1e-3)
        middle = (where[face.frame][:2] + where[face.frame][2:]) / 2
        np.testing.assert_allclose(face.landmarks_px, np.tile(middle, (5, 1)), atol=1e-3)
        assert face.is_detected == (face.frame in (0, 4, 8))


def test_a_detected_frame_keeps_its_box_to_the_bit():
    track = Track(0)
    first, last = box(1.1, 2.3), box(7.7, 9.1)
    track.add(0, 0.0, faces([first]), 0)
    track.add(2, 0.3, faces([last]), 0)
    at = track.at(np.arange(5), np.arange(5) * 0.1)
    assert [face.frame for face in at] == [0, 1, 2]
    np.testing.assert_array_equal(at[0].box_px, np.array(first, np.float32))
    np.testing.assert_array_equal(at[2].box_px, np.array(last, np.float32))


def test_two_people_who_come_close_keep_their_tracks():
    tracker = Tracker()
    for frame in range(10):
        tracker.update(
            frame, 0.2 * frame, faces([box(100 - 4 * frame, 50), box(20 + 2 * frame, 50)])
        )
    assert len(tracker.tracks) == 2
    left, right = tracker.tracks
    assert np.all(np.diff([b[0] for b in left.boxes_px]) > 0)
    assert np.all(np.diff([b[0] for b in right.boxes_px]) < 0)


def test_a_track_bridges_a_short_gap_and_ends_at_a_long_one():
    tracker = Tracker(max_gap_s=1.0)
    for time_s in (0.0, 0.9, 2.5):
        tracker.update(int(time_s * 10), time_s, faces([box(50, 50)]))
    assert [track.frames for track in tracker.tracks] == [[0, 9], [25]]


def test_no_track_crosses_a_cut():
    tracker = Tracker()
    tracker.update(0, 0.0, faces([box(50, 50)]), scene=0)
    tracker.update(1, 0.2, faces([box(50, 50)]), scene=1)
    assert len(tracker.tracks) == 2


def test_matching_maximises_total_overlap():
    a = np.array([box(0, 0), box(20, 0)])
    b = np.array([box(12, 0), box(-30, 0)])
    assert match(a, b, 0.01) == [(0, 1), (1, 0)]


def test_overlap_follows_its_definition():
    a, b = np.array([[0.0, 0, 10, 10], [0, 0, 0, 0]]), np.array([[5.0, 0, 15, 10], [0, 0, 0, 0]])
    np.testing.assert_allclose(iou(a, b), [[1 / 3, 0], [0, 0]])


def test_steady_means_the_same_number_of_faces_at_nearly_the_same_places():
    still = faces([box(10, 10), box(100, 10)])
    assert is_steady(still, faces([box(102, 10), box(11, 10)]), 0.6)
    assert not is_steady(still, faces([box(10, 10)]), 0.6)
    assert not is_steady(still, faces([box(10, 10), box(130, 10)]), 0.6)
    assert is_steady(faces([]), faces([]), 0.6)


def chosen(first: list[tuple[int, list[float]]], second: list[tuple[int, list[float]]]) -> int:
    tracks = [Track(0), Track(1)]
    for track, finds in zip(tracks, (first, second), strict=True):
        for frame, at in finds:
            track.add(frame, 0.2 * frame, faces([at]), 0)
    found = choose(tracks, 10, 320, 240)
    assert found is not None
    return found


def test_the_larger_face_is_chosen():
    small = [(f, box(60, 100, 30)) for f in range(10)]
    large = [(f, box(200, 80, 90)) for f in range(10)]
    assert chosen(small, large) == 1


def test_of_equal_faces_the_central_one_is_chosen():
    centre = [(f, box(140, 100)) for f in range(10)]
    corner = [(f, box(0, 0)) for f in range(10)]
    assert chosen(corner, centre) == 1


def test_of_equal_faces_the_lasting_one_is_chosen():
    lasting = [(f, box(60, 100)) for f in range(10)]
    brief = [(f, box(220, 100)) for f in range(3)]
    assert chosen(brief, lasting) == 1


def test_a_large_face_shown_for_a_moment_does_not_win():
    flash = [(f, box(100, 60, 120)) for f in range(1)]
    lasting = [(f, box(130, 90, 60)) for f in range(10)]
    assert chosen(flash, lasting) == 1


def test_nobody_is_chosen_where_nobody_is():
    assert choose([], 10, 320, 240) is None


def test_a_cut_is_told_from_motion():
    rng = np.random.default_rng(1)
    coarse = rng.integers(0, 255, (2, 6, 8, 3), dtype=np.uint8)
    one, other = (np.kron(c, np.ones((40, 40, 1), np.uint8)) for c in coarse)
    assert is_cut(glance(one), glance(other), 0.5)
    assert not is_cut(glance(one), glance(np.roll(one, 6, axis=1)), 0.5)
    assert not is_cut(glance(one), glance((one * 0.6).astype(np.uint8)), 0.5)
    black = np.zeros_like(one)
    assert is_cut(glance(one), glance(black), 0.5)
    assert not is_cut(glance(black), glance(black), 0.5)
