import importlib.util
import random
from functools import partial

import pytest

from tests.faults.kills import kill
from tests.faults.project import KILLS
from tests.faults.works import WORKER, WORKS
from tests.tally import note

pytestmark = pytest.mark.faults


@pytest.mark.parametrize("work", WORKS, ids=lambda work: work.name)
def test_kill_9_changes_nothing_that_is_written(work, calm, chance: random.Random, tmp_path):
    if work is WORKER and importlib.util.find_spec("distributed") is None:
        pytest.skip("the extra dask is not installed (requirements-cluster.lock)")
    kind, kills = f"kill -9 of {work.name}", min(KILLS, work.kills)
    try:
        found = kill(work, kills, chance, tmp_path, partial(note, kind, "survived"))
    except RuntimeError:
        note(kind, "wrong")
        raise
    if found.differing or found.orphans:
        note(kind, "lost")
    assert (found.kills, found.differing, found.orphans) == (kills, (), ())
