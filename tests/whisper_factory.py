"""A Whisper as small as one can be: random weights, a tokenizer that spells every byte."""

import json
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration

SPECIAL = (
    "<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|de|>", "<|zh|>", "<|translate|>",
    "<|transcribe|>", "<|nospeech|>", "<|notimestamps|>",
)  # fmt: skip


def make_tokenizer(folder: Path) -> dict[str, int]:
    """``tokenizer.json`` of the 256 bytes and the tokens that steer; returns those."""
    folder.mkdir(parents=True, exist_ok=True)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: n for n, letter in enumerate(letters)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in SPECIAL])
    tokenizer.save(str(folder / "tokenizer.json"))
    return {name: len(letters) + place for place, name in enumerate(SPECIAL)}


def make_whisper(folder: Path, seed: int = 0, **said: object) -> WhisperForConditionalGeneration:
    """Save a checkpoint as a hub has it, with ``said`` in ``generation_config.json``."""
    special = make_tokenizer(folder)
    WhisperFeatureExtractor(feature_size=80).save_pretrained(folder)
    end, start = special["<|endoftext|>"], special["<|startoftranscript|>"]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = WhisperConfig(
            vocab_size=256 + len(SPECIAL), d_model=16, max_target_positions=32,
            encoder_layers=2, encoder_attention_heads=4, encoder_ffn_dim=32,
            decoder_layers=2, decoder_attention_heads=4, decoder_ffn_dim=32,
            pad_token_id=end, bos_token_id=end, eos_token_id=end, decoder_start_token_id=start,
            suppress_tokens=None, begin_suppress_tokens=None, init_std=0.3,
        )  # fmt: skip
        model = WhisperForConditionalGeneration(config).eval()
    model.save_pretrained(folder)
    content = {
        "is_multilingual": True,
        "lang_to_id": {name: special[name] for name in ("<|en|>", "<|de|>", "<|zh|>")},
        "task_to_id": {
            "transcribe": special["<|transcribe|>"], "translate": special["<|translate|>"],
        },
        "no_timestamps_token_id": special["<|notimestamps|>"],
        "decoder_start_token_id": start, "eos_token_id": end, "pad_token_id": end,
        "begin_suppress_tokens": [end], "suppress_tokens": [],
        "alignment_heads": [[0, 1], [1, 0]], "max_length": 32,
        **said,
    }  # fmt: skip
    (folder / "generation_config.json").write_text(json.dumps(content))
    return model
