"""Which files of a features table a new dialogue changes."""

import numpy as np
import polars as pl
import pytest

from tasks.store import buckets
from tasks.store.buckets import Row, assemble
from tasks.store.segments import Entry, Store


@pytest.fixture
def written(tmp_path):
    store = Store(tmp_path / "store", {})
    store.write([Entry(f"{n:064x}", {}, {"pooled": np.float32(n).tobytes()}) for n in range(120)])
    store.refresh()

    def write(dialogues):
        rows = [
            Row(f"c/d{n // 4:02d}/u{n % 4}", f"{n:064x}", "ok", None, 0, None)
            for n in range(4 * dialogues)
        ]
        assemble(store, rows, 1, 1, tmp_path / "features", {})
        return {file.name: file.read_bytes() for file in (tmp_path / "features").iterdir()}

    return write


def test_one_more_dialogue_changes_one_file_of_a_large_table(written, tmp_path, monkeypatch):
    monkeypatch.setattr(buckets, "BY_DIALOGUE", 40)
    before, after = written(29), written(30)
    changed = [name for name, content in after.items() if before.get(name) != content]
    assert len(changed) == 1
    for file in (tmp_path / "features").iterdir():
        names = pl.read_parquet(file)["utterance_id"]
        assert names.is_sorted()
        assert len(names) == 4 * names.str.slice(0, 5).n_unique()  # whole dialogues


def test_a_small_table_is_spread_by_utterance(written):
    before, after = written(1), written(2)
    assert len(before) > 1
    assert sum(before.get(name) != content for name, content in after.items()) > 1
