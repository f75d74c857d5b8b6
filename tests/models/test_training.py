import copy
import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from models import schedules
from models.averaging import Average
from models.batch import Batch
from models.errors import UserError
from models.method import (
    Method,
    Spec,
    certainty,
    configure,
    find_method,
    known_weight,
    target_loss,
)
from models.stepping import make_optimizer
from models.training import Hooks, NotFinite, TrainConfig, fit, is_half, predict, seed_everything
from tests.factories import CATEGORY, DIMS, VAD_TARGET, ToyData
from tests.models.methods.test_conformance import accuracy

TRAIN, VALIDATION = ToyData(lengths=(5,) * 10, seed=1), ToyData(lengths=(4,) * 6, seed=2)
CONFIG = TrainConfig(epochs=6, patience=0, batch_size=3, lr=1e-2)


def build(name, **options):
    seed_everything(0)
    method = find_method(name)
    return method(Spec(DIMS, (CATEGORY,)), configure(method.config_type, options, name))


def train(config=CONFIG, name="early_fusion", **more):
    return fit(build(name), TRAIN, VALIDATION, accuracy(VALIDATION), config, seed=5, **more)


@pytest.mark.parametrize("options", [
    {},
    {"scheduler": "cosine"},
    {"scheduler": "plateau", "plateau_patience": 0},
    {"scheduler": "plateau", "plateau_patience": 0, "plateau_on": "loss"},
    {"scheduler": "step", "step_every": 7},
    {"ema_decay": 0.9},
    {"accumulate": 2},
    {"modality_dropout": 0.3},
], ids=str)  # fmt: skip
@pytest.mark.parametrize("stop_at", [1, 4])
def test_resuming_after_a_kill_gives_the_same_bits(stop_at, options):
    config = replace(CONFIG, **options)
    states = []
    whole = train(config, hooks=Hooks(save=lambda state: states.append(copy.deepcopy(state()))))
    resumed = train(config, resume=states[stop_at - 1])
    assert resumed.history == whole.history
    assert resumed.chosen_epoch == whole.chosen_epoch
    for name, value in whole.state.items():
        assert torch.equal(resumed.state[name], value), name


def test_the_chosen_epoch_has_the_best_validation_score():
    fitted = train()
    scores = [record["score"] for record in fitted.history]
    assert fitted.score == max(scores)
    assert fitted.chosen_epoch == 1 + scores.index(max(scores))


def test_the_returned_weights_are_those_of_the_chosen_epoch():
    kept = {}
    fitted = train(hooks=Hooks(keep=lambda epoch, state: kept.update({epoch: state})))
    for name, value in fitted.state.items():
        assert torch.equal(kept[fitted.chosen_epoch][name], value)


def test_patience_stops_training():
    scores = iter([0.5, 0.4, 0.3, 0.2, 0.1, 0.0])
    config = replace(CONFIG, patience=2)
    fitted = fit(build("linear"), TRAIN, VALIDATION, lambda _: next(scores), config, seed=0)
    assert fitted.stopped_early
    assert len(fitted.history) == 3
    assert fitted.chosen_epoch == 1


def test_patience_begins_when_all_data_are_in():
    class Growing(find_method("linear")):
        def on_epoch(self, epoch, train):
            return range(min(epoch, 4))

        def whole_from(self, train):
            return 4

    seed_everything(0)
    method = Growing(Spec(DIMS, (CATEGORY,)), find_method("linear").config_type())
    scores = iter([0.5, 0.4, 0.3, 0.2, 0.1, 0.0, 0.0])
    config = replace(CONFIG, patience=2, epochs=7)
    fitted = fit(method, TRAIN, VALIDATION, lambda _: next(scores), config, seed=0)
    assert fitted.stopped_early
    assert len(fitted.history) == 5  # epochs 4 and 5 saw all data
    assert fitted.chosen_epoch == 1


@pytest.mark.parametrize(("name", "options", "epoch"), [
    ("multidag_cl", {"buckets": 5}, 5),
    ("multidag_cl", {"curriculum": False}, 1),
    ("spcl", {"spcl_threshold": 2.0, "spcl_cap": 8.0, "spcl_growth": 2.0}, 3),
    ("spcl", {"spcl_threshold": 2.0, "spcl_pacing": "cosine", "spcl_pacing_epochs": 6}, 7),
    ("early_fusion", {}, 1),
], ids=str)  # fmt: skip
def test_a_method_tells_from_when_on_it_sees_all_data(name, options, epoch):
    assert build(name, **options).whole_from(TRAIN) == epoch


def test_votes_are_learnt_as_they_are_shared():
    batch = TRAIN.batch([0, 1])
    output = torch.randn(*batch.mask.shape, 3, requires_grad=True)
    shares = torch.full_like(output.detach(), math.nan)
    shares[0, 0] = torch.tensor([0.5, 0.3, 0.2])
    soft = replace(batch, soft={"category": shares})
    log_p = output.log_softmax(-1)
    each = -log_p.gather(-1, batch.targets["category"].clamp(min=0).unsqueeze(-1)).squeeze(-1)
    each = torch.where(shares.isnan().any(-1), each, -(shares.nan_to_num() * log_p).sum(-1))
    expected = each[batch.mask].mean()
    torch.testing.assert_close(target_loss(CATEGORY, output, soft), expected)
    assert target_loss(CATEGORY, output, batch) != expected
    assert soft.without_labels().soft is None


def test_errors_count_less_where_raters_differ():
    data = ToyData(targets=(VAD_TARGET,))
    batch = data.batch([0, 1])
    output = torch.zeros(*batch.mask.shape, 3)
    std = torch.zeros_like(output)
    std[0, 0, 0] = 0.5  # a quarter of the range
    soft = replace(batch, soft={"vad": std})
    errors = batch.targets["vad"][batch.mask] ** 2
    weights = torch.ones_like(errors)
    weights[0, 0] = 0.5
    expected = (weights * errors).sum() / weights.sum()
    torch.testing.assert_close(target_loss(VAD_TARGET, output, soft), expected)
    assert known_weight(VAD_TARGET, soft) == weights.sum()
    assert certainty(VAD_TARGET, torch.tensor([math.nan, 0.0, 0.5])).tolist() == [
        pytest.approx(1 / (1 + 0.25)), 1.0, 0.5,
    ]  # fmt: skip


def test_a_plateau_may_follow_the_validation_loss():
    def rates(**more):
        config = replace(CONFIG, epochs=5, scheduler="plateau", plateau_patience=0, **more)
        scores = iter([0.5, 0.4, 0.3, 0.2, 0.1])
        return fit(build("linear"), TRAIN, VALIDATION, lambda _: next(scores), config, seed=0)

    falling, steady = rates(), rates(plateau_on="loss")
    losses = [record["validation_loss"] for record in steady.history]
    assert losses == sorted(losses, reverse=True)  # so the rate stays, though scores fall
    assert [record["lr"] for record in steady.history] == [CONFIG.lr] * 5
    assert falling.history[-1]["lr"] == pytest.approx(1e-3 * CONFIG.lr)
    assert "validation_loss" not in falling.history[0]


def test_statistics_of_batch_normalisation_are_averaged_with_the_weights():
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    average = Average(module, TrainConfig(ema_decay=0.5, ema_warmup=False))
    expected = module[1].running_mean.clone()
    for _ in range(3):
        module(torch.randn(8, 3) + 5)
        average.update()
        expected = 0.5 * expected + 0.5 * module[1].running_mean
    last = module[1].running_mean.clone()
    with average:
        torch.testing.assert_close(module[1].running_mean, expected)
    assert torch.equal(module[1].running_mean, last)
    assert set(average.state()["shadow"]) == {
        "0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var",
    }  # fmt: skip


def test_a_score_that_is_not_finite_is_an_error():
    with pytest.raises(NotFinite, match="validation score of epoch 1 is nan"):
        fit(build("linear"), TRAIN, VALIDATION, lambda _: math.nan, CONFIG, seed=0)


def test_a_loss_that_is_not_finite_is_an_error():
    class Broken(find_method("linear")):
        def losses(self, batch: Batch):
            return {"category": super().losses(batch)["category"] * math.inf}

    seed_everything(0)
    method = Broken(Spec(DIMS, (CATEGORY,)), find_method("linear").config_type())
    with pytest.raises(NotFinite, match="training loss became"):
        fit(method, TRAIN, VALIDATION, accuracy(VALIDATION), CONFIG, seed=0)


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_outputs_that_are_not_finite_are_an_error_and_no_class(broken):
    class Diverged(find_method("linear")):
        def predict(self, batch: Batch):
            output = super().predict(batch)["category"]
            if not self.training:
                output[0, 0] = output[0, 0] * 0 + broken
            return {"category": output}

    seed_everything(0)
    method = Diverged(Spec(DIMS, (CATEGORY,)), find_method("linear").config_type())
    with pytest.raises(NotFinite, match=r"outputs for category are not finite in 1 of"):
        predict(method, ToyData(lengths=(4, 3)))
    with pytest.raises(NotFinite, match=r"outputs for category .* lower lr"):
        fit(method, TRAIN, VALIDATION, accuracy(VALIDATION), CONFIG, seed=0)


def test_an_empty_split_is_named():
    with pytest.raises(UserError, match="no labelled validation data"):
        fit(build("linear"), TRAIN, ToyData(lengths=()), lambda _: 0.0, CONFIG, seed=0)


def test_gradients_of_accumulated_batches_equal_those_of_one_large_batch():
    data = ToyData(lengths=(4,) * 6)

    def weights(batch_size: int, accumulate: int):
        config = TrainConfig(
            epochs=1, batch_size=batch_size, accumulate=accumulate, optimizer="sgd",
            lr=0.1, weight_decay=0.0, clip_norm=0.0,
        )  # fmt: skip
        method = build("linear", dropout=0.0)
        return fit(method, data, data, lambda _: 0.0, config, seed=0).state

    whole, parts = weights(6, 1), weights(2, 3)
    for name in whole:
        torch.testing.assert_close(whole[name], parts[name])


def test_cosine_schedule_warms_up_and_ends_at_one_percent():
    config = replace(CONFIG, scheduler="cosine", epochs=20, warmup=0.25)
    rates = [record["lr"] for record in train(config).history]
    assert rates[0] < rates[3]
    assert max(rates) <= config.lr
    assert rates[-1] == pytest.approx(0.01 * config.lr, rel=0.2)


@pytest.mark.parametrize("options", [{}, {"drop_last": True}], ids=str)
def test_the_cosine_ends_with_the_training_however_few_items_an_epoch_takes(options, monkeypatch):
    method = build("early_fusion")
    monkeypatch.setattr(method, "on_epoch", lambda epoch, train: [0, 1, 2, 3])
    config = replace(CONFIG, scheduler="cosine", **options)
    fitted = fit(method, TRAIN, VALIDATION, accuracy(VALIDATION), config, seed=5)
    assert fitted.history[-1]["lr"] == pytest.approx(0.01 * config.lr)


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("chosen", [None, [7, 1, 4, 1, 0, 9, 3], [2]], ids=str)
def test_an_epoch_shows_each_chosen_item_once_in_batches(chosen, drop_last, monkeypatch):
    data, seen = ToyData(lengths=(1,) * 10), []
    batches = data.batches

    def noted(groups, key=None):
        if key is not None:
            seen.append([list(group) for group in groups])
        return batches(groups, key)

    monkeypatch.setattr(data, "batches", noted)
    method = build("early_fusion")
    monkeypatch.setattr(method, "on_epoch", lambda epoch, train: chosen)
    config = replace(CONFIG, epochs=2, batch_size=3, drop_last=drop_last)
    fit(method, data, VALIDATION, accuracy(VALIDATION), config, seed=5)
    wanted = sorted(range(10) if chosen is None else chosen)
    for groups in seen:
        shown = [item for group in groups for item in group]
        sizes = [len(group) for group in groups]
        if drop_last and len(wanted) > 3:
            assert sizes == [3] * (len(wanted) // 3)
            assert not Counter(shown) - Counter(wanted)
        else:
            assert sizes == [3] * (len(wanted) // 3) + [len(wanted) % 3] * (len(wanted) % 3 > 0)
            assert sorted(shown) == wanted
    assert len(seen) == 2
    assert len(wanted) < 3 or seen[0] != seen[1]


def test_step_schedule_lowers_the_rate_every_so_many_steps():
    config = replace(CONFIG, scheduler="step", step_every=6, step_factor=0.5, accumulate=2)
    rates = [record["lr"] for record in train(config).history]  # 4 batches make 2 steps an epoch
    assert rates == pytest.approx([0.01, 0.01, 0.005, 0.005, 0.005, 0.0025])


def test_step_schedule_may_count_epochs_and_begin_late():
    stairs = {"step_unit": "epochs", "step_from": 2, "step_every": 2, "step_factor": 0.5}
    rates = [record["lr"] for record in train(replace(CONFIG, scheduler="step", **stairs)).history]
    assert rates == pytest.approx([0.01, 0.01, 0.01, 0.01, 0.005, 0.005])
    found = [schedules.staircase(1.0, done, 80, 5, 0.9) for done in (0, 80, 84, 85, 89, 90)]
    assert found == pytest.approx([1, 1, 1, 0.9, 0.9, 0.81])  # as Huo and Ge's code


def test_the_cosine_of_cages_code_returns_to_its_peak():
    steps = [0, 1280, 2560, 3840, 5120]
    found = [schedules.returning_cosine(4e-5, step, 2560) for step in steps]
    np.testing.assert_allclose(found, [4e-5, 2e-5, 0, 2e-5, 4e-5], atol=1e-18)
    # 4 steps an epoch against 3 dialogues times 6 epochs
    config = replace(CONFIG, scheduler="cosine", t_max="code")
    rates = [record["lr"] for record in train(config).history]
    expected = [0.5 * 0.01 * (1 + math.cos(math.pi * step / 18)) for step in range(4, 28, 4)]
    assert rates == pytest.approx(expected)
    assert rates[4] < min(rates[3], rates[5])


def test_plateau_lowers_the_rate_when_the_score_stays():
    config = replace(CONFIG, scheduler="plateau", plateau_patience=1, plateau_factor=0.5)
    fitted = fit(build("linear"), TRAIN, VALIDATION, lambda _: 0.0, config, seed=0)
    rates = [record["lr"] for record in fitted.history]
    assert rates == pytest.approx([0.01, 0.01, 0.01, 0.005, 0.005, 0.0025])


class Watched(find_method("linear")):
    """Notes what each step finds."""

    def __init__(self, *args):
        super().__init__(*args)
        self.norms, self.epochs = [], []

    def after_clip(self, batch, epoch):
        squares = [p.grad.square().sum() for p in self.parameters() if p.grad is not None]
        self.norms.append(float(torch.stack(squares).sum().sqrt()))
        self.epochs.append(epoch)


def watched() -> Watched:
    seed_everything(0)
    return Watched(Spec(DIMS, (CATEGORY,)), find_method("linear").config_type())


def norms(**options) -> list[float]:
    method = watched()
    fit(method, TRAIN, VALIDATION, lambda _: 0.0, replace(CONFIG, epochs=2, **options), seed=0)
    return method.norms


def test_gradients_are_clipped_to_the_norm_and_no_further():
    free = norms(clip_norm=0.0)
    assert max(free) > 0.2
    clipped = norms(clip_norm=0.1)
    assert max(clipped) == pytest.approx(0.1, rel=1e-3)
    assert norms(clip_norm=1e6)[0] == free[0]


def test_a_last_incomplete_group_of_accumulated_batches_is_clipped_and_steps():
    # 10 dialogues by 3 are 4 batches, by 3 a step: two steps an epoch
    found = norms(accumulate=3, clip_norm=1e-3)
    assert len(found) == 4
    assert found == pytest.approx([1e-3] * 4, rel=1e-3)


@pytest.mark.parametrize("warms_up", [True, False])
def test_averaged_weights_follow_the_rule(warms_up):
    method = watched()
    weights = [method.heads["category"].bias.detach().clone()]
    config = replace(CONFIG, epochs=4, batch_size=10, ema_decay=0.9, ema_warmup=warms_up)
    # one step an epoch; the state saved after it holds the weights that are averaged
    fitted = fit(
        method, TRAIN, VALIDATION, iter_score(), config, seed=0,
        hooks=Hooks(save=lambda state: weights.append(state()["method"]["heads.category.bias"])),
    )  # fmt: skip
    weights.append(last_weights(config))
    expected = weights[0]
    for t, now in enumerate(weights[1:], start=1):
        decay = min(0.9, (1 + t) / (10 + t)) if warms_up else 0.9
        expected = decay * expected + (1 - decay) * now
    torch.testing.assert_close(fitted.state["heads.category.bias"], expected)


def iter_score():
    """A score that grows, so that the last epoch is chosen."""
    values = iter(range(100))
    return lambda outputs: float(next(values))


def last_weights(config):
    """Plain weights after the last epoch: averaging does not touch training."""
    config = replace(config, ema_decay=0.0)
    state = fit(watched(), TRAIN, VALIDATION, iter_score(), config, seed=0).state
    return state["heads.category.bias"]


def test_bfloat16_runs_forward_passes_in_it_and_keeps_weights_in_float32():
    seen = []

    class Looking(find_method("linear")):
        def losses(self, batch):
            outputs = self.predict(batch)
            seen.append(outputs["category"].dtype)
            return super().losses(batch)

    seed_everything(0)
    method = Looking(Spec(DIMS, (CATEGORY,)), find_method("linear").config_type())
    score = accuracy(VALIDATION)
    fitted = fit(method, TRAIN, VALIDATION, score, replace(CONFIG, precision="bfloat16"), seed=5)
    assert set(seen) == {torch.bfloat16}
    assert {value.dtype for value in fitted.state.values()} == {torch.float32}
    assert fitted.score == pytest.approx(train(name="linear").score, abs=0.15)


@pytest.mark.parametrize(("precision", "kinds"), [
    ("float32", []), ("bfloat16", ["cpu", "cuda"]), ("auto", ["cuda"]),
])  # fmt: skip
def test_automatic_precision_is_half_on_a_gpu_alone(precision, kinds):
    assert [kind for kind in ("cpu", "cuda") if is_half(precision, kind)] == kinds


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd"])
def test_vectors_are_decayed_only_where_it_is_asked_for(optimizer):
    method = build("linear")
    for decays in (False, True):
        config = replace(CONFIG, optimizer=optimizer, weight_decay=0.3, decay_vectors=decays)
        groups = make_optimizer(config, list(method.parameters())).param_groups
        decay = {p.ndim: group["weight_decay"] for group in groups for p in group["params"]}
        assert decay == {2: 0.3, 1: 0.3 if decays else 0.0}


def test_averaged_weights_differ_from_the_last_ones_and_are_the_ones_kept():
    plain, averaged = train(), train(replace(CONFIG, ema_decay=0.99))
    assert any(not torch.equal(plain.state[n], averaged.state[n]) for n in plain.state)


@pytest.mark.parametrize("data", [TRAIN, ToyData(lengths=(1, 2) * 300)], ids=len)
def test_predictions_stand_in_the_order_of_rows_whatever_the_batches(data):
    method = build("early_fusion")
    method.prepare(data)
    one, many = predict(method, data, 1), predict(method, data, 1000)
    torch.testing.assert_close(one["category"], many["category"], atol=1e-5, rtol=1e-4)


def test_normalising_uses_present_cells_only():
    data = ToyData(lengths=(50,), absent=0.5)
    method = build("linear")
    method.prepare(data)
    batch = method.normalise(data.batch([0]))
    for name, values in batch.features.items():
        rows = values[batch.present[name]]
        torch.testing.assert_close(rows.mean(0), torch.zeros(rows.shape[1]), atol=1e-4, rtol=0)
        assert not values[~batch.present[name]].any()


def test_a_misspelt_option_names_the_nearest():
    with pytest.raises(UserError, match="early has no option 'hiden'; did you mean 'hidden'"):
        configure(find_method("early_fusion").config_type, {"hiden": 3}, "early")


@pytest.mark.parametrize("value", ["64", 1.5, True])
def test_an_option_of_the_wrong_type_is_an_error(value):
    with pytest.raises(UserError, match=r"early\.hidden is .* expected a int"):
        configure(find_method("early_fusion").config_type, {"hidden": value}, "early")


def test_the_base_method_says_that_it_cannot_predict():
    method = Method(Spec(DIMS, (CATEGORY,)), None)
    with pytest.raises(TypeError, match="no predict"):
        method.predict(TRAIN.batch([0]))
