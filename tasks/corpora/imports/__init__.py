"""Feature files that others made, one module per format."""
