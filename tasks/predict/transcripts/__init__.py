"""Who said what and when, from files that people and programs write."""

from tasks.predict.transcripts.embedded import embedded_subtitles
from tasks.predict.transcripts.reading import read_transcript
from tasks.predict.transcripts.turns import Turn

__all__ = ["Turn", "embedded_subtitles", "read_transcript"]
