import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.methods.mi_cga.missing import cell_errors, masked_mean, sample_observed


def draw(rate, present=None, rows=40_000, modalities=3, seed=0):
    present = torch.ones(rows, modalities, dtype=torch.bool) if present is None else present
    return sample_observed(present, rate, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("rate", "shares"),
    [
        (0.0, (1, 0, 0)),
        (0.1, (0.7225, 0.255, 0.0225)),
        (0.2, (0.49, 0.42, 0.09)),
        (0.3, (0.3025, 0.495, 0.2025)),
        (0.4, (0.16, 0.48, 0.36)),
        (0.5, (0.0625, 0.375, 0.5625)),
        (0.6, (0.01, 0.18, 0.81)),
        (0.7, (0, 0, 1)),
    ],
)
def test_three_modalities_follow_the_protocol(rate, shares):
    observed = draw(rate)
    counts = observed.sum(1)
    for number, share in zip((3, 2, 1), shares, strict=True):
        assert (counts == number).float().mean().item() == pytest.approx(share, abs=0.01)
    assert (~observed).float().mean().item() == pytest.approx(min(rate, 2 / 3), abs=0.01)
    kept = (1 + 2 * max(0, 1 - 1.5 * rate)) / 3
    assert observed.float().mean(0).tolist() == pytest.approx([kept] * 3, abs=0.01)


def test_at_high_rates_exactly_one_stays():
    assert (draw(0.7).sum(1) == 1).all()
    assert (draw(1.0).sum(1) == 1).all()
    assert draw(0.0).all()


def test_two_modalities_reach_at_most_half():
    assert (~draw(0.3, modalities=2)).float().mean().item() == pytest.approx(0.3, abs=0.01)
    assert (draw(0.5, modalities=2).sum(1) == 1).all()


@given(st.floats(0, 1), st.integers(0, 1000))
def test_only_present_cells_are_observed_and_one_of_them_always(rate, seed):
    present = torch.rand(50, 3, generator=torch.Generator().manual_seed(seed)) < 0.5
    observed = draw(rate, present, seed=seed)
    assert not (observed & ~present).any()
    assert torch.equal(observed.any(1), present.any(1))
    assert torch.equal(observed[present.sum(1) == 1], present[present.sum(1) == 1])


def test_one_seed_gives_one_mask():
    assert torch.equal(draw(0.4, rows=100), draw(0.4, rows=100))
    assert not torch.equal(draw(0.4, rows=100), draw(0.4, rows=100, seed=1))


def test_squared_error_at_hidden_cells():
    truth = torch.tensor([[[1.0, 2.0]], [[5.0, 5.0]]])
    errors = cell_errors("mse", torch.zeros_like(truth), truth)
    hidden = torch.tensor([[True], [False]])
    assert masked_mean(errors, hidden).item() == pytest.approx(2.5)
    assert masked_mean(errors, hidden, "valid").item() == pytest.approx(1.25)
    assert masked_mean(errors, torch.zeros_like(hidden)).item() == 0


def test_divergence_of_softmaxes():
    truth = torch.tensor([1.0, 2.0])
    assert cell_errors("kl", torch.zeros(2), truth).item() == pytest.approx(0.110944, abs=1e-6)
    assert cell_errors("kl", truth + 3, truth).item() == pytest.approx(0, abs=1e-6)
