from dataclasses import replace

import pytest
import torch

from models.errors import UserError
from models.layers.graph import window_mask
from models.layers.ragged import Ragged
from models.methods.mi_cga.attention import CrossModalAttention, GraphAttention
from models.methods.mi_cga.estimation import smooth, symmetric_normalise
from models.methods.mi_cga.method import Config
from tests.models.dialogues import (
    SUBSETS,
    TARGETS,
    build,
    check_absent_values_change_nothing,
    check_every_parameter_gets_gradient,
    check_padding_and_mates_change_nothing,
    check_same_seed_same_losses,
    dialogues,
    output,
    select,
)

NO_GRAPH = {"width": 8, "speaker_width": 6, "hidden": 10}
SMALL = NO_GRAPH | {"head_width": 4, "graph_heads": 2}


def test_smoothing():
    assert smooth(torch.tensor(2.0), torch.tensor(1.0), 0.3).item() == pytest.approx(1.7)
    assert smooth(torch.tensor(2.0), torch.tensor(0.0), 0.3).item() == pytest.approx(1.4)
    assert smooth(torch.tensor(2.0), torch.tensor(1.0), 1.0).item() == 1.0


def test_estimates_of_missing_cells_stay_unmixed_on_request():
    method = build("mi_cga", smooth_observed_only=True, **SMALL)
    observed = torch.tensor([[True, False, True]])
    expected = [False] * 14 + [True] * 8 + [False] * 8
    assert method.is_missing(observed)[0].tolist() == expected


def test_chain_is_normalised_symmetrically():
    adjacency = window_mask(torch.ones(1, 4, dtype=torch.bool), 1, 1)
    assert adjacency.sum(-1)[0].tolist() == [2, 3, 3, 2]
    normalised = symmetric_normalise(adjacency)[0]
    assert normalised[0].tolist() == pytest.approx([0.5, 0.408248, 0, 0], abs=1e-6)
    assert normalised[1].tolist() == pytest.approx([0.408248, 1 / 3, 1 / 3, 0], abs=1e-6)


def test_graph_attention_toy():
    layer = GraphAttention(1, heads=1, head_width=1, dropout=0.0)
    with torch.no_grad():
        for weight in layer.parameters():
            weight.fill_(1.0)
    nodes = torch.tensor([[1.0], [-2.0]])
    window = torch.ones(1, 2, 2, dtype=torch.bool)
    alpha = layer.weights(nodes.view(1, 1, 2, 1), window)[0, 0]
    assert alpha[0].tolist() == pytest.approx([0.900250, 0.099750], abs=1e-6)
    assert alpha[1].tolist() == pytest.approx([0.645656, 0.354344], abs=1e-6)
    out = layer(nodes, [window], Ragged(torch.ones(1, 2, dtype=torch.bool))).flatten()
    expected = torch.nn.functional.elu(torch.tensor([0.700749, -0.063031]))
    assert out.tolist() == pytest.approx(expected.tolist(), abs=1e-6)


def test_cross_modal_toy():
    layer = CrossModalAttention(2, 1, has_residual=False)
    ragged = Ragged(torch.ones(1, 2, dtype=torch.bool))
    q = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1)
    kv = torch.tensor([[0.0, 2.0], [1.0, 4.0]]).view(1, 2, 1, 2)
    answer = layer.answer(q, kv, ragged.mask).flatten().tolist()
    assert answer == pytest.approx([3.462117, 3.0], abs=1e-5)


def test_each_direction_asks_with_its_own_weights():
    torch.manual_seed(0)
    layer = CrossModalAttention(3, 4, has_residual=False)
    blocks = torch.randn(5, 3, 4)
    ragged = Ragged(torch.ones(1, 5, dtype=torch.bool))
    answers = layer(blocks, ragged).view(5, 6, 4)
    place = 0
    for asking in range(3):
        for slot, asked in enumerate(m for m in range(3) if m != asking):
            back = [m for m in range(3) if m != asked].index(asking)
            q = blocks[:, asking] @ layer.query[asking, :, 4 * slot : 4 * slot + 4]
            kv = blocks[:, asked] @ layer.key_value[asked, :, 8 * back : 8 * back + 8]
            k, v = kv.chunk(2, 1)
            expected = (q @ k.T / 2).softmax(1) @ v
            assert torch.allclose(answers[:, place], expected, atol=1e-6)
            place += 1


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.kind)
@pytest.mark.parametrize("names", SUBSETS, ids="+".join)
def test_predicts_every_target_from_every_subset(names, target):
    method = build("mi_cga", names, target, **SMALL)
    batch = dialogues([4, 1], names)
    assert output(method, batch).shape == (2, 4, target.width)
    assert output(method, select(batch, [1], 1)).isfinite().all()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"missing_rate": 0.0},
        {"mask_stage": "latent"},
        {"mask_stage": "input"},
        {"smooth_observed_only": True},
        {"feature_estimation": False},
        {"graph_attention": False},
        {"cross_attention": False},
        {"cross_residual": True},
        {"reconstruction": "kl"},
        {"reconstruction": "none"},
        {"reconstruct": "smoothed"},
        {"reconstruction_target": "raw"},
        {"reconstruction_mean": "valid"},
        {"window_past": 0, "window_future": -1},
    ],
    ids=str,
)
def test_every_variant_is_free_of_leaks_and_trains(options):
    size = SMALL if options.get("graph_attention", True) else NO_GRAPH
    method = build("mi_cga", **size, **options)
    check_padding_and_mates_change_nothing(method)
    check_padding_and_mates_change_nothing(method, present_share=0.5)
    check_absent_values_change_nothing(method)
    check_every_parameter_gets_gradient(method)


@pytest.mark.parametrize("names", [("text",), ("audio",), ("audio", "video")])
def test_subsets_are_free_of_leaks_and_train(names):
    method = build("mi_cga", names, **SMALL)
    check_padding_and_mates_change_nothing(method)
    check_absent_values_change_nothing(method)
    check_every_parameter_gets_gradient(method, dialogues([9, 9], names))


def test_more_dialogues_than_one_group_change_nothing():
    method = build("mi_cga", **SMALL)
    lengths = [3, 11, 2, 7, 7, 1, 4, 12, 5, 6, 9, 2, 8, 10, 1, 3, 4, 2]
    batch = dialogues(lengths, present_share=0.7)
    joint = output(method, batch)
    for row in (0, 5, 7, 17):
        alone = output(method, select(batch, [row], lengths[row]))[0]
        assert torch.allclose(alone, joint[row, : lengths[row]], atol=1e-5)


@pytest.mark.parametrize(("stage", "leaks"), [("input", False), ("both", False), ("latent", True)])
def test_text_of_a_hidden_cell_leaks_only_if_latents_alone_are_masked(stage, leaks):
    method = build("mi_cga", mask_stage=stage, **SMALL).eval()
    batch = dialogues([6])
    ragged = Ragged(batch.mask)
    observed = method.presence(batch, ragged)
    observed[2, method.spec.modalities.index("text")] = False

    def logits(text):
        changed = replace(batch, features={**batch.features, "text": text})
        with torch.no_grad():
            return method.stages(changed, observed, ragged).outputs["category"]

    text = batch.features["text"].clone()
    before = logits(text)
    text[0, 2] += 3.0
    moved = (logits(text) - before).abs().max().item()
    assert (moved > 1e-6) == leaks


def test_training_hides_cells_and_prediction_does_not():
    method = build("mi_cga", missing_rate=0.7, dropout=0.0, attention_dropout=0.0, **SMALL)
    batch = dialogues([6, 4])
    losses = method.train().losses(batch)
    assert set(losses) == {"category", "reconstruction"}
    assert losses["reconstruction"] > 0
    assert method.step == 1
    shown = method.eval().losses(batch)
    assert shown["reconstruction"] == 0
    assert shown["category"] != losses["category"]
    assert method.step == 1


def test_nothing_is_reconstructed_where_nothing_is_hidden():
    method = build("mi_cga", missing_rate=0.0, **SMALL).train()
    assert set(method.losses(dialogues([3]))) == {"category"}


def test_absent_cells_of_the_data_are_no_targets_of_reconstruction():
    method = build("mi_cga", missing_rate=1.0, dropout=0.0, **SMALL).train()
    batch = dialogues([6, 4]).with_modalities({"audio"})
    assert method.losses(batch)["reconstruction"] == 0


def test_reconstruction_does_not_move_the_encoders_through_its_target():
    # with a smoothing of 0 and a zeroed estimator the estimate is a constant
    method = build("mi_cga", missing_rate=0.7, **SMALL).train()
    torch.nn.init.zeros_(method.estimate.decode[2].weight)
    method.losses(dialogues([6]))["reconstruction"].backward()
    moved = [p.grad for p in method.encoders.parameters() if p.grad is not None]
    assert all((g == 0).all() for g in moved)


def test_masks_follow_the_step_counter_and_survive_a_restart():
    first = build("mi_cga", missing_rate=0.4, **SMALL)
    present, talk = torch.ones(30, 3, dtype=torch.bool), torch.zeros(30, dtype=torch.long)
    masks = [first.hide(present, talk) for _ in range(3)]
    assert not torch.equal(masks[0], masks[1])
    resumed = build("mi_cga", seed=1, missing_rate=0.4, **SMALL)
    resumed.load_state_dict(first.state_dict())
    assert torch.equal(resumed.hide(present, talk), first.hide(present, talk))
    other = build("mi_cga", missing_rate=0.4, mask_seed=1, **SMALL)
    assert not torch.equal(other.hide(present, talk), masks[0])


def test_a_modality_is_hidden_from_a_whole_dialogue():
    method = build("mi_cga", missing_rate=0.5, **SMALL)
    method.hide_unit = "dialogue"
    talks = torch.arange(400) // 4
    present = torch.rand(400, 3, generator=torch.Generator().manual_seed(0)) < 0.9
    seen = method.hide(present, talks)
    assert not (seen & ~present).any()
    for modality in range(3):
        for mine, had in zip(
            seen[:, modality].split(4), present[:, modality].split(4), strict=True
        ):
            assert torch.equal(mine, had) or not mine.any()
    assert (present & ~seen).sum() / present.sum() == pytest.approx(0.5, abs=0.05)


def test_a_random_rate_is_one_for_each_dialogue():
    method = build("mi_cga", missing_rate=0.6, **SMALL)
    method.hide_rate = "random"
    talks = torch.arange(9000) // 300
    hidden = ~method.hide(torch.ones(9000, 3, dtype=torch.bool), talks)
    shares = hidden.float().reshape(30, -1).mean(1)
    assert shares.mean() == pytest.approx(0.3, abs=0.06)
    assert shares.min() < 0.1
    assert shares.max() > 0.5


def test_a_lone_single_utterance_trains():
    check_every_parameter_gets_gradient(build("mi_cga", **SMALL), dialogues([1]))


def test_same_seed_same_losses():
    check_same_seed_same_losses("mi_cga", **SMALL)


def test_wrong_options_are_explained():
    with pytest.raises(UserError, match="mask_stage is 'none'; use one of input, latent, both"):
        Config(mask_stage="none")
    with pytest.raises(UserError, match=r"missing_rate is .* it lies in"):
        Config(missing_rate=1.5)
    with pytest.raises(UserError, match="both are off"):
        Config(graph_attention=False, cross_attention=False)
    with pytest.raises(UserError, match="with one modality"):
        build("mi_cga", ("audio",), graph_attention=False, **NO_GRAPH)
    with pytest.raises(UserError, match="width is 7; it must be even"):
        Config(width=7)
