"""Mi-CGA and how it hides cells."""
