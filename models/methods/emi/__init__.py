"""The EMI concatenation model with its VAD prior."""
