"""Whisper out of CTranslate2: the same weights under other names, joined projections taken apart.

What a checkpoint of transformers says beside its weights is written out here, as OpenAI published
it; the sizes are those of the tensors.
"""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

NAME = "whisper"
#: A tensor that only this form has.
SIGN = "encoder/layer_0/self_attention/linear_0/weight"

#: Numbers of tokens of the multilingual vocabulary; transformers presumes the English one.
_TOKENS = {
    "bos_token_id": 50257,
    "eos_token_id": 50257,
    "pad_token_id": 50257,
    "decoder_start_token_id": 50258,
}
_MULTILINGUAL = 51865


def from_ct2(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """By the names of transformers."""
    found: dict[str, Tensor] = {}
    for side in ("encoder", "decoder"):
        ours = f"model.{side}"
        found[f"{ours}.embed_positions.weight"] = tensors[f"{side}/position_encodings/encodings"]
        found |= _norm(tensors, f"{side}/layer_norm", f"{ours}.layer_norm")
        for number in range(_layers(tensors, side)):
            found |= dict(_block(tensors, f"{side}/layer_{number}", f"{ours}.layers.{number}"))
    found["model.decoder.embed_tokens.weight"] = tensors["decoder/embeddings/weight"]
    for name in ("conv1", "conv2"):
        for kind in ("weight", "bias"):
            found[f"model.encoder.{name}.{kind}"] = tensors[f"encoder/{name}/{kind}"]
    return found


def files(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, object]]:
    """config.json and preprocessor_config.json."""
    positions, width = tensors["encoder/position_encodings/encodings"].shape
    vocabulary = len(tensors["decoder/embeddings/weight"])
    mels = tensors["encoder/conv1/weight"].shape[1]
    config: dict[str, object] = {
        "model_type": "whisper",
        "architectures": ["WhisperForConditionalGeneration"],
        "d_model": width,
        "num_mel_bins": mels,
        "max_source_positions": positions,
        "max_target_positions": len(tensors["decoder/position_encodings/encodings"]),
        "vocab_size": vocabulary,
    }
    for side in ("encoder", "decoder"):
        config[f"{side}_layers"] = _layers(tensors, side)
        config[f"{side}_attention_heads"] = int(tensors[f"{side}/num_heads"])
        config[f"{side}_ffn_dim"] = len(tensors[f"{side}/layer_0/ffn/linear_0/weight"])
    if vocabulary == _MULTILINGUAL:
        config |= _TOKENS
    preprocessor: dict[str, object] = {
        "feature_extractor_type": "WhisperFeatureExtractor",
        "feature_size": mels,
        "sampling_rate": 16000,
        "hop_length": 160,
        "n_fft": 400,
        "chunk_length": 30,
        "padding_value": 0.0,
        "return_attention_mask": False,
    }
    return {"config.json": config, "preprocessor_config.json": preprocessor}


def _layers(tensors: Mapping[str, Tensor], side: str) -> int:
    numbers = {
        int(name.split("/")[1].removeprefix("layer_"))
        for name in tensors
        if name.startswith(f"{side}/layer_") and not name.startswith(f"{side}/layer_norm")
    }
    return len(numbers)


def _block(tensors: Mapping[str, Tensor], theirs: str, ours: str) -> Iterator[tuple[str, Tensor]]:
    """A transformer block; keys have no bias in Whisper, and the joined form fills in zeros."""
    attention = f"{theirs}/self_attention"
    yield from _projections(tensors, f"{attention}/linear_0", f"{ours}.self_attn", "qkv")
    yield from _linear(tensors, f"{attention}/linear_1", f"{ours}.self_attn.out_proj")
    yield from _norm(tensors, f"{attention}/layer_norm", f"{ours}.self_attn_layer_norm").items()
    across = f"{theirs}/attention"
    if f"{across}/linear_0/weight" in tensors:
        yield from _projections(tensors, f"{across}/linear_0", f"{ours}.encoder_attn", "q")
        yield from _projections(tensors, f"{across}/linear_1", f"{ours}.encoder_attn", "kv")
        yield from _linear(tensors, f"{across}/linear_2", f"{ours}.encoder_attn.out_proj")
        yield from _norm(tensors, f"{across}/layer_norm", f"{ours}.encoder_attn_layer_norm").items()
    yield from _linear(tensors, f"{theirs}/ffn/linear_0", f"{ours}.fc1")
    yield from _linear(tensors, f"{theirs}/ffn/linear_1", f"{ours}.fc2")
    yield from _norm(tensors, f"{theirs}/ffn/layer_norm", f"{ours}.final_layer_norm").items()


def _projections(
    tensors: Mapping[str, Tensor], theirs: str, ours: str, which: str
) -> Iterator[tuple[str, Tensor]]:
    weights = tensors[f"{theirs}/weight"].chunk(len(which))
    biases = tensors[f"{theirs}/bias"].chunk(len(which))
    for letter, weight, bias in zip(which, weights, biases, strict=True):
        yield f"{ours}.{letter}_proj.weight", weight
        if letter != "k":
            yield f"{ours}.{letter}_proj.bias", bias
        elif torch.count_nonzero(bias):
            raise ValueError(f"{theirs} has a bias of keys, which Whisper has not")


def _linear(tensors: Mapping[str, Tensor], theirs: str, ours: str) -> Iterator[tuple[str, Tensor]]:
    for kind in ("weight", "bias"):
        yield f"{ours}.{kind}", tensors[f"{theirs}/{kind}"]


def _norm(tensors: Mapping[str, Tensor], theirs: str, ours: str) -> dict[str, Tensor]:
    return {f"{ours}.weight": tensors[f"{theirs}/gamma"], f"{ours}.bias": tensors[f"{theirs}/beta"]}
