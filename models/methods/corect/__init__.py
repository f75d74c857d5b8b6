"""CORECT and its two branches."""
