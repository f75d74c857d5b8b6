"""Intervals and tests on resampled clusters."""
