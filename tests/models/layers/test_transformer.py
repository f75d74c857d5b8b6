import pytest
import torch
from torch import nn

from models.layers.ragged import Ragged, attendable
from models.layers.transformer import DialogueTransformer, MultiHeadAttention, first_divisor

HEADS = tuple(range(7, 15))


@pytest.mark.parametrize(
    ("width", "heads"), [(768, 8), (1024, 8), (600, 8), (300, 10), (100, 10), (17, 1), (5, 1)]
)
def test_heads_are_the_first_number_that_divides_the_width(width, heads):
    assert first_divisor(width, HEADS) == heads


def test_packing_keeps_flat_order_and_unpacking_restores_the_places():
    mask = torch.tensor([[True, True, False], [True, False, False]])
    padded = torch.arange(6.0).view(2, 3, 1)
    ragged = Ragged(mask)
    assert ragged.pack(padded).flatten().tolist() == [0, 1, 3]
    assert ragged.unpack(ragged.pack(padded)).flatten().tolist() == [0, 1, 0, 3, 0, 0]


def test_groups_hold_dialogues_of_similar_length_and_lose_nothing():
    mask = torch.arange(9) < torch.tensor([[2], [9], [1], [0], [8], [3], [2]])
    padded = torch.randn(7, 9, 4)
    ragged = Ragged(mask, group_size=3)
    assert [tuple(group.mask.shape) for group in ragged.groups] == [(3, 9), (3, 2), (1, 1)]
    rows = ragged.pack(padded)
    assert torch.equal(ragged.unpack(rows), padded * mask.unsqueeze(-1))
    parts = ragged.spread(rows)
    assert torch.equal(parts[0][0], padded[1])
    assert torch.equal(ragged.collect(parts), rows)


def test_a_dialogue_without_keys_falls_back_to_its_real_utterances():
    keys = torch.tensor([[True, False, True], [False, False, True], [False, False, False]])
    mask = torch.tensor([[True, True, False], [True, True, False], [False, False, False]])
    assert attendable(keys, mask).tolist() == [
        [True, False, False],
        [True, True, False],
        [True, True, True],
    ]


def test_encoder_agrees_with_torch_own_post_norm_encoder():
    torch.manual_seed(0)
    ours = DialogueTransformer(16, (4,), layers=1, dropout=0.0, feedforward=32)
    theirs = nn.TransformerEncoderLayer(16, 4, 32, dropout=0.0, batch_first=True)
    layer = ours.layers[0]
    pairs = [
        (theirs.self_attn.in_proj_weight, layer.attention.inward.weight),
        (theirs.self_attn.in_proj_bias, layer.attention.inward.bias),
        (theirs.self_attn.out_proj.weight, layer.attention.outward.weight),
        (theirs.self_attn.out_proj.bias, layer.attention.outward.bias),
        (theirs.linear1.weight, layer.feedforward[0].weight),
        (theirs.linear1.bias, layer.feedforward[0].bias),
        (theirs.linear2.weight, layer.feedforward[3].weight),
        (theirs.linear2.bias, layer.feedforward[3].bias),
    ]
    with torch.no_grad():
        for target, source in pairs:
            source.normal_(0, 0.3)
            target.copy_(source)
    x = torch.randn(3, 6, 16)
    mask = torch.arange(6) < torch.tensor([[6], [1], [4]])
    expected = theirs(x, src_key_padding_mask=~mask)
    assert torch.allclose(ours(x, mask)[mask], expected[mask], atol=1e-5)


def test_cells_outside_the_mask_change_nothing_and_come_out_zero():
    torch.manual_seed(0)
    encoder = DialogueTransformer(12, HEADS, dropout=0.5, feedforward=24).eval()
    x = torch.randn(2, 5, 12)
    mask = torch.tensor([[True, False, True, True, False], [False] * 5])
    first = encoder(x, mask)
    second = encoder(x.masked_fill(~mask.unsqueeze(-1), 9.0), mask)
    assert torch.equal(first, second)
    assert (first[~mask] == 0).all()


def test_a_dialogue_without_keys_gives_finite_values_and_gradients():
    attention = MultiHeadAttention(4, 2)
    ragged = Ragged(torch.ones(2, 3, dtype=torch.bool))
    query = torch.randn(6, 4, requires_grad=True)
    keys = torch.tensor([[True, True, False], [False, False, False]])
    attention(query, torch.randn(6, 4), ragged, keys).sum().backward()
    assert query.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in attention.parameters())
