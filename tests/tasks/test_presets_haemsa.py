"""``params/haemsa.yaml``: the search at full size, each ablation by its name, the small one."""

import math

import pytest
import yaml

from models.batch import Target
from models.method import Spec
from models.methods.haemsa.genome import DEFAULT
from models.methods.haemsa.method import Haemsa
from tasks.params.model import Params
from tasks.params.recipes import build, resolve
from tasks.search.params import GenomeSearch
from tests.places import ROOT

ENTRIES = yaml.safe_load((ROOT / "params" / "haemsa.yaml").read_text())["methods"]
PARAMS = Params(yaml.safe_load((ROOT / "params.yaml").read_text()) | {"methods": ENTRIES})
TARGETS = (
    Target("category", "category", ("a", "b")),
    Target("sentiment", "values", ("sentiment",), -3.0, 3.0),
)
#: Switches of the network; the two other ablations are of the search.
SWITCHES = ("no_hierarchy", "no_transfer", "single_task", "no_shared", "no_router")


def method_of(name: str) -> Haemsa:
    recipe = resolve(name, PARAMS.method(name))
    method = build(recipe, Spec({"audio": 4, "video": 3, "text": 6}, TARGETS))
    assert isinstance(method, Haemsa)
    return method


def test_the_preset_has_the_whole_its_ablations_and_the_small_one():
    ablations = {f"haemsa_{name}" for name in (*SWITCHES, "no_evolution", "random_search")}
    assert set(ENTRIES) == {"haemsa", "haemsa_ci"} | ablations
    PARAMS.check_everything()


@pytest.mark.parametrize("name", SWITCHES)
def test_an_ablation_leaves_out_what_it_is_named_after_and_nothing_else(name):
    whole, ablated = method_of("haemsa"), method_of(f"haemsa_{name}")
    assert ablated.main.name == "sentiment"
    differing = {k for k, v in vars(whole.config).items() if getattr(ablated.config, k) != v}
    assert differing == {name}
    assert PARAMS.search(f"haemsa_{name}") == PARAMS.search("haemsa")
    assert (
        resolve(name, PARAMS.method(f"haemsa_{name}")).train
        == resolve("haemsa", PARAMS.method("haemsa")).train
    )


def test_the_preset_gives_it_sequences_of_every_modality():
    raw = yaml.safe_load((ROOT / "params" / "haemsa.yaml").read_text())
    params = Params(yaml.safe_load((ROOT / "params.yaml").read_text()) | raw)
    assert {m: params.encoder(name).sequence for m, name in raw["inputs"].items()} == {
        "audio": True,
        "video": True,
        "text": True,
    }


def test_without_evolution_the_genome_is_the_default_one():
    assert PARAMS.search("haemsa_no_evolution") is None
    assert method_of("haemsa_no_evolution").config.genome == DEFAULT


def test_random_search_has_the_budget_of_evolution():
    whole, drawn = PARAMS.search("haemsa"), PARAMS.search("haemsa_random_search")
    assert drawn == whole.model_copy(update={"sampler": "random"})


def test_sizes_are_those_of_the_design():
    whole, small = PARAMS.search("haemsa"), PARAMS.search("haemsa_ci")
    assert whole == GenomeSearch()
    assert (whole.population, whole.generations, whole.max_evaluations) == (16, 10, 160)
    assert (whole.proxy_epochs, whole.proxy_share, whole.min_rows) == (3, 0.3, 512)
    assert (whole.finalists, whole.final_seeds) == (3, 3)
    train = resolve("haemsa", PARAMS.method("haemsa")).train
    assert (train.epochs, train.patience, train.lr, train.batch_size) == (50, 8, 5e-4, 32)
    assert (small.population, small.generations, small.proxy_epochs) == (4, 2, 1)
    mosei = 16_326
    assert max(math.ceil(small.proxy_share * mosei), small.min_rows) == 64
