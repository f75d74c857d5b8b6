import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.layers.graph import (
    GraphAttention,
    NodeNorm,
    RelationalConv,
    masked_softmax,
    symmetric_normalise,
    window_mask,
)
from models.layers.ragged import Ragged


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


def test_chain_is_normalised_symmetrically():
    adjacency = window_mask(torch.ones(1, 4, dtype=torch.bool), 1, 1)
    assert adjacency.sum(-1)[0].tolist() == [2, 3, 3, 2]
    normalised = symmetric_normalise(adjacency)[0]
    assert normalised[0].tolist() == pytest.approx([0.5, 0.408248, 0, 0], abs=1e-6)
    assert normalised[1].tolist() == pytest.approx([0.408248, 1 / 3, 1 / 3, 0], abs=1e-6)


def test_softmax_over_nothing_is_zero_with_finite_gradient():
    scores = torch.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    weights = masked_softmax(scores, torch.tensor([[True, False], [False, False]]))
    assert weights.tolist() == [[1, 0], [0, 0]]
    (weights**2).sum().backward()
    assert scores.grad.isfinite().all()


def test_relational_convolution_takes_the_mean_per_relation():
    layer = RelationalConv(1, [(0, 0), (0, 0)])
    with torch.no_grad():
        layer.root.weight.fill_(1.0)
        layer.weight.copy_(torch.tensor([10.0, 100.0]).view(2, 1, 1))
    edges = torch.zeros(1, 2, 3, 3, dtype=torch.bool)  # [relation, target, source]
    edges[0, 0, 1, 0] = edges[0, 0, 1, 2] = edges[0, 1, 1, 1] = True
    nodes = torch.tensor([1.0, 2.0, 4.0]).view(1, 1, 3, 1)
    assert layer(nodes, edges).flatten().tolist() == [1.0, 227.0, 4.0]


def test_relations_lead_from_their_source_group_to_their_target_group():
    layer = RelationalConv(1, [(0, 1)])
    with torch.no_grad():
        layer.root.weight.zero_()
        layer.weight.fill_(1.0)
    nodes = torch.tensor([[3.0, 5.0], [7.0, 9.0]]).view(1, 2, 2, 1)
    edges = torch.eye(2, dtype=torch.bool).view(1, 1, 2, 2)
    assert layer(nodes, edges).flatten().tolist() == [0, 0, 3, 5]


def test_node_norm_takes_a_single_row_in_training():
    norm = NodeNorm(3).train()
    row = torch.tensor([[1.0, 2.0, 3.0]])
    assert torch.allclose(norm(row), row, atol=1e-4)
    assert norm.num_batches_tracked == 0
    rows = torch.randn(8, 3)
    assert torch.allclose(norm(rows), torch.nn.BatchNorm1d(3)(rows))


def test_graph_attention_toy():
    layer = GraphAttention(1, heads=1, head_width=1, dropout=0.0)
    with torch.no_grad():
        for weight in layer.parameters():
            weight.fill_(1.0)
    nodes = torch.tensor([[1.0], [-2.0]])
    window = torch.ones(1, 2, 2, dtype=torch.bool)
    alpha = layer.weights(nodes.view(1, 1, 2, 1), window)[0, 0]
    assert alpha[0].tolist() == pytest.approx([0.900250, 0.099750], abs=1e-6)
    assert alpha[1].tolist() == pytest.approx([0.645656, 0.354344], abs=1e-6)
    out = layer(nodes, [window], Ragged(torch.ones(1, 2, dtype=torch.bool))).flatten()
    expected = torch.nn.functional.elu(torch.tensor([0.700749, -0.063031]))
    assert out.tolist() == pytest.approx(expected.tolist(), abs=1e-6)
