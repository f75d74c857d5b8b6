"""The content-addressed store of what was computed once."""
