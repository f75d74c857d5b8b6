"""Between tables and tensors: what methods read of a corpus."""
