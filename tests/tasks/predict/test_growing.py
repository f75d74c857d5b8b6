"""How much of a medium is looked at before something is said of it."""

from itertools import pairwise
from pathlib import Path

import pytest

from tasks.media.decoding import Media
from tasks.predict.answer import Gap
from tasks.predict.corpus import Prepared
from tasks.predict.growing import FIRST_S, STEP_S, Pace, beginning, beginning_of, beginnings
from tasks.predict.media import Found
from tasks.predict.plan import Plan, Stretch, gaps_between


def medium(length_s, *spans, is_cut=False):
    found = Found("a", Path("a.wav"), Media("audio", duration_s=length_s))
    parts = tuple(Stretch(low, high) for low, high in spans)
    gaps = gaps_between(spans, length_s, "nobody speaks")
    return Prepared(found, "0" * 64, Plan(parts, gaps=gaps, is_cut=is_cut))


def talk(length_s, each_s=4.0):
    count = int(length_s / each_s)
    return medium(length_s, *((n * each_s, (n + 1) * each_s - 1) for n in range(count)))


def test_a_short_medium_is_answered_once():
    assert list(beginnings(talk(2 * FIRST_S), FIRST_S)) == []


def test_a_long_one_comes_in_parts_that_grow_but_not_for_ever():
    long = talk(3 * 3600)
    parts = list(beginnings(long, FIRST_S))
    reached = [part.plan.looked_s for part in parts]
    assert reached[:3] == [7.0, 39.0, 159.0]
    assert all(b - a <= STEP_S for a, b in pairwise(reached))
    assert 0 < 3 * 3600 - reached[-1] <= 1.5 * STEP_S
    assert len(parts) < 17
    for part in parts:
        assert long.plan.stretches[: len(part.plan.stretches)] == part.plan.stretches


def test_an_utterance_is_never_cut_and_the_first_is_waited_for():
    long = medium(100, (0, 30), (30, 35), (40, 45), (50, 90))
    parts = list(beginnings(long, FIRST_S))
    assert [part.plan.looked_s for part in parts] == [30, 35]


def test_what_was_not_looked_at_is_a_gap_with_its_reason():
    plan = beginning(medium(100, (2, 5), (8, 10), (20, 90)), 2).plan
    assert plan.gaps == (
        Gap(0.0, 2, "nobody speaks"), Gap(5, 8, "nobody speaks"), Gap(10, 100, "not looked at yet"),
    )  # fmt: skip
    assert plan.looked_s == 10


def test_the_beginning_that_was_heard_is_the_one_that_all_of_it_has():
    long = medium(100, (2, 5), (8, 10), (20, 90))
    assert beginning_of(long.found, ((2, 5), (8, 10))) == beginning(long, 2).plan


def test_several_media_wait_for_each_other_longer_and_longer():
    pace = Pace(10.0)
    reached = []
    for _ in range(4):
        reached.append((pace.limit_s, pace.is_first))
        pace.grow()
    assert reached == [
        (10.0, True), (40.0, False), (pytest.approx(120.0), False), (120.0, False),
    ]  # fmt: skip
