"""Text encoders from transformers: BERT, RoBERTa and their kin, sentence encoders.

An utterance is read alone, or with the turns before it: then the network sees both and the features
come from the utterance's own tokens only. Sentence encoders are ``pooling: mean`` with
``unit_norm: true``.

A batch has a fixed shape for each length, filled up with empty rows, because matrix products give
the last bits by shape: so an utterance gets the same bits alone and among thousands. Each row ends
with at least one masked token: a batch without any would take another path through the network.

B rows   L tokens   D width of a token
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import AutoModel, AutoTokenizer

from models.encoders.encoder import Encoded, Settings, Text
from models.encoders.hidden import (
    Layers,
    Output,
    checkpoint_folder,
    load_model,
    pick_device,
    place,
    precision,
    runs,
)
from models.errors import UserError

MODALITY = "text"
FEATURE_VERSION = 1
LIBRARIES = ("torch", "transformers", "tokenizers")
POOLINGS = ("mean", "mean_std", "max", "cls")
CHUNK = 256

#: Lengths are rounded up to multiples of this.
_STEP = 4
#: Tokens in a batch, about: enough to fill the processor, few enough for memory.
_TOKENS = 512
#: In these the first position is numbered after the padding token.
_SHIFTED_POSITIONS = {"roberta", "xlm-roberta", "camembert", "longformer", "xlm-roberta-xl"}


@dataclass(frozen=True)
class _Tokens:
    """One utterance as the network reads it; ``own`` are the positions that become features."""

    ids: list[int]
    types: list[int]
    own: slice
    reason: str | None


class HfText:
    """A frozen text network."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.device = pick_device(settings.device)
        self.model = load_model(AutoModel, settings)
        self.tokenizer = AutoTokenizer.from_pretrained(
            str(settings.checkpoint), local_files_only=True
        )
        self.tokenizer.truncation_side = "left"  # of context the earliest goes first
        config = self.model.config
        self.layers = Layers(settings, config.num_hidden_layers, config.hidden_size)
        self.layers.shorten(self.model)
        place(self.model, self.device)
        self.has_types = "token_type_ids" in self.tokenizer.model_input_names
        self.limit = self._limit()

    @property
    def pooled_dim(self) -> int:
        """See ``Encoder``."""
        return self.layers.pooled_dim

    @property
    def frame_dim(self) -> int:
        """See ``Encoder``."""
        return self.layers.frame_dim

    def encode(self, inputs: Sequence[Text]) -> list[Encoded]:
        """See ``Encoder``."""
        tokens = [self.tokens(text) for text in inputs]
        results: list[Encoded | None] = [None] * len(inputs)
        by_length: dict[int, list[int]] = {}
        for index, one in enumerate(tokens):
            by_length.setdefault((len(one.ids) // _STEP + 1) * _STEP, []).append(index)
        for length, same in sorted(by_length.items()):
            rows = _rows(length)
            for group in runs(same, rows):
                with precision(self.device, self.settings.dtype):
                    frames = self.layers.frames(
                        self._run([tokens[index] for index in group], rows, length)
                    )
                    for index, row in zip(group, frames, strict=False):
                        results[index] = self._encoded(tokens[index], row)
        return [result for result in results if result is not None]

    def tokens(self, text: Text) -> _Tokens:
        """What the network reads for an utterance, cut to what it can read."""
        alone = self.tokenizer(text.text, add_special_tokens=True, truncation=False)["input_ids"]
        if len(alone) > self.limit:
            # the utterance's own beginning is kept, with the marks that belong at both ends
            inner = self.tokenizer(text.text, add_special_tokens=False)["input_ids"]
            room = self.limit - (len(alone) - len(inner))
            lead = _lead(alone, inner)
            ids = alone[:lead] + inner[:room] + alone[lead + len(inner) :]
            return _Tokens(ids, [0] * len(ids), slice(0, len(ids)), "text_truncated")
        extra = self.tokenizer.num_special_tokens_to_add(pair=True)
        own = len(alone) - self.tokenizer.num_special_tokens_to_add(pair=False)
        if not text.context or own + extra >= self.limit:
            return _Tokens(alone, [0] * len(alone), slice(0, len(alone)), None)
        both = self.tokenizer(
            " ".join(text.context), text.text, truncation="only_first", max_length=self.limit
        )
        places = [place for place, part in enumerate(both.sequence_ids(0)) if part == 1]
        types = both.get("token_type_ids") or [0] * len(both["input_ids"])
        return _Tokens(both["input_ids"], types, slice(places[0], places[-1] + 1), None)

    def _encoded(self, tokens: _Tokens, row: torch.Tensor) -> Encoded:
        cls = row[0] if self.layers.pooling == "cls" and self.layers.layer != "all" else None
        return self.layers.encoded([row[tokens.own]], cls=cls, reason=tokens.reason)

    def _run(self, group: Sequence[_Tokens], rows: int, length: int) -> Output:
        """The network on (rows, length); rows beyond the group hold one token each."""
        pad = self.tokenizer.pad_token_id or 0
        ids = torch.full((rows, length), pad)
        types = torch.zeros(rows, length, dtype=torch.long)
        mask = torch.zeros(rows, length, dtype=torch.long)
        mask[:, 0] = 1
        for row, one in enumerate(group):
            size = len(one.ids)
            ids[row, :size] = torch.tensor(one.ids)
            types[row, :size] = torch.tensor(one.types)
            mask[row, :size] = 1
        inputs = {"input_ids": ids, "attention_mask": mask}
        if self.has_types:
            inputs["token_type_ids"] = types
        inputs = {name: value.to(self.device) for name, value in inputs.items()}
        return self.model(**inputs, output_hidden_states=self.layers.needs_states)

    def _limit(self) -> int:
        """Longest sequence of tokens that is read: one less than fits, for the masked one."""
        config, folder = self.model.config, checkpoint_folder(self.settings)
        positions = getattr(config, "max_position_embeddings", 512)
        if config.model_type in _SHIFTED_POSITIONS:
            positions -= (config.pad_token_id or 0) + 1
        limits = [positions, self.tokenizer.model_max_length]
        sentence = folder / "sentence_bert_config.json"
        if sentence.exists():
            length = json.loads(sentence.read_text(encoding="utf-8")).get("max_seq_length")
            limits += [length] if length else []
        if self.settings.max_tokens is not None:
            limits.append(self.settings.max_tokens)
        longest = min(limits) // _STEP * _STEP - 1
        if longest < 2 * _STEP - 1:
            raise UserError(
                f"checkpoint {folder}: max_tokens is {self.settings.max_tokens}; give at least "
                f"{2 * _STEP}"
            )
        return longest


def _rows(length: int) -> int:
    """Rows of a batch of this length, a power of two; it depends on nothing else."""
    return 1 << max(0, (_TOKENS // length).bit_length() - 1)


def _lead(alone: list[int], inner: list[int]) -> int:
    """How many special tokens stand before an utterance's own."""
    for lead in range(len(alone) - len(inner) + 1):
        if alone[lead : lead + len(inner)] == inner:
            return lead
    return 0


ENCODER = HfText
