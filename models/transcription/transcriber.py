"""Whisper as a writer: the words of a sound, with times, language and confidence.

The decoder writes the likeliest token after the likeliest token. Nothing is drawn at random, so the
same sound gives the same words. The encoder hears the sound and a few seconds of silence after it,
not 30 s, because the cost follows the length (see ``models/encoders/whisper.py``). Where words
repeat without end or are unsure, it hears the sound again as published, with silence up to 30 s; if
that does not help, where the published code would draw at random, the words are not believed.

S samples   T frames   N tokens
"""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache, EncoderDecoderCache, WhisperModel

from models.encoders.encoder import Settings
from models.encoders.hidden import load_model, pick_device, place
from models.encoders.whisper import WhisperEar
from models.errors import UserError
from models.transcription.alignment import attention_of, starts
from models.transcription.vocabulary import read_vocabulary

RATE_HZ = 16000
#: Silence after a sound, in which the decoder finds its end; with 1 s it often does not.
TAIL_S = 4.0
#: A longer sound is cut at the quietest moment of the last seconds of each piece.
_PIECE_S, _SEARCH_S, _QUIET_S = 29.0, 6.0, 0.2
#: As published: so surely nobody speaks, and words less sure than this are then not believed.
_SILENT, _UNSURE = 0.6, -1.0
#: As published: text that packs better than this repeats itself.
_REPEATS = 2.4


@dataclass(frozen=True)
class Word:
    """A word with its punctuation; times count from the beginning of the sound."""

    text: str
    start_s: float
    end_s: float
    confidence: float


@dataclass(frozen=True)
class Written:
    """What was heard in a sound.

    Attributes:
        words: in order.
        text: all of them; empty where none was heard.
        language: its code; None in a network for one language, and without words.
        language_confidence: probability of that language.
        confidence: mean probability of a token (geometric); None without words.
        reason: ``no_speech`` or ``unclear_speech`` where there are no words, or fewer than all.
    """

    words: tuple[Word, ...] = ()
    text: str = ""
    language: str | None = None
    language_confidence: float | None = None
    confidence: float | None = None
    reason: str | None = None


@dataclass(frozen=True)
class _Piece:
    """What was heard in one piece: tokens with the logarithms of their probabilities."""

    tokens: list[int]
    certainty: list[float]
    language: str | None
    language_confidence: float | None
    reason: str | None
    words: tuple[Word, ...] = ()


class Transcriber:
    """A Whisper with encoder and decoder.

    Args:
        checkpoint: its folder.
        tokenizer: folder of the tokenizer, where the checkpoint has none.
        device: ``cpu``, ``cuda`` or ``auto``.
    """

    def __init__(
        self, checkpoint: Path, tokenizer: Path | None = None, device: str = "auto"
    ) -> None:
        self.device = pick_device(device)
        settings = Settings(checkpoint=checkpoint)
        # the head that tells tokens apart is the table of their embeddings, in every Whisper
        self.model = cast(WhisperModel, load_model(WhisperModel, settings))
        config = self.model.config
        if config.model_type != "whisper":
            raise UserError(f"checkpoint {checkpoint} is a {config.model_type}, expected a whisper")
        place(self.model, self.device)
        self.model.set_attn_implementation("eager")  # the only one that hands out its attention
        self.ear = WhisperEar(self.model.get_encoder(), checkpoint)
        sizes = (config.decoder_layers, config.decoder_attention_heads)
        self.vocabulary = read_vocabulary(checkpoint, tokenizer, config.vocab_size, sizes)
        self.longest = config.max_target_positions // 2
        self._never = torch.zeros(config.vocab_size, device=self.device)
        self._never[list(self.vocabulary.never)] = -torch.inf
        self._never_first = self._never.clone()
        self._never_first[list(self.vocabulary.never_first)] = -torch.inf

    def write(self, samples: np.ndarray) -> Written:
        """Words of (S,) samples at 16 kHz."""
        if not len(samples):
            return Written(reason="no_speech")
        pieces: list[_Piece] = []
        language: tuple[str | None, float | None] | None = None
        with torch.inference_mode():
            for first, last in cuts(samples):
                piece = self._piece(samples[first:last], first / RATE_HZ, language)
                if piece.words and language is None:  # of all, once it is known
                    language = piece.language, piece.language_confidence
                pieces.append(piece)
        return _together(pieces)

    def _piece(
        self,
        samples: np.ndarray,
        start_s: float,
        known: tuple[str | None, float | None] | None,
    ) -> _Piece:
        whole = int(self.ear.longest_s * RATE_HZ)
        near = min(len(samples) + int(TAIL_S * RATE_HZ), whole)
        for length in dict.fromkeys((near, whole)):
            states = self.states_of(np.pad(samples, (0, length - len(samples))))
            language, confidence, silent = self.beginning(states)
            if known is not None:
                language, confidence = known
            prompt = self.vocabulary.prompt(language)
            tokens, certainty = self.greedy(states, prompt)
            reason = self._doubt(tokens, certainty, silent)
            if reason is None and np.mean(certainty) >= _UNSURE:
                break
        if reason is not None:
            return _Piece([], [], language, confidence, reason)
        words = self._words(states, prompt, tokens, certainty, language, len(samples), start_s)
        return _Piece(tokens, certainty, language, confidence, None, tuple(words))

    def _doubt(
        self, tokens: Sequence[int], certainty: Sequence[float], silent: float
    ) -> str | None:
        """Why tokens are not believed."""
        text = self.vocabulary.text(tokens)
        if not text.strip() or (silent > _SILENT and np.mean(certainty) < _UNSURE):
            return "no_speech"
        return "unclear_speech" if repeats_itself(text) or len(tokens) >= self.longest else None

    def states_of(self, samples: np.ndarray) -> Tensor:
        """(1, T, D) of what the encoder hears."""
        heard = self.ear(torch.from_numpy(samples.astype(np.float32))[None].to(self.device))
        return cast(Tensor, heard.last_hidden_state)

    def beginning(self, states: Tensor) -> tuple[str | None, float | None, float]:
        """Likeliest language with its probability, and the probability that nobody speaks."""
        logits, _ = self._next(states, [self.vocabulary.start], None)
        chances = logits.softmax(-1)
        silent = self.vocabulary.silent
        nobody = 0.0 if silent is None else float(chances[silent])
        if not self.vocabulary.languages:
            return None, None, nobody
        codes = list(self.vocabulary.languages)
        among = logits[[self.vocabulary.languages[code] for code in codes]].softmax(-1)
        best = int(among.argmax())
        return codes[best], float(among[best]), nobody

    def greedy(self, states: Tensor, prompt: Sequence[int]) -> tuple[list[int], list[float]]:
        """Tokens until the end, and the log-probability of each and of the end."""
        cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        tokens: list[int] = []
        certainty: list[float] = []
        given, mask = list(prompt), self._never_first
        while len(tokens) < self.longest:
            logits, cache = self._next(states, given, cache)
            chances = (logits + mask).log_softmax(-1)
            token = int(chances.argmax())
            certainty.append(float(chances[token]))
            if token == self.vocabulary.end:
                break
            tokens.append(token)
            given, mask = [token], self._never
        return tokens, certainty

    def _next(
        self, states: Tensor, tokens: Sequence[int], cache: EncoderDecoderCache | None
    ) -> tuple[Tensor, EncoderDecoderCache | None]:
        """(vocabulary,) logits after the tokens."""
        found = self.model.decoder(
            input_ids=torch.tensor([list(tokens)], device=self.device),
            encoder_hidden_states=states,
            past_key_values=cache,
            use_cache=cache is not None,
        )
        head = self.model.decoder.embed_tokens.weight
        return (found.last_hidden_state[0, -1] @ head.T).float(), found.past_key_values

    def _words(
        self,
        states: Tensor,
        prompt: Sequence[int],
        tokens: Sequence[int],
        certainty: Sequence[float],
        language: str | None,
        samples: int,
        start_s: float,
    ) -> Iterator[Word]:
        """Words with times that count from the beginning of the whole sound."""
        every = [*prompt, *tokens, self.vocabulary.end]
        found = self.model.decoder(
            input_ids=torch.tensor([every], device=self.device),
            encoder_hidden_states=states,
            output_attentions=True,
            use_cache=False,
        )
        frames = max(1, -(-samples // self.ear.hop))
        looks = attention_of(found.cross_attentions, self.vocabulary.aligned).cpu()
        # what looks for the first word stands at the last token of the prompt, and so on to the end
        at = starts(looks[:, len(prompt) - 1 : -1, :frames]) * self.ear.hop / RATE_HZ
        place = 0
        for word, count in self.vocabulary.words(tokens, language):
            low, high = float(at[place]), float(at[place + count])
            chance = float(np.exp(np.mean(certainty[place : place + count])))
            place += count
            if word:
                yield Word(word, round(start_s + low, 3), round(start_s + high, 3), chance)


def cuts(samples: np.ndarray) -> Iterator[tuple[int, int]]:
    """First and last sample of each piece, none longer than the network hears at once."""
    first, longest = 0, int(_PIECE_S * RATE_HZ)
    quiet = int(_QUIET_S * RATE_HZ)
    while len(samples) - first > longest:
        low = first + longest - int(_SEARCH_S * RATE_HZ)
        power = np.square(samples[low : first + longest], dtype=np.float64)
        loud = power[: len(power) // quiet * quiet].reshape(-1, quiet).sum(axis=1)
        last = low + int(loud.argmin()) * quiet + quiet // 2
        yield first, last
        first = last
    yield first, len(samples)


def repeats_itself(text: str) -> bool:
    """True for text that packs better than speech does."""
    content = text.encode()
    return len(content) / len(zlib.compress(content)) > _REPEATS


def _together(pieces: Sequence[_Piece]) -> Written:
    """One answer of all pieces; what became of a piece without words, where others have some."""
    written = [piece for piece in pieces if piece.words]
    unclear = any(piece.reason == "unclear_speech" for piece in pieces)
    reason = "unclear_speech" if unclear else None if written else "no_speech"
    if not written:
        return Written(reason=reason)
    words = tuple(word for piece in written for word in piece.words)
    certainty = [chance for piece in written for chance in piece.certainty]
    return Written(
        words,
        " ".join(word.text for word in words),
        written[0].language,
        written[0].language_confidence,
        float(np.exp(np.mean(certainty))),
        reason,
    )
