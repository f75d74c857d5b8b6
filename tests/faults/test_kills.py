import random

import pytest

from tests.faults.kills import extraction, training
from tests.tally import note

pytestmark = pytest.mark.faults

SEED = 7


@pytest.mark.parametrize(("work", "kills"), [(extraction, 10), (training, 10)])
def test_kill_9_changes_nothing_that_is_written(work, kills, tmp_path):
    found = work(kills, random.Random(SEED), tmp_path)
    kind = f"kill -9 of {work.__name__}"
    note(kind, "lost" if found.differing or found.orphans else "survived", kills)
    assert (found.kills, found.differing, found.orphans) == (kills, (), 0)
