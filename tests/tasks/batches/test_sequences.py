import threading
import tracemalloc

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import UserError
from tasks.batches import sequences
from tasks.batches.sequences import Sequences, read_sequences
from tasks.batches.source import Wanted
from tasks.tables.features import FEATURES
from tests.places import here
from tests.tasks.arrow_files import write_arrow
from tests.tasks.corpus_factory import CORPUS, DIMS, INPUTS, features_frame, make_corpus

DIM = 6


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AFFECTLOOM_CACHE", str(tmp_path / "cache"))
    return make_corpus().write()


def make_sequences(corpus, seed=0, encoder="eyes"):
    """Utterance id to (T, DIM) half floats; some long, none where the clip has no picture."""
    random = np.random.default_rng(seed)
    return {
        name: random.standard_normal((int(random.integers(1, 12)), DIM)).astype("<f2")
        for name in corpus.features[encoder]
        if corpus.features[encoder][name] is not None
    }


def write(corpus, found, files=1, encoder="eyes", **changed):
    """Write the features table of one encoder with these sequences; ``changed``: column to cells.

    Rows of several files are dealt out in turn, shuffled.
    """
    frame = features_frame(corpus.features[encoder], DIMS[encoder])
    names = frame["utterance_id"].to_list()
    columns = {
        "frames": [len(found[name]) if name in found else 0 for name in names],
        "dim": [DIM] * len(names),
        "sequence": [found[name].tobytes() if name in found else None for name in names],
    }
    for column, cells in changed.items():
        columns[column] = [
            cells.get(name, old) for name, old in zip(names, columns[column], strict=True)
        ]
    series = [pl.Series(name, cells, FEATURES.schema[name]) for name, cells in columns.items()]
    frame = frame.with_columns(series)
    folder = here().features(CORPUS, encoder)
    for old in folder.glob("*"):
        old.unlink()
    for number in range(files):
        part = frame[number::files]
        if files > 1:
            part = part.sample(fraction=1.0, shuffle=True, seed=number)
        arrow = part.to_arrow(compat_level=pl.CompatLevel.oldest())
        write_arrow(arrow, folder / f"{number}.parquet")


def load(**more):
    return Wanted(INPUTS, {"pooled", "frames"}, **more).source(here(), CORPUS)


def everything(source, level="dialogue"):
    data = source.part(0, "train", level, source.targets, labelled=False)
    return data, data.batch(range(len(data)))


def spools():
    return sorted((here().cache / "sequences").glob("*.bin"))


@pytest.mark.parametrize("level", ["dialogue", "utterance"])
@pytest.mark.parametrize("files", [1, 3])
def test_frames_are_those_of_the_table(corpus, level, files):
    found = make_sequences(corpus)
    write(corpus, found, files)
    source = load()
    assert source.frame_dims == {"audio": 4, "video": DIM, "text": 3}
    assert source.dims == {"audio": 4, "video": 5, "text": 3}
    data, batch = everything(source, level)
    frames = batch.frames["video"]
    assert frames.values.dtype.is_floating_point
    assert frames.values.shape[2] == max(len(found.get(n, ())) for n in source.ids[data.rows])
    assert not frames.values[~frames.mask].any()
    for (b, u), row in np.ndenumerate(batch.index.numpy()):
        name = source.ids[int(data.rows[row])] if row >= 0 else None
        expected = found.get(name, np.zeros((0, DIM), np.float16))
        mine = frames.values[b, u][frames.mask[b, u]].numpy()
        np.testing.assert_array_equal(mine, expected.astype(np.float32))


def test_a_modality_without_sequences_is_its_pooled_vector(corpus):
    write(corpus, make_sequences(corpus))
    source = load()
    assert source.pooled_only == {"audio": "ears", "text": "words"}
    _, batch = everything(source)
    frames = batch.frames["text"]
    assert frames.mask.shape[-1] == 1
    assert (frames.mask[..., 0] == batch.present["text"]).all()
    assert (frames.values[..., 0, :] == batch.features["text"]).all()


def test_a_clip_whose_sequence_was_not_kept_is_absent(corpus):
    found = make_sequences(corpus)
    gone = corpus.ids("train")[3]
    del found[gone]
    write(corpus, found)
    source = load()
    at = int(np.flatnonzero(source.ids == gone)[0])
    assert not source.present["video"][at]
    assert source.present["audio"][at]


def test_methods_that_need_no_frames_map_nothing(corpus):
    write(corpus, make_sequences(corpus))
    source = Wanted(INPUTS).source(here(), CORPUS)
    assert everything(source)[1].frames is None
    assert not spools()


@given(count=st.integers(1, 60), most=st.integers(1, 40))
def test_long_sequences_are_thinned_evenly(count, most):
    values = np.arange(count + 3, dtype=np.float16)[:, None]
    made = Sequences(values, np.array([3]), np.array([count]), most)
    frames = made.frames(np.array([[0]]), np.array([[True]]))
    kept = frames.values[0, 0, :, 0].numpy() - 3
    assert len(kept) == min(count, most)
    assert frames.mask.all()
    steps = np.diff(kept)
    if most >= count:
        np.testing.assert_array_equal(kept, np.arange(count))
    elif most > 1:
        assert (kept[0], kept[-1]) == (0, count - 1)
        assert steps.max() - steps.min() <= 1
    else:
        assert kept[0] == (count - 1) // 2


def test_max_frames_reaches_the_batches(corpus):
    write(corpus, make_sequences(corpus))
    _, batch = everything(load(max_frames=4))
    assert batch.frames["video"].mask.shape[-1] == 4


def test_the_matrix_is_mapped_and_never_read_whole(corpus, tmp_path):
    ids = pl.Series([f"c/d/u{i:05d}" for i in range(2048)])
    values = np.random.default_rng(0).standard_normal((2048, 40, 64)).astype("<f2")  # 10 MB
    frame = features_frame({name: [0.0] for name in ids}, 1).with_columns(
        pl.lit(40, pl.Int32).alias("frames"),
        pl.lit(64, pl.Int32).alias("dim"),
        pl.Series("sequence", [block.tobytes() for block in values]),
    )
    write_arrow(frame.to_arrow(compat_level=pl.CompatLevel.oldest()), tmp_path / "f/0.parquet")
    tracemalloc.start()
    found = read_sequences(ids, tmp_path / "f", tmp_path / "cache")
    found.frames(np.arange(5)[None], np.ones((1, 5), bool))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert isinstance(found.values, np.memmap)
    assert peak < values.nbytes / 4
    np.testing.assert_array_equal(found.values.reshape(values.shape), values)


def test_the_table_is_copied_once_for_its_content(corpus, monkeypatch):
    write(corpus, make_sequences(corpus))
    load()
    (first,) = spools()
    with monkeypatch.context() as patch:
        patch.setattr(sequences, "by_row_group", lambda *_: pytest.fail("read again"))
        load()
    write(corpus, make_sequences(corpus, seed=1))
    load()
    assert len(spools()) == 2
    assert first in spools()


@pytest.mark.parametrize("damage", ["cut", "gone", "index", "all"])
def test_what_is_damaged_in_the_cache_is_made_again(corpus, damage):
    found = make_sequences(corpus)
    write(corpus, found)
    load()
    (data,) = spools()
    whole, index = data.read_bytes(), data.with_suffix(".parquet")
    if damage == "cut":
        data.write_bytes(whole[:-1])
    elif damage == "index":
        index.write_bytes(index.read_bytes()[:-5])
    else:
        data.unlink()
        if damage == "all":
            index.unlink()
    load()
    assert data.read_bytes() == whole


def test_several_at_once_end_with_the_same_file(corpus):
    write(corpus, make_sequences(corpus))
    found = []
    gate = threading.Barrier(4)

    def one():
        gate.wait()
        found.append(np.array(load().frames["video"].values))

    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert all(np.array_equal(found[0], other) for other in found)
    assert not list((here().cache / "sequences").glob(".*"))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_frames_that_are_not_finite_name_file_and_utterance(corpus, value):
    found = make_sequences(corpus)
    found["tiny/d04/u3"][-1, 2] = value
    write(corpus, found)
    with pytest.raises(UserError, match=r"eyes/0\.parquet: .* tiny/d04/u3 holds NaN or infinity"):
        load()
    assert not spools()


@pytest.mark.parametrize(("changed", "sentence"), [
    ({"dim": {"tiny/d05/u1": 7}}, r"tiny/d05/u1 is 7 wide, others of this encoder 6; rerun stage"),
    ({"sequence": {"tiny/d05/u1": b"1234"}}, r"tiny/d05/u1 has 4 bytes, but \d+ frames of 6"),
    ({"sequence": {"tiny/d05/u1": None}}, r"tiny/d05/u1 should have \d+ frames but has no seq"),
], ids=["width", "bytes", "null"])  # fmt: skip
def test_sequences_that_do_not_fit_their_row_name_the_utterance(corpus, changed, sentence):
    write(corpus, make_sequences(corpus), **changed)
    with pytest.raises(UserError, match=rf"features/tiny/eyes.*{sentence}") as caught:
        load()
    assert "\n" not in str(caught.value)


def test_further_inputs_stand_beside_the_modalities(corpus):
    write(corpus, make_sequences(corpus))
    source = load(extra={"teacher": "eyes"})
    data, batch = everything(source)
    assert set(batch.present) == set(batch.features) == set(INPUTS)
    values = batch.extra["teacher"]
    is_there = batch.present["video"] & batch.mask
    assert (values[is_there] == batch.features["video"][is_there]).all()
    assert values[~is_there].isnan().all()
    assert data.batch([0]).extra["teacher"].shape == (1, 5, 5)


def test_frames_of_several_encoders_stand_side_by_side(corpus):
    found = {name: make_sequences(corpus, encoder=name) for name in ("eyes", "words")}
    for name in found["eyes"]:  # of the same times: as many frames
        found["words"][name] = (found["eyes"][name] * 2).astype("<f2")
    for name, sequences_found in found.items():
        write(corpus, sequences_found, encoder=name)
    source = Wanted({"video": ["eyes", "words"]}, {"frames"}).source(here(), CORPUS)
    assert source.frame_dims == {"video": 2 * DIM}
    assert source.present["video"].tolist() == [name in found["eyes"] for name in source.ids]
    data, batch = everything(source)
    frames = batch.frames["video"]
    for b, u in zip(*np.nonzero(batch.mask.numpy()), strict=True):
        name = source.ids[int(data.rows[batch.index[b, u]])]
        mine = frames.values[b, u][frames.mask[b, u]].numpy()
        expected = found["eyes"].get(name, np.zeros((0, DIM), "<f2")).astype(np.float32)
        np.testing.assert_array_equal(mine, np.hstack([expected, 2 * expected]))


def test_frames_of_other_times_do_not_stand_side_by_side(corpus):
    found = make_sequences(corpus)
    write(corpus, found)
    write(corpus, {name: values[:1] for name, values in found.items()}, encoder="words")
    with pytest.raises(UserError, match=r"inputs of video are eyes and words, whose frames do not"):
        Wanted({"video": ["eyes", "words"]}, {"frames"}).source(here(), CORPUS)


def test_where_one_encoder_keeps_no_frames_all_are_pooled(corpus):
    write(corpus, make_sequences(corpus))
    source = Wanted({"video": ["eyes", "words"]}, {"frames"}).source(here(), CORPUS)
    assert source.pooled_only == {"video": "words"}
    assert source.frame_dims == {"video": DIMS["eyes"] + DIMS["words"]}
