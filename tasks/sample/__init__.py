"""Stage ``sample``: the synthetic corpus."""
