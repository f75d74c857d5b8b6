"""Options that nothing would read as the others are set."""

from collections.abc import Sequence
from typing import Any

from models.errors import UserError

#: Whether something holds, how to say so, and the options that then have no effect.
Idle = tuple[bool, str, Sequence[str]]


def refuse_idle(method: str, config: Any, rules: Sequence[Idle]) -> None:
    """Refuse an option that differs from its default where it has no effect.

    Whoever sets it believes that it does something, and would read the result so.

    Args:
        method: for the message.
        config: a dataclass whose fields all have defaults.
        rules: when which options have no effect.
    """
    defaults = type(config)
    for holds, because, options in rules:
        for option in options if holds else ():
            value = getattr(config, option)
            if value != getattr(defaults, option):
                shown = list(value) if isinstance(value, tuple) else value
                raise UserError(
                    f"{method}: {option} is {shown!r}, which has no effect with {because}; "
                    "leave it out"
                )
