"""One file per family of frozen extractors."""
