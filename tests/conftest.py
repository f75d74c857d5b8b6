"""Runs before any test module is imported."""

import os

# pytest runs a worker for each core: with a thread for each core in every worker, small networks
# spend most of their time waiting for one another
for _name in ("OMP_NUM_THREADS", "POLARS_MAX_THREADS"):
    os.environ.setdefault(_name, "1")

from hypothesis import settings  # noqa: E402

# how long an example takes says what else the machine does
settings.register_profile("here", deadline=None)
settings.load_profile("here")
