"""No option of a backbone or of a plug-in is without effect: it changes something or is refused."""

from dataclasses import fields
from functools import cache

import pytest
import torch

from models.errors import UserError
from models.method import Spec, configure, find_method, total
from models.plugin import backbone_names, find_balanced, find_plugin, plugin_names
from models.stepping import scaled_updates
from tests.factories import CATEGORY, DIMS, ToyData

DATA = ToyData(lengths=(4, 2, 5, 3), absent=0.2)
#: Another value of every option; what it needs beside it follows.
OTHERS = {
    "class_weights": (True, {}),
    "focal_gamma": (1.0, {}),
    "focal_detached": (True, {"focal_gamma": 1.0}),
    "hidden": (12, {}),
    "feedforward": (8, {}),
    "layers": (3, {}),
    "dropout": (0.77, {}),
    "state_dropout": (0.77, {}),
    "has_attention": (True, {}),
    "width": (8, {}),
    "global_size": (8, {}),
    "party_size": (8, {}),
    "emotion_size": (8, {}),
    "has_batch_gate": (True, {}),
    "has_listener": (True, {}),
    "graph": (8, {}),
    "past": (1, {}),
    "future": (1, {}),
    "bases": (3, {}),
    "weights_in": ("relations", {}),
    "relation_sum": (True, {}),
    "has_nodal_attention": (True, {}),
    "unified": (12, {}),
    "alpha": (0.7, {}),
    "decay": (0.1, {}),
    "speaker_embedding": ("all", {}),
    "speakers": ("corpus", {}),
    "speaker_weights": ((0.5, 0.5, 1.5), {}),
    "rna_weight": (5.0, {}),
    "ogm_alpha": (0.8, {}),
    "ogm_start": (2, {}),
    "ogm_end": (1, {}),
    "ogm_noise": (False, {}),
    "ogm_scale": ("update", {}),
    "opm_base": (0.1, {"opm_warmup": 0, "opm_chance": 1.0}),
    "opm_growth": (2.0, {"opm_warmup": 0, "opm_chance": 1.0}),
    "opm_chance": (1.0, {"opm_warmup": 0}),
    "opm_warmup": (0, {"opm_chance": 1.0}),
    "opm_ratio": ("sum", {"opm_warmup": 0, "opm_chance": 1.0}),
    "fagm_beta": (0.9, {"backbone": "mmgcn"}),
    "fagm_gamma": (1e-3, {}),
    "fagm_every": (2, {}),
    "fagm_scale": ("update", {}),
    "fagm_erase": ("features", {"backbone": "mmgcn"}),
    "spcl_threshold": (0.2, {}),
    "spcl_first_share": (0.8, {}),
    "spcl_growth": (8.0, {}),
    "spcl_pacing": ("competence", {}),
    "spcl_pacing_epochs": (2, {"spcl_pacing": "cosine", "spcl_cap": 0.5}),
    "spcl_cap": (1e-3, {}),
    "spcl_difficulty": ("utterance", {}),
    "spcl_score": ("mean", {}),
    "spcl_norm": ("all", {}),
    "spcl_weighting": ("linear", {}),
}
FORMS = [
    pytest.param(name, form, item.name, id=f"{name}-{form}-{item.name}")
    for name in backbone_names()
    for form in find_method(name).variants
    for item in fields(find_method(name).config_type)
    if item.name != "variant"
]
PLUGGED = [
    pytest.param(name, item.name, id=item.name)
    for name in plugin_names()
    for item in fields(find_plugin(name).config_type)
]


def build(kind, **options):
    torch.manual_seed(0)
    method = kind(Spec(DIMS, (CATEGORY,), 2), configure(kind.config_type, options, "methods.test"))
    method.prepare(DATA)
    return method.train()


@cache
def usual(name, form, *beside):
    return gradients(build(find_method(name), variant=form, **dict(beside)))


def gradients(method):
    """Loss and gradients of a step, shapes of the weights."""
    torch.manual_seed(1)
    loss = total(method.losses(method.normalise(DATA.batch(range(4)))))
    loss.backward()
    told = [(name, tuple(w.shape), float(w.grad.sum())) for name, w in method.named_parameters()]
    return float(loss.detach()), told


@pytest.mark.slow
@pytest.mark.parametrize(("name", "form", "option"), FORMS)
def test_an_option_of_a_backbone_does_something_or_is_refused(name, form, option):
    kind = find_method(name)
    value, beside = OTHERS[option]
    if option == "weights_in" and form == "original":
        value = "graphconv"
    try:
        changed = build(kind, variant=form, **beside, **{option: value})
    except UserError as error:
        assert option in str(error)  # noqa: PT017
        return
    assert gradients(changed) != usual(name, form, *beside.items())


class Descent:
    """A stepper of plain momentum, with which factors on gradients and on updates differ."""

    is_last_part, epoch = True, 0

    def __init__(self, method):
        self.optimizer = torch.optim.SGD(method.parameters(), 0.05, momentum=0.9)

    def backward(self, loss):
        self.optimizer.zero_grad()
        loss.backward()

    def clip(self):
        return 0.0

    def step(self, slowed=None):
        with scaled_updates(slowed or {}):
            self.optimizer.step()


def trained(plugin, backbone="bc_lstm", **options):
    """Weights after four epochs of one batch."""
    method = build(find_balanced(backbone, plugin), **options)
    batch = method.normalise(DATA.batch(range(4)))
    stepper = Descent(method)
    for epoch in range(1, 5):
        torch.manual_seed(epoch)
        method.on_epoch(epoch, DATA)
        method.update(batch, stepper)
    return torch.cat([weight.detach().flatten() for weight in method.parameters()])


@pytest.mark.slow
@pytest.mark.parametrize(("plugin", "option"), PLUGGED)
def test_an_option_of_a_plugin_does_something(plugin, option):
    value, beside = OTHERS[option]
    assert not torch.equal(trained(plugin, **beside), trained(plugin, **beside, **{option: value}))
