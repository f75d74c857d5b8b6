import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.errors import UserError
from models.method import Spec, configure, find_method
from models.plugins.spcl import Config, harmonic, imbalance, threshold_at, weighting
from models.training import Hooks, TrainConfig, fit
from tests.factories import CATEGORY, DIMS, VAD_TARGET, ToyData

ALL = torch.ones(3, 2, 2, dtype=torch.bool)
#: Probabilities of the truth of two dialogues, of two utterances and one.
BELIEFS = torch.tensor(
    [[[0.9, 0.7], [0.5, 0.0]], [[0.4, 0.2], [0.5, 0.0]], [[0.2, 0.3], [0.2, 0.0]]]
)
SEEN = torch.tensor([[True, True], [True, False]]).expand(3, 2, 2)
COUNTS = torch.tensor([2, 1])


def build(backbone="bc_lstm", dims=DIMS, targets=(CATEGORY,), **options):
    torch.manual_seed(0)
    method = find_method("spcl")
    config = configure(method.config_type, {"backbone": backbone, **options}, "methods.spcl")
    return method(Spec(dims, targets, 2), config)


def test_imbalance_is_the_unbiased_deviation_of_summed_beliefs():
    found = imbalance(BELIEFS, SEEN, COUNTS)
    assert found.tolist() == pytest.approx([0.608276, 0.173205], abs=1e-6)


def test_imbalance_of_two_modalities():
    found = imbalance(torch.tensor([[[1.6]], [[0.6]]]), ALL[:2, :1, :1], torch.tensor([1]))
    assert found.item() == pytest.approx(0.707107, abs=1e-6)


def test_mean_scores_do_not_grow_with_the_dialogue():
    short = imbalance(BELIEFS[:, :1], SEEN[:, :1], COUNTS[:1], is_mean=True)
    longer = BELIEFS[:, :1].repeat(1, 1, 3)
    seen = torch.ones_like(longer, dtype=torch.bool)
    assert imbalance(longer, seen, torch.tensor([6]), is_mean=True).item() == pytest.approx(
        short.item()
    )


def test_a_modality_missing_from_part_of_a_dialogue_is_scored_on_the_rest():
    beliefs = torch.tensor([[[0.8, 0.0]], [[0.4, 0.4]]])
    seen = torch.tensor([[[True, False]], [[True, True]]])
    # 0.8 counts for both utterances: |1.6 - 0.8| / sqrt 2
    assert imbalance(beliefs, seen, torch.tensor([2])).item() == pytest.approx(0.8 / math.sqrt(2))


def test_a_dialogue_with_one_modality_has_no_imbalance():
    seen = torch.tensor([[[True]], [[False]]])
    assert imbalance(torch.full((2, 1, 1), 0.5), seen, torch.tensor([1])).isnan().all()


LOSS = torch.tensor([0.5, 2.0, 1.0])
DIFFICULTY = torch.tensor([0.548849, 0.932840, 0.295268])


def test_difficulty_is_the_harmonic_mean():
    spread = torch.tensor([0.608276, 0.608276, 0.173205])
    assert harmonic(spread, LOSS).tolist() == pytest.approx(DIFFICULTY.tolist(), abs=1e-6)
    assert harmonic(torch.zeros(1), torch.zeros(1)).item() == 0


@pytest.mark.parametrize(
    ("threshold", "chosen", "selected", "everything"),
    [
        (0.5, [0, 0, 1], 1.0, 0.333333),
        (0.75, [1, 0, 1], 0.75, 0.5),
        (1.0, [1, 1, 1], 1.166667, 1.166667),
        (0.2, [0, 0, 0], None, 0.0),
    ],
)
def test_selection_and_both_norms(threshold, chosen, selected, everything):
    found = weighting(DIFFICULTY, torch.tensor(threshold), "hard")
    assert found.tolist() == chosen
    assert float((found * LOSS).mean()) == pytest.approx(everything, abs=1e-6)
    if selected is not None:
        assert float((found * LOSS).sum() / found.sum()) == pytest.approx(selected, abs=1e-6)


def test_one_utterance_from_logits():
    data = ToyData(lengths=(1,))
    batch = data.batch([0])
    batch.targets["category"][0, 0] = 0
    method = build()
    votes = {
        "text": torch.tensor([[[1.0, 0.0, 0.0]]]),
        "audio": torch.tensor([[[0.0, 1.0, 0.0]]]),
        "video": torch.tensor([[[0.5, 0.0, 0.0]]]),
    }
    inner = method.inner
    found, is_known = inner.plugin.difficulty(inner, votes, batch)
    assert is_known.all()
    assert found.item() == pytest.approx(2 * 0.185124 * 0.604131 / (0.185124 + 0.604131), abs=1e-5)


def test_threshold_grows_to_the_cap():
    config = Config(spcl_growth=1.25)
    found = [threshold_at(epoch, 0.4, config) for epoch in (1, 2, 6, 11)]
    assert found == pytest.approx([0.4, 0.5, 1.220703, 3.725290], abs=1e-6)


@pytest.mark.parametrize(
    ("first", "growth", "updates"), [(0.4, 1.25, 23), (0.7, 1.85, 8), (0.2, 1.6, 13)]
)
def test_updates_until_the_cap(first, growth, updates):
    config = Config(spcl_growth=growth)
    assert threshold_at(updates, first, config) < 60
    assert threshold_at(updates + 1, first, config) == 60
    assert threshold_at(100_000, first, config) == 60


@pytest.mark.parametrize("pacing", ["cosine", "competence"])
def test_other_pacings_rise_from_first_to_cap(pacing):
    config = Config(spcl_pacing=pacing, spcl_pacing_epochs=10, spcl_cap=5.0)
    path = [threshold_at(epoch, 0.4, config) for epoch in range(1, 15)]
    assert path[0] == pytest.approx(0.4)
    assert path[10] == pytest.approx(5.0)
    assert path == sorted(path)


@given(st.floats(1e-6, 50), st.floats(1e-6, 50))
def test_difficulty_lies_between_the_smaller_and_twice_it(spread, loss):
    found = float(harmonic(*torch.tensor([spread, loss], dtype=torch.float64)))
    low = min(spread, loss)
    assert low * (1 - 1e-9) <= found <= 2 * low * (1 + 1e-9)


@given(st.lists(st.floats(0, 10), min_size=1, max_size=20), st.floats(0.01, 5), st.floats(1, 5))
def test_a_larger_threshold_selects_a_superset(values, threshold, factor):
    difficulty = torch.tensor(values)
    for how in ("hard", "linear", "logistic"):
        few = weighting(difficulty, torch.tensor(threshold), how)
        many = weighting(difficulty, torch.tensor(threshold * factor), how)
        assert (many >= few - 1e-6).all()
        assert few.min() >= 0
        assert few.max() <= 1


def test_equal_imbalance_and_loss_give_that_difficulty():
    assert harmonic(torch.tensor(0.7), torch.tensor(0.7)).item() == pytest.approx(0.7)


def test_with_everything_selected_the_loss_is_cross_entropy():
    data = ToyData()
    batch = data.batch(range(6))
    losses = {}
    for name, options in {"spcl": {"spcl_threshold": 60.0}, "all": {"spcl_norm": "all"}}.items():
        method = build(**options).train()
        torch.manual_seed(1)
        losses[name] = method.losses(batch)["category"]
    torch.manual_seed(1)
    inner = method.inner
    plain = inner.task_loss(inner.predict(batch)["category"], batch)
    torch.testing.assert_close(losses["spcl"], plain)
    torch.testing.assert_close(losses["all"], plain)


def test_unselected_utterances_and_the_selection_itself_carry_no_gradient():
    data = ToyData()
    batch = data.batch(range(6))
    method = build()
    method.on_epoch(1, data)
    inner = method.inner.train()
    votes = {
        name: torch.randn(*batch.mask.shape, 3, generator=torch.Generator().manual_seed(i))
        for i, name in enumerate(DIMS)
    }
    votes = {name: vote.requires_grad_() for name, vote in votes.items()}
    inner.unimodal = lambda _batch: votes
    difficulty, is_known = inner.plugin.difficulty(inner, votes, batch)
    assert not difficulty.requires_grad
    inner.plugin.threshold.fill_(difficulty[is_known].median())
    inner.losses(batch)["category"].backward()
    chosen = is_known & (difficulty <= inner.plugin.threshold)
    assert 0 < chosen.sum() < is_known.sum()
    for vote in votes.values():
        assert vote.grad[chosen].any()
        assert not vote.grad[~chosen].any()


class Untouchable:
    epoch = 0

    def __getattr__(self, name):
        raise AssertionError(f"{name} was called")


def test_a_batch_with_nothing_selected_makes_no_step_and_no_nan():
    data = ToyData()
    method = build(spcl_threshold=1e-9).train()
    history = method.update(data.batch(range(6)), Untouchable())
    assert float(history["category"].detach()) == 0
    assert float(history["spcl_share"]) == 0


def test_automatic_threshold_selects_the_wished_share_of_the_untrained_network():
    data = ToyData(lengths=(7, 9, 5, 12, 3, 8))
    method = build("mmgcn", spcl_first_share=0.4)
    method.prepare(data)
    method.on_epoch(1, data)
    inner = method.eval().inner
    batch = method.normalise(data.batch(range(6)))
    difficulty, is_known = inner.plugin.difficulty(inner, inner.unimodal(batch), batch)
    share = float((difficulty[is_known] <= inner.plugin.threshold).float().mean())
    assert share == pytest.approx(0.4, abs=0.03)


def test_threshold_follows_the_epochs_and_survives_a_restart():
    data = ToyData()
    method, other = build(), build()
    method.on_epoch(1, data)
    first = float(method.inner.plugin.threshold)
    other.load_state_dict(method.state_dict())
    other.on_epoch(5, data)
    assert float(other.inner.plugin.threshold) == pytest.approx(first * 1.25**4)


def test_resuming_gives_the_same_weights_bit_for_bit():
    train, validation = ToyData(seed=1), ToyData(seed=2)
    config = TrainConfig(epochs=4, patience=0, batch_size=3, optimizer="adam")
    options = {"backbone": "bc_lstm"}
    score = lambda _outputs: 0.5  # noqa: E731
    states = []
    torch.manual_seed(0)
    whole = fit(
        build(**options),
        train,
        validation,
        score,
        config,
        seed=3,
        hooks=Hooks(save=lambda state: states.append(state())),
    )
    halted = states[1]
    resumed = fit(build(**options), train, validation, score, config, seed=3, resume=halted)
    assert whole.history == resumed.history
    assert all(torch.equal(whole.state[name], resumed.state[name]) for name in whole.state)


def test_one_modality_cannot_be_balanced():
    with pytest.raises(UserError, match="balances modalities"):
        build(dims={"text": 6})


def test_numbers_have_no_true_class():
    with pytest.raises(UserError, match="probabilities of classes"):
        build(targets=(VAD_TARGET,))


@pytest.mark.parametrize(
    "options",
    [
        {"spcl_norm": "some"},
        {"spcl_growth": 1.0},
        {"backbone": "linear"},
        {"spcl_pacing_epochs": 10},
        {"spcl_pacing": "cosine", "spcl_pacing_epochs": -1},
    ],
)
def test_options_that_make_no_sense_are_refused(options):
    with pytest.raises(UserError):
        build(**{"backbone": "bc_lstm", **options})


@pytest.mark.parametrize(
    "options",
    [
        {"spcl_difficulty": "utterance"},
        {"spcl_difficulty": "dialogue"},
        {"spcl_weighting": "linear"},
        {"spcl_weighting": "logistic"},
        {"spcl_score": "mean"},
        {"spcl_pacing": "cosine"},
    ],
    ids=lambda o: "-".join(o.values()),
)
def test_every_option_trains(options):
    data = ToyData(absent=0.3)
    method = build(**options)
    method.prepare(data)
    method.on_epoch(1, data)
    method.train()
    loss = method.losses(method.normalise(data.batch(range(6))))["category"]
    loss.backward()
    assert torch.isfinite(loss)
    assert any(p.grad.abs().sum() > 0 for p in method.parameters())
