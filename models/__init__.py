"""HOW: tensors in, tensors out; no tables, no run folders."""
