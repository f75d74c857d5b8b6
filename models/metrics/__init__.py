"""Scores as pure functions, and which of them stand for which target."""
