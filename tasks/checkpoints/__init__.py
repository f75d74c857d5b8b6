"""Stage ``checkpoints``: local encoders, and bundles of weights."""
