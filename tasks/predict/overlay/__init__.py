"""The video with what is said of it drawn in."""

from tasks.predict.overlay.film import write_overlay

__all__ = ["write_overlay"]
