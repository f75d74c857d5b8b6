"""The three consistency tables of Huo and Ge, and their violation rates."""

import numpy as np
import pytest

from models.errors import MetricInputError, UserError
from models.metrics.consistency import (
    CLASSES,
    COST_TABLES,
    CostTable,
    class_rows,
    consistency_costs,
    consistency_scores,
)

VAD = (-0.6, 0.5, -0.3)
FEAR, SAD, SURPRISE, NEUTRAL = (CLASSES.index(n) for n in ("fear", "sad", "surprise", "neutral"))


def total_costs(vad: tuple[float, float, float], table: CostTable) -> list[float]:
    return consistency_costs(np.arange(7), np.tile(vad, (7, 1)), table).sum(axis=1).tolist()


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ("equations", [1, 1, 0, 2, 1, 0, 3]),
        ("table1", [0, 1, 1, 2, 1, 0, 3]),
        ("code", [0, 1, 0, 2, 1, 0, 2]),
    ],
)
def test_costs_of_every_class(table: CostTable, expected: list[int]):
    assert total_costs(VAD, table) == expected


def test_costs_at_exactly_0():
    assert total_costs((0, 0, 0), "equations") == [3, 3, 1, 3, 1, 1, 0]


def test_valence_is_the_same_in_all_tables():
    for table in COST_TABLES.values():
        assert (table[:, 0] == COST_TABLES["equations"][:, 0]).all()


def test_tables_differ_from_the_equations_exactly_where_the_specification_says():
    differs = {
        name: {
            (CLASSES[row], "VAD"[dimension])
            for row, dimension in np.argwhere((table != COST_TABLES["equations"]).any(axis=2))
        }
        for name, table in COST_TABLES.items()
    }
    assert differs["equations"] == set()
    assert differs["table1"] == {
        ("fear", "A"), ("sad", "A"), ("angry", "D"), ("fear", "D"), ("sad", "D"), ("surprise", "D")
    }  # fmt: skip
    assert differs["code"] == {
        ("angry", "A"), ("disgust", "A"), ("sad", "A"), ("angry", "D"), ("fear", "D"),
        ("happy", "D"), ("sad", "D"), ("surprise", "D"), ("neutral", "D"),
    }  # fmt: skip


def test_violation_rates_of_the_worked_example():
    classes = class_rows(["angry", "happy", "neutral"])
    scores = consistency_scores(classes, [VAD] * 3, source="true")
    assert scores["violation_true_equations"] == 1.0
    assert scores["mean_cost_true_equations"] == 2.0
    rates = [scores[f"violation_true_equations/{d}"] for d in ("valence", "arousal", "dominance")]
    assert rates == pytest.approx([2 / 3, 1 / 3, 1.0])


def test_only_active_dimensions_count():
    active, values = ("valence", "dominance"), [VAD[::2]]
    scores = consistency_scores([FEAR], values, "table1", dimensions=active)
    assert scores["violation_pred_table1"] == 0.0
    assert "violation_pred_table1/arousal" not in scores
    assert consistency_scores([FEAR], [VAD], "table1")["violation_pred_table1"] == 1.0


def test_a_tolerance_lets_a_near_zero_output_be_neutral():
    vad = [(0.05, -0.1, 0.0)]
    assert consistency_scores([NEUTRAL], vad)["mean_cost_pred_equations"] == 2.0
    tolerant = consistency_scores([NEUTRAL], vad, zero_tol=0.1)
    assert tolerant["mean_cost_pred_equations_tol0.1"] == 0.0
    assert tolerant["violation_pred_equations_tol0.1/arousal"] == 0.0
    assert not set(tolerant) & set(consistency_scores([NEUTRAL], vad))


def test_other_spellings_find_their_row_and_other_classes_do_not():
    assert class_rows(["joy", "Sadness", "surprise", "excited"]).tolist() == [3, SAD, SURPRISE, -1]


def test_bad_input_is_named():
    with pytest.raises(UserError, match="equations, table1, code"):
        consistency_costs([0], [VAD], "paper")  # type: ignore[arg-type]
    with pytest.raises(MetricInputError, match=r"class is outside the 7 classes .* row 0"):
        consistency_costs([-1], [VAD])
    with pytest.raises(MetricInputError, match="vad is not a finite number in row 0"):
        consistency_costs([0], [(np.nan, 0, 0)])
    with pytest.raises(MetricInputError, match="needs valence, arousal, dominance per row"):
        consistency_costs([0], [(0.1, 0.2)])
    with pytest.raises(UserError, match="valence, arousal, dominance, not"):
        consistency_scores([0], [VAD], dimensions=("pleasure",))
