import torch
from hypothesis import given
from hypothesis import strategies as st

from models.layers.graph import masked_softmax, window_mask


@given(st.integers(1, 12), st.integers(-1, 5), st.integers(-1, 5))
def test_window_holds_exactly_the_utterances_within_reach(length, past, future):
    heard = window_mask(torch.ones(1, length, dtype=torch.bool), past, future)[0]
    for i in range(length):
        first = 0 if past < 0 else max(0, i - past)
        last = length - 1 if future < 0 else min(length - 1, i + future)
        assert heard[i].nonzero().flatten().tolist() == list(range(first, last + 1))


def test_window_leaves_padding_out():
    mask = torch.tensor([[True, True, False]])
    assert window_mask(mask, -1, -1)[0].sum() == 4


def test_softmax_over_nothing_is_zero_with_finite_gradient():
    scores = torch.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    weights = masked_softmax(scores, torch.tensor([[True, False], [False, False]]))
    assert weights.tolist() == [[1, 0], [0, 0]]
    (weights**2).sum().backward()
    assert scores.grad.isfinite().all()
