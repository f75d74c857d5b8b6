import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from tasks.store.spool import Places

_NAMES = st.text("ab/é", max_size=14)


@given(st.lists(_NAMES, unique=True), st.lists(_NAMES), st.randoms(use_true_random=False))
def test_places_are_those_of_a_dictionary(ids, others, random):
    found = [*ids, *others, *ids[:2]]
    random.shuffle(found)
    wanted = {name: place for place, name in enumerate(ids)}
    for asked in (found, found[:1], []):
        places = Places(pl.Series(ids, dtype=pl.String)).of(pl.Series(asked, dtype=pl.String))
        assert places.dtype == np.int64
        assert places.tolist() == [wanted.get(name, -1) for name in asked]
