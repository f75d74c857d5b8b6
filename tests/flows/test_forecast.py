"""How long a run will take, from what its stages took."""

from flows.forecast import Work, side_by_side_s
from flows.plan import Node, Plan


def test_stages_side_by_side_wait_for_what_they_need_and_for_room():
    needs = {"a": [], "b": ["a"], "c": ["a"], "d": ["a"], "e": ["b", "c", "d"]}
    plan = Plan({name: Node(name, frozenset(found)) for name, found in needs.items()})
    seconds = {"a": 1.0, "b": 2.0, "c": 3.0, "d": 4.0, "e": None}
    ahead = [Work(name, took, "its last run here") for name, took in seconds.items()]
    assert side_by_side_s(ahead, plan, 1) == 10
    assert side_by_side_s(ahead, plan, 2) == 1 + 2 + 4  # d takes the place of b
    assert side_by_side_s(ahead, plan, 9) == 1 + 4
    assert side_by_side_s(ahead[1:], plan, 9) == 4  # a is up to date
    assert side_by_side_s([], plan, 2) == 0
