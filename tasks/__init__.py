"""WHAT a stage does: plain functions; files in, files out."""
