import pytest
import torch

from models.methods.multidag_cl.dag import DagLayer, Schedule, plain
from models.methods.multidag_cl.method import dag_edges, same_speaker


@pytest.fixture
def batch():
    torch.manual_seed(0)
    mask = torch.arange(7) < torch.tensor([[4], [7], [1], [7], [5]])
    speakers = torch.randint(3, mask.shape).masked_fill(~mask, 0)
    q = torch.randn(*mask.shape, 6, dtype=torch.float64)
    return mask, q, dag_edges(speakers, mask, 2), same_speaker(speakers, mask)


def test_rows_go_step_by_step_and_come_back(batch):
    mask, q, edges, same = batch
    walk = Schedule(mask, edges, same)
    assert [count for _, count, _ in walk.steps] == [5, 4, 4, 4, 3, 2, 2]
    rows = walk.pack(q)
    assert torch.equal(rows[:5].sort(0).values, q[:, 0].sort(0).values)
    assert torch.equal(walk.unpack(rows), q * mask.unsqueeze(-1))


def test_outputs_and_gradients_equal_the_plain_recurrence(batch):
    mask, q, edges, same = batch
    layer = DagLayer(6).double()
    walk = Schedule(mask, edges, same)
    weights = torch.randn(*mask.shape, 6, dtype=torch.float64)

    def gradients(q, outputs):
        layer.zero_grad()
        loss = sum((o * weights[b, : len(o)]).sum() for b, o in enumerate(outputs))
        loss.backward()
        return [q.grad, *(p.grad.clone() for p in layer.parameters())]

    fast_q, plain_q = q.clone().requires_grad_(), q.clone().requires_grad_()
    padded = walk.unpack(layer(walk.pack(fast_q), walk))
    fast = [row[: int(n)] for row, n in zip(padded, mask.sum(1), strict=True)]
    slow = [
        plain(layer, plain_q[b, : int(n)], edges[b], same[b]) for b, n in enumerate(mask.sum(1))
    ]
    for one, other in zip(fast, slow, strict=True):
        assert torch.allclose(one, other, atol=1e-12)
    found, expected = gradients(fast_q, fast), gradients(plain_q, slow)
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, atol=1e-10)
        assert one.shape == other.shape
    assert found[0].abs().sum() > 0


def test_two_layers_chain_their_gradients(batch):
    mask, q, edges, same = batch
    first, second = DagLayer(2).double(), DagLayer(2).double()
    small = Schedule(mask[1:3, :4], edges[1:3, :4, :4], same[1:3, :4, :4])
    rows = small.pack(q[1:3, :4, :2]).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: second(first(x, small), small), (rows,))


def test_message_toy():
    # query 4, states 1 and 2 heard, of which only the first is by the same speaker
    layer = DagLayer(1)
    with torch.no_grad():
        layer.attention.weight.copy_(torch.tensor([[0.5, 1.0]]))
        layer.attention.bias.fill_(0.1)
        layer.same.weight.fill_(2.0)
        layer.other.weight.fill_(3.0)
        for cell in (layer.context, layer.person):
            for weight in cell.parameters():
                weight.zero_()
        # with all weights 0, z = 1/2 and n = 0, so a state is (M + q) / 2: here 1 and 2
    edges = torch.zeros(1, 3, 3, dtype=torch.bool)
    edges[0, 2, :2] = True
    same = torch.eye(3, dtype=torch.bool)[None]
    same[0, 2, 0] = True
    walk = Schedule(torch.ones(1, 3, dtype=torch.bool), edges, same)
    with torch.no_grad():
        states = layer(torch.tensor([[2.0], [4.0], [4.0]]), walk).flatten()
    assert states[0].item() == pytest.approx(1.0)
    alpha = torch.tensor([1.0, 2.0]).softmax(0)
    assert alpha.tolist() == pytest.approx([0.268941, 0.731059], abs=1e-6)
    assert 2 * states[2].item() - 4 == pytest.approx(4.924234, abs=1e-5)
