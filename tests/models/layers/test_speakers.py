"""Vectors of speakers, by index within the dialogue and by person."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from models.errors import UserError
from models.layers.speakers import SpeakerVectors
from models.method import Spec, configure, find_method
from tests.models.dialogues import CATEGORY, DIMS, dialogues, output

#: Methods that have such vectors, with what makes them use them.
METHODS = ("corect", "mi_cga", "mmgcn")
#: Who speaks in two dialogues; the second has two utterances.
PEOPLE = torch.tensor([[3, 1, 3], [1, -1, -1]])


def batch_of(people=None):
    batch = dialogues([3, 2], speakers=2)
    speakers = torch.tensor([[0, 1, 0], [0, 1, 0]])
    return replace(batch, speakers=speakers, people=people)


def vectors(speakers, people=4, indices=2):
    torch.manual_seed(0)
    return SpeakerVectors(Spec(DIMS, (CATEGORY,), indices, people=people), 5, speakers)


def test_by_dialogue_they_are_a_table_whose_last_row_serves_all_beyond():
    torch.manual_seed(0)
    table = nn.Embedding(2, 5)
    layer = vectors("dialogue")
    assert [name for name, _ in layer.named_parameters()] == ["weight"]
    batch = replace(batch_of(PEOPLE), speakers=torch.tensor([[0, 1, 2], [0, 7, 0]]))
    found = layer(batch)
    torch.testing.assert_close(found, table(batch.speakers.clamp(max=1)), rtol=0, atol=0)


def test_a_person_is_the_same_in_all_dialogues_and_strangers_keep_their_index():
    layer, plain = vectors("corpus"), vectors("dialogue")
    torch.testing.assert_close(layer(batch_of(PEOPLE)), plain(batch_of()))  # as it begins
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        (layer(batch_of(PEOPLE)) ** 2).sum().backward()
        optimizer.step()
    own = layer(batch_of(PEOPLE)) - layer(batch_of())
    assert torch.equal(own[0, 0], own[0, 2])
    torch.testing.assert_close(own[0, 1], own[1, 0])  # of index 1 here, of index 0 there
    assert own[0, 0].abs().min() > 0
    assert not own[1, 1:].any()
    strangers = torch.tensor([[0, 2, 9], [-1, -1, -1]])  # never met in training, beyond, unnamed
    assert torch.equal(layer(batch_of(strangers)), layer(batch_of()))


@pytest.mark.parametrize("name", METHODS)
def test_methods_hear_people_where_asked_and_take_strangers_as_published(name):
    kind = find_method(name)

    def build(**options):
        torch.manual_seed(0)
        spec = Spec(DIMS, (CATEGORY,), 2, people=4)
        return kind(spec, configure(kind.config_type, options, name))

    published, method = build(), build(speakers="corpus")
    assert torch.equal(output(published, batch_of(PEOPLE)), output(published, batch_of()))
    assert torch.equal(output(method, batch_of(PEOPLE)), output(published, batch_of()))
    with torch.no_grad():
        method.get_parameter("speaker.people").normal_()
    assert torch.equal(output(method, batch_of()), output(published, batch_of()))
    assert not torch.allclose(output(method, batch_of(PEOPLE)), output(published, batch_of()))
    with pytest.raises(UserError, match="speakers is 'world'"):
        build(speakers="world")
