"""Runs before any test module is imported."""

import os

# pytest runs a worker for each core: with a thread for each core in every worker, small networks
# spend most of their time waiting for one another
for _name in ("OMP_NUM_THREADS", "POLARS_MAX_THREADS"):
    os.environ.setdefault(_name, "1")
