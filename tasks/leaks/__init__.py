"""What of one split is known to another."""
