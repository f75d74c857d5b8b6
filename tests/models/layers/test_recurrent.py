import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from models.layers.recurrent import BiLstm

LENGTHS = torch.tensor([3, 7, 1, 7, 5])


def library(layer: BiLstm, x, lengths):
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    return pad_packed_sequence(layer.lstm(packed)[0], batch_first=True, total_length=x.shape[1])[0]


@pytest.mark.parametrize("layers", [1, 2])
def test_outputs_and_gradients_equal_the_library_lstm(layers):
    torch.manual_seed(0)
    layer = BiLstm(4, 6, layers).double()
    weights = torch.randn(5, 8, 6, dtype=torch.float64)
    x = torch.randn(5, 8, 4, dtype=torch.float64)
    results = []
    for run in (layer, lambda x, lengths: library(layer, x, lengths)):
        layer.zero_grad()
        inputs = x.clone().requires_grad_()
        out = run(inputs, LENGTHS)
        (out * weights).sum().backward()
        gradients = [p.grad.clone() for p in layer.parameters()]
        results.append([out.detach(), inputs.grad, *gradients])
    for ours, theirs in zip(*results, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-10)


def test_an_empty_dialogue_is_zero_and_padding_is_not_read():
    layer = BiLstm(4, 6)
    x = torch.randn(2, 3, 4)
    lengths = torch.tensor([2, 0])
    out = layer(x, lengths)
    assert (out[1] == 0).all()
    assert (out[0, 2] == 0).all()
    x[0, 2] = 9.0
    assert torch.equal(out, layer(x, lengths))


def test_dropout_lies_between_layers_in_training_only():
    layer = BiLstm(4, 6, layers=2, dropout=0.5)
    x = torch.randn(5, 8, 4)
    assert not torch.equal(layer(x, LENGTHS), layer(x, LENGTHS))
    layer.eval()
    assert torch.equal(layer(x, LENGTHS), layer(x, LENGTHS))


@pytest.mark.parametrize("layers", [1, 2])
def test_encoding_twice_equals_two_calls_with_gradient_of_the_first_only(layers):
    torch.manual_seed(0)
    layer = BiLstm(4, 6, layers).double()
    x = torch.randn(5, 8, 4, dtype=torch.float64)
    seen, complete = torch.rand(2, 5, 8) < torch.tensor([0.4, 0.9]).view(2, 1, 1)
    first, second = layer.twice(x, LENGTHS, seen, complete)
    assert not second.requires_grad
    (first**3).sum().backward()
    gradients = [p.grad.clone() for p in layer.parameters()]
    layer.zero_grad()
    expected = layer(x.masked_fill(~seen.unsqueeze(-1), 0.0), LENGTHS)
    (expected**3).sum().backward()
    assert torch.allclose(first, expected, atol=1e-10)
    whole = layer(x.masked_fill(~complete.unsqueeze(-1), 0.0), LENGTHS)
    assert torch.allclose(second, whole, atol=1e-10)
    for found, parameter in zip(gradients, layer.parameters(), strict=True):
        assert torch.allclose(found, parameter.grad, atol=1e-10)
