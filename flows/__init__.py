"""WHEN: order, retries, concurrency, progress. The only importer of prefect."""
