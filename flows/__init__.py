"""WHEN: order, retries, concurrency, progress. The only importer of prefect."""

import os

# Both libraries keep what was freed, a quarter of the tables of a million rows. They read this when
# they are loaded, here and in every process that is begun from here.
os.environ.setdefault("_RJEM_MALLOC_CONF", "dirty_decay_ms:0,muzzy_decay_ms:0")  # polars
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
