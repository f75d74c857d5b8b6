"""The video with what is said of it drawn in."""

from tasks.predict.output.overlay.film import write_overlay

__all__ = ["write_overlay"]
