"""Who speaks when, and what: for media that come without a transcript."""
