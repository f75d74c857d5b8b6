"""The graph with each stage once."""

import pytest

from flows.drawing import Group, as_list, as_mermaid, as_text, collapse
from flows.plan import Node, Plan


@pytest.fixture
def plan():
    needs = {
        "ingest@a": [],
        "ingest@b": [],
        "labels@a": ["ingest@a"],
        "labels@b": ["ingest@b"],
        "train@a-x": ["ingest@a", "labels@a"],
        "report": ["train@a-x", "labels@b"],
    }
    return Plan({address: Node(address, frozenset(n)) for address, n in needs.items()})


def test_stages_are_counted_and_what_follows_anyway_is_left_out(plan):
    assert collapse(plan) == [
        Group("ingest", 2, ()),
        Group("labels", 2, ("ingest",)),
        Group("train", 1, ("labels",)),  # and so from ingest
        Group("report", 1, ("train",)),
    ]


def test_the_text_flows_down_within_a_hundred_columns(plan):
    lines = as_text(collapse(plan)).splitlines()
    assert max(map(len, lines)) <= 100
    found = [next(i for i, line in enumerate(lines) if f" {t} " in line) for t in (
        "ingest (2)", "labels (2)", "train", "report",
    )]  # fmt: skip
    assert found == sorted(found)


def test_a_graph_too_wide_for_a_terminal_is_a_list():
    many = [
        Group("root", 1, ()),
        *(Group(f"a_rather_long_name_{i}", 1, ("root",)) for i in range(9)),
    ]
    assert as_text(many) == as_list(many)
    assert as_list(many).splitlines()[1] == "a_rather_long_name_0  <- root"


def test_the_text_for_mermaid_names_every_stage_and_need(plan):
    assert as_mermaid(collapse(plan)).splitlines() == [
        "flowchart TD",
        '  s_ingest["ingest (2)"]',
        '  s_labels["labels (2)"]',
        '  s_train["train"]',
        '  s_report["report"]',
        "  s_ingest --> s_labels",
        "  s_labels --> s_train",
        "  s_train --> s_report",
    ]
