"""The cells and tables of ``benchmarks/conversations.py``; it runs on real data only."""

import pytest
import yaml

from benchmarks import conversations
from benchmarks.project import ROOT
from tasks.params.model import Params
from tasks.params.recipes import resolve

CELLS = conversations.cells()


def spread(value: float) -> dict[str, float]:
    return {"mean": value, "std": 0.01}


def result(part: str, labels: list[str], score: float, key: str = "k") -> dict:
    split = {
        "n": 9,
        "weighted_f1": spread(score),
        "accuracy": spread(score),
        "weighted_f1_by_seed": {"0": score - 0.01, "1": score + 0.01},
    }
    return {
        "corpus": "mosi", "part": part, "key": key, "labels": labels, "entry": {},
        "validation": split, "test": split, "parameters": 1234, "epochs": [10, 20],
        "chosen_epochs": [4, 6],
        "missing_rates": {f"{rate:g}": spread(score - rate / 10) for rate in conversations.RATES},
    }  # fmt: skip


def test_keys_are_distinct_and_every_entry_resolves():
    assert len({cell.key for cell in CELLS}) == len(CELLS)
    for cell in CELLS:
        resolve(cell.key, cell.entry)


def test_no_method_stops_before_its_last_epoch():
    """A graph network's first, chance peak on few validation dialogues ended it at epoch 5 to 8."""
    assert {resolve(cell.key, cell.entry).train.patience for cell in CELLS} == {0}


def test_mi_cga_learns_from_all_there_is_where_nothing_is_missing():
    sample = yaml.safe_load((ROOT / "params.yaml").read_text())["methods"]["mi_cga"]
    main = [cell.entry for cell in CELLS if cell.part == "main" and cell.key.endswith("_mi_cga")]
    assert len(main) == 3
    for entry in (sample, *main):
        assert resolve("mi_cga", {**entry, "method": "mi_cga"}).config.missing_rate == 0


def test_the_project_has_an_entry_for_every_cell_and_passes_all_checks():
    raw = conversations.params([0], {})
    assert set(raw["methods"]) == {cell.key for cell in CELLS}
    Params(raw).check_everything()


def test_cells_cover_methods_subsets_rates_and_plugins():
    mosi = [cell for cell in CELLS if cell.corpus == "mosi"]
    subsets = {cell.labels[1] for cell in mosi if cell.part == "subsets"}
    assert len(subsets) == 6  # the seventh is the main table
    pairs = {cell.labels for cell in mosi if cell.part == "plugins"}
    assert len(pairs) == len(conversations.BACKBONES) * len(conversations.PLUGINS)
    rates = {cell.labels for cell in mosi if cell.part == "missing"}
    assert {float(rate) for _, rate in rates} == set(conversations.RATES[1:])


def test_gains_are_paired_by_seed():
    base, other = result("main", ["linear"], 0.5), result("main", ["mmgcn"], 0.6)
    rows = conversations._main_rows([base, other], [])
    assert rows[3].split(" | ")[4] == "+10.0 ± 0.0"
    assert rows[3].split(" | ")[5] == "5 of 15"


def test_a_refused_cell_says_so():
    base = result("plugins", ["mmgcn", "none"], 0.5)
    refused = {key: base[key] for key in ("corpus", "part", "key")}
    rows = conversations._plugin_rows(
        [base, refused | {"labels": ["mmgcn", "opm"], "refused": "plug-in Opm balances ..."}], []
    )
    assert "refused" in rows[2]


@pytest.mark.parametrize("rate", conversations.RATES[1:])
def test_the_missing_table_takes_each_rate_from_the_network_trained_at_it(rate):
    percent = round(100 * rate)
    found = [
        result("main", ["mi_cga"], 0.5, "mosi_mi_cga"),
        result("missing", ["mi_cga", f"{rate:g}"], 0.9, f"mosi_mi_cga_{percent}"),
    ]
    rows = conversations._missing_rows(found[1:], found)
    column = 1 + conversations.RATES.index(rate)
    assert rows[4].strip("| ").split(" | ")[0].endswith("same rate")
    cells = [cell.strip() for cell in rows[4].split("|")[1:-1]]
    assert cells[column] == f"{100 * (0.9 - rate / 10):.1f} ± 1.0"
