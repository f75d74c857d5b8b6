"""Networks of AffectNet as CAGE's authors publish them, head and all.

Their ``model.pt`` is the state of a torchvision network whose head has one output for each
expression, in the order of AffectNet's numbers, then valence and arousal; a variant lacks what it
does not predict.
"""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from models.errors import UserError
from models.methods.cage.backbones import load_body
from models.methods.cage.losses import PRINTED_WEIGHTS
from models.metrics.consistency import SPELLINGS

_VALUES = ("valence", "arousal")


def load_published(
    net: nn.Module,
    head: str,
    state: Mapping[str, Tensor],
    classes: Sequence[str],
    values: Sequence[str],
    source: str,
) -> None:
    """Take over every parameter, those of the outputs in our order.

    Args:
        net: the network to fill; its outputs are the classes, then the values.
        head: prefix of its head's names.
        state: names and values, of the same network with the same variant's head.
        classes: names of the expressions that it predicts; empty: none.
        values: names of the dimensions that it predicts; empty: none.
        source: where the state comes from, for the message.
    """
    rows = _rows(classes, values, source)
    last = _last(net, head)
    own = {key: value for key, value in net.state_dict().items() if key.startswith(head)}
    wanted: dict[str, Tensor] = {}
    for key, value in own.items():
        given = state.get(key)
        if given is None or given.shape != value.shape:
            shape = "lacks" if given is None else f"has {tuple(given.shape)} for"
            raise UserError(
                f"{source} {shape} '{key}', expected {tuple(value.shape)}: its outputs are not "
                f"{', '.join([*classes, *values])}; set `targets` and `variant` to what it was "
                "trained for, or as_published: false"
            )
        wanted[key] = given[rows] if key.startswith(last) else given
    load_body(net, head, state, source)
    net.load_state_dict({**net.state_dict(), **wanted})


def _rows(classes: Sequence[str], values: Sequence[str], source: str) -> list[int]:
    """For each of our outputs the place of the published one."""
    spelt = [SPELLINGS.get(name.lower(), name.lower()) for name in classes]
    published = list(PRINTED_WEIGHTS.get(len(classes), {}))  # in the order of AffectNet's numbers
    if set(spelt) != set(published) or not set(values) <= set(_VALUES):
        raise UserError(
            f"{source}: what CAGE's authors publish tells AffectNet's seven or eight expressions, "
            f"valence and arousal, but the targets are {', '.join([*classes, *values])}; set "
            "as_published: false to train another head"
        )
    places = [published.index(name) for name in spelt]
    return places + [len(classes) + _VALUES.index(name) for name in values]


def _last(net: nn.Module, head: str) -> str:
    """Prefix of the layer that makes the outputs."""
    linear = [
        name
        for name, module in net.named_modules()
        if f"{name}.".startswith(head) and isinstance(module, nn.Linear)
    ]
    return f"{linear[-1]}."
