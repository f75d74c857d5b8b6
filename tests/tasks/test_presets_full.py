"""``params/full.yaml``: each entry's family builds the published network, without a hub.

Configurations are the published ones; numbers of parameters are those that the hub, or the paper,
counts in the published weights. Networks are built on torch's device ``meta``, without weights.
"""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from transformers import AutoConfig, AutoModel

from models.encoders import hf_audio, hf_text, hf_vision
from models.encoders.encoder import Settings
from models.encoders.records import FILES, is_pinned
from models.encoders.weights import Weights
from tasks.features.families import family_constants, load_encoder
from tasks.features.params import make_settings
from tasks.params.model import Params
from tests.places import ROOT

RAW = yaml.safe_load((ROOT / "params" / "full.yaml").read_text(encoding="utf-8"))
LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16,
         "intermediate_size": 4096}  # fmt: skip
STABLE = {"do_stable_layer_norm": True, "feat_extract_norm": "layer"}


def whisper(width: int, layers: int, heads: int, mels: int) -> dict[str, object]:
    sides = {}
    for side in ("encoder", "decoder"):
        sides |= {f"{side}_layers": layers, f"{side}_attention_heads": heads}
        sides |= {f"{side}_ffn_dim": 4 * width}
    vocabulary = 51866 if mels == 128 else 51865
    return {
        "model_type": "whisper", "d_model": width, "num_mel_bins": mels, "vocab_size": vocabulary,
        **sides,
    }  # fmt: skip


#: Entry -> published configuration, parameters of the whole published network as transformers
#: opens it, and the shape of one weight by its published name.
PUBLISHED: dict[str, tuple[dict[str, object], int, str, tuple[int, ...]]] = {
    "wav2vec2_base": (
        {"model_type": "wav2vec2"}, 94_371_712, "encoder.layers.11.attention.q_proj.weight",
        (768, 768),
    ),
    "hubert_base": (
        {"model_type": "hubert"}, 94_371_712, "feature_extractor.conv_layers.0.conv.weight",
        (512, 1, 10),
    ),
    "hubert_large": (
        {"model_type": "hubert", "conv_bias": True, **LARGE, **STABLE}, 315_438_720,
        "encoder.layers.23.feed_forward.intermediate_dense.weight", (4096, 1024),
    ),
    "wavlm_base_plus": (
        {"model_type": "wavlm"}, 94_381_936, "encoder.layers.0.attention.rel_attn_embed.weight",
        (320, 12),
    ),
    "wavlm_large": (
        {"model_type": "wavlm", **LARGE, **STABLE}, 315_453_120,
        "encoder.layers.0.attention.rel_attn_embed.weight", (320, 16),
    ),
    "whisper_small": (
        whisper(768, 12, 12, 80), 241_734_912, "encoder.conv1.weight", (768, 80, 3),
    ),
    "whisper_large_v3": (
        whisper(1280, 32, 20, 128), 1_543_490_560, "encoder.conv1.weight", (1280, 128, 3),
    ),
    "vit_base": (
        {"model_type": "vit"}, 86_389_248, "embeddings.patch_embeddings.projection.weight",
        (768, 3, 16, 16),
    ),
    "dinov2_base": (
        {"model_type": "dinov2", "patch_size": 14, "image_size": 518}, 86_580_480,
        "embeddings.position_embeddings", (1, 1370, 768),
    ),
    "dinov2_large": (
        {"model_type": "dinov2", "patch_size": 14, "image_size": 518, "hidden_size": 1024,
         "num_hidden_layers": 24, "num_attention_heads": 16}, 304_368_640,
        "embeddings.position_embeddings", (1, 1370, 1024),
    ),
    "clip_base": (
        {"model_type": "clip", "projection_dim": 512}, 151_277_313,
        "vision_model.embeddings.position_embedding.weight", (50, 768),
    ),
    "clip_large": (
        {"model_type": "clip", "projection_dim": 768,
         "vision_config": {**LARGE, "patch_size": 14, "projection_dim": 768},
         "text_config": {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12,
                         "projection_dim": 768}},
        427_616_513, "vision_model.embeddings.position_embedding.weight", (257, 1024),
    ),
    "siglip_base": (
        {"model_type": "siglip"}, 203_155_970,
        "vision_model.embeddings.position_embedding.weight", (196, 768),
    ),
    "siglip_so400m": (
        {"model_type": "siglip",
         "vision_config": {"hidden_size": 1152, "intermediate_size": 4304, "image_size": 384,
                           "num_attention_heads": 16, "num_hidden_layers": 27, "patch_size": 14},
         "text_config": {"hidden_size": 1152, "intermediate_size": 4304, "num_attention_heads": 16,
                         "num_hidden_layers": 27}},
        877_960_498, "vision_model.embeddings.position_embedding.weight", (729, 1152),
    ),
    "roberta_large": (
        {"model_type": "roberta", "vocab_size": 50265, "max_position_embeddings": 514,
         "type_vocab_size": 1, **LARGE}, 355_359_744,
        "embeddings.word_embeddings.weight", (50265, 1024),
    ),
    "xlm_roberta_large": (
        {"model_type": "xlm-roberta", "vocab_size": 250002, "max_position_embeddings": 514,
         "type_vocab_size": 1, **LARGE}, 559_890_432,
        "embeddings.word_embeddings.weight", (250002, 1024),
    ),
    "gte_large": (
        {"model_type": "bert", **LARGE}, 335_141_888, "embeddings.position_embeddings.weight",
        (512, 1024),
    ),
}  # fmt: skip
#: These have tests of the published shapes beside their families.
ELSEWHERE = {"enet_b0", "vad_msp", "vad_vox", "emotion2vec_plus", "facenet_vggface2", "prosody"}


def test_every_entry_names_weights_that_can_be_fetched_and_a_known_family():
    params = Params(RAW)
    for name in RAW["encoders"]:
        entry = params.encoder(name)
        family_constants(entry.family)
        if entry.checkpoint is not None and entry.checkpoint not in FILES:
            assert is_pinned(entry.pin) or entry.pin == "main", name  # which fetch --pin mends
    assert set(PUBLISHED) | ELSEWHERE == set(RAW["encoders"])


def test_every_download_says_its_licence_and_its_size():
    text = (ROOT / "params" / "full.yaml").read_text(encoding="utf-8")
    lines = text.splitlines()
    for name, entry in RAW["encoders"].items():
        if "checkpoint" not in entry:
            continue
        here = next(i for i, line in enumerate(lines) if line.startswith(f"  {name}:"))
        first = here
        while lines[first - 1].startswith("  #"):
            first -= 1
        said = " ".join(lines[first : here + 1])
        assert " MB" in said or " GB" in said, name
        assert any(word in said for word in ("MIT", "Apache", "CC BY", "OpenRAIL", "FunASR")), name


class Tokenizer:
    """As much of one as an encoder asks before it reads."""

    model_input_names = ("input_ids", "attention_mask")
    model_max_length = 512


def preprocessor(config: dict[str, object], seen_px: int) -> dict[str, object]:
    size = {"height": seen_px, "width": seen_px}
    return {"feature_size": config.get("num_mel_bins", 1), "size": size, "do_normalize": True}


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_the_family_builds_the_published_network(name, tmp_path, monkeypatch):
    config, count, weight, shape = PUBLISHED[name]
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(preprocessor(config, 224)))
    with torch.device("meta"):
        network = AutoModel.from_config(AutoConfig.for_model(**config))
    assert sum(value.numel() for value in network.parameters()) == count
    weights = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    assert weights[weight] == shape
    for family in (hf_audio, hf_text, hf_vision):
        monkeypatch.setattr(family, "load_model", lambda *asked: network)
    monkeypatch.setattr(hf_text.AutoTokenizer, "from_pretrained", lambda *a, **k: Tokenizer())
    entry = Params(RAW).encoder(name)
    encoder = load_encoder(entry.family, settings_of(entry, tmp_path))
    width = config.get("hidden_size") or config.get("d_model") or vision_width(config)
    assert encoder.frame_dim == width
    parts = 2 * encoder.layers.count if entry.layer == "all" else 1
    assert encoder.pooled_dim == parts * width


def vision_width(config: dict[str, object]) -> int:
    vision = config.get("vision_config")
    return int(vision["hidden_size"]) if isinstance(vision, dict) else 768


def settings_of(entry, folder: Path) -> Settings:
    """Those of the entry, for a network without weights."""
    found = make_settings(entry, Weights(folder, "0" * 64, trained=True))
    return replace(found, device="meta", dtype="float32")
