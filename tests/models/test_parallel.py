"""Two processes train like one: the same gradients of a batch, or one sentence why not."""

import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from models import parallel
from models.errors import UserError
from models.method import Method, Spec, configure, find_method
from models.plugin import find_balanced
from models.training import Fitted, NotFinite, TrainConfig, fit, seed_everything
from tests.factories import CATEGORY, DIMS, LABELS, VAD_TARGET, ToyData

#: Uneven dialogues, missing cells; the last batch of 3 has one dialogue, fewer than processes.
TRAIN = ToyData(lengths=(5, 1, 4, 2, 6, 3, 5), seed=1, absent=0.4)
VALIDATION = ToyData(lengths=(4,) * 4, seed=2)
SGD = TrainConfig(
    epochs=2, patience=0, batch_size=3, optimizer="sgd", lr=0.05, weight_decay=0.0, clip_norm=1.0
)
#: Without random draws the weights must agree: method, options, trainer settings.
CASES = {
    "linear": ("linear", {"dropout": 0.0}, SGD),
    "late_fusion": ("late_fusion", {"dropout": 0.0}, SGD),
    "bc_lstm": ("bc_lstm", {"dropout": 0.0}, replace(SGD, batch_size=4)),
    "class weights": ("bc_lstm", {"dropout": 0.0, "class_weights": True}, SGD),
    "accumulated": ("linear", {"dropout": 0.0}, replace(SGD, accumulate=2)),
    "averaged": ("linear", {"dropout": 0.0}, replace(SGD, ema_decay=0.9)),
    "adamw": ("early_fusion", {"dropout": 0.0}, replace(SGD, optimizer="adamw", lr=1e-3)),
    "multidag_cl": ("multidag_cl", {"dropout": 0.0, "width": 8, "layers": 2, "buckets": 3}, SGD),
}


def build(name: str, target=CATEGORY, **options) -> Method:
    seed_everything(0)
    method = find_method(name)
    return method(Spec(DIMS, (target,)), configure(method.config_type, options, name))


def train(case: str, team: parallel.Team | None = None) -> Fitted:
    name, options, config = CASES[case]
    return fit(
        build(name, **options), TRAIN, VALIDATION, _last_wins(), config, seed=3, where=team or "cpu"
    )


def _last_wins():
    """A score that grows, so that the last epoch is the one chosen."""
    epochs = iter(range(1, 100))
    return lambda outputs: float(next(epochs))


def work(team: parallel.Team) -> dict[str, Fitted | UserError]:
    """Everything that needs processes, so that they start once."""
    found: dict[str, Fitted | UserError] = {case: train(case, team) for case in CASES}
    try:
        lose_finiteness(team)
    except NotFinite as error:
        found["not finite"] = error
    return found


def lose_finiteness(team: parallel.Team) -> None:
    class Broken(find_method("linear")):
        def predict(self, batch):
            found = super().predict(batch)
            # only one process meets the row that breaks it
            return {name: v / (batch.index != 0).unsqueeze(-1) for name, v in found.items()}

    method = Broken(build("linear").spec, find_method("linear").config_type())
    fit(method, TRAIN, VALIDATION, lambda _: 0.0, SGD, seed=0, where=team)


@pytest.fixture(scope="module")
def together() -> dict[str, Fitted | UserError]:
    return parallel.launch(2, work)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_two_processes_make_the_weights_of_one(together, case):
    alone = train(case)
    for name, value in alone.state.items():
        torch.testing.assert_close(together[case].state[name], value, atol=1e-5, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_the_history_of_two_processes_is_that_of_the_whole_batch(together, case):
    alone = train(case)
    for mine, theirs in zip(alone.history, together[case].history, strict=True):
        assert mine == pytest.approx(theirs, rel=1e-4, abs=1e-5)


@pytest.mark.slow
def test_one_process_whose_loss_is_not_finite_ends_all_with_one_sentence(together):
    assert "training loss became" in str(together["not finite"])


def fail(team: parallel.Team) -> None:
    raise UserError(f"process {team.rank} has no data")


@pytest.mark.slow
def test_an_error_of_the_user_comes_back_as_one():
    with pytest.raises(UserError, match="process 0 has no data"):
        parallel.launch(2, fail)


@pytest.mark.parametrize(
    ("method", "words"),
    [
        ("spcl", "whole batch .update"),
        ("ada2i", "whole batch .update"),
        ("emi", "whole batch .update"),
    ],
)
def test_a_method_that_needs_the_whole_batch_is_refused(method, words):
    with pytest.raises(UserError, match=words):
        parallel.check(object.__new__(find_method(method)), method)


def test_every_plugin_is_refused_and_its_backbone_is_not():
    for name in ("spcl", "rna", "ogm_ge", "opm", "fagm"):
        with pytest.raises(UserError, match=r"methods\.mine changes gradients"):
            parallel.check(object.__new__(find_balanced("mmgcn", name)), "mine")


def test_batch_statistics_and_unknown_losses_are_refused():
    linear = find_method("linear")

    class Normed(linear):
        def __init__(self, spec, config):
            super().__init__(spec, config)
            self.norm = torch.nn.BatchNorm1d(3)

    class Own(linear):
        def losses(self, batch):
            return {"own": torch.zeros(())}

    built = build("linear")
    with pytest.raises(UserError, match="statistics of a whole batch"):
        parallel.check(Normed(built.spec, built.config), "normed")
    with pytest.raises(UserError, match="cannot add up"):
        parallel.check(Own(built.spec, built.config), "own")


@pytest.mark.parametrize("name", ["corect", "mi_cga", "late_fusion", "bc_lstm", "dialogue_gcn"])
@pytest.mark.parametrize("target", [CATEGORY, VAD_TARGET, LABELS], ids=lambda t: t.kind)
def test_units_are_named_like_the_losses(name, target):
    if target.kind not in find_method(name).kinds:
        pytest.skip("the method does not predict it")
    data = ToyData(targets=[target], absent=0.3)
    method = build(name, target).train()
    method.prepare(data)
    batch = method.normalise(data.batch([0, 1, 2]))
    losses = method.losses(batch)
    units = method.loss_units(batch)
    assert set(losses) <= set(units)
    assert all(units[loss].ndim == 0 and units[loss] > 0 for loss in losses)


def test_one_device_does_not_import_the_library():
    code = "import sys, models.training, models.parallel; print('lightning_fabric' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
