"""Vox-Profile's networks for arousal, valence and dominance: teachers of the voice's VAD.

Feng et al. 2025, "Vox-Profile: A speech foundation model benchmark for characterizing diverse
speaker and speech traits" (arXiv 2505.14648). WavLM-large, fine-tuned on MSP-Podcast by low-rank
additions to the feed-forward layers of its upper half; a learned mean over its hidden layers; three
linear layers frame by frame; the mean over time; one small network for each dimension, on (0, 1).
Here they come as valence, arousal, dominance on (-1, 1).

Pooled are the three numbers. The sequence holds the learned mean of hidden layers. The makers ask
for sounds of 3 to 15 s; longer ones are cut into windows, and the mean is over all of it.

S samples   T frames   D width of a frame
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import WavLMConfig, WavLMModel

from models.encoders.audio_vad import NAMES, to_vad
from models.encoders.encoder import Encoded, Settings, Sound
from models.encoders.hf_audio import HfAudio
from models.encoders.hidden import checkpoint_folder, prepare
from models.errors import UserError

MODALITY = "audio"
FEATURE_VERSION = 1
LIBRARIES = ("torch", "transformers")
POOLINGS = ("mean",)
RATE_HZ = 16000
CHUNK = 16

_TRUNK = "backbone_model."
#: microsoft/wavlm-large, which the checkpoint does not describe.
LARGE = WavLMConfig(
    hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096,
    do_stable_layer_norm=True, feat_extract_norm="layer", apply_spec_augment=False,
)  # fmt: skip
#: Older names of the parts of a normed weight.
_OLD_NORM = {"weight_g": "parametrizations.weight.original0",
             "weight_v": "parametrizations.weight.original1"}  # fmt: skip


class VoxProfile(HfAudio):
    """A frozen network with its heads.

    Args:
        settings: which checkpoint.
        batch: see ``HfAudio``.
        config: of the network below the heads.
    """

    def __init__(
        self, settings: Settings, batch: int | None = None, config: WavLMConfig = LARGE
    ) -> None:
        if settings.layer != "last" or settings.unit_norm:
            raise UserError(
                "params.yaml: an encoder of vox_profile weighs the layers itself; leave `layer` "
                "and `unit_norm` out"
            )
        self.wavlm = config
        self.folder = checkpoint_folder(settings)
        self.state = _read(self.folder)
        shares = self._tensor("weights").softmax(0)
        layers = tuple(shares.tolist())
        super().__init__(
            replace(settings, layer="weighted", layer_weights=layers, pooling="mean"), batch
        )
        self.frame_head = nn.Sequential(
            self._linear("model_seq.0"), nn.ReLU(), self._linear("model_seq.3"), nn.ReLU(),
            self._linear("model_seq.6"),
        )  # fmt: skip
        self.heads = [
            nn.Sequential(
                self._linear(f"{name}_layer.0"), nn.ReLU(), self._linear(f"{name}_layer.2"),
                nn.Sigmoid(),
            )
            for name in NAMES
        ]  # fmt: skip
        self.state = {}

    @property
    def pooled_dim(self) -> int:
        """See ``Encoder``."""
        return len(NAMES)

    def read_network(self) -> nn.Module:
        """See ``HfAudio``."""
        network = WavLMModel(self.wavlm)
        try:
            network.load_state_dict(trunk(self.state))
        except RuntimeError as error:
            raise UserError(
                f"checkpoint {self.folder} does not hold every weight of Vox-Profile's WavLM; "
                "name another in params.yaml, or fetch it again with `affectloom fetch`"
            ) from error
        return prepare(network, self.settings.dtype)

    def encode(self, inputs: Sequence[Sound]) -> list[Encoded]:
        """See ``Encoder``; pooled are valence, arousal, dominance."""
        return [self.judged(found) for found in super().encode(inputs)]

    def judged(self, found: Encoded) -> Encoded:
        """The same with the heads' opinion in place of the mean frame."""
        if found.sequence is None:
            return found
        with torch.inference_mode():
            # frame by frame and on the CPU, so that no batch can change a bit
            mean = self.frame_head(torch.from_numpy(found.sequence)).mean(0)
            unit = np.array([float(head(mean)) for head in self.heads])
        return replace(found, pooled=to_vad(unit))

    def _tensor(self, name: str) -> Tensor:
        if name not in self.state:
            raise UserError(
                f"checkpoint {self.folder} lacks {name}; vox_profile takes Vox-Profile's WavLM "
                "for arousal, valence and dominance"
            )
        return self.state[name].float()

    def _linear(self, name: str) -> nn.Linear:
        """A linear layer; one over time of kernel 1 is one too."""
        weight, bias = self._tensor(f"{name}.weight").flatten(1), self._tensor(f"{name}.bias")
        layer = nn.Linear(weight.shape[1], weight.shape[0]).requires_grad_(False)
        layer.load_state_dict({"weight": weight, "bias": bias})
        return layer


def trunk(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """WavLM's weights by the names of transformers, with the low-rank additions added.

    A pair ``lora_A`` (r, in), ``lora_B`` (out, r) adds ``lora_B @ lora_A / r``: its makers left the
    scale of additions at 1.
    """
    own = {
        name.removeprefix(_TRUNK): value for name, value in state.items() if name.startswith(_TRUNK)
    }
    found: dict[str, Tensor] = {}
    for name, value in own.items():
        if name.endswith(("lora_A", "lora_B")):
            continue
        layer, _, kind = name.rpartition(".")
        down, up = own.get(f"{layer}.lora_A"), own.get(f"{layer}.lora_B")
        if kind == "weight" and down is not None and up is not None:
            value = value + up @ down / len(down)
        found[re.sub(r"weight_[gv]$", lambda old: _OLD_NORM[old[0]], name)] = value
    return found


def _read(folder: Path) -> dict[str, Tensor]:
    try:
        return load_file(folder / "model.safetensors")
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"checkpoint {folder} has no readable model.safetensors; fetch it again with "
            "`affectloom fetch`"
        ) from error


ENCODER = VoxProfile
