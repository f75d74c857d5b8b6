"""BiDDIN, whose modalities recall each other, and the separate streams that SPCL made of it."""
