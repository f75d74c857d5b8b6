"""Parts of a union on a scale in the middle: what is fitted, what is learnt, and the way back."""

from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from models.batch import Batch, Target
from models.method import Method, Spec, find_method
from models.part_scales import Knots, PartScales, PartSpec, fit_knots

VAD = Target("vad", "values", ("valence", "arousal"))
SENTIMENT = Target("sentiment", "values", ("sentiment",), -3.0, 3.0)


def drawn(mean: float, sd: float, seed: int, n: int = 4_001) -> np.ndarray:
    values = np.random.default_rng(seed).normal(size=n)
    return mean + sd * (values - values.mean()) / values.std(ddof=1)


# the specification's deviations of valence
NARROW, WIDE = drawn(-0.01, 0.17, 0), drawn(-0.12, 0.46, 1)


def spec_of(align, has_offsets=False) -> PartSpec:
    """Two parts on valence, one of them alone on arousal, a third with neither."""
    valence = fit_knots(align, {"a": NARROW, "b": WIDE})
    arousal = fit_knots(align, {"b": WIDE})
    columns = {
        "a": {"valence": valence["a"]},
        "b": {"valence": valence["b"], "arousal": arousal["b"]},
    }
    return PartSpec({**columns, "c": {}}, has_offsets)


def batch(parts, truth=None) -> Batch:
    """One utterance for each part."""
    n = len(parts)
    shape = (n, 1)
    return Batch(
        mask=torch.ones(shape, dtype=torch.bool),
        speakers=torch.zeros(shape, dtype=torch.long),
        features={"text": torch.ones(*shape, 3)},
        present={"text": torch.ones(shape, dtype=torch.bool)},
        targets={} if truth is None else {"vad": torch.tensor(truth).view(n, 1, 2)},
        index=torch.arange(n).view(shape),
        parts=None if None in parts else torch.tensor(parts).view(shape),
    )


def test_zscores_of_parts_become_one_in_the_middle():
    scales = PartScales(spec_of("zscore"), [VAD])
    # a deviation above each part's mean is at the mean of means and deviations
    truth = torch.tensor([[-0.01 + 0.17, 0.0], [-0.12 + 0.46, 0.0]])
    found = scales.common(VAD, truth, torch.tensor([0, 1]))
    np.testing.assert_allclose(found[:, 0], (-0.13 / 2) + (0.17 + 0.46) / 2, atol=1e-6)
    mapped = scales.common(
        VAD, torch.tensor(np.stack([NARROW, NARROW], 1)), torch.zeros(len(NARROW), dtype=torch.long)
    )[:, 0].numpy()
    np.testing.assert_allclose([mapped.mean(), mapped.std(ddof=1)], [-0.065, 0.315], atol=1e-6)


def test_quantiles_of_parts_become_their_mean():
    scales = PartScales(spec_of("quantile"), [VAD])
    middle = (np.quantile(NARROW, 0.75) + np.quantile(WIDE, 0.75)) / 2
    for place, values in enumerate((NARROW, WIDE)):
        truth = torch.tensor([[np.quantile(values, 0.75), 0.0]])
        found = scales.common(VAD, truth, torch.tensor([place]))
        assert float(found[0, 0]) == pytest.approx(middle, abs=1e-6)


@pytest.mark.parametrize("align", ["zscore", "quantile"])
def test_the_way_back_is_exact_also_beyond_what_was_met(align):
    scales = PartScales(spec_of(align), [VAD])
    truth = torch.tensor([[[-0.9, 0.3]], [[0.95, -3.0]], [[0.5, 0.5]]])
    places = torch.tensor([[0], [1], [2]])
    there = scales.common(VAD, truth, places)
    back = scales.own({"vad": there}, batch([0, 1, 2]))["vad"]
    torch.testing.assert_close(back, truth, atol=1e-5, rtol=0)
    assert torch.equal(there[2], truth[2])  # a part that is judged on neither
    assert float(there[0, 0, 1]) == pytest.approx(0.3)  # nor the first on arousal


def test_a_value_that_many_share_can_be_read_both_ways():
    steps = np.repeat([-1.0, 0.0, 0.0, 0.0, 1.0], 20)
    knots = fit_knots("quantile", {"a": steps, "b": drawn(0, 0.3, 2)})
    for one in knots.values():
        assert (np.diff(one.own) > 0).all()
        assert (np.diff(one.common) > 0).all()
        assert len(one.own) == len(one.common)
    scales = PartScales(PartSpec({name: {"valence": k} for name, k in knots.items()}), [VAD])
    truth = torch.tensor([[[0.0, 0.0]], [[0.0, 0.0]]])
    back = scales.own({"vad": scales.common(VAD, truth, torch.tensor([[0], [1]]))}, batch([0, 1]))
    torch.testing.assert_close(back["vad"], truth, atol=1e-6, rtol=0)


def test_a_judgement_that_is_missing_stays_missing():
    scales = PartScales(spec_of("quantile"), [VAD])
    found = scales.common(VAD, torch.tensor([[float("nan"), 0.1]]), torch.tensor([1]))
    assert found.isnan().tolist() == [[True, False]]


@pytest.mark.parametrize("parts", [[-1, -1], [None, None]])
def test_strangers_are_answered_on_the_scale_in_the_middle(parts):
    scales = PartScales(spec_of("zscore"), [VAD])
    outputs = {"vad": torch.tensor([[[0.2, 0.1]], [[-0.3, 0.4]]])}
    torch.testing.assert_close(scales.own(outputs, batch(parts))["vad"], outputs["vad"])
    # which is the mean of what each part would be told
    told = [scales.own(outputs, batch([p, p]))["vad"][..., 0] for p in (0, 1)]
    torch.testing.assert_close((told[0] + told[1]) / 2, outputs["vad"][..., 0])


def test_offsets_are_the_parts_own_and_of_strangers_the_mean():
    scales = PartScales(spec_of("none", has_offsets=True), [VAD, SENTIMENT])
    with torch.no_grad():
        scales.get_parameter("offset_vad")[:2, 0] = torch.tensor([0.1, 0.3])
        scales.get_parameter("slope_vad")[:2, 0] = torch.tensor([0.5, -0.5])
        scales.get_parameter("offset_vad")[:, 1] = torch.tensor([9.0, 0.4, 9.0])
    ones = {"vad": torch.ones(4, 1, 2), "sentiment": torch.ones(4, 1, 1)}
    found = scales.shifted(ones, batch([0, 1, 2, -1]))
    # the third part is not judged on valence, the first and third not on arousal
    np.testing.assert_allclose(found["vad"][:, 0, 0].detach(), [1.6, 0.8, 1.2, 1.2], atol=1e-6)
    np.testing.assert_allclose(found["vad"][:, 0, 1].detach(), 1.4, atol=1e-6)
    assert torch.equal(found["sentiment"], ones["sentiment"])
    found["vad"].sum().backward()
    gradient = scales.get_parameter("offset_vad").grad
    assert gradient is not None
    assert gradient[2].abs().sum().item() == 0


def test_an_offset_and_a_slope_are_learnt_for_each_part():
    """Two parts say the same on scales of their own: one network answers each on its own."""
    torch.manual_seed(0)
    both = dict.fromkeys(VAD.names, Knots())
    spec = Spec({"text": 3}, (VAD,), parts=PartSpec({"a": both, "b": both}, has_offsets=True))
    kind = find_method("linear")
    method = kind(spec, kind.config_type(dropout=0.0))
    x = torch.randn(64, 1, 3)
    said = x[..., :1].expand(-1, -1, 2)
    parts = (torch.arange(64) % 2).view(64, 1)
    truth = torch.where(parts.unsqueeze(-1) == 0, 0.1 * said + 0.5, said - 0.5)
    one = replace(
        batch(list(range(64))),
        features={"text": x},
        targets={"vad": truth},
        parts=parts,
    )
    plain = kind(replace(spec, parts=None), kind.config_type(dropout=0.0))
    assert fitted_loss(method, one) < 1e-3
    assert fitted_loss(plain, one) > 0.1


def fitted_loss(method: Method, one: Batch) -> float:
    """What is left of the loss on one batch after some steps."""
    optimizer = torch.optim.Adam(method.parameters(), 0.03)
    for _ in range(600):
        optimizer.zero_grad()
        method.losses(one)["vad"].backward()
        optimizer.step()
    return float(method.losses(one)["vad"].detach())


def test_a_network_without_parts_has_the_weights_that_it_had():
    kind = find_method("linear")
    assert set(kind(Spec({"text": 3}, (VAD,)), kind.config_type()).state_dict()) == {
        "normalise.mean_text", "normalise.scale_text", "heads.vad.weight", "heads.vad.bias",
    }  # fmt: skip


def test_a_spec_comes_back_from_plain_values():
    spec = spec_of("quantile", has_offsets=True)
    assert PartSpec.of(asdict(spec)) == spec
