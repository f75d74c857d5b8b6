"""One call of ``affectloom predict``: media are found, a model chosen, answers written."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from models.batch import MODALITIES
from models.errors import UserError
from tasks.checkpoints.wheels import WheelFile
from tasks.context import Context
from tasks.layout import Layout
from tasks.params.model import Params
from tasks.predict.engine import Asked, Result, predict
from tasks.predict.leaving.folder import read_model
from tasks.predict.listening.listeners import find_listeners
from tasks.predict.listening.words import bring_transcriber, transcriber_named
from tasks.predict.media import Found, find_media
from tasks.predict.model import Model, best_run, model_of_run, trained_runs
from tasks.predict.output.publishing import (
    Wanted,
    check_folder,
    write_answer,
    write_overview,
    write_partial,
)
from tasks.predict.transcripts import read_transcript
from tasks.predict.weights import bring_weights

#: A model that comes with the project.
STARTER = Path("models/starter")


@dataclass(frozen=True)
class Request:
    """What was asked for on the command line.

    Attributes:
        media: files, folders, patterns.
        base: folder that names are relative to.
        out: where answers go.
        run: ``corpus/method`` that answers.
        model: folder of the model that answers.
        transcript: words of the only medium.
        asr: entry of params.yaml that writes down what is said in media without words; empty: the
            only one, or the preset's; None: nobody listens.
        wanted: files beside the plain ones.
    """

    media: tuple[str, ...]
    base: Path
    out: Path
    run: str | None = None
    model: Path | None = None
    transcript: Path | None = None
    asr: str | None = None
    wanted: Wanted = field(default_factory=Wanted)


def run(
    request: Request,
    layout: Layout,
    params: Params,
    make_context: Callable[[str, bool], Context],
    say: Callable[[str], None],
) -> list[Result]:
    """Answer; what is written stays when a later medium fails or somebody stops the rest.

    Args:
        request: what is wanted.
        layout: of the project.
        params: of the project.
        make_context: who does a piece of work, by its name and whether it is worth several
            processes: to start them takes longer than to look at a few minutes.
        say: takes lines for a person as soon as they are known.
    """
    if request.run is not None and request.model is not None:
        raise UserError("--run and --model exclude each other; give one")
    check_folder(request.out)
    media = find_media(request.media, request.base)
    asked = _asked(request, media)
    if request.asr is not None:
        asked = replace(asked, asr=transcriber_named(request.asr, params, layout.project))
    model = choose_model(request, layout, params, modalities_of(media, asked))
    say(model.told)
    usable = [found for found in media if not found.fault]
    if usable:
        bring_weights(model, layout, say)
        if asked.asr is not None:
            bring_transcriber(asked.asr, layout, say)
    is_heard = any(found.about.has_audio for found in usable)
    listeners = find_listeners(
        layout,
        wheels_of(model, params),
        say,
        speech=is_heard and asked.turns is None,
        voices=is_heard and not any(turn.speaker for turn in asked.turns or ()),
    )

    def drawing(what: str) -> Context:
        return make_context(what, False)  # in this process

    results: dict[Path, Result] = {}
    try:
        for result in predict(media, model, layout, make_context, asked, listeners):
            results[result.found.path] = result
            folder = request.out if len(media) == 1 else request.out / result.found.name
            faults = []
            if result.is_partial:
                write_partial(result, folder)
            elif result.answer is not None:
                faults = write_answer(result, folder, request.wanted, drawing)
            say("\n".join([told(result, folder), *(f"  note: {fault}" for fault in faults)]))
    finally:  # also of what is there when somebody stops the rest
        if len(media) > 1:
            write_overview(list(results.values()), request.out)
    return list(results.values())


def _asked(request: Request, media: Sequence[Found]) -> Asked:
    faces = request.wanted.faces or request.wanted.overlay
    if request.transcript is None:
        return Asked(faces=faces)
    if len(media) > 1:
        raise UserError(
            f"--transcript {request.transcript.name} is of one medium, but there are {len(media)}; "
            "name the one that it belongs to"
        )
    if media[0].turns:
        raise UserError(f"{media[0].path.name} is a transcript itself; leave --transcript out")
    notes: list[str] = []
    turns = read_transcript(request.transcript, media[0].length_s or None, notes.append)
    return Asked(turns, request.transcript.name, tuple(notes), faces)


def wheels_of(model: Model, params: Params) -> dict[str, WheelFile]:
    """Where networks that tell speech and voices come from: the project's, else the model's own."""
    return {**model.listening, **params.section("checkpoints").wheels}


def modalities_of(media: Sequence[Found], asked: Asked) -> tuple[str, ...]:
    """What any of the media has to be seen, heard or read."""
    there = {"audio": False, "video": False, "text": asked.turns is not None}
    for found in media:
        there["audio"] |= found.about.has_audio
        there["text"] |= bool(found.turns)
        there["text"] |= asked.asr is not None and found.about.has_audio
        there["video"] |= found.about.has_video or found.kind == "image"
    return tuple(name for name in MODALITIES if there[name])


def choose_model(
    request: Request, layout: Layout, params: Params, modalities: Sequence[str]
) -> Model:
    """What was named, else the best run of the project, else the model that comes with it."""
    if request.run is not None:
        return model_of_run(request.run, layout, params)
    if request.model is not None:
        return read_model(request.model)
    best = best_run(layout, params, modalities)
    if best is not None:
        return model_of_run(best[0], layout, params, best[1])
    starter = layout.project / STARTER
    if starter.is_dir():
        model = read_model(starter)
        return replace(model, told=f"{model.told}; no run of the project fits better")
    known = ["/".join(ids) for ids in trained_runs(layout)]
    there_is = f"trained are: {', '.join(known)}" if known else "`affectloom run train` trains some"
    raise UserError(
        "there is no model to choose: no run on real data fits these media (runs on drawn people "
        f"count only when they are named); name one with --run CORPUS/METHOD; {there_is}"
    )


def told(result: Result, folder: Path) -> str:
    """What became of a medium, for a person."""
    name = result.found.path.name
    if result.answer is None:
        return f"{name}: nothing predicted: {result.reason}"
    every = result.answer.utterances
    answered = sum(one.is_answered for one in every)
    plural = "s" if answered != 1 else ""
    some = f" of {len(every)}" if answered < len(every) else ""
    if result.is_partial:
        until_s, length_s = result.answer.looked_s or 0.0, result.answer.medium.duration_s
        so_far = f"so far ({until_s:.0f} of {length_s:.0f} s)"
        return f"{name}: {answered}{some} utterance{plural} {so_far} in {folder}"
    line = f"{name}: {answered}{some} utterance{plural} in {folder}"
    notes = [f"  note: {note}" for note in result.answer.notes]
    far = sum(bool(one.far) for one in every)
    if far:
        notes.append(f"  note: {far} of {len(every)} are unlike the training data")
    return "\n".join([line, *notes])
