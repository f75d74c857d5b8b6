"""Pairs of nearly equal texts, against comparing all with all."""

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tasks.leaks.near_duplicates import SHINGLE, near_pairs

WORDS = st.sampled_from(["so", "we", "never", "went", "there", "again", "ä", "x" * 400])
CHANGED = st.tuples(st.lists(WORDS, min_size=1, max_size=14), st.integers(0, 13), WORDS)


def _with_one_word_changed(words, place, word):
    changed = list(words)
    changed[place % len(words)] = word
    return {" ".join(words), " ".join(changed)}


def _shingles(text):
    padded = f" {text}  " + " " * max(0, SHINGLE - len(text) - 3)
    return {padded[i : i + SHINGLE] for i in range(len(padded) - SHINGLE + 1)}


def _jaccard(first, second):
    first, second = _shingles(first), _shingles(second)
    return len(first & second) / len(first | second)


@settings(max_examples=60)
@given(st.lists(CHANGED, min_size=1, max_size=12), st.sampled_from([0.5, 0.7, 0.9, 1.0]))
@example([(["a"], 0, "b")], 0.7)
def test_nothing_below_the_threshold_is_found(changed, threshold):
    texts = sorted(set().union(*(_with_one_word_changed(*one) for one in changed)))
    for a, b in near_pairs(texts, threshold):
        assert a < b
        assert _jaccard(texts[a], texts[b]) >= threshold


@settings(max_examples=60)
@given(CHANGED)
def test_what_just_reaches_the_threshold_is_found(changed):
    texts = sorted(_with_one_word_changed(*changed))
    jaccard = _jaccard(*texts) if len(texts) == 2 else 0.0
    if jaccard >= 0.75:  # of less equal ones some share no band: one in 3,000 at .7
        assert near_pairs(texts, jaccard).tolist() == [[0, 1]]
