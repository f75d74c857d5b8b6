import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.batches.hiding import Hidden, draw_masks, only, subsets
from tests.factories import ToyData

#: methods/mi_cga.md 1.1: rate to the chance of 3, 2 and 1 observed modalities.
TABLE = {
    0.0: (1.0, 0.0, 0.0),
    0.1: (0.7225, 0.255, 0.0225),
    0.2: (0.49, 0.42, 0.09),
    0.3: (0.3025, 0.495, 0.2025),
    0.4: (0.16, 0.48, 0.36),
    0.5: (0.0625, 0.375, 0.5625),
    0.6: (0.01, 0.18, 0.81),
    0.7: (0.0, 0.0, 1.0),
}
ROWS = 40_000


@pytest.mark.parametrize(("rate", "expected"), TABLE.items())
def test_observed_counts_follow_the_protocol(rate, expected):
    counts = np.bincount(draw_masks(ROWS, rate, seed=0).sum(1), minlength=4)
    assert counts[0] == 0
    for chance, count in zip(expected, counts[:0:-1], strict=True):
        deviation = np.sqrt(ROWS * chance * (1 - chance))
        assert abs(count - ROWS * chance) <= 4 * deviation


@pytest.mark.parametrize("rate", [0.2, 0.5, 2 / 3])
def test_every_modality_is_missing_at_the_rate(rate):
    missing = 1 - draw_masks(ROWS, rate, seed=1).mean(0)
    np.testing.assert_allclose(missing, rate, atol=4 * 0.5 / np.sqrt(ROWS))


def test_of_two_modalities_the_other_stays_with_one_minus_twice_the_rate():
    observed = draw_masks(ROWS, 0.3, seed=0, modalities=2)
    assert (observed.sum(1) == 2).mean() == pytest.approx(0.4, abs=0.01)
    assert observed.any(1).all()
    assert (draw_masks(ROWS, 0.7, seed=0, modalities=2).sum(1) == 1).all()


@settings(max_examples=50)
@given(st.integers(1, 60), st.floats(0, 1), st.integers(0, 9), st.integers(1, 3))
def test_masks_repeat_and_never_hide_all(count, rate, seed, modalities):
    first = draw_masks(count, rate, seed, modalities)
    assert first.shape == (count, modalities)
    assert first.any(1).all()
    np.testing.assert_array_equal(first, draw_masks(count, rate, seed, modalities))


def test_other_seeds_and_rates_give_other_masks():
    first = draw_masks(200, 0.4, 0)
    assert not np.array_equal(first, draw_masks(200, 0.4, 1))
    assert not np.array_equal(first, draw_masks(200, 0.5, 0))


@pytest.mark.parametrize(("names", "count"), [("a", 1), ("ab", 3), ("abc", 7)])
def test_subsets_are_all_but_the_empty_one_single_ones_first(names, count):
    found = subsets(tuple(names))
    assert len(set(found)) == len(found) == count
    assert [len(s) for s in found] == sorted(len(s) for s in found)
    assert found[-1] == tuple(names)


def test_hidden_cells_are_zero_and_those_absent_before_stay_absent():
    data = ToyData(absent=0.4)
    rows = sum(data.lengths)
    masks = draw_masks(rows, 0.4, 0)
    hidden = Hidden(data, {m: masks[:, i] for i, m in enumerate(data.dims)})
    indices = [4, 0, 3]
    plain, seen = data.batch(indices), hidden.batch(indices)
    assert torch.equal(plain.index, seen.index)
    assert len(hidden) == len(data)
    for i, name in enumerate(data.dims):
        expected = plain.present[name] & torch.from_numpy(masks[:, i])[plain.index.clamp(min=0)]
        assert torch.equal(seen.present[name], expected)
        assert (seen.features[name][~expected] == 0).all()
        assert torch.equal(seen.features[name][expected], plain.features[name][expected])


def test_only_keeps_the_named_modalities_of_every_row():
    data = ToyData()
    seen = only(data, ["text"], sum(data.lengths)).batch([0, 2])
    assert torch.equal(seen.present["text"], seen.mask)
    assert not seen.present["audio"].any()
    assert not seen.present["video"].any()


def test_an_utterance_keeps_one_of_the_modalities_that_it_has():
    present = np.tile([[True, True, True], [True, False, True], [False, True, False]], (500, 1))
    observed = draw_masks(len(present), 0.9, 0, present=present)
    assert (observed & present).any(1).all()
    assert not (observed & ~present).any()
    whole = present.all(1)
    np.testing.assert_array_equal(observed[whole], draw_masks(len(present), 0.9, 0)[whole])
