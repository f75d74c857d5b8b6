"""DVC's graph and what is stale in it; DVC stays the only judge of that."""

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from models.errors import UserError


@dataclass(frozen=True)
class Node:
    """A stage instance of DVC's graph."""

    address: str
    needs: frozenset[str]
    reasons: tuple[str, ...] = ()  # why DVC calls it stale; empty = up to date
    gpu: int = 0


@dataclass
class Plan:
    """DVC's graph with what is stale in it, in topological order."""

    nodes: dict[str, Node] = field(default_factory=dict)

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
        return Plan({a: node for a, node in self.nodes.items() if a in wanted})

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


def read_plan(root: Path) -> Plan:
    """The graph and its status, read once through DVC's own code (about a second)."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    # DVC names stages relative to the current folder
    with contextlib.chdir(root):
        try:
            with Repo(".") as repo:
                return _plan_of(repo.index.graph, repo.status())
        except DvcException as error:
            raise UserError(f"DVC cannot read the pipeline: {_flat(error)}") from error


def _plan_of(graph: Any, status: Mapping[str, Sequence[str | Mapping[str, Any]]]) -> Plan:
    import networkx

    nodes = {}
    for stage in reversed(list(networkx.topological_sort(graph))):
        address = stage.addressing
        needs = frozenset(other.addressing for other in graph.successors(stage))
        gpu = int((getattr(stage, "meta", None) or {}).get("gpu", 0))
        nodes[address] = Node(address, needs, _reasons(status.get(address, ())), gpu)
    return Plan(nodes)


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
