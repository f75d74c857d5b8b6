"""Stage ``search``: options of a method, chosen on validation."""
