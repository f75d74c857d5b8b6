"""From media to answers, a few at a time: what is ready is given out before the next is begun."""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from models.errors import UserError
from tasks.faces import stage as faces
from tasks.features.params import EncoderParams
from tasks.layout import Layout
from tasks.media.hashes import hash_media
from tasks.predict.answer import Answer
from tasks.predict.answering import classes_of, values_of
from tasks.predict.assembling import PartSays, answer_of, nothing_said
from tasks.predict.corpus import (
    CORPUS,
    Contexts,
    Prepared,
    compute_features,
    unheard,
    with_speakers,
    write_corpus,
)
from tasks.predict.hearing import hear
from tasks.predict.media import Found
from tasks.predict.model import Model
from tasks.predict.outputs import outputs_of
from tasks.predict.plan import Plan, plan_of, plan_of_turns
from tasks.predict.reasons import seen_of
from tasks.predict.transcripts import Turn, embedded_subtitles

#: Short media are looked at together until they last as long as this: encoders load once for all.
_TOGETHER_S = 120.0
#: Checkpoints that the stage ``checkpoints`` makes: where somebody speaks, and whose voice it is.
_ACTIVITY, _VOICES = "silero_vad", "resemblyzer"


@dataclass(frozen=True)
class Asked:
    """What is wanted beside the answer itself.

    Attributes:
        turns: words of the only medium.
        transcript: name of the file that they stand in.
        notes: sentences about what was mended in it.
        faces: look for them even where the model does not.
    """

    turns: Sequence[Turn] | None = None
    transcript: str = ""
    notes: tuple[str, ...] = ()
    faces: bool = False


@dataclass(frozen=True)
class Result:
    """What became of a medium: its answer, or the sentence why there is none."""

    found: Found
    answer: Answer | None
    reason: str = ""


def predict(
    media: Sequence[Found], model: Model, project: Layout, contexts: Contexts, asked: Asked
) -> Iterator[Result]:
    """Answers in the order of the media; one that cannot be used costs only itself.

    Args:
        media: at least one.
        model: what answers.
        project: its cache keeps what was computed, its checkpoints tell speech and voices.
        contexts: who does the work.
        asked: what else is wanted.
    """
    group: list[Prepared] = []
    failed: list[Result] = []
    for found in media:
        if isinstance(one := _prepared(found, project, contexts, asked), Result):
            if group:
                failed.append(one)
            else:
                yield one
            continue
        group.append(one)
        if sum(member.found.length_s for member in group) >= _TOGETHER_S:
            yield from _ordered(_together(group, model, project, contexts, asked), failed, media)
            group, failed = [], []
    if group:
        yield from _ordered(_together(group, model, project, contexts, asked), failed, media)


def _ordered(
    done: Sequence[Result], failed: Sequence[Result], media: Sequence[Found]
) -> list[Result]:
    place = {found.path: number for number, found in enumerate(media)}
    return sorted([*done, *failed], key=lambda result: place[result.found.path])


def _prepared(found: Found, project: Layout, contexts: Contexts, asked: Asked) -> Prepared | Result:
    """The medium with its utterances, or why it has none."""
    if found.fault:
        return Result(found, None, found.fault)
    hashed = hash_media(
        replace(project, media=found.path.parent), [found.path.name], contexts("hash"), "predict"
    )
    sha256 = hashed["sha256"][0]
    if sha256 is None:
        return Result(found, None, hashed["detail"][0])
    try:
        plan = _plan(found, sha256, project, contexts, asked)
    except UserError as error:  # of this medium alone
        return Result(found, None, str(error))
    return Prepared(found, sha256, plan)


def _plan(found: Found, sha256: str, project: Layout, contexts: Contexts, asked: Asked) -> Plan:
    if asked.turns is not None:
        plan = plan_of_turns(found, asked.turns, "transcript", asked.transcript)
        return replace(plan, notes=(*asked.notes, *plan.notes))
    if found.kind == "video" and (turns := embedded_subtitles(found.path)):
        return plan_of_turns(found, turns, "subtitles", "the subtitles inside")
    weights = project.checkpoint(_ACTIVITY)
    if not found.about.has_audio:
        return plan_of(found, None)
    if not (weights / "model.safetensors").exists():
        plan = plan_of(found, None)
        note = (
            "speech was not looked for: its weights are not there (`dvc repro checkpoints` brings "
            "them), so the medium is cut into equal parts"
        )
        return replace(plan, notes=(*plan.notes, note)) if plan.is_cut else plan
    kept = project.cache / "predict" / "heard"
    heard = hear(found.path, sha256, found.length_s, weights, kept, contexts("listening"))
    return plan_of(found, heard)


def _together(
    group: Sequence[Prepared], model: Model, project: Layout, contexts: Contexts, asked: Asked
) -> list[Result]:
    """Answers of media that are one corpus."""
    with _workplace(project) as root:
        media = list(group)
        voices = project.checkpoint(_VOICES)
        if (voices / "model.safetensors").exists():
            entry = {"family": "ge2e", "checkpoint": str(voices), "dtype": "float32"}
            voice = EncoderParams.model_validate(entry)
            layout = replace(project, root=root / "voices", media=root)
            media = with_speakers(media, voice, layout, contexts)
        parts = []
        for number, part in enumerate(model.parts):
            layout = replace(project, root=root / f"part{number}", media=root)
            write_corpus(media, layout)
            compute_features(part, layout, contexts)
            said = outputs_of(part, layout, unheard(media))
            seen = seen_of(part, layout, said.present, said.ids)
            parts.append(PartSays(said, seen, classes_of(part, said), values_of(part, said)))
        sees = asked.faces or "video" in model.modalities
        boxes = _faces(model, media, root, project, contexts) if sees else None
        return [
            _result(answer_of(medium, dialogue, parts, model, boxes), medium, model, project)
            for dialogue, medium in enumerate(media)
        ]


def _faces(
    model: Model, media: Sequence[Prepared], root: Path, project: Layout, contexts: Contexts
) -> Path | None:
    """The table of faces: that of a part that sees, else one made for this."""
    for number, part in enumerate(model.parts):
        if "video" in part.modalities:
            return replace(project, root=root / f"part{number}").faces(CORPUS)
    if not any(medium.found.about.has_video for medium in media):
        return None
    layout = replace(project, root=root / "part0", media=root)
    faces.run(model.parts[0].faces, layout, contexts("faces"), CORPUS)
    return layout.faces(CORPUS)


def _result(answer: Answer, medium: Prepared, model: Model, project: Layout) -> Result:
    if any(one.is_answered for one in answer.utterances):
        return Result(medium.found, answer)
    return Result(medium.found, None, nothing_said(answer, model, project))


@contextmanager
def _workplace(project: Layout) -> Iterator[Path]:
    """A folder for tables that nobody reads later: what they hold is kept by content."""
    base = project.cache / "predict"
    base.mkdir(parents=True, exist_ok=True)
    root = Path(tempfile.mkdtemp(prefix="work-", dir=base)).resolve()
    try:
        yield root
    finally:
        shutil.rmtree(root, ignore_errors=True)
