import os
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.batch import Target
from models.errors import UserError
from models.methods.multidag_cl.method import (
    Config,
    bucket_sizes,
    dag_edges,
    difficulty,
    emotion_shifts,
)
from tests.models.dialogues import (
    SUBSETS,
    TARGETS,
    VAD,
    Dialogues,
    build,
    check_absent_values_change_nothing,
    check_every_parameter_gets_gradient,
    check_padding_and_mates_change_nothing,
    check_same_seed_same_losses,
    dialogues,
    output,
    select,
)

SMALL = {"width": 6, "layers": 2}


def one(turns: str, labels: str = "") -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Labels, speakers and mask of one dialogue written as letters; '-' = no label."""
    speakers = torch.tensor([[ord(c) for c in turns]])
    codes = [-1 if c == "-" else ord(c) for c in (labels or turns)]
    return torch.tensor([codes]), speakers, torch.ones_like(speakers, dtype=torch.bool)


@pytest.mark.parametrize(
    ("widths", "layers", "classes", "count"),
    [
        ({"text": 1024, "audio": 1582, "video": 342}, 4, 6, 7_368_310),
        ({"text": 1024}, 4, 6, 6_213_910),
        ({"text": 1024}, 2, 7, 3_505_809),
        ({"text": 1024, "audio": 300, "video": 342}, 2, 7, 3_891_009),
    ],
)
def test_parameter_counts(widths, layers, classes, count):
    target = Target("category", "category", tuple("abcdefg"[:classes]))
    method = build("multidag_cl", tuple(widths), target, dims=widths, layers=layers)
    assert sum(p.numel() for p in method.parameters()) == count


@pytest.mark.parametrize(
    ("turns", "window", "count"),
    [("ABAAB", 1, 7), ("ABAAB", 2, 10), ("ABCAC", 1, 8), ("AAAA", 1, 3), ("AB" * 7, 1, 25)],
)
def test_edges_look_back_to_the_own_last_turn(turns, window, count):
    _, speakers, mask = one(turns)
    edges = dag_edges(speakers, mask, window)[0]
    assert edges.sum() == count
    if (turns, window) == ("ABAAB", 1):
        expected = [[1, 0], [2, 0], [2, 1], [3, 2], [4, 1], [4, 2], [4, 3]]
        assert edges.nonzero().tolist() == expected


@given(st.text("ABC", min_size=1, max_size=12), st.integers(1, 3))
def test_edges_equal_the_scan_backwards(turns, window):
    _, speakers, mask = one(turns)
    edges = dag_edges(speakers, mask, window)[0]
    for i in range(len(turns)):
        heard, own = set(), 0
        for j in range(i - 1, -1, -1):
            heard.add(j)
            own += turns[j] == turns[i]
            if own == window:
                break
        assert set(edges[i].nonzero().flatten().tolist()) == heard


@pytest.mark.parametrize(
    ("turns", "labels", "expected"),
    [
        ("ABABA", "nnjnj", 3 / 7),
        ("AAAA", "nnnn", 0.2),
        ("ABC", "njs", 0.5),
        ("ABABAB", "011001", 0.75),
        ("A", "n", 0.5),
        ("AB" * 7, "nnnnsnnnnnfnsn", 0.375),
    ],
)
def test_difficulty_counts_shifts_within_each_speaker(turns, labels, expected):
    assert difficulty(*one(turns, labels)).item() == pytest.approx(expected)


def test_unlabelled_turns_are_skipped_unless_wanted():
    assert emotion_shifts(*one("AAA", "n-n")).item() == 0
    assert emotion_shifts(*one("AAA", "n-j")).item() == 1
    assert emotion_shifts(*one("AAA", "n-n"), unlabelled_is_a_class=True).item() == 2


@given(st.integers(1, 12), st.integers(0, 10_000))
def test_difficulty_stays_within_its_bounds(length, seed):
    batch = dialogues([length], speakers=3, seed=seed)
    people = len(batch.speakers.unique())
    found = difficulty(batch.targets["category"], batch.speakers, batch.mask).item()
    assert people / (length + people) <= found <= length / (length + people)


def test_difficulty_ignores_padding():
    labels, speakers, mask = one("ABABA", "nnjnj")
    padded = [
        torch.nn.functional.pad(x, (0, 4), value=v) for x, v in ((labels, -1), (speakers, 65))
    ]
    mask = torch.nn.functional.pad(mask, (0, 4))
    assert difficulty(*padded, mask).item() == pytest.approx(3 / 7)


@pytest.mark.parametrize(
    ("items", "buckets", "sizes"),
    [
        (100, 12, [9] * 11 + [1]),
        (108, 12, [9] * 12),
        (120, 12, [10] * 12),
        (1038, 5, [208] * 4 + [206]),
        (1038, 12, [87] * 11 + [81]),
        (20, 12, [2] * 10),
        (10, 3, [4, 4, 2]),
        (7, 3, [3, 3, 1]),
    ],
)
def test_bucket_sizes(items, buckets, sizes):
    assert bucket_sizes(items, buckets) == sizes


def test_each_epoch_adds_the_next_bucket_until_all_are_in():
    train = Dialogues(dialogues([3, 8, 5, 1, 6, 9, 4], speakers=2, seed=2))
    method = build("multidag_cl", buckets=3, **SMALL)
    hard = difficulty(train.all.targets["category"], train.all.speakers, train.all.mask)
    order = sorted(range(7), key=lambda i: hard[i].item())
    assert method.on_epoch(1, train) == order[:3]
    assert method.on_epoch(2, train) == order[:6]
    assert method.on_epoch(3, train) is None
    assert method.on_epoch(30, train) is None
    # a method that starts again in the middle chooses the same
    assert build("multidag_cl", buckets=3, **SMALL).on_epoch(2, train) == order[:6]


def test_ties_keep_the_order_of_the_data():
    train = Dialogues(dialogues([1] * 6))
    assert build("multidag_cl", buckets=2, **SMALL).on_epoch(1, train) == [0, 1, 2]


def test_without_classes_or_curriculum_all_dialogues_are_used():
    train = Dialogues(dialogues([3, 4, 5]))
    assert build("multidag_cl", target=VAD, **SMALL).on_epoch(1, train) is None
    assert build("multidag_cl", curriculum=False, **SMALL).on_epoch(1, train) is None


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.kind)
@pytest.mark.parametrize("names", SUBSETS, ids="+".join)
def test_predicts_every_target_from_every_subset(names, target):
    method = build("multidag_cl", names, target, **SMALL)
    batch = dialogues([4, 1], names)
    assert output(method, batch).shape == (2, 4, target.width)
    assert output(method, select(batch, [1], 1)).isfinite().all()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"window": 3},
        {"modality_encoders": True},
        {"nodal_attention": "past"},
        {"nodal_attention": "all"},
    ],
    ids=str,
)
def test_every_variant_is_free_of_leaks_and_trains(options):
    method = build("multidag_cl", **SMALL, **options)
    check_padding_and_mates_change_nothing(method)
    check_padding_and_mates_change_nothing(method, present_share=0.5)
    check_absent_values_change_nothing(method)
    check_every_parameter_gets_gradient(method)


@pytest.mark.parametrize("nodal_attention", ["none", "past"])
def test_later_utterances_leave_earlier_outputs_bit_identical(nodal_attention):
    method = build("multidag_cl", nodal_attention=nodal_attention, **SMALL)
    batch = dialogues([9, 6], speakers=3)
    before = output(method, batch)
    batch.features["text"][:, 4] += 2.0
    after = output(method, batch)
    assert torch.equal(after[:, :4], before[:, :4])
    assert (after[:, 4] != before[:, 4]).any(-1).all()


def test_names_of_speakers_do_not_matter():
    method = build("multidag_cl", **SMALL)
    batch = dialogues([9, 6], speakers=2)
    before = output(method, batch)
    batch.speakers.copy_(torch.where(batch.mask, 1 - batch.speakers, 0))
    assert torch.equal(before, output(method, batch))


def test_a_lone_single_utterance_trains():
    check_every_parameter_gets_gradient(build("multidag_cl", **SMALL), dialogues([1]))


def test_same_seed_same_losses():
    check_same_seed_same_losses("multidag_cl", **SMALL)


def test_wrong_options_are_explained():
    with pytest.raises(UserError, match="use one of none, past, all"):
        Config(nodal_attention="future")
    with pytest.raises(UserError, match="buckets is 0"):
        Config(buckets=0)


@pytest.mark.real
def test_iemocap_statistics():
    file = Path(os.environ.get("AFFECTLOOM_SHARED", "../shared")) / "data/iemocap_text.parquet"
    if not file.exists():
        pytest.skip(f"{file} is not there")
    import polars as pl

    table = pl.read_parquet(file).sort("dialogue_id", "turn")

    def measure(splits):
        rows = table.filter(pl.col("split").is_in(splits))
        shifts, edges, hard, sizes = 0, 0, [], []
        for (_,), part in rows.group_by("dialogue_id", maintain_order=True):
            labels = torch.tensor(part["label_id"].to_list())[None]
            speakers = part["speaker"].to_list()
            ids = torch.tensor([sorted(set(speakers)).index(s) for s in speakers])[None]
            mask = torch.ones_like(ids, dtype=torch.bool)
            shifts += emotion_shifts(labels, ids, mask).item()
            edges += dag_edges(ids, mask).sum().item()
            hard.append(difficulty(labels, ids, mask).item())
            sizes.append(len(part))
        return shifts, edges, torch.tensor(hard, dtype=torch.float64), sizes

    shifts, edges, hard, sizes = measure(["train"])
    assert (shifts, edges, sum(sizes), len(sizes)) == (1460, 9935, 5163, 108)
    assert hard.mean().item() == pytest.approx(0.307150, abs=1e-6)
    assert hard.min().item() == pytest.approx(0.036364, abs=1e-6)
    assert hard.max().item() == 0.5625
    order = torch.argsort(hard, stable=True)
    seen = torch.tensor(sizes)[order].cumsum(0)[8::9].tolist()
    assert seen == [430, 839, 1272, 1650, 2110, 2463, 2867, 3314, 3860, 4247, 4658, 5163]
    assert measure(["train", "val"])[:2] == (1610, 11183)
    assert measure(["test"])[:2] == (410, 3136)
