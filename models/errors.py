"""Errors a user can act on: one clear sentence, no traceback needed."""


class UserError(Exception):
    """Something in the input is wrong and the message says what, where and how to mend it.

    The command line prints the message alone and exits with a status other than 0.
    """


class MetricInputError(UserError):
    """A metric was given rows that it cannot score (missing, non-finite, of unequal length)."""


class NotFinite(UserError):
    """Training produced a loss or output that is not a number."""
