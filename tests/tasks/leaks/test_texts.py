"""Scripts: dialogues that say what training said, told by counting and not by joining all rows."""

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.leaks.texts import text_leaks

# no two alike
LETTERS = np.random.default_rng(0).choice(list("abcdefghijklmnop"), (6, 4, 7))
SENTENCES = [" ".join("".join(word) for word in words) for words in LETTERS]


@settings(max_examples=30)
@given(st.lists(st.sets(st.integers(0, 5), min_size=3), min_size=4, max_size=12))
def test_the_training_dialogue_that_shares_most_is_named(said):
    names = [f"c/d{i:02}" for i in range(len(said))]
    splits = ["test" if i % 2 else "train" for i in range(len(said))]
    rows = [
        {
            "utterance_id": f"{name}/u{code}",
            "dialogue_id": name,
            "text": SENTENCES[code],
            "fold": 0,
            "split": split,
        }
        for name, split, codes in zip(names, splits, said, strict=True)
        for code in sorted(codes)
    ]
    found = text_leaks(pl.DataFrame(rows)).scripts
    train = {n: c for n, c, s in zip(names, said, splits, strict=True) if s == "train"}
    for name, codes, split in zip(names, said, splits, strict=True):
        repeated = codes & set().union(*train.values())
        told = found.filter(pl.col("dialogue_id") == name)
        if split == "train" or len(repeated) < 3:
            assert told.is_empty()
            continue
        best = max(train, key=lambda other: (len(train[other] & codes), -names.index(other)))
        assert told.select("texts", "repeated", "other").row(0) == (
            len(codes),
            len(repeated),
            best,
        )
