"""``dvc.yaml``, written from ``params.yaml`` and the imports of the code.

DVC cannot follow imports, nor look up an encoder's family inside a matrix of corpora and encoders.
So the file is written: every stage lists exactly the code files that its module imports and exactly
the tables that it reads. What a user changes in an experiment stays a ``${...}`` reference, so
``dvc exp run -S encoders.x.family=...`` needs no rewriting; only a new entry or a new import does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from flows.closure import closure, dataclass_default, module_constant
from models import registry
from models.errors import UserError
from tasks import paths
from tasks.method_reads import method_reads
from tasks.selection import encoders_of, inputs_of, methods_of, searches_of, transfers_of
from tasks.tables import MODALITIES

_HEADER = """\
# Written by `affectloom sync` from params.yaml and the imports of the code: do not edit by hand.
# `affectloom run` and `make repro` keep it up to date; tests/test_house.py checks it.
# A stage begins where its first line here names it; what it does is in tasks/<stage>/stage.py.
"""

#: Order of the stages; also the words that `affectloom stage` knows.
STAGES = (
    "sample",
    "checkpoints",
    "ingest",
    "labels",
    "splits",
    "faces",
    "features",
    "search",
    "train",
    "evaluate",
    "transfer",
    "report",
)


@dataclass(frozen=True)
class Instance:
    """One stage instance before it becomes YAML: what is its own beside the group's common part."""

    key: str
    deps: Sequence[str]
    params: Sequence[str] = ()


def render(params: Mapping[str, Any], root: Path) -> str:
    """The text of ``dvc.yaml`` for these parameters and this code."""
    graph = _Graph(params, root)
    document = {"stages": graph.stages(), "metrics": graph.metrics(), "plots": graph.plots()}
    document = {key: value for key, value in document.items() if value}
    return _HEADER + yaml.dump(document, sort_keys=False, width=100, default_flow_style=False)


def read_raw_params(root: Path) -> dict[str, Any]:
    """``params.yaml`` as it stands, not yet validated."""
    file = root / "params.yaml"
    try:
        found = yaml.safe_load(file.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        place = getattr(error, "problem_mark", None)
        line = f" line {place.line + 1}" if place else ""
        raise UserError(
            f"params.yaml{line}: not valid YAML ({error})".replace("\n", " ")
        ) from error
    if not isinstance(found, dict):
        raise UserError("params.yaml is empty; take the one of the repository")
    return found


def out_of_step(params: Mapping[str, Any], root: Path) -> bool:
    """True when ``dvc.yaml`` is not what ``render`` would write."""
    file = root / "dvc.yaml"
    return not file.exists() or file.read_text(encoding="utf-8") != render(params, root)


def sync(params: Mapping[str, Any], root: Path) -> bool:
    """Bring ``dvc.yaml`` up to date; True when it changed."""
    text = render(params, root)
    file = root / "dvc.yaml"
    if file.exists() and file.read_text(encoding="utf-8") == text:
        return False
    temporary = file.with_suffix(".yaml.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(file)
    return True


def instances(params: Mapping[str, Any], stage: str) -> list[dict[str, str]]:
    """The arguments of every instance of ``stage``: corpus, encoder, method."""
    corpora = params.get("corpora") or {}
    if stage == "sample":  # nobody who has taken the sample corpus out wants it generated
        used = any(
            (entry or {}).get("adapter", name) == "sample" for name, entry in corpora.items()
        )
        return [{}] if used else []
    if stage in ("checkpoints", "report"):
        return [{}]
    if stage == "features":
        return [
            {"corpus": corpus, "encoder": encoder}
            for corpus in corpora
            for encoder in encoders_of(params, corpus)
        ]
    if stage == "transfer":
        return transfers_of(params)
    if stage == "search":
        return searches_of(params)
    if stage in ("train", "evaluate"):
        return [
            {"corpus": corpus, "method": method}
            for corpus in corpora
            for method in methods_of(params, corpus)
        ]
    return [{"corpus": c} for c in corpora]


def address(stage: str, arguments: Mapping[str, str]) -> str:
    """DVC's name of an instance, e.g. ``train@sample-corect``."""
    return f"{stage}@{'-'.join(arguments.values())}" if arguments else stage


def stage_code(
    stage: str, arguments: Mapping[str, str], params: Mapping[str, Any], root: Path
) -> list[str]:
    """Dotted modules that an instance runs; their closure is its code."""
    modules = [f"tasks.{stage}.stage"]
    if stage == "ingest":
        adapter = params["corpora"][arguments["corpus"]].get("adapter", arguments["corpus"])
        modules.append(f"tasks.corpora.adapters.{adapter}")
    if stage == "features":
        family = params["encoders"][arguments["encoder"]].get("family")
        modules.append(f"models.encoders.{family}")
        if family == "imported":
            modules.append("tasks.features.foreign")
    if stage in ("search", "train", "evaluate", "transfer"):
        name, entry = arguments["method"], params["methods"][arguments["method"]]
        modules += [*method_reads(name, entry, root).code, *_method_modules(name, entry, root)]
        if stage == "train" and (entry or {}).get("search") is not None:
            modules.append("tasks.search.result")
    return modules


def _method_modules(name: str, entry: Mapping[str, Any] | None, root: Path) -> list[str]:
    entry = entry or {}
    if entry.get("plugin"):
        backbone = entry.get("backbone") or entry.get("method") or name
        plugin = str(entry["plugin"])
        own = [] if plugin == "none" else [f"models.plugins.{plugin}"]
        return ["models.plugin", *own, registry.module_name("methods", backbone, root)]
    method = entry.get("method") or name
    file = registry.source("methods", method, root)
    # a method may train another method as its backbone, as spcl does; cage's is a network's name
    backbone = entry.get("backbone") or (
        dataclass_default(file, "backbone") if file.exists() else None
    )
    is_method = backbone and registry.source("methods", str(backbone), root).exists()
    found = [method, *([str(backbone)] if is_method else [])]
    return [registry.module_name("methods", one, root) for one in found]


class _Graph:
    def __init__(self, params: Mapping[str, Any], root: Path) -> None:
        self.params, self.root = params, root
        self.corpora: list[str] = list(params.get("corpora") or {})

    def stages(self) -> dict[str, Any]:
        """All stages in order."""
        return {
            stage: getattr(self, f"_{stage}")() for stage in STAGES if instances(self.params, stage)
        }

    def metrics(self) -> list[str]:
        """Files that `dvc metrics show` reads."""
        return [str(paths.metrics(a["corpus"], a["method"])) for a in self._pairs()]

    def plots(self) -> list[dict[str, Any]]:
        """Files that `dvc plots show` draws, with the templates of .dvc/plots."""
        folder = paths.plots()
        return [
            _plot("Training histories", "history", "epoch", f"{folder}/history.csv", "score"),
            _plot(
                "Confusion matrices", "confusion", "actual", f"{folder}/confusion.csv", "predicted"
            ),
            _plot(
                "Robustness to missing modalities",
                "robustness",
                "missing_rate",
                f"{folder}/robustness.csv",
                "score",
            ),
            _plot("Circumplex", "circumplex", "valence", f"{folder}/circumplex.csv", "arousal"),
            _plot("Absolute errors", "coverage", "error", f"{folder}/coverage.csv", "share"),
            _plot("Frequency of labels", "frequency", "label", f"{folder}/frequency.csv", "share"),
            _plot("Labels in the plane", "scatter", "valence", f"{folder}/scatter.csv", "arousal"),
            _plot("Spread by category", "spread", "category", f"{folder}/spread.csv", "median"),
            _plot("Histograms", "histogram", "from", f"{folder}/histogram.csv", "share"),
            _plot("Labels per set", "cardinality", "labels", f"{folder}/cardinality.csv", "share"),
        ]

    def _pairs(self) -> list[dict[str, str]]:
        return instances(self.params, "evaluate")

    # single stages ------------------------------------------------------------------------

    def _sample(self) -> dict[str, Any]:
        return self._single("sample", ["sample"], [], [paths.raw("sample")])

    def _checkpoints(self) -> dict[str, Any]:
        return self._single("checkpoints", ["checkpoints"], [], [paths.CHECKPOINTS])

    def _report(self) -> dict[str, Any]:
        corpora, pairs = self.corpora, self._pairs()
        deps = [paths.details(**pair) for pair in pairs]
        deps += [paths.predictions(**pair) for pair in pairs]
        deps += [paths.transfer(**found) for found in instances(self.params, "transfer")]
        for corpus in corpora:
            deps += [
                paths.utterances(corpus),
                paths.quarantine(corpus),
                paths.labels(corpus),
                paths.labels_quarantine(corpus),
                paths.agreement(corpus),
                paths.splits(corpus),
                paths.leaks(corpus),
                paths.faces(corpus),
            ]
            deps += [paths.features(corpus, name) for name in encoders_of(self.params, corpus)]
        outs = [paths.leaderboard("json"), paths.leaderboard("csv"), paths.plots()]
        outs += [paths.REPORTS / "analysis", paths.ENSEMBLES]
        params = ["report", "corpora", "encoders", "inputs", "methods", "train"]
        return self._single("report", params, deps, outs)

    # stages with one instance a corpus --------------------------------------------------------

    def _ingest(self) -> dict[str, Any]:
        found = []
        for corpus in self.corpora:
            code = self._code("ingest", {"corpus": corpus})
            found.append(Instance(corpus, code, [f"corpora.{corpus}"]))
        return self._group(
            "ingest",
            "--corpus ${key}",
            found,
            deps=[paths.raw("${key}")],
            outs=[
                paths.utterances("${key}"),
                paths.annotations("${key}"),
                paths.quarantine("${key}"),
            ],
        )

    def _labels(self) -> dict[str, Any]:
        return self._per_corpus(
            "labels",
            deps=[paths.utterances("${key}"), paths.annotations("${key}")],
            outs=[
                paths.labels("${key}"),
                paths.labels_quarantine("${key}"),
                paths.agreement("${key}"),
            ],
        )

    def _splits(self) -> dict[str, Any]:
        return self._per_corpus(
            "splits",
            deps=[paths.utterances("${key}"), paths.labels("${key}")],
            outs=[paths.splits("${key}"), paths.leaks("${key}")],
        )

    def _faces(self) -> dict[str, Any]:
        return self._per_corpus(
            "faces", deps=[paths.utterances("${key}")], outs=[paths.faces("${key}")]
        )

    def _per_corpus(self, stage: str, deps: list[Path], outs: list[Path]) -> dict[str, Any]:
        found = []
        for corpus in self.corpora:
            own = self.params["corpora"][corpus] or {}
            extra = [f"corpora.{corpus}.{stage}"] if stage in own else []
            code = self._code(stage, {"corpus": corpus})
            shared = [stage] if stage in self.params else []
            # DVC wants lists of one length, so an instance needs at least one key
            keys = [*shared, *extra] or [f"corpora.{corpus}"]
            found.append(Instance(corpus, code, keys))
        return self._group(stage, "--corpus ${key}", found, deps=deps, outs=outs)

    # stages with one instance a corpus and encoder or method -------------------------------------

    @property
    def _encoders(self) -> dict[str, Any]:
        return self.params.get("encoders") or {}

    def _features(self) -> dict[str, Any]:
        found = []
        for arguments in instances(self.params, "features"):
            corpus, name = arguments["corpus"], arguments["encoder"]
            entry = self._encoders[name] or {}
            modality = self._modality(name, entry)
            deps = [*self._code("features", arguments), str(paths.utterances(corpus))]
            if modality == "video":
                deps.append(str(paths.faces(corpus)))
            checkpoint = str(entry.get("checkpoint") or "")
            if checkpoint.startswith((str(paths.CHECKPOINTS), str(paths.RAW))):
                deps.append(f"${{encoders.{name}.checkpoint}}")
            found.append(Instance(f"{corpus}-{name}", deps, [f"encoders.{name}"]))
        return self._group(
            "features",
            "--corpus ${item.corpus} --encoder ${item.encoder}",
            found,
            outs=[paths.features("${item.corpus}", "${item.encoder}")],
            extra={address("", a)[1:]: a for a in instances(self.params, "features")},
        )

    def _modality(self, name: str, entry: Mapping[str, Any]) -> str:
        family = entry.get("family")
        file = self.root / "models" / "encoders" / f"{family}.py"
        if not file.exists():
            known = sorted(
                f.stem for f in file.parent.glob("[a-z]*.py") if "\nMODALITY = " in f.read_text()
            )
            raise UserError(
                f"params.yaml: encoders.{name}.family is '{family}'; known families: "
                f"{', '.join(known)}"
            )
        return module_constant(file, "MODALITY")

    def _search(self) -> dict[str, Any]:
        is_limited = "targets" in (self.params.get("train") or {})
        return self._per_method(
            "search",
            params=["train.targets"] if is_limited else [],
            deps=[
                paths.utterances("${item.corpus}"),
                paths.labels("${item.corpus}"),
                paths.splits("${item.corpus}"),
            ],
            outs=[paths.search("${item.corpus}", "${item.method}")],
        )

    def _train(self) -> dict[str, Any]:
        return self._per_method(
            "train",
            params=["train"],
            deps=[
                paths.utterances("${item.corpus}"),
                paths.labels("${item.corpus}"),
                paths.splits("${item.corpus}"),
            ],
            outs=[paths.runs("${item.corpus}", "${item.method}")],
        )

    def _evaluate(self) -> dict[str, Any]:
        return self._per_method(
            "evaluate",
            params=["evaluate"],
            deps=[
                paths.utterances("${item.corpus}"),
                paths.labels("${item.corpus}"),
                paths.splits("${item.corpus}"),
                paths.runs("${item.corpus}", "${item.method}"),
            ],
            outs=[
                paths.metrics("${item.corpus}", "${item.method}"),
                paths.details("${item.corpus}", "${item.method}"),
                paths.predictions("${item.corpus}", "${item.method}"),
            ],
        )

    def _transfer(self) -> dict[str, Any]:
        found = []
        for arguments in instances(self.params, "transfer"):
            name, onto = arguments["method"], arguments["onto"]
            deps = [*self._code("transfer", arguments), *self._method_data(onto, name)]
            section = ["transfer"] if "transfer" in self.params else []
            keys = [*section, *self._input_params(onto), f"methods.{name}"]
            found.append(Instance(address("", arguments)[1:], deps, keys))
        return self._group(
            "transfer",
            "--corpus ${item.corpus} --method ${item.method} --onto ${item.onto}",
            found,
            deps=[
                paths.runs("${item.corpus}", "${item.method}"),
                paths.utterances("${item.corpus}"),
                paths.utterances("${item.onto}"),
                paths.labels("${item.onto}"),
                paths.splits("${item.onto}"),
            ],
            outs=[paths.transfer("${item.corpus}", "${item.method}", "${item.onto}")],
            extra={address("", a)[1:]: a for a in instances(self.params, "transfer")},
        )

    def _method_data(self, corpus: str, method: str) -> list[str]:
        """Features and pictures that a method reads, as references that experiments can change."""
        (key,) = self._input_params(corpus) or ["inputs"]
        reads = method_reads(method, self.params["methods"][method], self.root)
        wanted = [*(MODALITIES if reads.has_features else ()), *reads.extra]
        names = [name for name in inputs_of(self.params, corpus) if name in wanted]
        found = [str(paths.features(corpus, f"${{{key}.{name}}}")) for name in names]
        return [*found, *([str(paths.faces(corpus))] if "images" in reads.needs else [])]

    def _weights(self, corpus: str, method: str, stage: str) -> list[str]:
        """What training begins from: a run on this or another corpus, or a local file."""
        entry = self.params["methods"][method] or {}
        found = []
        if stage == "train" and (start := entry.get("init_from")):
            folder = "" if "/" in str(start) else corpus
            found.append(str(paths.runs(folder, f"${{methods.{method}.init_from}}")))
        if str(entry.get("pretrained")).endswith(".safetensors"):
            found.append(f"${{methods.{method}.pretrained}}")
        return found

    def _search_result(self, corpus: str, method: str) -> list[str]:
        """What the search of a method's options found, where it has one."""
        is_searched = {"corpus": corpus, "method": method} in searches_of(self.params)
        return [str(paths.search(corpus, method) / "best.json")] if is_searched else []

    def _input_params(self, corpus: str) -> list[str]:
        """The key that names the encoders of a corpus, where there is one."""
        if (self.params["corpora"][corpus] or {}).get("inputs") is not None:
            return [f"corpora.{corpus}.inputs"]
        return ["inputs"] if "inputs" in self.params else []  # pictures need none

    def _per_method(
        self, stage: str, params: list[str], deps: list[Path], outs: list[Path]
    ) -> dict[str, Any]:
        found = []
        for arguments in instances(self.params, stage):
            name = arguments["method"]
            corpus = arguments["corpus"]
            deps_here = [*self._code(stage, arguments), *self._method_data(corpus, name)]
            if stage in ("search", "train"):
                deps_here += self._weights(corpus, name, stage)
            if stage == "train":  # a run knows the options that it was trained with
                deps_here += self._search_result(corpus, name)
            keys = [*params, *self._input_params(corpus), f"methods.{name}"]
            found.append(Instance(address("", arguments)[1:], deps_here, keys))
        return self._group(
            stage,
            "--corpus ${item.corpus} --method ${item.method}",
            found,
            deps=deps,
            outs=outs,
            extra={address("", a)[1:]: a for a in instances(self.params, stage)},
        )

    # building blocks ------------------------------------------------------------------------

    def _code(self, stage: str, arguments: Mapping[str, str]) -> list[str]:
        modules = stage_code(stage, arguments, self.params, self.root)
        for module in modules:
            if not (self.root / Path(*module.split(".")).with_suffix(".py")).exists():
                raise UserError(
                    f"params.yaml: {address(stage, arguments)} needs "
                    f"{module.replace('.', '/')}.py, which does not exist; "
                    "write it or mend the name in params.yaml"
                )
        return [str(file) for file in closure(modules, self.root)]

    def _single(
        self, stage: str, params: list[str], deps: Sequence[Path], outs: list[Path]
    ) -> dict[str, Any]:
        code = [str(file) for file in closure([f"tasks.{stage}.stage"], self.root)]
        return {
            "cmd": f"python -m flows.stage {stage}",
            "deps": [*code, *map(str, deps)],
            "params": [key for key in params if key in self.params],
            "outs": [str(path) for path in outs],
        }

    def _group(
        self,
        stage: str,
        arguments: str,
        found: list[Instance],
        outs: list[Path],
        deps: Sequence[Path] = (),
        extra: Mapping[str, Mapping[str, str]] | None = None,
    ) -> dict[str, Any]:
        """A ``foreach``: what all instances share stands in ``do``, the rest in each item.

        DVC wants lists to have a fixed length there, so shorter lists repeat their last entry;
        it treats an entry that stands twice as one.
        """
        common = [d for d in (found[0].deps if found else []) if all(d in i.deps for i in found)]
        same_params = [
            p for p in (found[0].params if found else []) if all(p in i.params for i in found)
        ]
        own = {
            i.key: (
                [d for d in i.deps if d not in common],
                [p for p in i.params if p not in same_params],
            )
            for i in found
        }
        most_deps = max((len(d) for d, _ in own.values()), default=0)
        most_params = max((len(p) for _, p in own.values()), default=0)
        items: dict[str, Any] = {}
        for instance in found:
            more_deps, more_params = own[instance.key]
            items[instance.key] = {
                **(extra or {}).get(instance.key, {}),
                **_padded("deps", more_deps, most_deps, common),
                **_padded("params", more_params, most_params, same_params),
            }
        all_deps = [*common, *(f"${{item.deps[{n}]}}" for n in range(most_deps)), *map(str, deps)]
        all_params = [*same_params, *(f"${{item.params[{n}]}}" for n in range(most_params))]
        do: dict[str, Any] = {
            "cmd": f"python -m flows.stage {stage} {arguments}",
            "deps": all_deps,
            "params": all_params,
            "outs": [str(path) for path in outs],
        }
        return {"foreach": items, "do": do}


def _padded(what: str, own: list[str], length: int, common: Sequence[str]) -> dict[str, list[str]]:
    if not length:
        return {}
    filler = own[-1] if own else common[-1]
    return {what: [*own, *[filler] * (length - len(own))]}


def _plot(title: str, template: str, x: str, file: str, y: str) -> dict[str, Any]:
    return {title: {"template": f"affectloom_{template}", "x": x, "y": {file: y}}}
