import polars as pl
import pytest

from models.errors import UserError
from tasks.labels.card import Card
from tasks.labels.notices import check_some_label, notices, turned_scales


def judged(*labels):
    return pl.DataFrame(
        {
            "utterance_id": [f"c/d/{number}" for number in range(len(labels))],
            "target": ["category"] * len(labels),
            "label": labels,
        }
    )


def test_judgements_that_all_come_to_nothing_are_an_error_with_the_reasons():
    labels = pl.DataFrame({"utterance_id": ["c/d/1"], "category": [None], "valence": [None]})
    lost = {"label joy is mapped to nothing": 3, "sentinel": 7}
    with pytest.raises(UserError, match=r"none of its 10 judgements became a label: sentinel \(7"):
        check_some_label("c", labels, 10, lost)
    check_some_label("c", labels, 0, {})  # a corpus that nobody judged
    check_some_label("c", labels.with_columns(category=pl.lit("joy")), 10, lost)


def test_what_is_set_aside_is_counted_with_its_reason():
    lost = {"label x is mapped to nothing": 2, "sentinel": 7, "not_finite": 0}
    assert notices("c", [judged()], Card({}, {}, {}), lost) == [
        "c: 7 judgements set aside: sentinel",
        "c: 2 judgements set aside: label x is mapped to nothing",
    ]


def test_a_category_that_occurs_once_is_named_with_its_row():
    rows = judged(*["joy"] * 6, *["anger"] * 4, "jyo")
    (line,) = notices("c", [rows], Card({}, {}, {}), {})
    assert "'jyo' occurs once, at c/d/10" in line
    assert notices("c", [rows], Card({}, {"jyo": "joy"}, {}), {}) == []
    assert notices("c", [rows], Card({}, {"x": "jyo"}, {}), {}) == []


def rated(happy: list[float], sad: list[float], kind: str = "rated") -> pl.DataFrame:
    values = happy + sad
    names = ["Joy"] * len(happy) + ["sadness"] * len(sad)
    return pl.DataFrame({"category": names, "valence": values}).with_columns(
        valence_kind=pl.lit(kind)
    )


def test_a_scale_that_runs_the_other_way_is_told_by_happy_and_sad():
    low, high = [-0.5, -0.4, -0.6, -0.5, 0.1], [0.5, 0.4, 0.6, 0.5, 0.2]
    (line,) = turned_scales("c", rated(low, high))
    assert "happy has a mean valence of -0.38, what is called sad of 0.44" in line
    assert "sign: -1 in labels.scales.valence" in line
    assert turned_scales("c", rated(high, low)) == []
    assert turned_scales("c", rated(low[:4], high)) == []  # too few to tell
    assert turned_scales("c", rated(low, high, "prior")) == []  # nobody judged
