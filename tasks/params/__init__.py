"""``params.yaml``: its text, its models, what it asks of a corpus and of a method."""
