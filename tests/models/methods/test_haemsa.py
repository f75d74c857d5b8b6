"""HAEMSA: genome, routers, losses and counts against figures worked out by hand."""

from dataclasses import replace
from hashlib import sha256
from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.batch import Frames, Target
from models.errors import UserError
from models.evolution import candidate_seed
from models.layers.tokens import packed_left
from models.method import Spec, configure, total
from models.methods.haemsa.blocks import some_modalities
from models.methods.haemsa.experts import Expert, Router, imbalance, keep_top
from models.methods.haemsa.genome import (
    DEFAULT,
    GENES,
    SPACE,
    decode,
    encode,
    repair,
    text_of,
)
from models.methods.haemsa.losses import (
    class_weights,
    orthogonality,
    row_losses,
    teacher_weights,
    transfer,
)
from models.methods.haemsa.method import Config, Haemsa
from models.training import TrainConfig, fit, seed_everything
from tests.factories import CATEGORY, DIMS, LABELS, VAD_TARGET, ToyData

FRAME_DIMS = {"audio": 4, "video": 3, "text": 6}
SENTIMENT = Target("sentiment", "values", ("sentiment",), -3.0, 3.0)
genomes = st.tuples(*(st.integers(0, size - 1) for size in SPACE.sizes)).map(repair)


def genome(**genes: int) -> tuple[int, ...]:
    """A small default with these genes set."""
    place = {name: i for i, (name, _) in enumerate(GENES)}
    found = [*DEFAULT]
    found[0] = 0
    for name, value in genes.items():
        found[place[name.replace("__", "+")]] = value
    return tuple(found)


def build(targets=(CATEGORY,), dims=None, frame_dims=None, seed=0, **options) -> Haemsa:
    seed_everything(seed)
    options = {"genome": genome(), **options}
    frames = FRAME_DIMS if frame_dims is None else frame_dims
    return Haemsa(Spec(dims or DIMS, tuple(targets), 2, frames), Config(**options))


def data(targets=(CATEGORY,), **options) -> ToyData:
    return ToyData((1,) * 12, targets, frame_dims=FRAME_DIMS, **options)


def outputs(method, batch):
    method.eval()
    with torch.no_grad():
        return method.predict(method.normalise(batch).without_labels())


# genome ---------------------------------------------------------------------------------------


def test_the_space_and_the_default_are_those_of_the_design():
    assert len(GENES) == 23
    assert SPACE.count == 69_657_034_752
    plan = decode(DEFAULT)
    assert (plan.width, plan.top_k, plan.fusion, plan.dropout) == (128, 2, "gated_sum", 0.1)
    assert (plan.text.count, plan.text.kind, plan.text.depth) == (2, "mlp", 2)
    assert (plan.audio.count, plan.audio.kind, plan.audio.depth) == (1, "gru", 1)
    assert (plan.video.count, plan.video.kind, plan.video.depth) == (1, "conv", 1)
    assert (plan.shared.count, plan.shared.kind, plan.shared.depth) == (2, "mlp", 1)
    assert plan.combinations == (("text", "audio"), ("text", "audio", "video"))
    weights = (plan.weight_transfer, plan.weight_orthogonality, plan.weight_second)
    assert weights == (0.5, 0.01, 0.5)


@given(genomes)
def test_encoding_undoes_decoding(found):
    assert encode(decode(found)) == found


@given(st.tuples(*(st.integers(0, size - 1) for size in SPACE.sizes)))
def test_repair_gives_legal_genomes_and_changes_no_legal_one(found):
    fixed = repair(found)
    assert any(fixed[14:18])
    assert repair(fixed) == fixed
    assert fixed == found or (not any(found[14:18]) and fixed[17] == 1)


def test_the_seed_of_a_candidate_follows_from_its_text():
    assert text_of(DEFAULT) == "[1,1,0,1,0,2,0,0,1,0,1,0,0,1,1,0,0,1,0,1,2,1,2]"
    digest = sha256(f"haemsa|0|{text_of(DEFAULT)}".encode()).hexdigest()
    assert digest[:16] == "7768188493af1403"
    seed = candidate_seed("haemsa", 0, text_of(DEFAULT))
    assert seed == int(digest[:16], 16) % (2**31 - 1) == 41895182
    assert candidate_seed("haemsa", 1, text_of(DEFAULT)) != 41895182


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (DEFAULT[:22], "has 23 genes"),
        ((3, *DEFAULT[1:]), r"gene 0 \(width\).*64, 128, 256"),
        ((True, *DEFAULT[1:]), "gene 0"),
        ((*DEFAULT[:14], 0, 0, 0, 0, *DEFAULT[18:]), "set gene 17 to 1"),
    ],
)
def test_a_genome_that_is_not_one_is_refused(wrong, says):
    with pytest.raises(UserError, match=says):
        build(genome=wrong)


# parts ----------------------------------------------------------------------------------------


def test_a_router_keeps_the_best_and_renormalises():
    kept = keep_top(torch.tensor([1.0, 2.0, 0.0]), 2)
    torch.testing.assert_close(kept, torch.tensor([0.2689, 0.7311, 0.0]), atol=1e-4, rtol=0)
    assert Router(8, 2, 4).top_k == 2  # clamped
    assert Router(8, 4, 0).top_k == 4


def test_imbalance_is_the_squared_coefficient_of_variation():
    assert imbalance(torch.tensor([3.0, 1.0])) == pytest.approx(0.25)
    assert imbalance(torch.tensor([2.0, 2.0, 2.0])) == 0


def test_orthogonality_is_the_squared_cosine_over_what_is_there():
    u = torch.tensor([[[1.0, 1.0], [5.0, 0.0]]])
    s = torch.tensor([[[1.0, 0.0], [1.0, 0.0]]])
    available = torch.tensor([[True, False]])
    assert orthogonality(u, s, available).item() == pytest.approx(0.5)


def test_transfer_of_a_category_is_the_softened_divergence():
    teacher, student = torch.tensor([2.0, 0.0]), torch.tensor([0.0, 0.0])
    pair = Target("category", "category", ("a", "b"))
    assert transfer(pair, teacher, student, 2.0).item() == pytest.approx(0.443777, abs=1e-6)
    # two classes are one label that is there or not
    one = Target("categories", "labels", ("a",))
    found = transfer(one, torch.tensor([2.0]), torch.tensor([0.0]), 2.0)
    assert found.item() == pytest.approx(0.443777, abs=1e-6)
    values = transfer(VAD_TARGET, torch.tensor([3.0, 0.5, 0]), torch.zeros(3), 2.0)
    assert values.item() == pytest.approx((2.5 + 0.125) / 3)


def test_a_modality_learns_from_better_ones_only():
    losses = torch.tensor([[0.2, 0.8, 0.5]])  # text, audio, video
    weights = teacher_weights(losses, torch.ones(1, 3, dtype=torch.bool), 0.5)[0]
    expected = torch.tensor([[0.0, 0, 0], [0.6457, 0, 0.3543], [1, 0, 0]])
    torch.testing.assert_close(weights, expected, atol=1e-4, rtol=0)
    without_text = torch.tensor([[False, True, True]])
    weights = teacher_weights(losses, without_text, 0.5)[0]
    torch.testing.assert_close(weights, torch.tensor([[0.0, 0, 0], [0, 0, 1], [0, 0, 0]]))


def test_row_losses_leave_out_missing_labels():
    output = torch.tensor([[1.0, 2.0, 3.0], [1.0, 1.0, 1.0]])
    nan = float("nan")
    truth = torch.tensor([[0.0, nan, 1.0], [nan, nan, nan]])
    assert row_losses(VAD_TARGET, output, truth).tolist() == [1.5, 0.0]
    assert row_losses(CATEGORY, output, torch.tensor([2, -1]))[1] == 0


def test_rare_classes_weigh_more_and_absent_ones_nothing():
    weights = class_weights(CATEGORY, torch.tensor([0, 0, 0, 1, -1]))
    torch.testing.assert_close(weights, torch.tensor([0.5, 1.5, 0.0]))
    flags = torch.tensor([[1.0, 0.0]] + [[0.0, 0.0]] * 30 + [[0.0, float("nan")]])
    assert class_weights(LABELS, flags).tolist() == [10.0, 10.0]


@pytest.mark.parametrize(
    ("kind", "one_layer"), [("mlp", 16_768), ("conv", 49_536), ("gru", 74_496), ("attn", 132_480)]
)
def test_an_expert_has_the_parameters_of_the_design(kind, one_layer):
    for depth in (1, 2, 3):
        found = sum(p.numel() for p in Expert(kind, 128, depth, 0.1).parameters())
        assert found == depth * one_layer


def test_the_default_network_has_the_parameters_of_the_design():
    dims = {"audio": 74, "video": 35, "text": 768}
    emotion = Target("category", "category", tuple("abcdef"))
    method = build((SENTIMENT, emotion), dims, dims, genome=DEFAULT)
    counts = {n: sum(p.numel() for p in m.parameters()) for n, m in method.named_children()}
    local = {n: sum(p.numel() for p in m.parameters()) for n, m in method.local.items()}
    assert local == {"text": 67_330, "audio": 74_496, "video": 49_536}
    assert counts["stems"] == 113_408
    assert counts["shared"] == 384 + 33_794
    assert counts["combinations"] == 264_960
    assert (counts["fusion"], counts["towers"], counts["heads"]) == (128, 33_927, 2_709)
    assert sum(counts.values()) == 640_672


@pytest.mark.parametrize("kind", ["mlp", "conv", "gru", "attn"])
def test_an_expert_sees_no_padding_and_no_batch_mate(kind):
    seed_everything(0)
    expert = Expert(kind, 16, 2, 0.3).eval()
    tokens = torch.randn(3, 6, 16)
    mask = torch.arange(6) < torch.tensor([[6], [1], [4]])
    found = expert(tokens, mask)
    for row, length in enumerate((6, 1, 4)):
        alone = expert(tokens[row : row + 1, :length], mask[row : row + 1, :length])[0]
        torch.testing.assert_close(found[row], alone, atol=1e-5, rtol=1e-4)


def test_gaps_between_frames_are_closed():
    tokens = torch.arange(8.0).reshape(1, 8, 1)
    mask = torch.tensor([[0, 1, 0, 0, 1, 1, 0, 0]], dtype=torch.bool)
    found, left = packed_left(tokens, mask)
    assert found[0, :, 0].tolist() == [1, 4, 5]
    assert left.all()


# network --------------------------------------------------------------------------------------

SHAPES = {
    "all kinds": genome(text_kind=3, audio_kind=2, video_kind=1, shared_kind=1, top_k=0),
    "concat": genome(fusion=1, text_experts=2, top_k=0, text__video=1, audio__video=1),
    "attention": genome(fusion=2, shared_kind=1, shared_experts=2, shared_depth=2),
}


@pytest.mark.parametrize("name", SHAPES)
def test_absent_modalities_padding_and_batch_mates_never_matter(name):
    toy = data(absent=0.4)
    method = build(genome=SHAPES[name])
    method.prepare(toy)
    batch = toy.batch(range(12))
    found = outputs(method, batch)["category"]
    for subset in [s for n in (1, 2) for s in combinations(DIMS, n)]:
        assert torch.isfinite(outputs(method, batch.with_modalities({*subset}))["category"]).all()
    wild = {
        m: Frames(
            torch.where(seq.mask.unsqueeze(-1), seq.values, torch.full_like(seq.values, 9.0)),
            seq.mask,
        )
        for m, seq in batch.frames.items()
    }
    scrambled = method.predict(replace(method.normalise(batch), frames=wild))["category"]
    plain = method.predict(replace(method.normalise(batch), frames=batch.frames))["category"]
    torch.testing.assert_close(scrambled, plain)
    for row in range(12):
        alone = outputs(method, toy.batch([row]))["category"]
        torch.testing.assert_close(found[row], alone[0], atol=1e-5, rtol=1e-4)


def test_an_utterance_with_nothing_gets_a_finite_answer():
    toy = data()
    for name in SHAPES:
        method = build(genome=SHAPES[name])
        method.prepare(toy)
        found = outputs(method, toy.batch([0, 1]).with_modalities(set()))["category"]
        assert torch.isfinite(found).all()
        torch.testing.assert_close(found[0], found[1])


@settings(max_examples=25)
@given(genomes)
def test_any_genome_makes_a_network_that_learns(found):
    found = (0, *found[1:])
    toy = data((CATEGORY, VAD_TARGET), absent=0.3)
    method = build((CATEGORY, VAD_TARGET), genome=found)
    method.prepare(toy)
    method.train()
    method.on_epoch(2, toy)
    loss = total(method.losses(method.normalise(toy.batch(range(12)))))
    assert torch.isfinite(loss)
    loss.backward()
    grads = [p.grad for p in method.parameters() if p.grad is not None]
    assert all(torch.isfinite(g).all() for g in grads)


@pytest.mark.parametrize("name", SHAPES)
def test_every_parameter_is_used(name):
    toy = data((CATEGORY, VAD_TARGET), absent=0.2)
    method = build((CATEGORY, VAD_TARGET), genome=SHAPES[name])
    method.prepare(toy)
    method.train()
    method.on_epoch(2, toy)
    for _ in range(6):
        total(method.losses(method.normalise(toy.batch(range(12))))).backward()
    unused = [n for n, p in method.named_parameters() if p.grad is None or not p.grad.abs().sum()]
    assert not unused


def test_the_main_task_is_the_first_there_is_and_the_others_share_the_second_weight():
    emi = Target("emi", "values", ("joy",))
    assert build((VAD_TARGET, CATEGORY, SENTIMENT)).main == SENTIMENT
    assert build((VAD_TARGET, LABELS, CATEGORY)).main == CATEGORY
    assert build((emi, VAD_TARGET)).main == VAD_TARGET
    method = build((CATEGORY, VAD_TARGET, emi), genome=genome(weight_second=3))
    assert method.shares == {"category": 1.0, "vad": 0.5, "emi": 0.5}
    method = build((CATEGORY, VAD_TARGET), single_task=True)
    assert method.shares == {"category": 1.0, "vad": 0.0}


def test_without_the_second_task_only_its_towers_learn_from_it():
    toy = data((CATEGORY, VAD_TARGET))
    method = build((CATEGORY, VAD_TARGET), single_task=True, no_transfer=True)
    method.prepare(toy)
    batch = method.normalise(toy.batch(range(12)))
    method.losses(batch)["vad"].backward()
    touched = {n.split(".")[0] for n, p in method.named_parameters() if p.grad is not None}
    assert touched == {"towers"}
    assert all(p.grad is None for p in method.towers["category"].parameters())


@pytest.mark.parametrize("off", [{"single_task": True}, {"genome": genome(weight_second=0)}])
def test_a_second_task_that_is_off_changes_no_weight_of_the_main_one(off):
    toy = data((CATEGORY, VAD_TARGET))
    config = TrainConfig(epochs=3, batch_size=4, clip_norm=0.05, lr=1e-2)

    def trained(method):
        return fit(method, toy, toy, lambda _: float(method.epoch), config, seed=0).state

    both = build((CATEGORY, VAD_TARGET), **off)
    alone = build((CATEGORY,), **off)
    alone.load_state_dict(both.state_dict(), strict=False)
    before = both.towers["vad"][0].weight.detach().clone()
    found, expected = trained(both), trained(alone)
    for name, value in expected.items():
        assert torch.equal(found[name], value), name
    assert not torch.equal(found["towers.vad.0.weight"], before)  # it learns, beside the network


def test_rows_without_labels_change_no_loss():
    toy = data((CATEGORY, VAD_TARGET))
    method = build((CATEGORY, VAD_TARGET), partial=False, weight_balance=0.0).eval()
    method.plan = replace(method.plan, weight_orthogonality=0.0)  # both need no labels
    method.prepare(toy)
    method.on_epoch(2, toy)
    batch = toy.batch(range(12))
    hidden = dict(batch.targets)
    hidden["category"] = hidden["category"].clone()
    hidden["category"][6:] = -1
    hidden["vad"] = hidden["vad"].clone()
    hidden["vad"][6:] = float("nan")
    some = method.losses(method.normalise(replace(batch, targets=hidden)))
    half = method.losses(method.normalise(toy.batch(range(6))))
    assert set(some) == {"category", "vad", "unimodal", "transfer", "balance"}
    for name in ("category", "vad", "unimodal", "transfer"):
        assert some[name].item() == pytest.approx(half[name].item(), rel=1e-4)


def test_transfer_begins_after_the_first_epoch():
    toy = data()
    method = build()
    method.prepare(toy)
    batch = method.normalise(toy.batch(range(12)))
    method.on_epoch(1, toy)
    assert "transfer" not in method.losses(batch)
    method.on_epoch(2, toy)
    assert method.losses(batch)["transfer"] > 0


def test_teachers_get_no_gradient_from_their_students():
    toy = data()
    method = build(partial=False).eval()
    method.prepare(toy)
    method.on_epoch(2, toy)
    method.losses(method.normalise(toy.batch(range(12))))["transfer"].backward()
    assert all(p.grad is None for p in method.towers.parameters())
    assert all(p.grad is None for p in method.fusion.parameters())
    assert any(p.grad is not None for p in method.heads.parameters())


@pytest.mark.parametrize(
    ("switch", "gone"),
    [
        ("no_hierarchy", ("shared", "combinations")),
        ("no_shared", ("shared",)),
        ("no_router", ("router",)),
        ("no_transfer", ()),
    ],
)
def test_switches_leave_parts_out(switch, gone):
    toy = data()
    method = build(**{switch: True})
    method.prepare(toy)
    method.on_epoch(2, toy)
    names = [n for n, _ in method.named_parameters()]
    for part in gone:
        assert not any(part in n for n in names)
        assert any(part in n for n, _ in build().named_parameters())
    losses = method.losses(method.normalise(toy.batch(range(12))))
    assert ("transfer" in losses) == (switch != "no_transfer")
    assert ("orthogonality" in losses) == ("shared" not in gone)
    assert ("balance" in losses) == (switch != "no_router")
    assert torch.isfinite(total(losses))


def test_half_of_the_utterances_stay_whole_and_the_others_keep_any_proper_subset():
    torch.manual_seed(0)
    present = {m: torch.ones(14_000, 1, dtype=torch.bool) for m in DIMS}
    kept = torch.stack(list(some_modalities(present).values()), -1)[:, 0]
    codes = (kept * torch.tensor([1, 2, 4])).sum(1)
    counts = torch.bincount(codes, minlength=8) / 14_000
    assert counts[0] == 0
    assert counts[7].item() == pytest.approx(0.5, abs=0.02)
    for code in range(1, 7):
        assert counts[code].item() == pytest.approx(0.5 / 6, abs=0.015)


def test_hiding_never_takes_the_last_modality_nor_adds_one():
    torch.manual_seed(0)
    present = {m: torch.rand(500, 3) < 0.5 for m in DIMS}
    kept = some_modalities(present)
    before, after = torch.stack(list(present.values())), torch.stack(list(kept.values()))
    assert not (after & ~before).any()
    assert torch.equal(before.any(0), after.any(0))


def test_it_learns_a_planted_signal_from_frames():
    train = ToyData((1,) * 90, seed=1, frame_dims=FRAME_DIMS, noise=0.1)
    validation = ToyData((1,) * 60, seed=2, frame_dims=FRAME_DIMS, noise=0.1)
    recipe = {**Haemsa.recipe, "epochs": 8, "lr": 3e-3}

    def accuracy(found):
        truth = validation.truth(CATEGORY)
        return float((found["category"].argmax(-1) == truth).float().mean())

    config = configure(TrainConfig, recipe, "haemsa")
    fitted = fit(build(genome=genome(audio_kind=0)), train, validation, accuracy, config, seed=0)
    assert fitted.score > 0.85
