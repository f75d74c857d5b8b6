"""``methods.<name>.search`` in params.yaml: what is right is read, what is wrong is named."""

import re

import pytest
import yaml
from pydantic import TypeAdapter

from models.errors import UserError
from models.methods.haemsa.genome import DEFAULT, decode
from tasks.params.model import Params
from tasks.search.params import GenomeSearch, SpaceSearch
from tests.places import ROOT

SPACE = {"hidden": [2, 8], "lr": {"low": 1e-4, "high": 1e-1, "log": True}}


def sentence_of(entry, method="haemsa"):
    with pytest.raises(UserError) as caught:
        Params({"methods": {method: entry}}).search(method)
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize(
    ("method", "entry", "sentence"),
    [
        ("haemsa", {"search": {"genrations": 3}}, "did you mean 'generations'?"),
        ("haemsa", {"search": 3}, "methods.haemsa.search is 3, expected keys with values"),
        ("haemsa", {"search": {"population": 1}}, "search.population is 1"),
        ("haemsa", {"search": {"sampler": "evolve"}}, "methods.haemsa.search.sampler is 'evolve'"),
        ("haemsa", {"search": {"folds": [0]}}, "there is no key methods.haemsa.search.folds"),
        ("haemsa", {"search": {}, "genome": list(DEFAULT)}, "the entry has one; take it out"),
        ("corect", {"search": {}}, "Corect has no genome to evolve"),
        ("corect", {"search": {"sampler": "tpe"}}, "methods.corect.search.space"),
        ("corect", {"search": {"space": {}}}, "methods.corect.search.space"),
        ("corect", {"search": {"space": {"widht": [3]}}}, "did you mean 'width'?"),
        ("corect", {"search": {"space": {"width": ["a"]}}}, "methods.corect.width is 'a'"),
        ("corect", {"search": {"space": {"width": []}}}, "width has no choices"),
        ("corect", {"search": {"space": {"lr": {"low": 1, "high": 0}}}}, "has to be below"),
        ("corect", {"search": {"space": {"lr": {"low": 0.0, "high": 1, "log": True}}}}, "above 0"),
        ("corect", {"search": {"space": {"lr": {"low": 0.1, "hi": 1}}}}, "a range has no key 'hi'"),
        ("corect", {"search": {"space": {"method": ["linear"]}}}, "'method' cannot be searched"),
        (
            "corect",
            {"search": {"space": {"modalities": [["text"], ["audio"]]}}},
            "'modalities' cannot be searched",
        ),
        ("corect", {"search": {"trails": 3, "space": {"width": [3]}}}, "did you mean 'trials'?"),
        (
            "corect",
            {"search": {"sampler": "grid", "space": {"lr": {"low": 0.1, "high": 1}}}},
            "grid search needs a list",
        ),
    ],
)
def test_a_mistake_in_a_search_is_named(method, entry, sentence):
    assert sentence in sentence_of(entry, method)


def test_a_search_is_read_as_it_is_written():
    raw = {"methods": {"haemsa": {"search": {"generations": 2}}, "linear": {}}}
    found = Params(raw).search("haemsa")
    assert (found.generations, found.population, found.proxy_share) == (2, 16, 0.3)
    assert Params(raw).search("linear") is None
    space = TypeAdapter(SpaceSearch).validate_python({"space": SPACE})
    assert (space.sampler, space.space["lr"].is_whole, space.proxy_share) == ("tpe", False, 1.0)
    assert decode(DEFAULT).width == 128


def test_the_example_in_the_docs_works():
    text = (ROOT / "docs/search.md").read_text()
    block = re.search(r"```yaml\n(methods:\n  haemsa:.*?)```", text, re.DOTALL)
    assert block
    params = Params(yaml.safe_load(block[1]))
    assert isinstance(params.search("haemsa"), GenomeSearch)
    assert isinstance(params.search("corect"), SpaceSearch)
