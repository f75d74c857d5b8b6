"""Whisper's encoder at a sound's own length.

The published network always reads 30 s, the sound and silence after it. Here it reads the sound:
its spectrogram is the same, the positions after its end are cut, and so the attention sees no
silence. The cost follows the length. The input embedding (layer 0) is that of the padded run but
for the last frame, whose convolutions look past the end; layers above differ, because frames no
longer attend to silence. A sound of 30 s gives what it gives in the published network.

S samples   T frames   D width of a frame
"""

from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from transformers import WhisperFeatureExtractor
from transformers.modeling_outputs import BaseModelOutput
from transformers.models.whisper.modeling_whisper import WhisperEncoder


class WhisperEar(nn.Module):
    """Samples in, hidden states out.

    Args:
        encoder: of transformers.
        folder: of the checkpoint, for its spectrogram.
    """

    def __init__(self, encoder: nn.Module, folder: Path) -> None:
        super().__init__()
        self.encoder = cast(WhisperEncoder, encoder)
        self.extractor = WhisperFeatureExtractor.from_pretrained(str(folder))
        self.hop = 2 * self.extractor.hop_length
        positions = self.encoder.config.max_source_positions
        self.longest_s = positions * self.hop / self.extractor.sampling_rate

    def forward(
        self,
        samples: Tensor,
        attention_mask: None = None,
        output_hidden_states: bool = False,
    ) -> BaseModelOutput:
        """(B, S) of one length to states of T = ceil(S / hop) frames.

        Args:
            samples: at the rate of the extractor.
            attention_mask: there is none, because lengths are equal.
            output_hidden_states: hand out every layer; as transformers has it, the last one is
                normalised.
        """
        encoder = self.encoder
        features = self.spectrogram(samples).to(samples.device)
        x = nn.functional.gelu(encoder.conv1(features))
        x = nn.functional.gelu(encoder.conv2(x)).transpose(1, 2)  # (B, D, T) -> (B, T, D)
        x = x + encoder.embed_positions.weight[: x.shape[1]]
        states = [x]
        for block in encoder.layers:
            x = block(x, None)
            states.append(x)
        states[-1] = encoder.layer_norm(x)
        kept = tuple(states) if output_hidden_states else None
        return BaseModelOutput(last_hidden_state=states[-1], hidden_states=kept)

    def spectrogram(self, samples: Tensor) -> Tensor:
        """(B, S) to (B, mels, 2T): the first 2T columns of the padded sound's spectrogram."""
        frames = -(-samples.shape[1] // self.hop)
        # one frame of silence more: the window of the last column looks past the end
        wanted = min((frames + 1) * self.hop, self.extractor.n_samples)
        with torch.autocast(samples.device.type, enabled=False):  # float32 throughout
            features = self.extractor(
                list(samples.cpu().numpy()),
                sampling_rate=self.extractor.sampling_rate,
                return_tensors="pt",
                padding="max_length",
                max_length=wanted,
            ).input_features
        return features[:, :, : 2 * frames]
