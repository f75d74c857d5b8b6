"""Blocks with two or more users."""
