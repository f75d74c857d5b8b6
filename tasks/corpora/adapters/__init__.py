"""One module per corpus; each has ``read``."""
