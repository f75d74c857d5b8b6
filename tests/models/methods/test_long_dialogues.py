"""Lengths at the edge: IEMOCAP's longest dialogue beside one of a single utterance."""

import pytest
import torch

from models.method import Spec, configure, find_method, total
from models.training import seed_everything
from tests.factories import CATEGORY, DIMS, ToyData

CONVERSATIONS = (
    "ada2i", "bc_lstm", "biddin", "corect", "dialogue_gcn", "dialogue_rnn", "mi_cga", "mm_dfn",
    "mmgcn", "multidag_cl", "spcl",
)  # fmt: skip


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_a_dialogue_of_110_turns_trains_beside_one_of_a_single_turn(name):
    # more speakers than the method was built for: those beyond share the last place
    data = ToyData(lengths=(110, 1), speakers=4, absent=0.2)
    seed_everything(0)
    kind = find_method(name)
    options = {"spcl_threshold": 60.0} if name == "spcl" else {}
    method = kind(Spec(DIMS, (CATEGORY,), 2), configure(kind.config_type, options, name))
    method.prepare(data)
    batch = method.normalise(data.batch([0, 1]))
    loss = total(method.losses(batch))
    loss.backward()
    assert torch.isfinite(loss)
    grads = [p.grad for p in method.parameters() if p.grad is not None]
    assert grads
    assert all(torch.isfinite(grad).all() for grad in grads)
    with torch.no_grad():
        output = method.eval().predict(batch.without_labels())["category"]
    assert output.shape == (2, 110, 3)
    assert torch.isfinite(output).all()
