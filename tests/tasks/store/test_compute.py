"""What a shard keeps, and in how many segments."""

import pytest

from tasks.store import compute
from tasks.store.compute import Keeper
from tasks.store.segments import Entry, Store

ABOUT = {"family": "fake"}


def entry(number: int, size: int = 10, **meta) -> Entry:
    told = {"status": "ok", "reason": None} | meta
    return Entry(f"{number:064x}", told, {"pooled": bytes([number % 256]) * size})


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(compute.time, "monotonic", lambda: now[0])
    return now


def segments(root) -> int:
    return len(list((root / Store(root, ABOUT).folder.name / "seg").glob("*.seg")))


def kept(root) -> dict[str, bytes]:
    store = Store(root, ABOUT)
    store.refresh()
    there = [key for key in (f"{number:064x}" for number in range(3_000)) if store.has(key)]
    return {found.key: bytes(found.blobs["pooled"]) for found in store.read(there)}


def test_quick_clips_share_segments(tmp_path, clock):
    keeper = Keeper(Store(tmp_path, ABOUT))
    for start in range(0, 2_992, 16):
        keeper.keep([entry(number) for number in range(start, start + 16)])
    assert segments(tmp_path) == 2
    assert keeper.done().clips == 2_992
    assert segments(tmp_path) == 3
    assert kept(tmp_path) == {e.key: e.blobs["pooled"] for e in map(entry, range(2_992))}


def test_slow_clips_are_kept_at_once(tmp_path, clock):
    keeper = Keeper(Store(tmp_path, ABOUT))
    for number in range(5):
        clock[0] += keeper.pause_s
        keeper.keep([entry(number)])
        assert segments(tmp_path) == number + 1


def test_large_clips_are_not_gathered(tmp_path, clock):
    keeper = Keeper(Store(tmp_path, ABOUT))
    keeper.keep([entry(0, keeper.most_bytes - 10), entry(1, 9)])
    assert not (tmp_path / Store(tmp_path, ABOUT).folder.name).exists()
    keeper.keep([entry(2, 1)])
    assert segments(tmp_path) == 1


def test_failures_that_may_pass_are_told_and_not_kept(tmp_path, clock):
    keeper = Keeper(Store(tmp_path, ABOUT))
    keeper.keep([entry(0), entry(1, status="quarantined", reason="missing")])
    done = keeper.done()
    assert (done.clips, done.quarantined) == (2, 1)
    assert [passing.key for passing in done.passing] == [entry(1).key]
    assert list(kept(tmp_path)) == [entry(0).key]
