"""The stages of the pipeline, a row each: the story of the project on one screen.

``flows`` reads this table to write ``dvc.yaml``, to run a stage and to draw the graph; no stage
knows it, and it imports none. What a row cannot say in a line stands in ``tasks/wiring.py``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks import wiring
from tasks.layout import Layout
from tasks.params.unions import parts_of
from tasks.selection import (
    extractable,
    features_of,
    heard_corpora,
    methods_on,
    searches_of,
    seen_corpora,
    transfers_of,
)

if TYPE_CHECKING:
    from tasks.params.model import Params

Raw = Mapping[str, Any]


@dataclass(frozen=True)
class Stage:
    """A row: one stage, of which there is one instance for each of what it is ``per``.

    Ids of an instance (``corpus``, ``encoder``, ``method``, ``onto``) are handed to every function
    here as keywords, and to the stage's own function after parameters, layout and context.

    Attributes:
        name: of the stage, of its folder in ``tasks``, and of its section of params.yaml.
        per: names of the ids.
        model: module and class that declare the section; empty where there is none.
        writes: outs.
        reads: tables that every instance reads.
        asks: what the stage's function gets; default: its section, as the corpus changes it.
        keys: keys of params.yaml on which the outs depend; default: the section, and what the
            corpus says instead.
        instances: ids of every instance; default: one for each corpus, or one in all.
        on_request: ids that may be asked for by hand beside these; nothing reads what they write.
        more: what else an instance reads, as its parameters say; ``${...}`` where an experiment
            may change it.
        code: modules that an instance reaches by name, beside those its own module imports.
        variant: the module in the stage's folder whose ``run`` does the work of an instance.
        has_union: a union of corpora has a ``run`` of its own, in ``tasks/<name>/union.py``, which
            is asked what the union is made of.
    """

    name: str
    per: tuple[str, ...]
    model: str
    writes: Callable[..., list[Path]]
    reads: Callable[..., list[Path]] = lambda d, **_: []
    asks: Callable[..., object] | None = None
    keys: Callable[..., list[str]] | None = None
    instances: Callable[[Raw], Sequence[Mapping[str, str]]] | None = None
    on_request: Callable[[Raw], Sequence[Mapping[str, str]]] = lambda raw: []
    more: Callable[..., list[str]] = lambda d, raw, **_: []
    code: Callable[..., list[str]] = lambda raw, **_: []
    variant: Callable[..., str] = lambda raw, **_: "stage"
    has_union: bool = False

    def module(self, raw: Raw, **ids: str) -> str:
        """Dotted name of the module whose ``run`` does the work of an instance."""
        variant = "union" if self._is_union(raw, **ids) else self.variant(raw, **ids)
        return f"tasks.{self.name}.{variant}"

    def code_of(self, raw: Raw, **ids: str) -> list[str]:
        """Modules that an instance runs; with what they import they are its code."""
        own = [] if self._is_union(raw, **ids) else self.code(raw, **ids)
        return [self.module(raw, **ids), *own]

    def _is_union(self, raw: Raw, **ids: str) -> bool:
        return self.has_union and bool(parts_of(raw, ids["corpus"]))

    def instances_of(self, raw: Raw) -> list[dict[str, str]]:
        """Ids of every instance."""
        if self.instances is not None:
            return [dict(ids) for ids in self.instances(raw)]
        return [{"corpus": name} for name in raw.get("corpora") or {}] if self.per else [{}]

    def asked(self, params: "Params", **ids: str) -> object:
        """What the stage's function gets for an instance."""
        if self._is_union(params.raw, **ids):
            return params.ingest(ids["corpus"])
        if self.asks is not None:
            return self.asks(params, **ids)
        return params.section(self.name, ids.get("corpus"))

    def keys_of(self, raw: Raw, **ids: str) -> list[str]:
        """Keys of params.yaml on which an instance depends."""
        if self._is_union(raw, **ids):
            return [f"corpora.{ids['corpus']}.of"]
        if self.keys is not None:
            return self.keys(raw, **ids)
        return wiring.section_keys(raw, self.name, **ids)

    def address(self, ids: Mapping[str, str]) -> str:
        """DVC's name of an instance, e.g. ``train@sample-corect``."""
        return f"{self.name}@{'-'.join(ids.values())}" if ids else self.name


CORPUS, ENCODER, METHOD = ("corpus",), ("corpus", "encoder"), ("corpus", "method")

_ROWS = (
    Stage(
        "sample", (), "tasks.sample.process:SampleParams",
        instances=wiring.sample_instances,
        writes=lambda d: [d.raw("sample")],
    ),
    Stage(
        "checkpoints", (), "tasks.checkpoints.params:CheckpointsParams",
        asks=lambda p: p.for_checkpoints(),
        keys=wiring.checkpoint_keys,
        writes=lambda d: [d.checkpoints],
    ),
    Stage(
        "ingest", CORPUS, "",
        asks=lambda p, corpus: p.ingest(corpus),
        keys=lambda raw, corpus: [f"corpora.{corpus}"],
        code=wiring.adapter_code,
        more=wiring.ingest_reads,
        has_union=True,
        writes=lambda d, corpus: [
            d.utterances(corpus), d.annotations(corpus), d.quarantine(corpus),
        ],
    ),
    Stage(
        "splits", CORPUS, "tasks.splits.stage:SplitsParams",
        asks=lambda p, corpus: p.for_splits(corpus),
        keys=wiring.splits_keys,
        more=wiring.splits_reads,
        has_union=True,
        reads=lambda d, corpus: [d.utterances(corpus), d.annotations(corpus)],
        writes=lambda d, corpus: [d.splits(corpus), d.leaks(corpus)],
    ),
    Stage(
        "labels", CORPUS, "tasks.labels.stage:LabelsParams",
        asks=lambda p, corpus: p.for_labels(corpus),
        more=wiring.labels_reads,
        has_union=True,
        reads=lambda d, corpus: [d.utterances(corpus), d.annotations(corpus)],
        writes=lambda d, corpus: [
            d.labels(corpus), d.labels_quarantine(corpus), d.agreement(corpus),
        ],
    ),
    Stage(
        "faces", CORPUS, "tasks.faces.params:FacesParams",
        instances=seen_corpora,
        on_request=lambda raw: [{"corpus": name} for name in raw.get("corpora") or {}],
        reads=lambda d, corpus: [d.utterances(corpus)],
        writes=lambda d, corpus: [d.faces(corpus)],
    ),
    Stage(
        "transcribe", CORPUS, "",
        asks=lambda p, corpus: p.transcriber_of(corpus),
        keys=wiring.transcribe_keys,
        instances=heard_corpora,
        reads=lambda d, corpus: [d.utterances(corpus)],
        more=wiring.transcribe_reads,
        writes=lambda d, corpus: [d.transcripts(corpus)],
    ),
    Stage(
        "features", ENCODER, "",
        asks=lambda p, corpus, encoder: p.encoder(encoder),
        keys=lambda raw, corpus, encoder: [f"encoders.{encoder}"],
        instances=features_of,
        on_request=extractable,
        variant=wiring.encoder_variant,
        code=wiring.encoder_code,
        more=wiring.encoder_reads,
        writes=lambda d, corpus, encoder: [d.features(corpus, encoder)],
    ),
    Stage(
        "search", METHOD, "",
        asks=lambda p, corpus, method: p.for_search(corpus, method),
        keys=wiring.search_keys,
        instances=searches_of,
        code=wiring.method_code,
        reads=lambda d, corpus, method: [d.utterances(corpus), d.labels(corpus), d.splits(corpus)],
        more=wiring.search_reads,
        writes=lambda d, corpus, method: [d.search(corpus, method)],
    ),
    Stage(
        "train", METHOD, "tasks.train.stage:TrainParams",
        asks=lambda p, corpus, method: p.for_method("train", corpus, method),
        keys=lambda raw, corpus, method: wiring.method_keys(raw, "train", corpus, method),
        instances=methods_on,
        code=wiring.train_code,
        reads=lambda d, corpus, method: [d.utterances(corpus), d.labels(corpus), d.splits(corpus)],
        more=wiring.train_reads,
        writes=lambda d, corpus, method: [d.runs(corpus, method)],
    ),
    Stage(
        "evaluate", METHOD, "tasks.evaluate.stage:EvaluateParams",
        asks=lambda p, corpus, method: p.for_method("evaluate", corpus, method),
        keys=lambda raw, corpus, method: wiring.method_keys(raw, "evaluate", corpus, method),
        instances=methods_on,
        code=wiring.method_code,
        reads=lambda d, corpus, method: [
            d.utterances(corpus), d.labels(corpus), d.splits(corpus), d.runs(corpus, method),
        ],
        more=wiring.method_reads_of,
        writes=lambda d, corpus, method: [
            d.metrics(corpus, method), d.details(corpus, method), d.predictions(corpus, method),
            d.calibration(corpus, method),
        ],
    ),
    Stage(
        "transfer", ("corpus", "method", "onto"), "tasks.transfer.stage:TransferParams",
        asks=lambda p, corpus, method, onto: p.for_method("transfer", onto, method),
        keys=wiring.transfer_keys,
        instances=transfers_of,
        code=lambda raw, corpus, method, onto: wiring.method_code(raw, corpus, method),
        reads=lambda d, corpus, method, onto: [
            d.runs(corpus, method),
            d.utterances(corpus), d.utterances(onto), d.labels(onto), d.splits(onto),
        ],
        more=lambda d, raw, corpus, method, onto: wiring.method_reads_of(d, raw, onto, method),
        writes=lambda d, corpus, method, onto: [d.transfer(corpus, method, onto)],
    ),
    Stage(
        "report", (), "tasks.report.stage:ReportParams",
        asks=lambda p: p.for_report(),
        keys=lambda raw: ["report", "corpora", "encoders", "inputs", "methods", "train"],
        more=wiring.report_reads,
        writes=lambda d: [
            d.leaderboard("json"), d.leaderboard("csv"), d.plots(), d.analysis, d.ensembles,
            d.page(),
        ],
    ),
)  # fmt: skip

#: Name to row, in order; the names are also the words that `affectloom stage` knows.
STAGES: dict[str, Stage] = {row.name: row for row in _ROWS}


def outs_of(layout: Layout, raw: Raw) -> dict[str, list[Path]]:
    """Address of every instance to its outs."""
    return {
        row.address(ids): row.writes(layout, **ids)
        for row in STAGES.values()
        for ids in row.instances_of(raw)
    }
