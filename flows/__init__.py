"""WHEN: order, retries, concurrency, progress. The only importer of prefect."""

import os

# Both keep what they freed for later, up to a quarter of a million rows' tables; read when polars
# and Arrow are loaded, here and in every process that is begun from here.
os.environ.setdefault("_RJEM_MALLOC_CONF", "dirty_decay_ms:0,muzzy_decay_ms:0")
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
