"""Huo & Ge's VAD multi-task network."""
