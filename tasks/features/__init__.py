"""Stage ``features``: one encoder over one corpus."""
