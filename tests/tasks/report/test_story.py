"""The page's sentences: who wins by seeing more, and how surely."""

import pytest

from tasks.report.page.story import kinds, story

RAW = {
    "corpora": {"toy": {}},
    "encoders": {"ears": {"family": "prosody"}, "words": {"family": "hf_text"}},
    "inputs": {"audio": "ears", "text": "words"},
    "methods": {
        "constant": {},
        "linear_text": {"method": "linear", "modalities": ["text"]},
        "early_fusion": {},
        "bc_lstm": {},
        "mixed": {"backbone": "mmgcn", "plugin": "fagm"},
        "cage": {},
    },
}
SEEN = kinds(RAW, "toy")


def board(*order, sure=(), selected=False):
    """Entries in this order; ``sure``: pairs whose difference is significant."""
    found = []
    for rank, method in enumerate(order, 1):
        against = [
            {
                "method": other, "difference": 0.1, "ci_low": 0.02, "ci_high": 0.18,
                "p_holm": 0.01, "significant": (method, other) in sure, "seeds_needed": None,
                "verdict": "",
            }
            for other in order[rank:]
        ]  # fmt: skip
        metric = {"name": "ccc", "mean": 1 / rank, "std": 0.0, "ci_low": 0.0, "ci_high": 1.0}
        entry = {"method": method, "rank": rank, "selected": selected, "metric": metric}
        found.append(entry | {"against": [] if selected else against})
    return found


def test_what_a_method_sees_is_told_from_its_entry():
    assert SEEN == {
        "constant": "blind", "linear_text": "single", "early_fusion": "fusion",
        "bc_lstm": "context", "mixed": "context", "cage": "single",
    }  # fmt: skip


def test_what_pays_is_said_with_the_figures():
    order = ("bc_lstm", "early_fusion", "linear_text", "constant")
    sure = {("early_fusion", "linear_text"), ("bc_lstm", "early_fusion")}
    fusion, context, last = story(board(*order, sure=sure), SEEN)
    assert fusion == (
        "Fusion pays: early_fusion (0.500), the best fusion without context, against linear_text "
        "(0.333), the best that sees one modality (difference +0.100, interval +0.020 to +0.180, "
        "p = 0.01 corrected for all pairs)."
    )
    assert context.startswith("Context pays: bc_lstm (1.000), the best that sees the conversation")
    assert last == "constant, which sees nothing, is last of 4."


def test_what_is_not_sure_is_not_called_a_win():
    fusion, context, last = story(board("linear_text", "constant", "early_fusion", "mixed"), SEEN)
    assert fusion.startswith("Fusion is behind, but not beyond doubt: early_fusion (0.333)")
    assert context.startswith("Context is behind, but not beyond doubt: mixed")
    assert "against linear_text (1.000)" in context
    assert last.startswith("constant, which sees nothing, is ahead of early_fusion, mixed: these")
    (costs, *_) = story(
        board("linear_text", "early_fusion", sure={("linear_text", "early_fusion")}), SEEN
    )
    assert costs.startswith("Fusion costs: early_fusion (0.500)")


@pytest.mark.parametrize("order", [("early_fusion",), ("bc_lstm", "mixed")])
def test_nothing_is_said_of_what_was_not_tested(order):
    assert story(board(*order), SEEN) == []


def test_scores_that_chose_are_no_verdict():
    assert story(board("bc_lstm", "early_fusion", "constant", selected=True), SEEN) == []
