"""Words of media that come without any, by the very function of the stage ``transcribe``."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import yaml

from models.errors import UserError, hint
from tasks.layout import Layout
from tasks.params.model import Params, parse
from tasks.predict.corpus import CORPUS, Contexts, Prepared, utterance_id, write_corpus
from tasks.predict.weights import bring
from tasks.tables.parquet import read_table
from tasks.tables.transcripts import TRANSCRIPTS
from tasks.transcribe import stage as transcribe
from tasks.transcribe.params import AsrParams

#: Entries that come with the project, for one whose params.yaml has none of its own.
_PRESET = Path("params/offline.yaml")


def transcriber_named(name: str, params: Params, project: Path) -> AsrParams:
    """What ``--transcriber NAME`` means: an entry of params.yaml or of the preset.

    Args:
        name: empty: the only entry of params.yaml, or the first of the preset where it has none.
        params: of the project.
        project: its folder.
    """
    own = params.raw.get("asr") or {}
    if name in own:
        return params.transcriber(name)
    file = project / _PRESET
    preset = yaml.safe_load(file.read_text(encoding="utf-8")) if file.exists() else {}
    entries = preset.get("asr") or {}
    if not name and len(own) == 1:
        return params.transcriber(next(iter(own)))
    if not name and not own and entries:
        name = next(iter(entries))
    if name in entries:
        return parse(AsrParams, entries[name], f"asr.{name}")
    known = list(dict.fromkeys([*own, *entries]))
    if not known:
        raise UserError(
            "--asr: params.yaml has no entry under `asr`; name a Whisper there: "
            "asr: {NAME: {checkpoint: ..., revision: ...}}"
        )
    if not name:
        raise UserError(
            f"--asr: params.yaml has several entries under `asr` ({', '.join(own)}); name one with "
            "--transcriber"
        )
    raise UserError(f"--transcriber {name}: `asr` has no such entry; {hint(name, known)}")


def bring_transcriber(asr: AsrParams, layout: Layout, say: Callable[[str], None]) -> None:
    """Fetch what listens, where it is not here yet."""
    for file in asr.files():
        bring("the transcriber", file.checkpoint, file.pin, layout, say)


def with_words(
    media: Sequence[Prepared], asr: AsrParams, layout: Layout, contexts: Contexts
) -> list[Prepared]:
    """The same media, with words where somebody speaks and nobody wrote them down.

    Args:
        media: as they are.
        asr: what listens.
        layout: of a corpus that is made for this alone.
        contexts: who does the work.
    """
    wanting = [_heard_only(medium) for medium in media if _wants_words(medium)]
    if not wanting:
        return list(media)
    write_corpus(wanting, layout)
    path = transcribe.run(asr, layout, contexts("words"), CORPUS)
    table = read_table(TRANSCRIPTS, path, ["utterance_id", "text", "language"])
    said = {name: (text, language) for name, text, language in table.iter_rows()}
    words = {
        medium.found.path: [
            said[utterance_id(dialogue, turn)] for turn in range(len(medium.plan.stretches))
        ]
        for dialogue, medium in enumerate(wanting)
    }
    return [_with_words(medium, words.get(medium.found.path)) for medium in media]


def _wants_words(medium: Prepared) -> bool:
    plan = medium.plan
    is_voice = any(part.is_heard for part in plan.stretches)
    return plan.words_from is None and medium.found.about.has_audio and is_voice


def _heard_only(medium: Prepared) -> Prepared:
    parts = tuple(part for part in medium.plan.stretches if part.is_heard)
    return replace(medium, plan=replace(medium.plan, stretches=parts))


def _with_words(
    medium: Prepared, words: Sequence[tuple[str | None, str | None]] | None
) -> Prepared:
    if words is None:
        return medium
    rest = iter(words)
    parts = []
    for part in medium.plan.stretches:
        text, language = next(rest) if part.is_heard else (None, None)
        parts.append(replace(part, text=text, language=language))
    return replace(medium, plan=replace(medium.plan, stretches=tuple(parts), words_from="asr"))
