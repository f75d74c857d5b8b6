"""HAEMSA: network, genome and losses."""
