"""``affectloom store``: what is kept and for whom, whether it is sound, and freeing the rest."""

import json
from functools import partial
from pathlib import Path

import pytest

from tasks.store.buckets import Row, assemble
from tasks.store.segments import Entry, Store
from tests.places import here


@pytest.fixture
def affectloom(command):
    """Runs ``affectloom store``; returns its exit code, stdout and stderr."""
    return partial(command, "store")


def fill(family: str) -> Store:
    """Two entries of an encoder."""
    store = Store(here().cache / "features", {"family": family})
    meta = {"status": "ok", "reason": None}
    store.write([Entry(f"{n:064x}", meta, {"pooled": b"\0" * 8}) for n in range(2)])
    store.refresh()
    return store


def test_stats_tells_which_tables_use_what_and_prune_frees_the_rest(affectloom):
    used, unused = fill("prosody"), fill("facenet")
    row = Row("sample/d/u", f"{0:064x}", "ok", None, 0, None)
    made = {"fingerprint": used.fingerprint}
    assemble(used, [row], 2, 2, here().features("sample", "prosody"), made)
    used.note("error", 0.0123)
    code, out, _ = affectloom("stats")
    assert code == 0
    lines = {line.split()[1]: line for line in out.splitlines()[:-1]}
    assert "2 clips" in lines["prosody:"]
    assert "reduced precision costs 1.2 %" in lines["prosody:"]
    assert "used by prosody of sample" in lines["prosody:"]
    assert "no present table" in lines["facenet:"]
    found = {each["about"]["family"]: each for each in json.loads(affectloom("stats", "--json")[1])}
    assert found["prosody"]["tables"] == ["prosody of sample"]
    assert found["facenet"]["tables"] == []
    assert affectloom("prune")[0] == 0
    assert used.folder.exists()
    assert not unused.folder.exists()


def test_verify_fails_once_on_damage_and_sets_it_aside(affectloom):
    store = fill("prosody")
    assert affectloom("verify") == (0, "the store is sound\n", "")
    (segment,) = Path(store.folder).rglob("*.seg")
    content = bytearray(segment.read_bytes())
    content[-1] ^= 1
    segment.write_bytes(content)
    code, out, err = affectloom("verify")
    assert (code, out) == (1, "1 damaged segments set aside\n")
    assert "is damaged" in err
    assert affectloom("verify")[0] == 0
    assert "1 damaged segments set aside" in affectloom("stats")[1]
