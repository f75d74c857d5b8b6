"""Mutations of ``params.yaml``: one sentence, or correct handling; never another error."""

import copy
import os
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flows.settings import check_before_graph
from models.errors import UserError
from tasks.params.model import Params
from tasks.params.text import read_mapping
from tests.places import ROOT
from tests.tally import trial

pytestmark = pytest.mark.hostile

EXAMPLES = int(os.environ.get("AFFECTLOOM_EXAMPLES", "40"))

GOOD = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
#: Two small methods: checking all of them takes seconds a mutation.
GOOD["methods"] = {name: GOOD["methods"][name] or {} for name in ("linear", "early_fusion")}

VALUES: list[Any] = [
    None, [], {}, "", "x", "a/../../x", 0, -1, 1.5, True, float("nan"), float("inf"), 10**30,
    [1], [None], ["x", "x"], {"x": 1}, {1: 2}, "\0", "é" * 300, "${x}", "1e5", [[[]]], {"x": {}},
]  # fmt: skip


def paths(value: Any, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if above:
        yield above
    if isinstance(value, dict):
        for key, part in value.items():
            yield from paths(part, (*above, key))


PATHS = sorted(paths(GOOD))


def mutated(path: tuple[str, ...], value: Any) -> dict[str, Any]:
    raw = copy.deepcopy(GOOD)
    place = raw
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = value
    return raw


def check_sentence(error: UserError) -> None:
    assert "\n" not in str(error)
    assert str(error).strip()


def judge(raw: dict[str, Any]) -> None:
    with trial("values of `params.yaml`") as one:
        try:
            params = Params(raw)
            check_before_graph(params)
            params.check_everything()
        except UserError as error:
            check_sentence(error)
            one.refused()


@pytest.mark.parametrize("path", PATHS, ids=".".join)
def test_whatever_stands_at_a_key_is_one_sentence_or_works(path):
    for value in VALUES:
        judge(mutated(path, copy.deepcopy(value)))


@pytest.mark.parametrize("path", PATHS, ids=".".join)
def test_a_key_that_is_gone_is_one_sentence_or_works(path):
    raw = copy.deepcopy(GOOD)
    place = raw
    for part in path[:-1]:
        place = place[part]
    del place[path[-1]]
    judge(raw)


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
TREES = st.recursive(
    SCALARS,
    lambda part: (
        st.lists(part, max_size=3)
        | st.dictionaries(st.text(max_size=8) | st.integers(), part, max_size=3)
    ),
    max_leaves=6,
)
SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]


@settings(max_examples=EXAMPLES, suppress_health_check=SLOW)
@given(st.lists(st.tuples(st.sampled_from(PATHS), TREES), min_size=1, max_size=3))
def test_any_values_anywhere_are_one_sentence_or_work(changes):
    raw = copy.deepcopy(GOOD)
    for path, value in changes:
        place: Any = raw
        for part in path[:-1]:
            place = place.get(part) if isinstance(place, dict) else None
        if isinstance(place, dict):
            place[path[-1]] = value
    judge(raw)


@settings(max_examples=EXAMPLES, suppress_health_check=SLOW)
@given(st.data())
def test_any_bytes_of_the_file_are_one_sentence_or_keys_and_values(tmp_path_factory, data):
    text = bytearray((ROOT / "params.yaml").read_bytes())  # a part of it may be no YAML
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, len(text) - 1))
        text[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=6))
    file = tmp_path_factory.mktemp("bytes") / "params.yaml"
    file.write_bytes(bytes(text))
    with trial("bytes of `params.yaml`") as one:
        try:
            assert isinstance(read_mapping(file), dict)
        except UserError as error:
            check_sentence(error)
            one.refused()
