import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from models.backbone import JOINT, Backbone, focal_loss
from models.batch import Target
from models.errors import UserError
from models.layers.graph import window_mask
from models.layers.multimodal_graph import Gcnii, GcniiLayer, MultimodalGraph, angular_similarity
from models.layers.party_rnn import Sizes, run_parties
from models.layers.ragged import Ragged
from models.layers.sequence import MatchingAttention, positions, reorder, reversal
from models.method import Spec, configure, find_method, total
from models.methods.biddin.crossed import CrossContext, CrossMemory
from models.methods.biddin.streams import SimpleCell, SimpleMemory
from models.methods.dialogue_gcn import EdgeWeights, GraphConv, SpeakerConv
from models.methods.dialogue_rnn import GeneralCell, GeneralMemory, GeneralPartyRnn
from models.methods.mm_dfn.fusion import PartyContext
from models.methods.mm_dfn.pairs import PairGate
from models.plugin import backbone_names
from tests.factories import CATEGORY, DIMS, LABELS, VAD_TARGET, ToyData

FORMS = [(name, form) for name in backbone_names() for form in find_method(name).variants]
SEPARABLE = [(n, f) for n, f in FORMS if find_method(n).variants[f].is_separable]


def build(name, form, dims=DIMS, target=CATEGORY, speakers=2, **options) -> Backbone:
    torch.manual_seed(0)
    backbone = find_method(name)
    config = configure(backbone.config_type, {"variant": form, **options}, name)
    return backbone(Spec(dims, (target,), speakers), config)


def full(lengths):
    return torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]


# --- every backbone in every published form ------------------------------------------------------


def test_all_six_backbones_are_found():
    assert backbone_names() == [
        "bc_lstm", "biddin", "dialogue_gcn", "dialogue_rnn", "mm_dfn", "mmgcn",
    ]  # fmt: skip


@pytest.mark.parametrize("target", [CATEGORY, VAD_TARGET, LABELS], ids=lambda t: t.kind)
@pytest.mark.parametrize(("name", "form"), FORMS)
def test_every_form_predicts_every_kind_and_trains_all_parameters(name, form, target):
    data = ToyData(targets=[target], absent=0.3)
    method = build(name, form, target=target).train()
    method.prepare(data)
    batch = method.normalise(data.batch(range(6)))
    losses = method.losses(batch)
    total(losses).backward()
    idle = [n for n, p in method.named_parameters() if p.grad is None or not p.grad.any()]
    assert idle == []
    output = method.eval().predict(batch.without_labels())[target.name]
    assert output.shape == (6, 6, target.width)


@pytest.mark.parametrize(("name", "form"), FORMS)
def test_padding_and_batch_mates_change_nothing_in_any_form(name, form):
    data = ToyData(lengths=(3, 9, 1, 6), speakers=3, absent=0.3)
    method = build(name, form, speakers=3).eval()
    together = method.predict(data.batch([0, 1, 2, 3]))["category"]
    for row, length in enumerate(data.lengths):
        alone = method.predict(data.batch([row]))["category"][0]
        torch.testing.assert_close(together[row, :length], alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("name", "form"), FORMS)
def test_values_of_absent_modalities_are_never_looked_at(name, form):
    data = ToyData(absent=0.5)
    method = build(name, form).eval()
    batch = data.batch(range(6))
    junk = {
        m: v.masked_fill(~batch.present[m].unsqueeze(-1), 7.0) for m, v in batch.features.items()
    }
    before = method.predict(batch)["category"]
    after = method.predict(replace(batch, features=junk))["category"]
    torch.testing.assert_close(before[batch.mask], after[batch.mask])


@pytest.mark.parametrize(("name", "form"), FORMS)
def test_a_dialogue_of_110_turns_and_more_speakers_than_in_training(name, form):
    data = ToyData(lengths=(110, 1), speakers=7)
    method = build(name, form, speakers=2).eval()
    with torch.no_grad():
        assert torch.isfinite(method.predict(data.batch([0, 1]))["category"]).all()


@pytest.mark.parametrize(("name", "form"), SEPARABLE)
def test_votes_sum_to_the_prediction_and_absent_modalities_have_none(name, form):
    data = ToyData(absent=0.5)
    method = build(name, form).eval()
    batch = data.batch(range(6))
    votes = method.unimodal(batch)
    assert list(votes) == ["audio", "video", "text"]
    torch.testing.assert_close(sum(votes.values()), method.predict(batch)["category"])
    for modality in DIMS:
        assert not votes[modality][batch.mask & ~batch.present[modality]].any()


@pytest.mark.parametrize(("name", "form"), SEPARABLE)
def test_encoders_of_modalities_share_nothing(name, form):
    method = build(name, form)
    owned = {m: {id(p) for p in method.encoder_parameters(m)} for m in DIMS}
    heads = {id(p) for p in method.heads.parameters()}
    for modality, mine in owned.items():
        assert mine
        others = set.union(*(ids for m, ids in owned.items() if m != modality))
        assert not mine & (others | heads)


def test_unknown_form_is_refused_by_name():
    with pytest.raises(UserError, match="has no variant 'spclx'; it has: original, spcl"):
        build("mmgcn", "spclx")


def test_pairwise_fusion_of_one_modality_is_refused():
    with pytest.raises(UserError, match="fuses pairs of modalities"):
        build("mm_dfn", "spcl", dims={"text": 6})


@pytest.mark.parametrize(
    ("name", "form", "option"),
    [
        ("bc_lstm", "hierarchical", {"layers": 3}),
        ("bc_lstm", "hierarchical", {"dropout": 0.5}),
        ("bc_lstm", "hierarchical", {"has_attention": True}),
        ("biddin", "spcl", {"width": 50}),
        ("biddin", "spcl", {"has_batch_gate": True}),
        ("mm_dfn", "spcl", {"speaker_weights": (0.5, 0.5, 1.5)}),
    ],
    ids=str,
)
def test_options_that_do_nothing_in_a_form_are_refused(name, form, option):
    said = f"{next(iter(option))} does nothing in variant '{form}'"
    with pytest.raises(UserError, match=said):
        build(name, form, **option)
    build(name, find_method(name).config_type().variant, **option)


def test_a_speaker_embedding_for_text_needs_text():
    with pytest.raises(UserError, match="speaker_embedding is 'text', but there is no text"):
        build("mmgcn", "original", dims={"audio": 4}, speaker_embedding="text")
    assert build("mmgcn", "original", dims={"audio": 4}).speaker is None


@pytest.mark.parametrize("options", [{"class_weights": True}, {"focal_gamma": 2.0}])
def test_class_losses_need_classes(options):
    with pytest.raises(UserError, match="need a target of classes"):
        build("mmgcn", "original", target=VAD_TARGET, **options)


def test_class_weights_come_from_the_training_data():
    data = ToyData()
    method = build("bc_lstm", "original", class_weights=True)
    method.prepare(data)
    counts = torch.bincount(data.truth(CATEGORY), minlength=3).float()
    torch.testing.assert_close(method.class_weight, counts.sum() / counts)
    batch = data.batch(range(6))
    output = torch.randn(*batch.mask.shape, 3, generator=torch.Generator().manual_seed(0))
    truth = batch.targets["category"][batch.mask]
    each = F.cross_entropy(output[batch.mask], truth, reduction="none")
    weight = method.class_weight[truth]
    expected = (weight * each).sum() / weight.sum()
    torch.testing.assert_close(method.task_loss(output, batch), expected)


@pytest.mark.parametrize(
    ("gamma", "expected"), [(0.0, 1.386294), (0.5, 1.200566), (1.0, 1.039721), (2.0, 0.779791)]
)
def test_focal_loss(gamma, expected):
    logits = torch.zeros(1, 4)  # p = 0.25
    found = focal_loss(logits, torch.tensor([2]), torch.ones(4), gamma)
    assert found.item() == pytest.approx(expected, abs=1e-6)


def test_focal_loss_has_a_gradient_where_it_is_sure():
    logits = torch.tensor([[80.0, 0.0]], requires_grad=True)
    focal_loss(logits, torch.tensor([0]), torch.ones(2), 0.5).backward()
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_a_detached_focal_factor_is_a_constant_weight(gamma):
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    truth, weight = torch.tensor([0, 1, 2, 0, 1]), torch.tensor([1.0, 2.0, 3.0])
    found = focal_loss(logits, truth, weight, gamma, is_detached=True)
    torch.testing.assert_close(found, focal_loss(logits, truth, weight, gamma))
    (grad,) = torch.autograd.grad(found, logits)
    p = logits.detach().softmax(-1)
    factor = weight[truth] * (1 - p.gather(1, truth[:, None])[:, 0]) ** gamma
    expected = factor[:, None] * (p - F.one_hot(truth, 3)) / 5
    torch.testing.assert_close(grad, expected)


def test_a_detached_factor_needs_a_focal_loss():
    with pytest.raises(UserError, match="focal_detached does nothing without a focal loss"):
        build("mm_dfn", "original", focal_detached=True)
    build("mm_dfn", "original", focal_detached=True, focal_gamma=0.5)


# --- DialogueGCN ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("length", "reach", "edges"), [(3, 2, 9), (5, 2, 19), (20, 10, 310), (20, 5, 190), (5, 10, 25)]
)
def test_edge_counts_of_windows(length, reach, edges):
    assert window_mask(full([length]), reach, reach).sum() == edges


@pytest.mark.parametrize(("speakers", "relations"), [(2, 8), (8, 128), (9, 162)])
def test_relation_counts(speakers, relations):
    assert SpeakerConv(4, 3, speakers, 5).mixture.shape == (relations, 5)


def naive_speaker_conv(layer, x, edges, speakers, weights=None):
    weight = torch.einsum("rb,bdh->rdh", layer.mixture, layer.bases)
    out = layer.root(x).clone()
    count = layer.speakers
    for b in range(len(x)):
        for i in range(x.shape[1]):
            heard = {}
            for j in edges[b, i].nonzero().flatten().tolist():
                relation = 2 * int(speakers[b, j] * count + speakers[b, i]) + (0 if j < i else 1)
                heard.setdefault(relation, []).append(j)
            for relation, sources in heard.items():
                for j in sources:
                    share = 1 if weights is None else weights[b, i, j]
                    share = share if layer.is_summed else share / len(sources)
                    out[b, i] = out[b, i] + share * (x[b, j] @ weight[relation])
    return out


@pytest.mark.parametrize(
    ("is_weighted", "is_summed"), [(False, False), (True, False), (True, True)]
)
def test_relational_layer_agrees_with_loops_over_edges(is_weighted, is_summed):
    torch.manual_seed(0)
    layer = SpeakerConv(4, 3, 3, 5, is_summed)
    x, mask = torch.randn(2, 6, 4), full([6, 4])
    speakers = torch.randint(3, (2, 6)) * mask
    edges = window_mask(mask, 2, 1)
    weights = EdgeWeights(4)(x, edges) if is_weighted else None
    expected = naive_speaker_conv(layer, x, edges, speakers, weights)
    torch.testing.assert_close(layer(x, edges, speakers, weights), expected)


def test_relation_ids_lead_with_the_source():
    layer = SpeakerConv(1, 1, 2, 8)
    with torch.no_grad():
        layer.bases.fill_(1.0)
        layer.mixture.copy_(torch.diag(torch.arange(8.0)))
        layer.root.weight.zero_()
        layer.root.bias.zero_()
    speakers = torch.tensor([[1, 0]])
    edges = torch.zeros(1, 2, 2, dtype=torch.bool)
    edges[0, 1, 0] = True  # target speaker 0, earlier source of speaker 1
    edges[0, 0, 0] = True  # self edge of speaker 1
    found = layer(torch.ones(1, 2, 1), edges, speakers)
    assert found.flatten().tolist() == [7.0, 4.0]


def test_edge_weights_sum_to_one_over_the_targets_of_a_source():
    torch.manual_seed(0)
    layer, mask = EdgeWeights(4), full([5, 3])
    edges = window_mask(mask, 2, 1)
    x = torch.randn(2, 5, 4)
    weights = layer(x, edges)
    torch.testing.assert_close(weights.sum(1)[mask], torch.ones(8))
    assert not weights[~edges].any()
    scores = torch.stack([x[0, 2] @ layer.weight @ x[0, i] for i in range(5)])
    own = edges[0, :, 2]
    torch.testing.assert_close(weights[0, own, 2], torch.softmax(scores[own], 0))


def test_edge_softmax_values():
    layer = EdgeWeights(2)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[0.0, 1.0], [0.0, 0.0]]))
    # source 2 scores (1, 2, 0) against the three targets
    x = torch.tensor([[[0.0, 1.0], [0.0, 2.0], [1.0, 0.0]]])
    weights = layer(x, torch.ones(1, 3, 3, dtype=torch.bool))
    expected = [0.244728, 0.665241, 0.090031]
    assert weights[0, :, 2].tolist() == pytest.approx(expected, abs=1e-6)


def test_second_graph_layer_sums_weighted_neighbours():
    torch.manual_seed(0)
    layer, x = GraphConv(3), torch.randn(1, 4, 3)
    weights = torch.rand(1, 4, 4)
    expected = layer.root(x) + (weights[..., None] * layer.neighbour(x)[:, None]).sum(2)
    torch.testing.assert_close(layer(x, weights), expected)


def test_windows_reach_as_far_as_asked():
    data = ToyData(lengths=(9,))
    method = build("dialogue_gcn", "spcl", past=1, future=0, dropout=0.0).eval()
    stream = method.graphs["text"]
    stream.encoder = nn.Linear(DIMS["text"], 200)  # no context but the graph's
    stream.encoder.forward = lambda x, _seen: F.linear(x, stream.encoder.weight)
    batch = data.batch([0])
    x = batch.features["text"].clone().requires_grad_()
    found = method.unimodal(replace(batch, features={**batch.features, "text": x}))["text"]
    (grad,) = torch.autograd.grad(found[0, 4].sum(), x)
    # A source reaches one back and none ahead, so target 4 hears 4 and 5 in a layer, 6 in the
    # next; the weights of source j are normalised over its targets j - 1 and j, here 3 to 6.
    assert grad[0].abs().sum(-1).nonzero().flatten().tolist() == [3, 4, 5, 6]


# --- MMGCN, MM-DFN -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cosine", "expected"), [(1.0, 0.998576), (0.0, 0.5), (0.5, 0.666665), (-1.0, 0.001424)]
)
def test_angular_similarity(cosine, expected):
    assert angular_similarity(torch.tensor(cosine)).item() == pytest.approx(expected, abs=1e-6)


def connect(nodes, exists=None):
    """The graph of one dialogue, nodes (U, M, D)."""
    exists = torch.ones(nodes.shape[:2], dtype=torch.bool) if exists is None else exists
    return MultimodalGraph.build(nodes, exists, Ragged(full([len(nodes)])))


def dense(graph, modalities, length):
    """The adjacency as one matrix, nodes utterance by utterance."""
    count = modalities * length
    units = torch.eye(count).view(length, modalities, count)
    return graph.propagate(units).reshape(count, count)


@pytest.mark.parametrize(
    ("modalities", "length", "edges"), [(3, 2, 24), (3, 20, 1320), (2, 20, 840)]
)
def test_adjacency_counts_and_symmetry(modalities, length, edges):
    torch.manual_seed(0)
    matrix = dense(connect(torch.randn(length, modalities, 5)), modalities, length)
    assert int((matrix != 0).sum()) == edges
    torch.testing.assert_close(matrix, matrix.T)


def test_adjacency_toy():
    nodes = torch.tensor([[[1.0, 0], [1.0, 0]], [[0, 1.0], [1.0, 0]]])
    matrix = dense(connect(nodes), 2, 2)
    assert matrix[0].tolist() == pytest.approx([0.399886, 0.365096, 0.223814, 0], abs=1e-6)
    # the self edge is 0.998576 over the degree
    degrees = 0.998576 / matrix.diagonal()
    assert degrees.tolist() == pytest.approx([2.497153, 2.995729, 1.998576, 2.497153], abs=1e-5)


def test_absent_nodes_have_no_edges_and_zero_vectors_no_nan():
    exists = torch.tensor([[True, False], [True, True]])
    nodes = torch.zeros(2, 2, 3, requires_grad=True)
    matrix = dense(connect(nodes, exists), 2, 2)
    assert not matrix[1].any()
    assert not matrix[:, 1].any()
    matrix.sum().backward()
    assert torch.isfinite(nodes.grad).all()


def test_identity_mapping_fades_with_depth():
    found = [GcniiLayer(2, number, 0.1, 0.5).theta for number in (1, 2, 3, 4, 16)]
    expected = [0.405465, 0.223144, 0.154151, 0.117783, 0.030772]
    assert found == pytest.approx(expected, abs=1e-6)


def test_graph_layer_toy():
    layer = GcniiLayer(1, 1, 0.1, 0.5)
    with torch.no_grad():
        layer.mix.weight.copy_(torch.tensor([[2.0, -1.0]]))
    half = MultimodalGraph(Ragged(full([2])), [torch.full((1, 1, 2, 2), 0.5)], torch.zeros(2, 1, 1))
    hidden = torch.tensor([[[1.0]], [[2.0]]])
    found = layer(hidden, torch.ones(2, 1, 1), half)
    assert found.flatten().tolist() == pytest.approx([1.673006, 1.673006], abs=1e-6)


def test_speaker_context_runs_over_each_speaker_alone():
    torch.manual_seed(0)
    layer = PartyContext(4, 0.0).eval()
    mask = full([5, 3])
    speakers = torch.tensor([[0, 1, 0, 0, 1], [1, 0, 1, 0, 0]])
    x = torch.randn(2, 2, 5, 4)
    found = layer(x, speakers, mask)
    for m in range(2):
        for b in range(2):
            for speaker in (0, 1):
                turns = (mask[b] & (speakers[b] == speaker)).nonzero().flatten()
                alone, _ = layer.gru.gru(x[m, b, turns].unsqueeze(0))
                torch.testing.assert_close(found[m, b, turns], alone[0])
    assert not found[:, ~mask].any()


def test_pair_gate_leaves_a_modality_alone_when_the_other_is_absent():
    torch.manual_seed(0)
    gate, own, other = PairGate(3), torch.randn(1, 2, 3), torch.randn(1, 2, 3)
    found = gate(own, other, torch.tensor([[True, False]]))
    g = torch.sigmoid(gate.gate(torch.cat([own, other, own * other], -1)))
    torch.testing.assert_close(found[:, 0], (g * own + (1 - g) * other)[:, 0])
    assert torch.equal(found[:, 1], own[:, 1])


@pytest.mark.parametrize(
    ("which", "knows"), [("text", {"text"}), ("all", set(DIMS)), ("none", set())]
)
def test_speaker_embedding_goes_where_it_is_asked(which, knows):
    method = build("mmgcn", "original", speaker_embedding=which).eval()
    batch = ToyData(lengths=(4,)).batch([0])
    for name in DIMS:
        x = batch.features[name]
        first, second = (
            method._nodes(name, x, replace(batch, speakers=torch.full_like(batch.speakers, s)))
            for s in (0, 1)
        )
        assert torch.equal(first, second) == (name not in knows)


# --- DialogueRNN, BiDDIN -------------------------------------------------------------------------


def test_gru_convention():
    cell = nn.GRUCell(1, 1)
    with torch.no_grad():
        for name, weight in cell.named_parameters():
            weight.fill_(0.0 if "bias" in name else 0.5)
    one, zero = torch.ones(1, 1), torch.zeros(1, 1)
    assert cell(one, zero).item() == pytest.approx(0.174468, abs=1e-6)
    assert cell(zero, one).item() == pytest.approx(0.736309, abs=1e-6)


def naive_parties(cell, x, speakers):
    """DialogueRNN of one dialogue with torch's own cells, a state per party."""
    glob, emotion = torch.zeros(1, 4), torch.zeros(1, 3)
    party = {s: torch.zeros(1, 5) for s in set(speakers.tolist())}
    history, states = [], []
    for u, speaker in zip(x, speakers.tolist(), strict=True):
        u = u.unsqueeze(0)
        context = torch.zeros(1, 4)
        if history:
            past = torch.cat(history)
            context = torch.softmax(past @ cell.recall(u)[0], 0) @ past
            context = context.unsqueeze(0)
        glob = cell.global_gru(torch.cat([u, party[speaker]], -1), glob)
        history.append(glob)
        spoken = cell.party_gru(torch.cat([u, context], -1), party[speaker])
        if cell.listener_gru is not None:
            party = {s: cell.listener_gru(torch.cat([u, spoken], -1), q) for s, q in party.items()}
        party[speaker] = spoken
        emotion = cell.emotion_gru(spoken, emotion)
        states.append(emotion)
    return torch.cat(states)


SIZES = Sizes(4, 5, 3)


@pytest.mark.parametrize("has_listener", [False, True])
def test_recurrences_agree_with_a_step_by_step_reading_of_the_paper(has_listener):
    torch.manual_seed(0)
    cells = [GeneralCell(dim, SIZES, has_listener) for dim in (2, 6)]
    inputs = [torch.randn(2, 7, 2), torch.randn(2, 7, 6)]
    speakers = torch.randint(3, (2, 2, 7))
    memory = GeneralMemory(torch.stack([c.recall(x) for c, x in zip(cells, inputs, strict=True)]))
    found = run_parties(cells, inputs, speakers, memory)
    for g in range(2):
        for b in range(2):
            expected = naive_parties(cells[g], inputs[g][b], speakers[g, b])
            torch.testing.assert_close(found[g, b], expected)


def test_names_of_parties_do_not_matter():
    torch.manual_seed(0)
    cell, x = SimpleCell(2, SIZES), torch.randn(1, 8, 2)
    speakers = torch.randint(3, (1, 1, 8))
    renamed = torch.tensor([2, 0, 1])[speakers]

    def run(who):
        return run_parties([cell], [x], who, SimpleMemory(cell.recall.weight, (1, 1, 8, 4), 0.0))

    torch.testing.assert_close(run(speakers), run(renamed))
    assert not torch.allclose(run(speakers), run(torch.zeros_like(speakers)))


def test_one_direction_never_sees_later_turns():
    torch.manual_seed(0)
    cell, x = GeneralCell(2, SIZES), torch.randn(1, 8, 2, requires_grad=True)
    speakers = torch.randint(2, (1, 1, 8))
    memory = GeneralMemory(cell.recall(x).unsqueeze(0))
    states = run_parties([cell], [x], speakers, memory)
    (grad,) = torch.autograd.grad(states[0, 0, 3].sum(), x)
    assert grad[0].abs().sum(-1).nonzero().flatten().tolist() == [0, 1, 2, 3]


def test_the_backward_direction_is_the_same_cell_on_the_reversed_dialogue():
    torch.manual_seed(0)
    rnn = GeneralPartyRnn({"a": 2}, SIZES).eval()
    mask = full([6, 4])
    x, speakers = torch.randn(2, 6, 2), torch.randint(2, (2, 6))
    found = rnn({"a": x}, speakers, mask)["a"]
    back = naive_parties(rnn.backward["a"], x[1, :4].flip(0), speakers[1, :4].flip(0)).flip(0)
    ahead = naive_parties(rnn.onward["a"], x[1, :4], speakers[1, :4])
    torch.testing.assert_close(found[1, :4], torch.cat([ahead, back], -1))


def test_reversing_twice_restores_the_order():
    mask, x = full([5, 3]), torch.arange(10.0).view(2, 5, 1)
    index = reversal(mask)
    assert reorder(x, index)[1, :, 0].tolist() == [7, 6, 5, 8, 9]
    assert torch.equal(reorder(reorder(x, index), index), x)


def test_running_average_is_attention_without_a_query():
    torch.manual_seed(0)
    weight, states = torch.randn(2, 4) * 30, torch.randn(6, 2, 3, 4)
    memory = SimpleMemory(weight, (2, 3, 6, 4), 0.0)
    assert not memory.read(0).any()
    for step, state in enumerate(states):
        memory.write(state)
        placed = states[: step + 1] + positions(6, 4, weight)[: step + 1, None, None]
        share = torch.softmax((placed * weight[:, None]).sum(-1), 0)
        expected = (share.unsqueeze(-1) * placed).sum(0)
        torch.testing.assert_close(memory.read(step + 1), expected)


def test_cross_modal_recall_agrees_with_loops():
    torch.manual_seed(0)
    contexts = [CrossContext(3, 2, 4) for _ in range(2)]
    inputs = [torch.randn(2, 5, 2) for _ in range(6)]
    memory = CrossMemory(contexts, inputs, 0.0, has_batch_gate=False)
    states = torch.randn(3, 6, 2, 4)
    assert not memory.read(0).any()
    for state in states:
        memory.write(state)
    found = memory.read(3)
    placed = states + positions(5, 4, states)[:3, None, None]
    for d, context in enumerate(contexts):
        for m in range(3):
            for b in range(2):
                query = inputs[3 * d + m][b, 3]
                recalled = []
                for n in range(3):
                    past = placed[:, 3 * d + n, b]
                    share = torch.softmax(past @ (query @ context.attend[m, n]), 0)
                    recalled.append(share @ past)
                recalled = torch.stack(recalled)
                gate = torch.softmax(recalled @ context.gate[m], 0)
                merged = (recalled * (1 + gate.unsqueeze(-1))).flatten() @ context.merge[m]
                torch.testing.assert_close(found[3 * d + m, b], merged + context.merge_bias[m])


def test_each_direction_of_biddin_projects_its_input_itself():
    network = build("biddin", "original").network.eval()
    batch = ToyData(lengths=(5, 5)).batch([0, 1])
    walk = network.parties
    before = walk(batch.features, batch.speakers, batch.mask)["text"].chunk(2, -1)
    with torch.no_grad():
        for weight in walk.enter_back.parameters():
            weight.neg_()
    after = walk(batch.features, batch.speakers, batch.mask)["text"].chunk(2, -1)
    assert torch.equal(before[0], after[0])
    assert not torch.allclose(before[1], after[1], atol=1e-3)


def test_recall_drops_out_other_states_at_every_step():
    torch.manual_seed(0)
    context = [CrossContext(3, 2, 4) for _ in range(2)]
    inputs = [torch.ones(1, 4, 2) for _ in range(6)]
    memory = CrossMemory(context, inputs, 0.5, has_batch_gate=False)
    memory.write(torch.ones(6, 1, 4))
    # the same question at two steps, of the same single state
    assert not torch.equal(memory.read(1), memory.read(2))


def test_emotion_states_of_biddin_drop_out_before_self_attention():
    method = build("biddin", "original", dropout=1.0).train()
    seen = []
    method.network.readout.register_forward_pre_hook(lambda _module, given: seen.append(given[0]))
    method.predict(ToyData().batch([0]))
    assert not seen[0].any()


def test_positions_are_sines_and_cosines():
    table = positions(3, 5, torch.zeros(1))
    assert table.shape == (3, 5)
    assert table[0].tolist() == [0, 1, 0, 1, 0]
    assert table[2, 0].item() == pytest.approx(math.sin(2))
    assert table[2, 3].item() == pytest.approx(math.cos(2 * 10_000 ** (-2 / 5)))


@pytest.mark.parametrize("is_bounded", [False, True])
def test_matching_attention(is_bounded):
    torch.manual_seed(0)
    layer, x, mask = MatchingAttention(3, is_bounded), torch.randn(2, 4, 3), full([4, 2])
    found = layer(x, mask)
    scores = x[1, :2] @ layer.project(x[1, 0])
    share = torch.softmax(torch.tanh(scores) if is_bounded else scores, 0)
    torch.testing.assert_close(found[1, 0], share @ x[1, :2])


# --- bc-LSTM -------------------------------------------------------------------------------------


def test_attention_of_bc_lstm_bounds_its_scores():
    context = build("bc_lstm", "original", has_attention=True).contexts[JOINT]
    states, mask = torch.randn(2, 4, 200), full([4, 2])
    scores = torch.tanh(context.attention.project(states[1, :2]) @ states[1, :2].T)
    expected = scores.softmax(-1) @ states[1, :2]
    torch.testing.assert_close(context.attention(states, mask)[1, :2], expected)


def test_hierarchy_trains_unimodal_networks_and_fusion_apart():
    data = ToyData(lengths=(6, 6))
    method = build("bc_lstm", "hierarchical", hidden=8).train()
    batch = data.batch([0, 1])
    losses = method.losses(batch)
    assert set(losses) == {"category", "category_audio", "category_video", "category_text"}
    losses["category"].backward(retain_graph=True)
    assert all(p.grad is None for p in method.stages.parameters())
    assert all(p.grad is not None for p in method.fusion.parameters())


def test_hidden_sizes_of_the_published_forms():
    six = Target("category", "category", tuple("abcdef"))
    dims = {"audio": 100, "video": 512, "text": 100}
    early = build("bc_lstm", "original", dims=dims, target=six)
    assert early.heads[JOINT].in_features == 100
    assert early.contexts[JOINT].lstm.lstm.input_size == 712
    graph = build("dialogue_gcn", "spcl", dims=dims, target=six)
    assert graph.graphs["text"].relations.bases.shape == (30, 200, 100)
    assert graph.graphs["text"].project.in_features == 300
    assert graph.graphs["text"].encoder.transformer.heads == 1
    assert build("mmgcn", "original", dims=dims, target=six).heads["text"].in_features == 300
    assert build("mmgcn", "spcl", dims=dims, target=six).heads["text"].in_features == 512
    fused = build("mm_dfn", "spcl", dims=dims, target=six)
    assert fused.network.narrow["text"].in_features == 600
    assert fused.network.pairs["audio_text"].gate.in_features == 900
    assert len(build("mm_dfn", "original", dims=dims, target=six).network.graph.layers) == 16
    both = build("biddin", "original", dims=dims, target=six)
    assert both.network.readout.project.in_features == 600
    assert both.heads[JOINT].in_features == 300


def test_grouped_dialogues_hear_what_they_hear_alone():
    torch.manual_seed(0)
    lengths = [3, 9, 1, 6, 2]
    mask, nodes = full(lengths), torch.randn(5, 9, 2, 4)
    exists = (torch.rand(5, 9, 2) < 0.8) & mask.unsqueeze(-1)
    layer = Gcnii(4, 6, 3, 0.0, has_gate=True).eval()
    rows = Ragged(mask, 2)
    packed = rows.pack(nodes)
    graph = MultimodalGraph.build(packed, rows.pack(exists), rows)
    grouped = rows.unpack(layer(packed, graph))
    for number, length in enumerate(lengths):
        own = slice(number, number + 1)
        alone = layer.run(nodes[own, :length], exists[own, :length], mask[own, :length])
        torch.testing.assert_close(grouped[own, :length], alone, rtol=1e-5, atol=1e-6)
        assert not grouped[own, length:].any()
