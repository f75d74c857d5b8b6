"""EMI: numbers worked out by hand, masks, ablations, and a planted signal found by the trainer."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from models.averaging import Average
from models.batch import Batch, Frames, Target
from models.errors import UserError
from models.method import Spec, configure, total
from models.methods.emi.fusion import FUSIONS
from models.methods.emi.losses import (
    PROTOTYPES,
    column_correlations,
    correlation_loss,
    gaussian_kl,
    prototype_mean,
    prototypes_of,
    usable_columns,
)
from models.methods.emi.method import VAD_MODES, Config, Emi, anchor_loss
from models.methods.emi.pooling import AttentionPool, weighted_mean
from models.metrics.regression import pearson
from models.training import TrainConfig, fit, predict, seed_everything
from tests.factories import CATEGORY, DIMS, LABELS, VAD_TARGET, ToyData

EMI = Target("emi", "values", tuple(PROTOTYPES), 0.0, 1.0)
SENTIMENT = Target("sentiment", "values", ("sentiment",), -3.0, 3.0)
PUBLISHED = {"audio": 1024, "video": 768, "text": 768}
P = torch.tensor([[0.1, 0.9], [0.4, 0.2], [0.3, 0.6], [0.8, 0.1]])
Y = torch.tensor([[0.2, 0.7], [0.5, 0.1], [0.1, 0.9], [0.9, 0.3]])
KNOWN = torch.ones(4, 2, dtype=torch.bool)


def build(targets=(EMI,), dims=None, frame_dims=None, seed: int = 0, **options) -> Emi:
    seed_everything(seed)
    dims = DIMS if dims is None else dims
    config = configure(Config, options, "methods.emi")
    return Emi(Spec(dims, tuple(targets), 2, dims if frame_dims is None else frame_dims), config)


def small(targets=(EMI,), **options) -> Emi:
    if options.get("fusion") != "late" and options.get("vad_mode") != "none":
        options = {"vad_width": 4} | options
    return build(targets, hidden=16, **options)


def toy(target: Target = EMI, rows: int = 24, **options) -> ToyData:
    """Single utterances with frames, a teacher for two thirds, and labels in range."""
    options = {"dims": DIMS, "frame_dims": DIMS, "extra": {"vad_teacher": 3}} | options
    data = ToyData(
        lengths=(1,) * rows, targets=[replace(target, names=target.names[:3])], **options
    )
    return data


def planted_batch(target: Target = EMI, rows: int = 24, **options) -> Batch:
    """A batch of ``toy`` whose labels have the range and columns of ``target``."""
    data = toy(target, rows, **options)
    batch = data.batch(range(rows))
    if target.kind != "values":
        return batch
    found = batch.targets[target.name]
    wide = torch.cat([found, -found], -1)[..., : target.width]
    values = target.lower + (target.upper - target.lower) * (wide + 1) / 2
    return replace(batch, targets={target.name: values})


# numbers worked out by hand -------------------------------------------------------------------


def test_correlation_and_squared_error_of_the_worked_example():
    rho = column_correlations(P, Y, KNOWN)
    torch.testing.assert_close(rho, torch.tensor([0.913641, 0.790184]), atol=1e-5, rtol=0)
    lost = correlation_loss(P, Y, KNOWN, min_rows=4)
    error = nn.functional.mse_loss(P, Y)
    assert float(error) == pytest.approx(0.03125, abs=1e-6)
    assert float(lost) == pytest.approx(0.148088, abs=1e-5)
    assert float(error + 0.5 * lost) == pytest.approx(0.105294, abs=1e-5)


def test_the_losses_of_the_method_are_those_of_the_worked_example():
    """Twice the four rows, so that there are enough to correlate: neither mean changes."""
    target = Target("emi", "values", ("joy", "amusement"), 0.0, 1.0)
    method = small([target], vad_mode="none")
    batch = planted_batch(target, 8)
    batch = replace(batch, targets={"emi": Y.repeat(2, 1).unsqueeze(1)})
    error, correlation = method._terms(P.repeat(2, 1).unsqueeze(1), batch)
    assert float(error) == pytest.approx(0.03125, abs=1e-6)
    assert float(error + 0.5 * correlation) == pytest.approx(0.105294, abs=1e-5)


@given(scale=st.floats(0.2, 3.0), shift=st.floats(-1.0, 1.0), seed=st.integers(0, 1000))
@settings(max_examples=25)
def test_correlation_ignores_scale_and_shift(scale, shift, seed):
    draw = torch.rand(2, 12, 3, generator=torch.Generator().manual_seed(seed))
    known = torch.ones(12, 3, dtype=torch.bool)
    plain = column_correlations(draw[0], draw[1], known)
    moved = column_correlations(scale * draw[0] + shift, draw[1], known)
    torch.testing.assert_close(plain, moved, atol=1e-5, rtol=0)


def test_correlation_of_the_worked_example_survives_scaling():
    moved = column_correlations(0.3 * P + 0.2, Y, KNOWN)
    torch.testing.assert_close(moved, column_correlations(P, Y, KNOWN), atol=1e-5, rtol=0)


def test_the_gradient_of_the_correlation_neither_shifts_nor_scales():
    prediction = P.clone().double().requires_grad_()
    correlation_loss(prediction, Y.double(), KNOWN, min_rows=4).backward()
    gradient = prediction.grad
    assert gradient is not None
    assert float(gradient.abs().max()) > 0.01
    centred = P.double() - P.double().mean(0)
    assert float(gradient.sum(0).abs().max()) < 1e-6
    assert float((gradient * centred).sum(0).abs().max()) < 1e-6


def test_correlation_over_known_rows_equals_the_metric():
    rng = np.random.default_rng(1)
    truth, guess = rng.random((2, 30, 4))
    known = rng.random((30, 4)) < 0.6
    truth[~known] = np.nan
    found = column_correlations(*map(torch.from_numpy, (guess, truth, known)))
    for column in range(4):
        keep = known[:, column]
        expected = float(pearson(truth[keep, column], guess[keep, column]))
        assert float(found[column]) == pytest.approx(expected, abs=1e-6)


def test_flat_and_short_columns_do_not_count():
    truth = torch.rand(10, 3, generator=torch.Generator().manual_seed(0))
    truth[:, 1] = 0.25
    known = torch.ones(10, 3, dtype=torch.bool)
    known[:3, 2] = False
    assert usable_columns(truth, known).tolist() == [True, False, False]
    guess = truth.clone()
    guess[:, 1:] = torch.rand(10, 2, generator=torch.Generator().manual_seed(1))
    assert float(correlation_loss(guess, truth, known)) == pytest.approx(0, abs=1e-5)
    assert float(correlation_loss(guess[:7], truth[:7], known[:7])) == 0.0


@pytest.mark.parametrize(
    ("warms", "decays", "end"),
    [(False, (0.999,) * 3, 1.005996), (True, (0.181818, 0.25, 0.307692), 3.601399)],
)
def test_averaged_weights_of_the_worked_example(warms, decays, end):
    module = nn.Linear(1, 1, bias=False)
    nn.init.ones_(module.weight)
    average = Average(module, TrainConfig(ema_decay=0.999, ema_warmup=warms))
    for weight, decay in zip((2.0, 3.0, 4.0), decays, strict=True):
        before = float(average.shadow["weight"])
        nn.init.constant_(module.weight, weight)
        average.update()
        after = float(average.shadow["weight"])
        assert after == pytest.approx(decay * before + (1 - decay) * weight, abs=1e-5)
    assert after == pytest.approx(end, abs=1e-5)


def test_the_decay_reaches_its_cap_at_step_8990():
    decays = []
    module = nn.Linear(1, 1, bias=False)
    nn.init.ones_(module.weight)
    average = Average(module, TrainConfig(ema_decay=0.999))
    for t in (8988, 8989, 20000):  # the next step is one later
        average.t = t
        average.shadow["weight"].zero_()
        average.update()
        decays.append(1 - float(average.shadow["weight"]))
    assert decays[0] < 0.999 - 1e-8 < decays[1] + 1e-7
    assert decays[1] == pytest.approx(0.999, abs=1e-7)
    assert decays[2] == pytest.approx(0.999, abs=1e-7)


def test_divergence_of_the_worked_example():
    mean = torch.tensor([[0.3, -0.2, 0.1]])
    log_variance = torch.tensor([[0.5, 0.4, 0.6]]).square().log()
    found = gaussian_kl(mean, log_variance, torch.tensor([[0.5, 0.1, 0.0]]), 0.5)
    torch.testing.assert_close(found, torch.tensor([[0.0800, 0.2231, 0.0577]]), atol=1e-4, rtol=0)
    assert float(found.sum()) == pytest.approx(0.360822, abs=1e-5)
    same = gaussian_kl(mean, torch.full((1, 3), math.log(0.25)), mean, 0.5)
    torch.testing.assert_close(same, torch.zeros(1, 3), atol=1e-6, rtol=0)


def test_prototype_means_of_the_worked_examples():
    table = torch.tensor(prototypes_of(EMI.names))
    rows = torch.tensor([[0, 0.5, 0, 0, 0.5, 1], [0, 0, 0, 0.8, 0, 0], [0.0] * 6])
    expected = torch.tensor([[0.80, 0.65, 0.45], [-0.6, 0.3, -0.4], [0.0, 0.0, 0.0]])
    torch.testing.assert_close(prototype_mean(rows, table), expected, atol=1e-5, rtol=0)


def test_only_the_six_intensities_have_a_prior_of_their_own():
    assert prototypes_of(VAD_TARGET.names) is None
    assert prototypes_of(("joy", "anger")) is None
    assert prototypes_of(("joy",)) == [(0.9, 0.6, 0.5)]
    assert prototypes_of(("calm",), [(0.1, 0.2, 0.3)]) == [(0.1, 0.2, 0.3)]


def test_pooling_of_the_worked_example_ignores_the_masked_frame():
    frames = torch.tensor([[1.0], [2.0], [100.0]])
    scores = torch.tensor([0.0, math.log(3), 5.0])
    pooled = weighted_mean(frames, scores, torch.tensor([True, True, False]))
    torch.testing.assert_close(pooled, torch.tensor([1.75]))
    nothing = weighted_mean(frames, scores, torch.zeros(3, dtype=torch.bool))
    torch.testing.assert_close(nothing, torch.zeros(1))


def test_one_frame_is_its_own_mean():
    pool = AttentionPool(4)
    frame = torch.randn(2, 1, 4)
    torch.testing.assert_close(pool(frame, torch.ones(2, 1, dtype=torch.bool)), frame[:, 0])


def test_anchor_of_the_worked_example_and_only_where_there_is_a_teacher():
    mean = torch.tensor([[[0.3, -0.2, 0.1]], [[9.0, 9.0, 9.0]], [[9.0, 9.0, 9.0]]])
    teacher = torch.tensor([[[0.5, 0.1, 0.0]], [[math.nan] * 3], [[0.0] * 3]])
    heard = torch.tensor([[True], [True], [False]])
    assert float(anchor_loss(mean, teacher, heard)) == pytest.approx(0.046667, abs=1e-6)
    assert float(anchor_loss(mean, teacher, torch.zeros(3, 1, dtype=torch.bool))) == 0.0


def test_parameters_are_as_many_as_published():
    method = build(dims=PUBLISHED)
    tokens = sum(token.numel() for token in method.missing.parameters())
    everything = sum(p.numel() for p in method.parameters())
    assert tokens == 768
    assert everything - tokens == 876_513
    branches = [
        sum(
            p.numel()
            for module in (method.readers[m], method.heads[m])
            for p in module.parameters()
        )
        for m in method.spec.modalities
    ]
    assert branches == [266_247, 200_199, 200_199]
    assert sum(p.numel() for p in method.head.parameters()) == 208_198
    latent = [*method.latent.parameters(), *method.expand.parameters()]
    assert sum(p.numel() for p in latent) == 1_670


# range, presence, ablations -------------------------------------------------------------------


@pytest.mark.parametrize(
    "target", [EMI, SENTIMENT, VAD_TARGET, CATEGORY, LABELS], ids=lambda t: t.name
)
@pytest.mark.parametrize("fusion", FUSIONS)
def test_every_fusion_learns_from_every_kind_of_target(fusion, target):
    method = small([target], fusion=fusion)
    batch = method.normalise(planted_batch(target, absent=0.4))
    losses = method.losses(batch)
    assert all(torch.isfinite(loss) for loss in losses.values())
    total(losses).backward()
    idle = [n for n, p in method.named_parameters() if p.requires_grad and p.grad is None]
    assert idle == []
    output = method.eval().predict(batch.without_labels())[target.name].detach()
    assert output.shape == (24, 1, target.width)
    if target.kind == "values":
        assert target.lower < float(output.min()) < float(output.max()) < target.upper


@pytest.mark.parametrize("fusion", FUSIONS)
def test_every_parameter_learns_from_frames(fusion):
    method = small(fusion=fusion)
    for _ in range(4):  # dropout may hide a unit once
        total(method.losses(method.normalise(planted_batch(absent=0.4)))).backward()
    learning = {n: p.grad for n, p in method.named_parameters() if p.requires_grad}
    assert [name for name, grad in learning.items() if not grad.abs().sum() > 0] == []


@pytest.mark.parametrize("fusion", FUSIONS)
def test_mixed_precision_hardly_changes_the_losses(fusion):
    method, batch = small(fusion=fusion).eval(), planted_batch()
    exact = total(method.losses(batch))
    with torch.autocast("cpu", torch.bfloat16):
        rounded = total(method.losses(batch))
    torch.testing.assert_close(rounded, exact, atol=0.02, rtol=0.02)
    total(method.losses(batch)).backward()


def test_loss_weights_mean_the_same_on_every_range():
    wide = small([replace(EMI, lower=0.0, upper=4.0)])
    narrow = small()
    batch = planted_batch()
    stretched = replace(batch, targets={"emi": batch.targets["emi"] * 4})
    seed_everything(0)
    expected = narrow.losses(batch)
    seed_everything(0)
    found = wide.losses(stretched)
    for name in ("emi", "pearson", "branches", "anchor"):
        torch.testing.assert_close(found[name], expected[name], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("none", set()), ("anchor", {"anchor"}), ("prior", {"prior"}), ("both", {"anchor", "prior"})],
)
def test_vad_mode_chooses_the_losses_of_the_latent(mode, expected):
    method = small(vad_mode=mode)
    found = set(method.losses(planted_batch()))
    assert found == {"emi", "pearson", "branches"} | expected
    assert (method.latent is None) == (mode == "none")


def test_targets_other_than_intensities_have_no_prior_unless_it_is_given():
    assert "prior" not in small([SENTIMENT]).losses(planted_batch(SENTIMENT))
    calm = Target("emi", "values", ("calm",), 0.0, 1.0)
    given = small([calm], prior_means=[[0.4, -0.5, 0.1]])
    assert "prior" in given.losses(planted_batch(calm))


def test_averaged_predictions_have_no_latent():
    method = small(fusion="late")
    assert method.latent is None
    assert set(method.losses(planted_batch())) == {"emi", "pearson", "branches"}


def test_without_sound_there_is_no_latent():
    dims = {"video": 7, "text": 6}
    method = small(dims=dims)
    assert method.latent is None
    assert set(method.losses(planted_batch(dims=dims, frame_dims=dims))) == {
        "emi", "pearson", "branches",
    }  # fmt: skip


def test_a_teacher_is_never_read_while_predicting():
    method, batch = small().eval(), planted_batch()
    plain = method.predict(batch)["emi"]
    torch.testing.assert_close(method.predict(replace(batch, extra=None))["emi"], plain)
    assert "anchor" not in method.losses(replace(batch, extra=None))


def test_the_latent_varies_in_training_only():
    method, batch = small(dropout=0.0), planted_batch()
    assert not torch.equal(method.predict(batch)["emi"], method.predict(batch)["emi"])
    method.eval()
    assert torch.equal(method.predict(batch)["emi"], method.predict(batch)["emi"])


def test_voice_and_face_are_standardised_and_text_is_not():
    data = toy()
    method = build()
    method.prepare(data)
    batch = data.batch(range(len(data)))
    seen = method.normalise(batch)
    for name, frames in seen.frames.items():
        values = frames.values[frames.mask]
        if name == "text":
            torch.testing.assert_close(frames.values, batch.frames[name].values)
            torch.testing.assert_close(seen.features[name], batch.features[name])
        else:
            torch.testing.assert_close(
                values.mean(0), torch.zeros(values.shape[1]), atol=1e-4, rtol=0
            )
            spread = values.std(0, correction=0)
            torch.testing.assert_close(spread, torch.ones_like(spread), atol=1e-4, rtol=0)


def test_feature_noise_is_for_training_only():
    method, batch = small(dropout=0.0, vad_mode="none", feature_noise=0.5), planted_batch()
    assert not torch.equal(method.predict(batch)["emi"], method.predict(batch)["emi"])
    method.eval()
    assert torch.equal(method.predict(batch)["emi"], method.predict(batch)["emi"])


@pytest.mark.parametrize("fusion", FUSIONS)
def test_masked_frames_and_absent_modalities_do_not_matter(fusion):
    method = small(fusion=fusion).eval()
    batch = planted_batch(absent=0.5)
    plain = method.predict(batch)["emi"]
    frames = {
        m: Frames(
            torch.where(s.mask.unsqueeze(-1), s.values, torch.full_like(s.values, 7.0)), s.mask
        )
        for m, s in batch.frames.items()
    }
    torch.testing.assert_close(method.predict(replace(batch, frames=frames))["emi"], plain)
    longer = {
        m: Frames(
            nn.functional.pad(s.values, (0, 0, 0, 3), value=7.0),
            nn.functional.pad(s.mask, (0, 3)),
        )
        for m, s in batch.frames.items()
    }
    torch.testing.assert_close(method.predict(replace(batch, frames=longer))["emi"], plain)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_batch_mates_do_not_matter(fusion):
    method, data = small(fusion=fusion).eval(), toy(absent=0.4)
    together = method.predict(data.batch(range(6)))["emi"]
    for row in range(6):
        alone = method.predict(data.batch([row]))["emi"][0]
        torch.testing.assert_close(together[row], alone, atol=1e-5, rtol=1e-4)


def test_an_absent_modality_is_its_token_and_has_no_say_of_its_own():
    method = small(fusion="late").eval()
    batch = planted_batch().with_modalities({"text"})
    seen = method.look(batch)
    torch.testing.assert_close(seen.output, seen.by_modality["text"])
    head = method.heads["audio"](method.missing["audio"])
    torch.testing.assert_close(seen.by_modality["audio"][3, 0], torch.sigmoid(head))


def test_hidden_voices_are_neither_anchored_nor_held_to_the_prior():
    method = small()
    losses = method.losses(planted_batch().with_modalities({"text", "video"}))
    assert losses["anchor"].item() == 0.0
    assert losses["prior"].item() == 0.0


def test_branch_losses_are_means_over_the_modalities_there_are():
    method = small(vad_mode="none", aux_weight=1.0).eval()
    batch = planted_batch()
    only_text = batch.with_modalities({"text"})
    error, correlation = method._terms(method.look(only_text).by_modality["text"], only_text)
    expected = error + 0.5 * correlation
    torch.testing.assert_close(method.losses(only_text)["branches"], expected)


def test_unlabelled_rows_and_cells_do_not_enter_the_losses():
    method = small().eval()
    batch = planted_batch()
    values = batch.targets["emi"].clone()
    values[12:] = math.nan
    part = Batch(
        mask=batch.mask[:12], speakers=batch.speakers[:12], index=batch.index[:12],
        features={m: v[:12] for m, v in batch.features.items()},
        present={m: v[:12] for m, v in batch.present.items()},
        targets={"emi": values[:12]},
        frames={m: Frames(s.values[:12], s.mask[:12]) for m, s in batch.frames.items()},
        extra={m: v[:12] for m, v in batch.extra.items()},
    )  # fmt: skip
    expected, found = method.losses(part), method.losses(replace(batch, targets={"emi": values}))
    for name in ("emi", "pearson", "branches", "prior"):
        torch.testing.assert_close(found[name], expected[name])


def test_steps_without_a_correlation_are_counted():
    config = TrainConfig(epochs=1, patience=0, batch_size=10)
    target = replace(EMI, names=EMI.names[:3])
    method = small([target])
    data = ToyData((1,) * 25, [target], DIMS, frame_dims=DIMS)
    fitted = fit(method, data, data, lambda found: float(found["emi"].mean()), config, seed=0)
    assert int(fitted.state["pearson_skipped"]) == 1  # 10 + 10 + 5 rows
    assert fitted.history[0]["loss_pearson_skipped"] == pytest.approx(1 / 3)


def test_constant_targets_leave_a_finite_loss():
    batch = planted_batch()
    batch = replace(batch, targets={"emi": torch.full_like(batch.targets["emi"], 0.5)})
    method = small()
    losses = method.losses(batch)
    total(losses).backward()
    assert losses["pearson"].item() == 0.0
    assert int(method.pearson_skipped) == 1
    assert all(torch.isfinite(p.grad).all() for p in method.parameters() if p.grad is not None)


def test_pooled_vectors_serve_where_there_are_no_frames():
    method = small(frame_dims={"audio": 5})
    batch = planted_batch()
    batch = replace(batch, frames={"audio": batch.frames["audio"]})
    assert method.readers["text"].pool is None
    total(method.losses(method.normalise(batch))).backward()


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"fusion": "sum"}, "fusion"),
        ({"vad_mode": "on"}, "vad_mode"),
        ({"kl_weight": -0.1}, "kl_weight"),
        ({"prior_sd": 0.0}, "prior_sd"),
        ({"prior_means": [[0.1, 0.2]]}, "prior_means"),
        ({"prior_means": [[0.1, 0.2, 0.3]]}, "prior_means"),
        ({"fusion": "attention", "hidden": 18}, "hidden"),
    ],
)
def test_wrong_options_are_told(options, word):
    with pytest.raises(UserError, match=word):
        build(**options)


# a planted signal -----------------------------------------------------------------------------


class Planted:
    """Intensities that follow from a latent VAD by its distance to each prototype.

    Each modality sees the latent through a random projection, with noise of its own for the
    utterance and for each frame. ``shuffled`` breaks the link to the labels.
    """

    targets = (EMI,)
    widths: ClassVar = {"audio": 24, "video": 20, "text": 16}
    longest: ClassVar = {"audio": 6, "video": 4, "text": 1}

    def __init__(self, rows: int, seed: int, noise: float = 0.25) -> None:
        made = torch.Generator().manual_seed(seed)
        plan = torch.Generator().manual_seed(77)
        latent = torch.tanh(0.8 * torch.randn(rows, 3, generator=made))
        distance = torch.cdist(latent, torch.tensor(prototypes_of(EMI.names)))
        self.values = torch.exp(-distance.square() / (2 * 0.5**2))
        self.teacher = latent + 0.1 * torch.randn(rows, 3, generator=made)
        self.frames = {}
        for name, width in self.widths.items():
            mix = torch.randn(3, width, generator=plan)
            seen = latent + noise * torch.randn(rows, 3, generator=made)
            count = self.longest[name]
            drawn = torch.randn(rows, count, width, generator=made)
            mask = torch.arange(count) < torch.randint(1, count + 1, (rows, 1), generator=made)
            values = ((seen @ mix)[:, None] + drawn) * mask.unsqueeze(-1)
            self.frames[name] = Frames(values, mask)

    def __len__(self) -> int:
        return len(self.values)

    def batch(self, indices: Sequence[int]) -> Batch:
        """Utterances as dialogues of one."""
        at = torch.as_tensor(list(indices))
        here = torch.ones(len(at), 1, dtype=torch.bool)
        return Batch(
            mask=here,
            speakers=torch.zeros(len(at), 1, dtype=torch.long),
            features={m: s.values[at].sum(1, keepdim=True) for m, s in self.frames.items()},
            present={m: here for m in self.frames},
            targets={"emi": self.values[at].unsqueeze(1)},
            index=at.unsqueeze(1),
            frames={
                m: Frames(s.values[at].unsqueeze(1), s.mask[at].unsqueeze(1))
                for m, s in self.frames.items()
            },
            extra={"vad_teacher": self.teacher[at].unsqueeze(1)},
        )

    def batches(self, groups: Sequence[Sequence[int]], key: int | None = None) -> Iterator[Batch]:
        """A batch for each group."""
        return (self.batch(group) for group in groups)

    def score(self, found) -> float:
        """The EMI score: mean of the six correlations."""
        columns = zip(self.values.T.numpy(), found["emi"].T.numpy(), strict=True)
        return float(np.mean([float(pearson(truth, guess)) for truth, guess in columns]))


def train_planted(epochs: int, train: Planted, validation: Planted, lr: float = 3e-4, **options):
    recipe = configure(TrainConfig, {**Emi.recipe, "epochs": epochs, "lr": lr}, "emi")
    method = build(dims=Planted.widths, **options)
    return method, fit(method, train, validation, validation.score, recipe, seed=0)


@pytest.mark.slow
def test_the_recipe_finds_the_planted_intensities_on_utterances_never_seen():
    train, validation, test = Planted(640, 1), Planted(200, 2), Planted(300, 3)
    method, fitted = train_planted(20, train, validation, hidden=128)
    assert test.score(predict(method, test)) > 0.8
    assert fitted.history[0]["loss_pearson_skipped"] == 0
    mean, _ = method.eval().look(method.normalise(test.batch(range(300)))).latent
    anchored = [
        float(pearson(test.teacher[:, i].numpy(), mean[:, 0, i].detach().numpy())) for i in range(3)
    ]
    assert min(anchored) > 0.6


def test_shuffled_labels_teach_nothing():
    train, validation, test = Planted(320, 1), Planted(200, 2), Planted(300, 3)
    train.values = train.values[torch.randperm(320, generator=torch.Generator().manual_seed(0))]
    method, _ = train_planted(4, train, validation, hidden=64)
    assert abs(test.score(predict(method, test))) < 0.4


@pytest.mark.parametrize(
    "fusion",
    [pytest.param(name, marks=[] if name == "concat" else pytest.mark.slow) for name in FUSIONS],
)
def test_every_fusion_finds_the_planted_intensities(fusion):
    train, validation, test = Planted(400, 1), Planted(150, 2), Planted(300, 3)
    method, _ = train_planted(12, train, validation, lr=1e-3, hidden=64, fusion=fusion)
    assert test.score(predict(method, test)) > 0.6


@pytest.mark.parametrize("mode", VAD_MODES)
def test_every_vad_mode_trains(mode):
    train, validation = Planted(128, 1), Planted(64, 2)
    _, fitted = train_planted(2, train, validation, hidden=32, vad_mode=mode)
    assert all(math.isfinite(value) for record in fitted.history for value in record.values())


def test_mean_of_seeds_is_at_least_as_good_as_a_seed_on_average():
    train, validation, test = Planted(320, 1), Planted(100, 2), Planted(300, 3)
    recipe = configure(TrainConfig, {**Emi.recipe, "epochs": 6}, "emi")
    outputs: list[Tensor] = []
    for seed in range(3):
        method = build(dims=Planted.widths, seed=seed, hidden=32)
        fit(method, train, validation, validation.score, recipe, seed=seed)
        outputs.append(predict(method, test)["emi"])
    alone = [test.score({"emi": output}) for output in outputs]
    assert test.score({"emi": torch.stack(outputs).mean(0)}) > np.mean(alone)
