"""The tokens that steer Whisper's decoder, and how tokens become words.

A checkpoint of a hub says most of it in ``generation_config.json``; one out of CTranslate2 has no
such file, and then what OpenAI published holds.
"""

import json
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import WhisperTokenizer
from transformers.models.whisper.configuration_whisper import NON_SPEECH_TOKENS_MULTI

from models.errors import UserError

_LANGUAGE = re.compile(r"<\|([a-z]{2,3})\|>")
_FILES = ("tokenizer.json", "vocab.json")
#: The size of OpenAI's vocabulary for many languages, and the space that no text begins with there.
_MULTILINGUAL, _SPACE = 51865, 220
#: Layers and heads of a decoder to the layer and head of each cross attention that follows the
#: sound, as OpenAI found them: of the checkpoint that comes without that file.
_ALIGNED = {(6, 8): ((3, 1), (4, 2), (4, 3), (4, 7), (5, 1), (5, 2), (5, 4), (5, 6))}
#: Languages that put no spaces between words.
_UNSPACED = frozenset({"zh", "ja", "th", "lo", "my", "yue"})


@dataclass(frozen=True)
class Vocabulary:
    """What the decoder's tokens mean.

    Attributes:
        tokenizer: tokens to text.
        start: the token that begins everything.
        end: the token that ends everything.
        transcribe: the token that asks for the words as they are said; None in a network for one
            language.
        plain: the token that asks for words without times.
        silent: the token whose probability at the start says that nobody speaks; None without one.
        languages: code to token; empty in a network for one language.
        never: tokens that are no speech.
        never_first: tokens that no words begin with.
        aligned: layer and head of each cross attention that follows the sound; empty: not known.
    """

    tokenizer: WhisperTokenizer
    start: int
    end: int
    plain: int
    transcribe: int | None = None
    silent: int | None = None
    languages: dict[str, int] = field(default_factory=dict)
    never: tuple[int, ...] = ()
    never_first: tuple[int, ...] = ()
    aligned: tuple[tuple[int, int], ...] = ()

    def prompt(self, language: str | None) -> list[int]:
        """What stands before the words."""
        if language is None or self.transcribe is None:
            return [self.start, self.plain]
        return [self.start, self.languages[language], self.transcribe, self.plain]

    def text(self, tokens: Sequence[int]) -> str:
        """What tokens spell."""
        return str(self.tokenizer.decode(list(tokens), skip_special_tokens=True))

    def words(self, tokens: Sequence[int], language: str | None) -> list[tuple[str, int]]:
        """Words, each with how many tokens it takes; together they take all.

        A letter may take several tokens, so a word ends only where all of it can be spelt.
        Punctuation belongs to the word before it.
        """
        found: list[tuple[str, int]] = []
        rest: list[int] = []
        for token in tokens:
            rest.append(token)
            piece = self.text(rest)
            if "\ufffd" in piece and len(rest) < _LONGEST:
                continue
            is_new = language in _UNSPACED or piece.startswith(" ")
            if found and (not is_new or _is_punctuation(piece)):
                word, count = found.pop()
                found.append((word + piece, count + len(rest)))
            else:
                found.append((piece, len(rest)))
            rest = []
        if rest:
            found.append((self.text(rest), len(rest)))
        return [(word.strip(), count) for word, count in found]


#: A character of UTF-8 takes no more bytes, so no more tokens.
_LONGEST = 4


def _is_punctuation(piece: str) -> bool:
    letters = piece.strip()
    return bool(letters) and all(unicodedata.category(letter)[0] == "P" for letter in letters)


def read_vocabulary(
    checkpoint: Path, tokenizer: Path | None, size: int, heads: tuple[int, int]
) -> Vocabulary:
    """The vocabulary of a checkpoint.

    Args:
        checkpoint: its folder.
        tokenizer: folder of its tokenizer, where that lies elsewhere.
        size: how many tokens the network tells apart.
        heads: layers and heads of its decoder.
    """
    folder = tokenizer or checkpoint
    if not any((folder / name).exists() for name in _FILES):
        raise UserError(
            f"checkpoint {folder} holds no tokenizer ({' or '.join(_FILES)}), so its words cannot "
            "be spelt; name one under `tokenizer` of the entry in params.yaml"
        )
    words = WhisperTokenizer.from_pretrained(str(folder))
    special = words.get_added_vocab()
    said = _said(checkpoint)
    is_multilingual = bool(said.get("is_multilingual", size >= _MULTILINGUAL))
    languages = {
        found[1]: token
        for name, token in special.items()
        if (found := _LANGUAGE.fullmatch(name)) and token < size
    }
    end = special["<|endoftext|>"]
    is_published = size == _MULTILINGUAL
    never = said.get("suppress_tokens", NON_SPEECH_TOKENS_MULTI if is_published else ()) or ()
    first = said.get("begin_suppress_tokens", [_SPACE, end] if is_published else [end]) or ()
    commands = [token for token in special.values() if token != end]
    silent = special.get("<|nospeech|>", special.get("<|nocaptions|>"))
    return Vocabulary(
        tokenizer=words,
        start=special["<|startoftranscript|>"],
        end=end,
        plain=special["<|notimestamps|>"],
        transcribe=special["<|transcribe|>"] if is_multilingual else None,
        silent=silent,
        languages=languages if is_multilingual else {},
        never=tuple(sorted({t for t in (*never, *commands) if 0 <= t < size})),
        never_first=tuple(token for token in first if token < size),
        aligned=tuple((a, b) for a, b in said.get("alignment_heads") or _ALIGNED.get(heads, ())),
    )


def _said(checkpoint: Path) -> dict[str, Any]:
    file = checkpoint / "generation_config.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
