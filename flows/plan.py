"""DVC's graph and what is stale in it; DVC stays the only judge of that."""

import contextlib
import functools
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from flows import unchanged
from models.errors import UserError

#: A stage that ends may be writing dvc.lock in the very moment in which it is read.
_PATIENCE_S = 0.5


@dataclass(frozen=True)
class Node:
    """A stage instance of DVC's graph."""

    address: str
    needs: frozenset[str]
    reasons: tuple[str, ...] = ()  # why DVC calls it stale; empty = up to date
    gpu: int = 0
    is_forced: bool = False  # to be run although it may be up to date


@dataclass
class Plan:
    """DVC's graph with what is stale in it, in topological order."""

    nodes: dict[str, Node] = field(default_factory=dict)
    tell: Callable[[Mapping[str, object]], None] | None = None  # hears each event of a walk

    @property
    def stale(self) -> list[str]:
        """Stages that DVC itself calls stale."""
        return [address for address, node in self.nodes.items() if node.reasons]

    @property
    def maybe(self) -> list[str]:
        """Stale stages and all that follow from them, in order."""
        found: set[str] = set()
        for address, node in self.nodes.items():
            if node.reasons or node.needs & found:
                found.add(address)
        return [address for address in self.nodes if address in found]

    def upstream_of(self, targets: Iterable[str]) -> "Plan":
        """Only ``targets`` and what they need."""
        wanted: set[str] = set()
        waiting = list(targets)
        while waiting:
            address = waiting.pop()
            if address not in wanted:
                wanted.add(address)
                waiting += self.nodes[address].needs
        return Plan({a: node for a, node in self.nodes.items() if a in wanted}, self.tell)

    def force(self, names: Sequence[str]) -> None:
        """Have the stages or instances called ``names`` run, whatever DVC thinks of them."""
        for address in self.match(names):
            node = self.nodes[address]
            reasons = (*node.reasons, "asked for by --force")
            self.nodes[address] = replace(node, reasons=reasons, is_forced=True)

    def match(self, names: Sequence[str]) -> list[str]:
        """Addresses meant by ``names``: whole groups (``features``) or single instances."""
        found: list[str] = []
        for name in names:
            hits = [a for a in self.nodes if a == name or a.split("@")[0] == name]
            if not hits:
                groups = sorted({a.split("@")[0] for a in self.nodes})
                raise UserError(f"there is no stage '{name}'; stages: {', '.join(groups)}")
            found += hits
        return found


def read_plan(root: Path, text: str | None = None, *, with_status: bool = True) -> Plan:
    """The graph and its status, read through DVC's own code, whoever is at work in the folder.

    Neither the lock of the repository nor those of its files are taken: nothing is written, and a
    run may go on for hours. ``dvc status`` takes both, and reads the whole graph a second time.

    Args:
        root: the repository.
        text: dvc.yaml as it will be, where it is not yet what ``graph.render`` makes.
        with_status: look at what is stale; else only at the graph.
    """
    # DVC names stages relative to the current folder
    with contextlib.chdir(root):
        is_whole = text is None and with_status
        if is_whole and (known := unchanged.recall(Path())) is not None:
            return Plan({each[0]: _node(*each) for each in known})

        from dvc.exceptions import DvcException
        from dvc.repo import Repo

        try:
            return _read(Repo, text, with_status)
        except DvcException:
            time.sleep(_PATIENCE_S)
        try:
            return _read(Repo, text, with_status)
        except DvcException as error:
            raise UserError(f"DVC cannot read the pipeline: {_flat(error)}") from error


def _read(repo_class: Any, text: str | None, with_status: bool) -> Plan:
    with repo_class(".") as repo, _parameters_parsed_once():
        before = unchanged.Sight.of(Path(), *_looked_at(repo))
        graph = _index(repo, text).graph
        plan = _plan_of(graph, with_status)
        if text is None and with_status and _is_all_here(graph):
            nodes = plan.nodes.values()
            answer = [(n.address, sorted(n.needs), n.reasons, n.gpu) for n in nodes]
            unchanged.keep(Path(), before, answer)
        return plan


def _looked_at(repo: Any) -> tuple[list[str], str]:
    """DVC's files of configuration, and where its objects lie."""
    return [str(file) for file in repo.config.files.values()], str(repo.cache.local.path)


def _is_all_here(graph: Any) -> bool:
    """Whether all that stages read and write lies in the folder; else it changes unseen."""
    here = os.getcwd() + os.sep
    return all(
        place.protocol == "local" and os.path.abspath(place.fs_path).startswith(here)
        for stage in graph
        for place in (*([] if stage.frozen else stage.deps), *stage.outs)
    )


def _node(address: str, needs: Sequence[str], reasons: Sequence[str], gpu: int) -> Node:
    return Node(address, frozenset(needs), tuple(reasons), gpu)


@contextlib.contextmanager
def _parameters_parsed_once() -> Iterator[None]:
    """Meanwhile DVC parses a file of parameters once, not for each stage; it changes none."""
    from dvc.dependency import param

    parse = param.load_path
    param.load_path = functools.cache(parse)
    try:
        yield
    finally:
        param.load_path = parse


def _index(repo: Any, text: str | None) -> Any:
    """DVC's index of the folder, or of what it would be with ``text`` as its dvc.yaml."""
    if text is None:
        return repo.index
    from dvc.dvcfile import load_file
    from dvc.repo.index import Index
    from dvc.stage import PipelineStage

    def pass_over(file: str, error: Exception) -> None:
        if Path(file).name != "dvc.yaml":  # which may name what params.yaml has no more
            raise error

    known = Index.from_repo(repo, onerror=pass_over)
    others = [stage for stage in known.stages if not isinstance(stage, PipelineStage)]
    file: Any = load_file(repo, "dvc.yaml")
    file.contents = yaml.safe_load(text)
    return Index(repo, stages=[*file.stages.values(), *others])


def _plan_of(graph: Any, with_status: bool) -> Plan:
    import networkx

    nodes, known = {}, {}
    for stage in reversed(list(networkx.topological_sort(graph))):
        address = stage.addressing
        needs = frozenset(other.addressing for other in graph.successors(stage))
        gpu = int((getattr(stage, "meta", None) or {}).get("gpu", 0))
        reasons = _reasons(_status(stage, known)) if with_status else ()
        nodes[address] = Node(address, needs, reasons, gpu)
    return Plan(nodes)


def _status(stage: Any, known: dict[tuple[str, str], Any]) -> list[str | Mapping[str, Any]]:
    """What ``stage.status()`` tells, without its locks.

    Args:
        stage: of DVC.
        known: what was found of places with a hash: most files are dependencies of many stages,
            and most folders an out of one and a dependency of another.
    """
    deps: dict[str, Any] = {}
    for dep in [] if stage.frozen else stage.deps:
        is_hashed = isinstance(dep.hash_info.value, str)  # not parameters, nor what has none yet
        deps |= _found(dep, known) if is_hashed else dep.status()
    outs: dict[str, Any] = {}
    for out in stage.outs:
        is_gone = out.hash_info and out.use_cache and out.changed_cache()
        outs |= {str(out): "not in cache"} if is_gone else _found(out, known)
    found: list[str | Mapping[str, Any]] = []
    found += [{"changed deps": deps}] if deps else []
    found += [{"changed outs": outs}] if outs else []
    if stage.is_callback or stage.always_changed:
        found.append("always changed")
    if stage.changed_stage():
        is_command = getattr(stage, "cmd_changed", False)
        found.append("changed command" if is_command else "changed checksum")
    return found


def _found(place: Any, known: dict[tuple[str, str], Any]) -> dict[str, Any]:
    """How a dependency or an out differs from its hash."""
    key = (place.fs_path, str(place.hash_info.value))
    if key not in known:
        known[key] = place.workspace_status()
    return known[key]


def _flat(error: BaseException) -> str:
    parts = [str(error)]
    while error.__cause__ is not None:
        error = error.__cause__
        parts.append(str(error))
    return " ".join(": ".join(dict.fromkeys(parts)).split())


def _reasons(found: Sequence[str | Mapping[str, Any]]) -> tuple[str, ...]:
    lines = []
    for entry in found:
        if isinstance(entry, str):
            lines.append(entry)
            continue
        for kind, changes in entry.items():
            for path, what in dict(changes).items():
                if isinstance(what, Mapping):  # parameters: file to {key: what}
                    lines += [f"{key} {state}" for key, state in what.items()]
                else:
                    lines.append(f"{path} {what}" if kind != "changed command" else kind)
    return tuple(lines)
