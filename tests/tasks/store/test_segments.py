"""The feature store: whole or not at all, checked on reading, safe with many writers."""

import multiprocessing
import os
import random
import resource
import signal
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import UserError
from tasks.store.passing import PASSING
from tasks.store.segments import CorruptSegment, Entry, Store, fingerprint, prune, stats, verify

ABOUT = {"family": "fake", "version": 1}


def entry(number: int, size: int = 100) -> Entry:
    content = random.Random(number).randbytes(size)
    meta = {"status": "ok", "frames": number, "hop_s": 0.02, "reason": None}
    return Entry(f"{number:064x}", meta, {"pooled": content[: size // 3], "sequence": content})


def keys(*numbers: int) -> list[str]:
    return [f"{number:064x}" for number in numbers]


def segment(root: Path) -> Path:
    (found,) = (root / Store(root, ABOUT).folder.name / "seg").glob("*.seg")
    return found


def test_what_was_written_is_read_in_any_order_by_another_store(tmp_path):
    Store(tmp_path, ABOUT).write([entry(number) for number in (3, 1, 2)])
    Store(tmp_path, ABOUT).write([entry(7)])
    store = Store(tmp_path, ABOUT)
    assert store.missing(keys(1, 2, 3, 4, 7, 4)) == keys(4)
    assert list(store.read(keys(7, 2, 2, 3))) == [entry(7), entry(2), entry(2), entry(3)]
    assert store.meta(keys(2)[0])["frames"] == 2


def test_what_many_entries_say_is_kept_once(tmp_path):
    alike = [Entry(key, {"frames": 3}, {"pooled": b"12"}) for key in keys(1, 2)]
    other = Entry(keys(3)[0], {"frames": 3.0}, {"pooled": b"12"})  # equal, yet not the same
    for one in (*alike, other):
        Store(tmp_path, ABOUT).write([one])
    store = Store(tmp_path, ABOUT)
    store.refresh()
    assert store.meta(keys(1)[0]) is store.meta(keys(2)[0])
    assert isinstance(store.meta(keys(3)[0])["frames"], float)


def test_another_fingerprint_sees_nothing(tmp_path):
    Store(tmp_path, ABOUT).write([entry(1)])
    assert Store(tmp_path, ABOUT | {"version": 2}).missing(keys(1)) == keys(1)


def test_fingerprints_ignore_the_order_of_keys_and_nothing_else():
    assert fingerprint({"a": 1, "b": [2]}) == fingerprint({"b": [2], "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": "1"})


def test_tombstones_keep_their_reason(tmp_path):
    store = Store(tmp_path, ABOUT)
    store.write([Entry("a" * 64, {"status": "quarantined", "reason": "no_audio"})])
    assert store.missing(["a" * 64]) == []
    assert store.meta("a" * 64)["reason"] == "no_audio"


@pytest.mark.parametrize("reason", sorted(PASSING))
def test_a_failure_that_may_pass_and_was_kept_once_is_not_served(tmp_path, reason):
    store = Store(tmp_path, ABOUT)
    store.write([Entry("a" * 64, {"status": "quarantined", "reason": reason}, {"rows": b"no"})])
    assert store.missing(["a" * 64]) == ["a" * 64]
    store.write([Entry("a" * 64, {"status": "ok", "reason": None}, {"rows": b"yes"})])
    for found in (store, Store(tmp_path, ABOUT)):  # whichever segment is met first
        assert found.missing(["a" * 64]) == []
        assert [bytes(one.blobs["rows"]) for one in found.read(["a" * 64])] == [b"yes"]


def test_the_same_entries_make_the_same_segment_whatever_their_order(tmp_path):
    for name, order in (("a", (1, 2, 3)), ("b", (3, 1, 2))):
        Store(tmp_path / name, ABOUT).write([entry(number) for number in order])
    left, right = segment(tmp_path / "a"), segment(tmp_path / "b")
    assert left.name == right.name
    assert left.read_bytes() == right.read_bytes()


@given(place=st.integers(0, 10**6), bit=st.integers(0, 7))
@settings(max_examples=60)
def test_a_flipped_bit_anywhere_is_never_served(tmp_path_factory, place, bit):
    root = tmp_path_factory.mktemp("store")
    Store(root, ABOUT).write([entry(number) for number in (1, 2)])
    path = segment(root)
    content = bytearray(path.read_bytes())
    content[place % len(content)] ^= 1 << bit
    path.write_bytes(content)
    store = Store(root, ABOUT)
    if store.missing(keys(1, 2)) == keys(1, 2):  # seen in the header and set aside at once
        assert not path.exists()
        return
    with pytest.raises(CorruptSegment) as caught:
        list(store.read(keys(1, 2)))
    store.set_aside(caught.value.path)
    assert store.missing(keys(1, 2)) == keys(1, 2)
    store.write([entry(1), entry(2)])
    store.refresh()
    assert list(store.read(keys(1, 2))) == [entry(1), entry(2)]


@pytest.mark.parametrize("keep", [0, 5, 30, 400])
def test_a_cut_off_segment_is_set_aside(tmp_path, keep):
    Store(tmp_path, ABOUT).write([entry(1), entry(2)])
    path = segment(tmp_path)
    path.write_bytes(path.read_bytes()[:keep])
    assert Store(tmp_path, ABOUT).missing(keys(1, 2)) == keys(1, 2)
    assert not path.exists()


def test_a_copy_in_another_segment_serves_when_one_is_damaged(tmp_path):
    store = Store(tmp_path, ABOUT)
    store.write([entry(1)])
    damaged = segment(tmp_path)
    store.write([entry(1), entry(2)])
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"\0")
    for _ in range(2):
        store.refresh()
        try:
            assert list(store.read(keys(1))) == [entry(1)]
        except CorruptSegment as error:
            store.set_aside(error.path)
    assert store.missing(keys(1, 2)) == []


def test_verify_finds_damage_and_prune_removes_it(tmp_path):
    Store(tmp_path, ABOUT).write([entry(1)])
    Store(tmp_path, ABOUT | {"version": 2}).write([entry(2)])
    assert verify(tmp_path) == []
    path = segment(tmp_path)
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    (problem,) = verify(tmp_path)
    assert "damaged" in problem
    before = {usage.fingerprint: usage for usage in stats(tmp_path)}
    assert sum(usage.bad_segments for usage in before.values()) == 1
    assert prune(tmp_path) > 0
    assert sum(usage.bad_segments for usage in stats(tmp_path)) == 0
    assert len(stats(tmp_path)) == 2


def test_prune_keeps_what_is_named_and_what_is_young(tmp_path):
    stores = [Store(tmp_path, ABOUT | {"version": version}) for version in range(3)]
    for store in stores:
        store.write([entry(1)])
    assert prune(tmp_path, unused_days=1) == 0
    old = time.time() - 10 * 86400
    os.utime(stores[0].folder / "about.json", (old, old))
    os.utime(stores[1].folder / "about.json", (old, old))
    assert prune(tmp_path, keep=[stores[0].fingerprint], unused_days=1) > 0
    left = {usage.fingerprint for usage in stats(tmp_path)}
    assert left == {stores[0].folder.name, stores[2].folder.name}
    prune(tmp_path, keep=[stores[2].fingerprint])
    assert {usage.fingerprint for usage in stats(tmp_path)} == {stores[2].folder.name}


def test_stats_of_a_store_that_does_not_exist_are_empty(tmp_path):
    assert stats(tmp_path / "none") == []
    assert verify(tmp_path / "none") == []
    assert prune(tmp_path / "none") == 0


def _write_with_a_full_disk(root: Path, answer) -> None:
    # a limit on file size behaves like a full disk: the write fails half-way with an OSError
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
    try:
        Store(root, ABOUT).write([entry(2, 200_000)])
    except UserError as error:
        answer.put(str(error))
    else:
        answer.put("written")


def test_a_full_disk_is_one_sentence_and_harms_nothing(tmp_path):
    Store(tmp_path, ABOUT).write([entry(1)])
    context = multiprocessing.get_context("fork")
    answer = context.Queue()
    process = context.Process(target=_write_with_a_full_disk, args=(tmp_path, answer))
    process.start()
    message = answer.get(timeout=30)
    process.join()
    assert "cannot write" in message
    assert "free space" in message
    store = Store(tmp_path, ABOUT)
    assert store.missing(keys(1, 2)) == keys(2)
    assert list(store.read(keys(1))) == [entry(1)]
    assert not list(tmp_path.rglob("*.tmp"))


def _write_many(root: Path, seed: int) -> None:
    order = list(range(60))
    random.Random(seed).shuffle(order)
    store = Store(root, ABOUT)
    for start in range(0, 60, 5):
        store.write([entry(number) for number in order[start : start + 5]])
        store.missing(keys(*range(60)))


def test_several_processes_write_and_read_at_once(tmp_path):
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_write_many, args=(tmp_path, seed)) for seed in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    store = Store(tmp_path, ABOUT)
    assert store.missing(keys(*range(60))) == []
    assert list(store.read(keys(*range(60)))) == [entry(number) for number in range(60)]
    assert verify(tmp_path) == []
    assert not list(tmp_path.rglob("*.tmp"))


def _write_until_killed(root: Path) -> None:
    store = Store(root, ABOUT)
    for number in range(10_000):
        store.write([entry(number, 50_000)])


def test_kill_9_while_writing_leaves_only_whole_segments(tmp_path):
    context = multiprocessing.get_context("fork")
    for pause_s in (0.05, 0.08, 0.13):
        process = context.Process(target=_write_until_killed, args=(tmp_path,))
        process.start()
        time.sleep(pause_s)
        process.kill()
        process.join()
    store = Store(tmp_path, ABOUT)
    absent = set(store.missing(keys(*range(10_000))))
    here = [key for key in keys(*range(10_000)) if key not in absent]
    assert here
    assert [found.key for found in store.read(here)] == here
    assert verify(tmp_path) == []
