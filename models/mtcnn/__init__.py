"""MTCNN face detection: the cascade, its networks, and what they look at."""
