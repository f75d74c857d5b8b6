"""Balancing plug-ins, one file each; ``PLUGIN`` is the class."""
