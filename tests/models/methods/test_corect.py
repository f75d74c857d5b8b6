import pytest
import torch

from models.batch import Target
from models.errors import UserError
from models.methods.corect.cross_modal import PreNormLayer
from models.methods.corect.graph import NodeNorm, RelationalConv, relations, typed_edges
from models.methods.corect.method import Config
from tests.models.dialogues import (
    DIMS,
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

SMALL = {"width": 8}
SIX = Target("category", "category", ("hap", "sad", "neu", "ang", "exc", "fru"))


def edges(length: int, modalities: int, earlier: int, later: int, kinds=None) -> torch.Tensor:
    mask = torch.ones(1, length, dtype=torch.bool)
    present = torch.ones(1, modalities, length, dtype=torch.bool)
    return typed_edges(mask, present, kinds or relations(modalities), earlier, later)[0]


def test_relational_convolution_takes_the_mean_per_relation():
    layer = RelationalConv(1, [(0, 0), (0, 0)])
    with torch.no_grad():
        layer.root.weight.fill_(1.0)
        layer.weight.copy_(torch.tensor([10.0, 100.0]).view(2, 1, 1))
    edges = torch.zeros(1, 2, 3, 3, dtype=torch.bool)  # [relation, target, source]
    edges[0, 0, 1, 0] = edges[0, 0, 1, 2] = edges[0, 1, 1, 1] = True
    nodes = torch.tensor([1.0, 2.0, 4.0]).view(1, 1, 3, 1)
    assert layer(nodes, edges).flatten().tolist() == [1.0, 227.0, 4.0]


def test_relations_lead_from_their_source_group_to_their_target_group():
    layer = RelationalConv(1, [(0, 1)])
    with torch.no_grad():
        layer.root.weight.zero_()
        layer.weight.fill_(1.0)
    nodes = torch.tensor([[3.0, 5.0], [7.0, 9.0]]).view(1, 2, 2, 1)
    edges = torch.eye(2, dtype=torch.bool).view(1, 1, 2, 2)
    assert layer(nodes, edges).flatten().tolist() == [0, 0, 3, 5]


def test_node_norm_takes_a_single_row_in_training():
    norm = NodeNorm(3).train()
    row = torch.tensor([[1.0, 2.0, 3.0]])
    assert torch.allclose(norm(row), row, atol=1e-4)
    assert norm.num_batches_tracked == 0
    rows = torch.randn(8, 3)
    assert torch.allclose(norm(rows), torch.nn.BatchNorm1d(3)(rows))


def test_released_configuration_has_17703074_parameters():
    dims = {"audio": 100, "video": 512, "text": 768}
    method = build("corect", target=SIX, dims=dims)
    assert sum(p.numel() for p in method.parameters()) == 17_703_074
    parts = {
        "text": method.encoders["text"],
        "audio": method.encoders["audio"],
        "video": method.encoders["video"],
        "speaker": method.speaker,
        "convolution": method.graph.convolve,
        "graph transformer": method.graph.transformer,
        "norm": method.graph.norm,
        "cross-modal": method.cross_modal,
        "fusion": method.fuse,
        "head": method.heads,
    }
    sizes = {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}
    assert sizes == {
        "text": 11_104_868,
        "audio": 20_200,
        "video": 61_400,
        "speaker": 200,
        "convolution": 160_100,
        "graph transformer": 282_800,
        "norm": 1_400,
        "cross-modal": 5_801_400,
        "fusion": 270_100,
        "head": 606,
    }


@pytest.mark.parametrize(
    ("modalities", "count", "width"), [(1, 3, 700), (2, 8, 1600), (3, 15, 2700)]
)
def test_relations_and_classifier_width_grow_with_the_modalities(modalities, count, width):
    assert len(relations(modalities)) == count
    names = ("text", "audio", "video")[:modalities]
    assert build("corect", names).fuse[0].in_features == width


def test_relation_ids_follow_the_reference():
    kinds = relations(3)
    assert [r.kind for r in kinds] == ["past"] * 3 + ["future"] * 3 + ["self"] * 3 + ["cross"] * 6
    ends = [(r.source, r.target) for r in kinds]
    assert ends[:9] == [(k, k) for k in range(3)] * 3
    assert ends[9:] == [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)]
    assert len(relations(3, "temporal")) == 9
    assert [r.kind for r in relations(3, "cross")] == ["self"] * 3 + ["cross"] * 6


@pytest.mark.parametrize(
    ("length", "window", "temporal", "totals"),
    [
        (5, (1, 2), 16, {3: 78, 2: 42}),
        (20, (11, 4), 244, {3: 852}),
        (20, (11, 8), 298, {3: 1014}),
        (50, (11, 4), 724, {3: 2472}),
        (1, (4, 11), 1, {3: 9}),
    ],
)
def test_edge_counts(length, window, temporal, totals):
    for earlier, later in (window, window[::-1]):
        for modalities, expected in totals.items():
            found = edges(length, modalities, earlier, later)
            assert found.sum() == expected
            assert found[: 3 * modalities].sum() == modalities * temporal


def test_unlimited_windows_reach_the_whole_dialogue():
    assert edges(7, 1, -1, -1).sum() == 49
    assert edges(7, 1, -1, 0).sum() == 28


@pytest.mark.parametrize(
    ("semantics", "window", "counts", "senders"),
    [
        ("official", (2, 2), [4, 7], [1, 2, 3, 4]),
        ("paper", (2, 1), [7, 4], [0, 1, 2, 3]),
    ],
)
def test_window_semantics(semantics, window, counts, senders):
    earlier, later = Config(window=window, window_semantics=semantics).heard
    found = edges(5, 3, earlier, later)
    per_relation = found.sum((1, 2)).tolist()
    assert per_relation == [counts[0]] * 3 + [counts[1]] * 3 + [5] * 9
    assert found[[0, 3, 6], 2].any(0).nonzero().flatten().tolist() == senders


def test_released_window_hears_4_earlier_and_11_later():
    assert Config().heard == (4, 11)
    assert Config(window=(-1, 3)).heard == (2, -1)
    assert Config(window=(3, -1)).heard == (-1, 3)


def test_absent_cells_send_only_to_themselves():
    mask = torch.tensor([[True, True, True, False]])
    present = torch.ones(1, 2, 4, dtype=torch.bool)
    present[0, 1, 1] = False
    kinds = relations(2)
    found = typed_edges(mask, present, kinds, -1, -1)[0]
    for relation, matrix in zip(kinds, found, strict=True):
        assert not matrix[3].any()
        assert not matrix[:, 3].any()
        if relation.source == 1:
            assert matrix[:, 1].sum() == (relation.kind == "self")
        elif relation.target == 1:
            assert matrix[1, 1], "an absent node still hears the other modality"


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.kind)
@pytest.mark.parametrize("names", SUBSETS, ids="+".join)
def test_predicts_every_target_from_every_subset(names, target):
    method = build("corect", names, target, **SMALL)
    batch = dialogues([4, 1], names)
    assert output(method, batch).shape == (2, 4, target.width)
    assert output(method, select(batch, [1], 1)).isfinite().all()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"text_encoder": "lstm"},
        {"text_encoder": "ffn"},
        {"use_graph": False},
        {"use_graph": False, "use_cross_modal": False},
        {"use_graph_transformer": False},
        {"use_cross_modal": False},
        {"use_speaker": False},
        {"edges": "temporal"},
        {"edges": "cross"},
        {"window": (-1, -1)},
    ],
    ids=str,
)
def test_every_ablation_is_free_of_leaks_and_trains(options):
    method = build("corect", **SMALL, **options)
    check_padding_and_mates_change_nothing(method)
    check_padding_and_mates_change_nothing(method, present_share=0.5)
    check_absent_values_change_nothing(method)
    check_every_parameter_gets_gradient(method)


def test_every_projection_of_the_cross_modal_branch_starts_by_xavier():
    branch = build("corect").cross_modal
    outward = [m.attention.outward for m in branch.modules() if isinstance(m, PreNormLayer)]
    assert len(outward) == 6 * 2 + 3 * 3
    for linear in outward:
        bound = (6 / sum(linear.weight.shape)) ** 0.5
        assert float(linear.weight.detach().std()) == pytest.approx(bound / 3**0.5, rel=0.05)


@pytest.mark.parametrize("names", [("text",), ("audio",), ("text", "video")])
def test_subsets_are_free_of_leaks_and_train(names):
    method = build("corect", names, **SMALL)
    check_padding_and_mates_change_nothing(method)
    check_absent_values_change_nothing(method)
    check_every_parameter_gets_gradient(method)


def test_without_masks_a_batch_mate_changes_the_output():
    method = build("corect", mask_padding=False, **SMALL)
    batch = dialogues([4, 9], seed=3)
    joint = output(method, batch)[0, :4]
    assert not torch.allclose(joint, output(method, select(batch, [0], 4))[0], atol=1e-4)
    check_absent_values_change_nothing(method)
    check_every_parameter_gets_gradient(method)


def test_a_lone_single_utterance_trains():
    for names in (("audio",), ("audio", "text")):
        method = build("corect", names, **SMALL)
        check_every_parameter_gets_gradient(method, dialogues([1], names))


def test_two_convolutions_reach_two_hops():
    method = build(
        "corect",
        text_encoder="ffn",
        use_cross_modal=False,
        window=(1, 0),
        window_semantics="paper",
        **SMALL,
    )
    batch = dialogues([6])
    before = output(method, batch)[0]
    batch.features["audio"][0, 0] += 3.0
    moved = (output(method, batch)[0] - before).abs().sum(-1)
    assert (moved[:3] > 0).all()
    assert (moved[3:] == 0).all()


def test_speakers_above_the_table_use_its_last_row():
    method = build("corect", speakers=2, **SMALL)
    batch = dialogues([6], speakers=4, seed=1)
    assert batch.speakers.max() == 3
    clamped = batch.speakers.clamp(max=1)
    before = output(method, batch)
    batch.speakers.copy_(clamped)
    assert torch.equal(before, output(method, batch))


def test_class_weights_weigh_the_mean():
    batch = dialogues([5, 3])
    plain = build("corect", dropout=0.0, **SMALL)
    weighted = build("corect", dropout=0.0, class_weights=(1.0, 2.0, 5.0), **SMALL)
    weighted.load_state_dict(plain.state_dict())
    logits = plain.predict(batch)["category"][batch.mask]
    truth = batch.targets["category"][batch.mask]
    weights = torch.tensor([1.0, 2.0, 5.0])[truth]
    terms = -logits.log_softmax(-1).gather(1, truth[:, None]).squeeze(1)
    expected = (weights * terms).sum() / weights.sum()
    assert torch.allclose(weighted.losses(batch)["category"], expected, atol=1e-5)


def test_wrong_options_are_explained():
    with pytest.raises(UserError, match="text_encoder is 'lsmt'; use one of transformer"):
        Config(text_encoder="lsmt")
    with pytest.raises(UserError, match="at least -1"):
        Config(window=(3, -2))
    with pytest.raises(UserError, match="use 1 for none"):
        Config(window=(3, 0))
    with pytest.raises(UserError, match="class_weights has 2 numbers"):
        build("corect", class_weights=(1.0, 2.0))


def test_same_seed_same_losses():
    check_same_seed_same_losses("corect", **SMALL)


def test_dims_of_any_width_are_accepted():
    dims = dict(DIMS) | {"audio": 1, "text": 17}
    method = build("corect", dims=dims, **SMALL)
    assert output(method, dialogues([3], dims=dims)).isfinite().all()
