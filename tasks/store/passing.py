"""Failures of the moment, not of the content: nothing is remembered about them."""

from collections.abc import Mapping

from tasks.media.types import Reason

#: A file may be back, readable or less of a burden next time; every stage tries such clips again.
PASSING: frozenset[Reason] = frozenset(("missing", "not_readable", "timeout", "crashed"))


def may_pass(meta: Mapping[str, object]) -> bool:
    """Whether a clip gave nothing for a reason that may be gone next time."""
    return meta.get("status") == "quarantined" and meta.get("reason") in PASSING
