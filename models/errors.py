"""Errors a user can act on: one clear sentence, no traceback needed."""

import difflib
from collections.abc import Iterable, Sequence


class UserError(Exception):
    """Something in the input is wrong and the message says what, where and how to mend it.

    The command line prints the message alone and exits with a status other than 0.
    """


class MetricInputError(UserError):
    """A metric was given rows that it cannot score (missing, non-finite, of unequal length)."""


class NotFinite(UserError):
    """Training produced a loss or output that is not a number."""


def nearest(word: object, known: Iterable[str], alike: float = 0.6) -> str | None:
    """The name that ``word`` probably stands for; None where none is ``alike`` (0 to 1)."""
    return next(iter(difflib.get_close_matches(str(word), list(known), 1, alike)), None)


def hint(word: object, known: Sequence[str], otherwise: str | None = None) -> str:
    """What to try in place of ``word``, for the end of a message.

    Args:
        word: what was given.
        known: the names that would have been right.
        otherwise: said where none of them is close; None lists them.
    """
    if near := nearest(word, known):
        return f"did you mean '{near}'?"
    return f"known: {', '.join(known) or 'none'}" if otherwise is None else otherwise
