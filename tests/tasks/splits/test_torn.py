import polars as pl

from tasks.splits.stage import _torn


def test_a_dialogue_in_two_published_parts_is_named_with_its_rows():
    rows = pl.DataFrame(
        {
            "utterance_id": ["c/a/1", "c/a/2", "c/b/1", "c/b/2"],
            "dialogue_id": ["c/a", "c/a", "c/b", "c/b"],
            "published_split": ["train", "test", "train", None],
        }
    )
    (note,) = _torn(rows)
    assert note.startswith("1 dialogues stand in several published parts, such as c/a/1 in train")
    assert "c/a/2 in test" in note
    assert _torn(rows.filter(pl.col("dialogue_id") == "c/b")) == []
