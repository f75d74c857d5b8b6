"""``dvc.yaml``, written from the table of stages, ``params.yaml`` and the imports of the code.

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

from flows.closure import closure, file_of
from models.errors import UserError
from tasks.atomic import replacing
from tasks.layout import Layout
from tasks.params.text import read_mapping
from tasks.selection import methods_on
from tasks.stages import STAGES, Stage

_HEADER = """\
# Written by `affectloom sync` from params.yaml and the imports of the code: do not edit by hand.
# `affectloom run` and `make repro` keep it up to date; tests/test_house.py checks it.
# A stage begins where its first line here names it; what it does is in tasks/<stage>/stage.py.
# DVC wants lists in the items of a group to be equally long: a shorter one repeats an entry that is
# cheap to look at, the group's first.
"""

#: Title, template of .dvc/plots, x, file and y of everything that `dvc plots show` draws.
_PLOTS = (
    ("Training histories", "history", "epoch", "history", "score"),
    ("Confusion matrices", "confusion", "actual", "confusion", "predicted"),
    ("Robustness to missing modalities", "robustness", "missing_rate", "robustness", "score"),
    ("Circumplex", "circumplex", "valence", "circumplex", "arousal"),
    ("Absolute errors", "coverage", "error", "coverage", "share"),
    ("Reliability of confidence", "reliability", "confidence", "reliability", "accuracy"),
    ("Risk by coverage", "risk", "coverage", "risk", "risk"),
    ("Frequency of labels", "frequency", "label", "frequency", "share"),
    ("Labels in the plane", "scatter", "valence", "scatter", "arousal"),
    ("Spread by category", "spread", "category", "spread", "median"),
    ("Histograms", "histogram", "from", "histogram", "share"),
    ("Labels per set", "cardinality", "labels", "cardinality", "share"),
)


@dataclass(frozen=True)
class _Instance:
    """A stage instance before it becomes YAML: what is its own beside the group's common part."""

    ids: Mapping[str, str]
    deps: Sequence[str]
    params: Sequence[str]

    @property
    def key(self) -> str:
        return "-".join(self.ids.values())


def render(params: Mapping[str, Any], root: Path) -> str:
    """The text of ``dvc.yaml`` for these parameters and this code."""
    layout = Layout()
    stages = {
        name: _render(stage, params, layout, root)
        for name, stage in STAGES.items()
        if stage.instances_of(params)
    }
    metrics = [str(layout.metrics(**ids)) for ids in methods_on(params)]
    plots = [_plot(layout, *row) for row in _PLOTS]
    document = {"stages": stages, "metrics": metrics, "plots": plots}
    document = {key: value for key, value in document.items() if value}
    return _HEADER + yaml.dump(document, sort_keys=False, width=100, default_flow_style=False)


def _plot(layout: Layout, title: str, template: str, x: str, file: str, y: str) -> dict[str, Any]:
    source = f"{layout.plots()}/{file}.csv"
    return {title: {"template": f"affectloom_{template}", "x": x, "y": {source: y}}}


def read_raw_params(root: Path) -> dict[str, Any]:
    """``params.yaml`` as it stands, not yet validated."""
    return read_mapping(root / "params.yaml")


def out_of_step(text: str, root: Path) -> bool:
    """True when ``dvc.yaml`` is not ``text``, which ``render`` made."""
    file = root / "dvc.yaml"
    return not file.exists() or file.read_text(encoding="utf-8") != text


def sync(params: Mapping[str, Any], root: Path) -> bool:
    """Bring ``dvc.yaml`` up to date; True when it changed."""
    text = render(params, root)
    if not out_of_step(text, root):
        return False
    with replacing(root / "dvc.yaml") as temporary:
        temporary.write_text(text, encoding="utf-8")
    return True


def addresses_in(text: str) -> set[str]:
    """Addresses of the instances that a ``dvc.yaml`` knows."""
    stages = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))["stages"]
    found = {name for name, stage in stages.items() if "foreach" not in stage}
    groups = {name: stage["foreach"] for name, stage in stages.items() if "foreach" in stage}
    return found | {f"{name}@{key}" for name, keys in groups.items() for key in keys}


def stage_code(stage: Stage, ids: Mapping[str, str], params: Mapping[str, Any]) -> list[str]:
    """Dotted modules that an instance runs; their closure is its code."""
    return stage.code_of(params, **ids)


def _render(stage: Stage, params: Mapping[str, Any], layout: Layout, root: Path) -> dict[str, Any]:
    found = [_instance(stage, ids, params, layout, root) for ids in stage.instances_of(params)]
    command = f"python -m flows.stage {stage.name}"
    if not stage.per:
        (only,) = found
        return {
            "cmd": command,
            "deps": [*only.deps, *map(str, stage.reads(layout))],
            "params": [key for key in only.params if key.partition(".")[0] in params],
            "outs": [str(path) for path in stage.writes(layout)],
        }
    is_plain = stage.per == ("corpus",)
    names = {name: "${key}" if is_plain else f"${{item.{name}}}" for name in stage.per}
    return _group(
        " ".join([command, *(f"--{name} {reference}" for name, reference in names.items())]),
        found,
        reads=[str(path) for path in stage.reads(layout, **names)],
        outs=[str(path) for path in stage.writes(layout, **names)],
        has_ids=not is_plain,
    )


def _instance(
    stage: Stage, ids: Mapping[str, str], params: Mapping[str, Any], layout: Layout, root: Path
) -> _Instance:
    read = stage.more(layout, params, **ids)
    modules = stage_code(stage, ids, params)
    for module in modules:
        if file_of(module, root) is None:
            raise UserError(
                f"params.yaml: {stage.address(ids)} needs {module.replace('.', '/')}.py, which "
                "does not exist; write it or mend the name in params.yaml"
            )
    code = [str(file) for file in closure(modules, root)]
    return _Instance(ids, [*code, *read], stage.keys_of(params, **ids))


def _group(
    command: str, found: Sequence[_Instance], reads: list[str], outs: list[str], has_ids: bool
) -> dict[str, Any]:
    """A ``foreach``: what all instances share stands in ``do``, the rest in each item.

    DVC wants lists to have a fixed length there, so shorter lists repeat an entry. It looks at each
    as often as it stands there, so what repeats is the cheapest: a file that all instances share.
    """
    common = [d for d in found[0].deps if all(d in one.deps for one in found)]
    same_params = [p for p in found[0].params if all(p in one.params for one in found)]
    own_deps = [[d for d in one.deps if d not in common] for one in found]
    own_params = [[p for p in one.params if p not in same_params] for one in found]
    most_deps, most_params = max(map(len, own_deps)), max(map(len, own_params))
    items = {
        one.key: {
            **(one.ids if has_ids else {}),
            **_padded("deps", deps, most_deps, common),
            **_padded("params", keys, most_params, same_params),
        }
        for one, deps, keys in zip(found, own_deps, own_params, strict=True)
    }
    do = {
        "cmd": command,
        "deps": [*common, *(f"${{item.deps[{n}]}}" for n in range(most_deps)), *reads],
        "params": [*same_params, *(f"${{item.params[{n}]}}" for n in range(most_params))],
        "outs": outs,
    }
    return {"foreach": items, "do": do}


def _padded(what: str, own: list[str], length: int, common: Sequence[str]) -> dict[str, list[str]]:
    if not length:
        return {}
    filler = common[0] if common else own[-1]
    return {what: [*own, *[filler] * (length - len(own))]}
