import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from models.layers.gru import encode

LENGTHS = torch.tensor([3, 7, 1, 7, 5])


def library(gru, x, lengths):
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    return pad_packed_sequence(gru(packed)[0], batch_first=True, total_length=x.shape[1])[0]


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("layers", [1, 3])
def test_outputs_and_gradients_equal_the_library_gru(layers, both):
    torch.manual_seed(0)
    gru = nn.GRU(4, 3, layers, batch_first=True, bidirectional=both).double()
    weights = torch.randn(5, 8, 3 * (1 + both), dtype=torch.float64)
    x = torch.randn(5, 8, 4, dtype=torch.float64)
    results = []
    for run in (encode, library):
        gru.zero_grad()
        inputs = x.clone().requires_grad_()
        out = run(gru, inputs, LENGTHS)
        (out * weights).sum().backward()
        gradients = [p.grad.clone() for p in gru.parameters()]
        results.append([out.detach(), inputs.grad, *gradients])
    for ours, theirs in zip(*results, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-10)


def test_an_empty_sequence_is_zero_and_padding_is_not_read():
    gru = nn.GRU(4, 3, batch_first=True, bidirectional=True)
    x, lengths = torch.randn(2, 3, 4), torch.tensor([2, 0])
    out = encode(gru, x, lengths)
    assert (out[1] == 0).all()
    assert (out[0, 2] == 0).all()
    x[0, 2] = 9.0
    assert torch.equal(out, encode(gru, x, lengths))


def test_nothing_but_empty_sequences_is_zero_with_a_gradient():
    gru = nn.GRU(4, 3, batch_first=True)
    out = encode(gru, torch.randn(2, 3, 4), torch.zeros(2, dtype=torch.long))
    assert (out == 0).all()
    out.sum().backward()
    assert (gru.weight_hh_l0.grad == 0).all()


def test_dropout_lies_between_layers_in_training_only():
    gru = nn.GRU(4, 3, 2, batch_first=True, dropout=0.5)
    x = torch.randn(5, 8, 4)
    assert not torch.equal(encode(gru, x, LENGTHS), encode(gru, x, LENGTHS))
    gru.eval()
    assert torch.equal(encode(gru, x, LENGTHS), encode(gru, x, LENGTHS))
