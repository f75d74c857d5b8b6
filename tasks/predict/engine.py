"""From media to answers, a few at a time: what is ready is given out before the next is begun."""

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from models.errors import UserError
from tasks.context import Context, Progress
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
    wants_speakers,
    with_note,
    with_speakers,
    write_corpus,
)
from tasks.predict.growing import FIRST_S, Pace, beginning_of, beginnings
from tasks.predict.listening.hearing import hear, hear_beginning
from tasks.predict.listening.listeners import NONE, Listeners
from tasks.predict.listening.words import with_words
from tasks.predict.media import Found
from tasks.predict.model import Model
from tasks.predict.output.portraits import portraits
from tasks.predict.outputs import outputs_of
from tasks.predict.plan import Plan, plan_of, plan_of_turns
from tasks.predict.reasons import seen_of
from tasks.predict.transcripts import Turn, embedded_subtitles
from tasks.transcribe.params import AsrParams

#: So much media is worth several threads, each of which begins a decoding process.
_LONG_S = 300.0

#: The context of a piece of work, by its name and whether it is worth several threads.
MakeContext = Callable[[str, bool], Context]


@dataclass(frozen=True)
class Asked:
    """What is wanted beside the answer itself.

    Attributes:
        turns: words of the only medium.
        transcript: name of the file that they stand in.
        notes: sentences about what was mended in it.
        faces: look for them even where the model does not.
        asr: what writes down the words of media that come without; None: nobody does.
    """

    turns: Sequence[Turn] | None = None
    transcript: str = ""
    notes: tuple[str, ...] = ()
    faces: bool = False
    asr: AsrParams | None = None


@dataclass(frozen=True)
class Result:
    """What became of a medium: its answer, or the sentence why there is none.

    Attributes:
        found: the medium.
        answer: None where nothing could be said.
        reason: why not.
        portraits: utterance to a small JPEG of its face, of those that have one.
    """

    found: Found
    answer: Answer | None
    reason: str = ""
    portraits: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def is_partial(self) -> bool:
        """Whether a later answer of the same medium follows."""
        return self.answer is not None and self.answer.looked_s is not None


def predict(
    media: Sequence[Found],
    model: Model,
    project: Layout,
    make_context: MakeContext,
    asked: Asked,
    listeners: Listeners = NONE,
) -> Iterator[Result]:
    """Answers in the order of the media; one that cannot be used costs only itself.

    A long medium is answered several times, up to where it was looked at; its last answer is whole.

    Args:
        media: at least one.
        model: what answers.
        project: its cache keeps what was computed.
        make_context: who does a piece of work, by its name and whether it is worth several
            processes.
        asked: what else is wanted.
        listeners: tell speech and voices.
    """
    call = _Call(model, project, make_context, asked, listeners)
    pace = Pace(FIRST_S)
    waiting: list[Prepared | Result] = []
    for found in media:
        if waiting and found.length_s > pace.limit_s:
            yield from call.answered(waiting, pace)
            waiting = []
        for one in call.prepared(found, pace):
            if isinstance(one, Prepared) and one.plan.looked_s is not None:
                yield from call.partly(one, pace)
            else:
                waiting.append(one)
        ready = [one.found.length_s for one in waiting if isinstance(one, Prepared)]
        if not ready or sum(ready) >= pace.limit_s:
            yield from call.answered(waiting, pace)
            waiting = []
    yield from call.answered(waiting, pace)


@dataclass
class _Call:
    """What stays the same over the media of a call, and how far the present one is."""

    model: Model
    project: Layout
    make_context: MakeContext
    asked: Asked
    listeners: Listeners
    looked_s: float = 0.0

    def contexts(self, length_s: float) -> Contexts:
        """Who works on so much of the media."""
        return lambda what: self.make_context(what, length_s > _LONG_S)

    def prepared(self, found: Found, pace: Pace) -> Iterator[Prepared | Result]:
        """The medium with its utterances, or why it has none; before it perhaps its beginning."""
        if found.fault:
            yield Result(found, None, found.fault)
            return
        contexts = self.contexts(found.length_s)
        near = replace(self.project, media=found.path.parent)
        hashed = hash_media(near, [found.path.name], contexts("hash"), "predict")
        sha256 = hashed["sha256"][0]
        if sha256 is None:
            yield Result(found, None, hashed["detail"][0])
            return
        try:
            if pace.is_first:
                yield from self._early(found, sha256, contexts("listening"))
            plan = _plan(found, sha256, self.project, contexts, self.asked, self.listeners)
        except UserError as error:  # of this medium alone
            yield Result(found, None, str(error))
            return
        yield Prepared(found, sha256, plan)

    def answered(self, waiting: Sequence[Prepared | Result], pace: Pace) -> Iterator[Result]:
        """Answers of all of them together, in order; one that is alone may be answered in parts."""
        media = [one for one in waiting if isinstance(one, Prepared)]
        if len(media) == 1:
            told = self.contexts(media[0].found.length_s)("answers")
            count = len(media[0].plan.stretches)
            for part in beginnings(media[0], pace.limit_s):
                yield from self.partly(part, pace)
                told.progress(Progress(len(part.plan.stretches), count, "utterances"))
        length_s = sum(one.found.length_s for one in media) - self.looked_s
        self.looked_s = 0.0
        answers = iter(self._together(media, length_s) if media else ())
        for one in waiting:
            yield one if isinstance(one, Result) else next(answers)
        pace.grow()

    def partly(self, medium: Prepared, pace: Pace) -> Iterator[Result]:
        """What can be said of the beginning of a medium; nothing where that is nothing."""
        until_s = medium.plan.looked_s or 0.0
        if until_s <= self.looked_s:
            return
        found = self._together([medium], until_s - self.looked_s)
        self.looked_s = until_s
        if found[0].answer is not None:
            yield found[0]
            pace.grow()

    def _early(self, found: Found, sha256: str, ctx: Context) -> Iterator[Prepared]:
        """The beginning of a long medium without words, before all of it was listened to."""
        weights = self.listeners.activity
        if weights is None or self.asked.turns is not None or not found.about.has_audio:
            return
        kept = self.project.cache / "predict" / "heard"
        speech = hear_beginning(found.path, sha256, found.length_s, weights, kept, ctx)
        if speech and not (found.kind == "video" and embedded_subtitles(found.path)):
            yield Prepared(found, sha256, beginning_of(found, speech))

    def _together(self, media: Sequence[Prepared], length_s: float) -> list[Result]:
        contexts = self.contexts(length_s)
        return answer_together(
            media, self.model, self.project, contexts, self.asked, self.listeners
        )


def _plan(
    found: Found,
    sha256: str,
    project: Layout,
    contexts: Contexts,
    asked: Asked,
    listeners: Listeners,
) -> Plan:
    if found.turns:
        plan = plan_of_turns(found, found.turns, "transcript", found.path.name)
        return replace(plan, notes=(*found.notes, *plan.notes))
    if asked.turns is not None:
        plan = plan_of_turns(found, asked.turns, "transcript", asked.transcript)
        return replace(plan, notes=(*asked.notes, *plan.notes))
    if found.kind == "video" and (turns := embedded_subtitles(found.path)):
        return plan_of_turns(found, turns, "subtitles", "the subtitles inside")
    if not found.about.has_audio:
        return plan_of(found, None)
    if listeners.activity is None:
        plan = plan_of(found, None)
        note = f"speech was not looked for, so it is cut into equal parts: {listeners.no_activity}"
        return replace(plan, notes=(*plan.notes, note)) if plan.is_cut else plan
    kept, ctx = project.cache / "predict" / "heard", contexts("listening")
    heard = hear(found.path, sha256, found.length_s, listeners.activity, kept, ctx)
    return plan_of(found, heard)


def answer_together(
    group: Sequence[Prepared],
    model: Model,
    project: Layout,
    contexts: Contexts,
    asked: Asked,
    listeners: Listeners,
) -> list[Result]:
    """Answers of media that are one corpus."""
    with workplace(project) as root:
        layout = replace(project, root=root / "voices", media=root)
        media = _with_speakers(group, layout, contexts, listeners)
        if asked.asr is not None:
            layout = replace(project, root=root / "words", media=root)
            media = with_words(media, asked.asr, layout, contexts)
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
        found = [
            _result(answer_of(medium, dialogue, parts, model, boxes), medium, model, project)
            for dialogue, medium in enumerate(media)
        ]
        if boxes is None:
            return found
        return [_with_portraits(one, dialogue, boxes) for dialogue, one in enumerate(found)]


def _with_speakers(
    media: Sequence[Prepared], layout: Layout, contexts: Contexts, listeners: Listeners
) -> list[Prepared]:
    if listeners.voices is None:
        note = f"speakers were not told apart: {listeners.no_voices}"
        return [with_note(one, note) if wants_speakers(one) else one for one in media]
    entry = {"family": "ge2e", "checkpoint": str(listeners.voices), "dtype": "float32"}
    return with_speakers(media, EncoderParams.model_validate(entry), layout, contexts)


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


def _with_portraits(result: Result, dialogue: int, faces: Path) -> Result:
    if result.answer is None or result.answer.medium.kind == "image":  # is on the page itself
        return result
    shown = [one.id for one in result.answer.utterances]
    return replace(result, portraits=portraits(faces, dialogue, shown))


@contextmanager
def workplace(project: Layout) -> Iterator[Path]:
    """A folder for tables that nobody reads later: what they hold is kept by content."""
    base = project.cache / "predict"
    base.mkdir(parents=True, exist_ok=True)
    root = Path(tempfile.mkdtemp(prefix="work-", dir=base)).resolve()
    try:
        yield root
    finally:
        shutil.rmtree(root, ignore_errors=True)
