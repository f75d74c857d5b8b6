"""Stage ``ingest``: raw media and annotations to tables."""
