"""Stage ``evaluate``: the only reader of test labels."""
