"""How corpora are read: adapters, foreign feature files, and what they share."""
