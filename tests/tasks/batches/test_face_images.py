import threading

import numpy as np
import pytest
import torch

from models.errors import UserError
from models.training import predict
from tasks.batches import face_images
from tasks.batches.face_images import FaceImages, decode
from tasks.batches.source import Wanted
from tests.places import here
from tests.tasks.corpus_factory import CORPUS, INPUTS, make_corpus
from tests.tasks.face_table import (
    COLOURS,
    encoded,
    face_row,
    faces_of,
    no_face,
    painted,
    write_faces,
)

NO_FACE = f"{CORPUS}/d00/u2"
FIRST = f"{CORPUS}/d00/u0"


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AFFECTLOOM_CACHE", str(tmp_path / "cache"))
    return make_corpus().write()


def look(image, rng):
    """The picture's first pixels, with noise in training."""
    small = image[:4, :6].transpose(2, 0, 1).astype(np.float32)
    return small if rng is None else small + rng.random(small.shape, np.float32)


def load(inputs=None, needs=("images",), **more):
    return Wanted(inputs or {}, set(needs), **more).source(here(), CORPUS)


def part(source, level="image", view=look):
    return source.part(0, "train", level, source.targets, labelled=False).seen_through(view)


def one_picture(rows, rng=None):
    """Of the first utterance, which has ``rows``; no other has a face."""
    names = [row["utterance_id"] for row in make_corpus().utterances]
    write_faces([*rows, *(no_face(name) for name in names if name != FIRST)])
    source = load()
    return source.images.picture(int(np.flatnonzero(source.ids == FIRST)[0]), rng)


def test_an_utterance_shows_its_best_chosen_crop_at_evaluation(corpus):
    pictures = [painted((50 * i, 9, 9), i) for i in range(5)]
    qualities = (0.2, 0.7, None, 0.7)
    rows = [
        face_row(FIRST, i, encoded(pictures[i]), quality) for i, quality in enumerate(qualities)
    ]
    rows.append(face_row(FIRST, 0, encoded(pictures[4]), 0.99, chosen=False, track=1))
    np.testing.assert_array_equal(one_picture(rows), pictures[1])


def test_training_shows_every_chosen_crop_now_and_then(corpus):
    pictures = [painted((50 * i, 9, 9), i) for i in range(4)]
    rows = [face_row(FIRST, i, encoded(pictures[i])) for i in range(3)]
    rows.append(face_row(FIRST, 0, encoded(pictures[3]), 0.99, chosen=False, track=1))
    one_picture(rows)
    source = load()
    rng = np.random.default_rng(0)
    seen = {source.images.picture(0, rng).tobytes() for _ in range(60)}
    assert seen == {picture.tobytes() for picture in pictures[:3]}


def test_pictures_need_no_encoder_and_are_zero_where_there_is_none(corpus):
    write_faces(faces_of(corpus))
    source = load()
    assert source.dims == {}
    assert source.modalities == ("video",)
    data = part(source)
    batch = data.batch(range(len(data)))
    assert batch.features == {}
    assert batch.images.shape == (30, 1, 3, 4, 6)
    gone = (source.ids[data.rows] == NO_FACE).to_numpy()
    assert (batch.present["video"][:, 0].numpy() == ~gone).all()
    assert not batch.images[gone].any()
    assert batch.images[~gone].flatten(1).any(1).all()
    for row, picture in zip(data.rows, batch.images[:, 0], strict=True):
        category = source.targets[0].names[source.judged[0].values["category"][row]]
        if source.judged[0].values["category"][row] >= 0 and source.ids[int(row)] != NO_FACE:
            assert np.abs(picture.mean((1, 2)) - torch.tensor(COLOURS[category])).max() < 20


def test_items_that_cannot_be_seen_can_be_left_out(corpus):
    write_faces(faces_of(corpus))
    source = load()
    data = source.part(0, "train", "image", source.targets, labelled=False, seen=True)
    assert (len(data), data.unseen) == (29, 1)
    assert NO_FACE not in source.ids[data.rows]


def test_pictures_stand_beside_features_and_in_dialogues(corpus):
    write_faces(faces_of(corpus))
    source = load(INPUTS, ("pooled", "images"))
    assert source.modalities == ("audio", "video", "text")
    data = part(source, "dialogue")
    batch = data.batch([0, 3])
    assert batch.images.shape == (2, 5, 3, 4, 6)
    assert not batch.images[0, 2].any()
    assert not batch.present["video"][0, 2]
    alone = part(source).batch([16])
    torch.testing.assert_close(batch.images[1, 1], alone.images[0, 0])


def test_an_item_with_many_pictures_comes_again_at_evaluation(corpus):
    pictures = [painted((40 * i, 9, 9), i) for i in range(6)]
    rows = [face_row(FIRST, i, encoded(pictures[i]), 0.1 * i) for i in range(6)]
    second = f"{CORPUS}/d00/u1"
    rows.append(face_row(second, 0, encoded(pictures[0])))
    names = [row["utterance_id"] for row in make_corpus().utterances]
    write_faces([*rows, *(no_face(name) for name in names if name not in (FIRST, second))])
    source = load()
    data = part(source).seen_through(look, 3)
    shown = list(data.batches([[0, 1], [2]]))
    assert [batch.index.flatten().tolist() for batch in shown] == [[0, 1], [0], [0], [2]]
    moments = [batch.images[0, 0] for batch in shown[:3]]
    for picture, seen in zip((pictures[1], pictures[3], pictures[5]), moments, strict=True):
        np.testing.assert_array_equal(seen, look(picture, None))
    assert [len(batch.index) for batch in data.batches([[0, 1], [2]], key=1)] == [2, 1]
    np.testing.assert_array_equal(data.batch([0]).images[0, 0], look(pictures[5], None))  # the best


class Brightness(torch.nn.Module):
    """Says how bright a picture is."""

    normalise = staticmethod(lambda batch: batch)

    def answers(self, batch):
        return {"category": batch.images.mean((2, 3, 4)).unsqueeze(-1)}


def test_what_is_said_of_several_pictures_is_averaged(corpus):
    write_faces(faces_of(corpus, crops=3))
    data = part(load())
    found = predict(Brightness(), data.seen_through(look, 3), batch_size=7)["category"]
    images = data._source.images
    for row, said in zip(data.rows, found.squeeze(1).tolist(), strict=True):
        if images.present[row]:
            thirds = [look(images.picture(row, None, when), None) for when in (0.1, 0.5, 0.9)]
            assert said == pytest.approx(np.mean(thirds), rel=1e-5)
        else:
            assert said == 0


def all_pictures(data, groups, key):
    """Item to its bytes."""
    found = {}
    for group, batch in zip(groups, data.batches(groups, key), strict=True):
        found |= {i: image.numpy().tobytes() for i, image in zip(group, batch.images, strict=True)}
    return found


@pytest.mark.parametrize("level", ["image", "dialogue"])
def test_neither_order_nor_threads_change_what_an_item_shows(corpus, monkeypatch, level):
    write_faces(faces_of(corpus, crops=3))
    data = part(load(), level)
    items = list(range(len(data)))
    straight = all_pictures(data, [items], 2**62 - 1)
    other = part(load(), level)
    monkeypatch.setattr(face_images, "reading_threads", lambda: 7)
    backwards = items[::-1]
    assert (
        all_pictures(other, [backwards[:3], backwards[3:4], backwards[4:]], 2**62 - 1) == straight
    )
    assert all_pictures(other, [items], 5) != straight
    assert all_pictures(other, [items], None) == all_pictures(data, [items[:2], items[2:]], None)


def test_an_epoch_begins_anew_for_each_key(corpus):
    write_faces(faces_of(corpus))
    data = part(load())
    groups = [[0, 1], [3]]
    one, again, other = (all_pictures(data, groups, key) for key in (1, 1, 2))
    assert one == again
    assert all(one[item] != other[item] for item in one)


def sixteen(grey):
    return grey.astype(np.uint16) * 257


GREY = painted((90, 90, 90), 5)[..., 0]
COLOUR = painted((10, 200, 90), 6)
THRICE = np.repeat(GREY[..., None], 3, 2)


@pytest.mark.parametrize(("pixels", "expected"), [
    (GREY, THRICE),
    (sixteen(GREY), THRICE),
    (COLOUR, COLOUR),
    (np.dstack([COLOUR, np.full((16, 16), 255, np.uint8)]), COLOUR),
    (np.dstack([COLOUR, np.zeros((16, 16), np.uint8)]), np.zeros_like(COLOUR)),
    (GREY > 90, np.where(THRICE > 90, 255, 0)),
], ids=["grey", "grey16", "colour", "opaque", "transparent", "bits"])  # fmt: skip
def test_pictures_of_every_mode_become_colour(pixels, expected):
    found = decode(encoded(pixels))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected)


JPEG = encoded(painted((90, 20, 90), 7, 64), "JPEG")


@pytest.mark.parametrize("data", [
    b"", b"no picture", JPEG[: len(JPEG) // 2], encoded(COLOUR)[:200],
    encoded(np.full((4, 4), 70_000, np.int32), "TIFF"),
], ids=["empty", "text", "cut_jpeg", "cut_png", "grey32"])  # fmt: skip
def test_a_broken_crop_names_its_utterance(corpus, data):
    with pytest.raises(UserError, match=rf"faces/tiny\.parquet: a crop of utterance {FIRST} "):
        one_picture([face_row(FIRST, 0, data)])


def test_errors_in_threads_reach_the_caller_and_end_them(corpus):
    rows = faces_of(corpus)
    rows[0]["crop"] = rows[1]["crop"] = b"?"
    write_faces(rows)
    before = threading.active_count()
    data = part(load())
    with pytest.raises(UserError, match=rf"crop of utterance {FIRST} is no readable picture"):
        list(data.batches([[0, 1], [3]]))
    assert threading.active_count() == before


def test_a_table_that_lacks_an_utterance_names_it(corpus):
    write_faces([row for row in faces_of(corpus) if row["utterance_id"] != "tiny/d05/u1"])
    with pytest.raises(UserError, match=r"1 utterances have no row, e.g. tiny/d05/u1; rerun stage"):
        load()


def test_a_stage_that_has_not_run_is_named(corpus):
    with pytest.raises(
        UserError, match=r"data/faces/tiny\.parquet: no such table; run stage faces"
    ):
        load()


def test_a_corpus_without_any_face_shows_nothing(corpus):
    write_faces([no_face(row["utterance_id"]) for row in corpus.utterances])
    batch = part(load()).batch([0, 1])
    assert batch.images.shape == (2, 1, 3, 4, 6)
    assert not batch.present["video"].any()


def count_decoding(monkeypatch):
    calls = []
    original = face_images.decode

    def counted(data):
        calls.append(1)
        return original(data)

    monkeypatch.setattr(face_images, "decode", counted)
    return calls


def test_what_was_decoded_is_kept_for_later_epochs(corpus, monkeypatch):
    write_faces(faces_of(corpus))
    data = part(load())
    calls = count_decoding(monkeypatch)
    groups = [range(10), range(10, 30)]
    first = all_pictures(data, groups, None)
    assert len(calls) == 29
    assert all_pictures(data, groups, None) == first
    assert len(calls) == 29


def test_what_is_kept_is_bounded_and_changes_nothing(corpus, monkeypatch):
    write_faces(faces_of(corpus))
    source = load()
    roomy = all_pictures(part(source), [range(30)], None)
    images = source.images
    small = FaceImages(images._spool, images._ids, images._table, kept_bytes=5 * 16 * 16 * 3 + 1)
    calls = count_decoding(monkeypatch)
    object.__setattr__(source, "images", small)
    for _ in range(2):
        assert all_pictures(part(source), [range(30)], None) == roomy
    assert len(calls) == 29 + 24
    assert sum(kept.nbytes for kept in small._kept.values()) == 5 * 16 * 16 * 3


def test_a_view_cannot_change_what_the_next_one_sees(corpus):
    write_faces(faces_of(corpus))

    def spoil(image, rng):
        if len(image) == 16:  # not the probe for the size
            image[:] = 0
        return look(image, rng)

    with pytest.raises(ValueError, match="read-only"):
        part(load(), view=spoil).batch([0])


def test_pictures_are_made_ahead_but_not_too_far(corpus):
    write_faces(faces_of(corpus))
    seen, third = [], threading.Event()
    lock = threading.Lock()

    def noted(image, rng):
        if len(image) == 16:  # not the probe for the size
            with lock:
                seen.append(1)
                if len(seen) == 4 * 4:
                    third.set()
        return look(image, rng)

    data = part(load(), view=noted)
    batches = data.batches([range(4 * i + 3, 4 * i + 7) for i in range(6)])
    next(batches)
    assert third.wait(30), "the next three batches were not begun"
    batches.close()
    assert len(seen) == 4 * 4


def test_the_crops_are_mapped_and_copied_once(corpus, monkeypatch):
    write_faces(faces_of(corpus))
    source = load()
    assert isinstance(source.images._spool.data, np.memmap)
    monkeypatch.setattr(face_images, "read_pictures", lambda table: pytest.fail("read again"))
    load()
    assert len(list((here().cache / "pictures").glob("*.bin"))) == 1


def test_a_batch_before_the_view_is_a_mistake_of_the_caller(corpus):
    write_faces(faces_of(corpus))
    source = load()
    with pytest.raises(TypeError, match="seen_through"):
        source.part(0, "train", "image", source.targets, labelled=False).batch([0])


def test_views_of_two_sizes_are_a_mistake_of_the_method(corpus):
    write_faces(faces_of(corpus))
    with pytest.raises(TypeError, match=r"view\(\) gave"):
        part(load(), view=lambda image, rng: image.transpose(2, 0, 1)).batch([0])
