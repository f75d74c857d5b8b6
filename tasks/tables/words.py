"""Closed sets of words that several tables, or tables and parameters, share."""

MODALITIES = ("audio", "video", "text")
SPLITS = ("train", "validation", "test")
STATUSES = ("ok", "degraded", "quarantined")
