"""Pairs of nearly equal texts, against comparing all with all."""

from itertools import combinations

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


@settings(max_examples=60, deadline=None)
@given(st.lists(CHANGED, min_size=1, max_size=12), st.sampled_from([0.5, 0.7, 0.9, 1.0]))
@example([(["a"], 0, "b")], 0.7)
def test_what_reaches_the_threshold_is_found_and_nothing_else(changed, threshold):
    texts = sorted(set().union(*(_with_one_word_changed(*one) for one in changed)))
    found = {tuple(pair) for pair in near_pairs(texts, threshold)}
    for a, b in combinations(range(len(texts)), 2):
        first, second = _shingles(texts[a]), _shingles(texts[b])
        jaccard = len(first & second) / len(first | second)
        if jaccard < threshold:
            assert (a, b) not in found
        elif jaccard > 0.85:  # rarer ones may share no band: by chance one in 3,000 at .7
            assert (a, b) in found
