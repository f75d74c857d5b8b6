"""What ``inputs`` names for a modality: an encoder, or several whose vectors stand side by side."""

from collections.abc import Sequence

#: As it stands in params.yaml and in the records of runs.
Named = str | Sequence[str]


def names_in(named: Named) -> tuple[str, ...]:
    """The encoders that one key of ``inputs`` names, in order."""
    return (named,) if isinstance(named, str) else tuple(named)
