"""MM-DFN with its dynamic fusion, and the gated pairs of modalities that SPCL made of it."""
