"""The graph with each stage once, as text and for Mermaid."""

from collections.abc import Sequence
from dataclasses import dataclass

from flows.plan import Plan

#: Columns of a drawing that a terminal and a page of code can show.
_WIDTH = 100


@dataclass(frozen=True)
class Group:
    """A stage with all its instances.

    Attributes:
        name: of the stage.
        count: instances.
        needs: stages from which it follows directly, in the order of the graph.
    """

    name: str
    count: int
    needs: tuple[str, ...]

    @property
    def title(self) -> str:
        """Name, and how many there are where there are several."""
        return f"{self.name} ({self.count})" if self.count > 1 else self.name


def collapse(plan: Plan) -> list[Group]:
    """Stages in order; a need that follows from another need is left out."""
    counts: dict[str, int] = {}
    needs: dict[str, dict[str, None]] = {}
    for address, node in plan.nodes.items():
        name = _stage(address)
        counts[name] = counts.get(name, 0) + 1
        own = needs.setdefault(name, {})
        own.update(dict.fromkeys(_stage(n) for n in sorted(node.needs) if _stage(n) != name))
    above = {name: _all_above(name, needs) for name in counts}
    return [
        Group(
            name,
            counts[name],
            tuple(
                need
                for need in counts
                if need in needs[name] and not any(need in above[other] for other in needs[name])
            ),
        )
        for name in counts
    ]


def as_text(stages: Sequence[Group]) -> str:
    """Boxes joined by lines as `dvc dag` draws them; a list where these would be too wide."""
    from dvc.dagascii import draw

    titles = {stage.name: stage.title for stage in stages}
    edges = [(stage.title, titles[need]) for stage in stages for need in stage.needs]
    if edges:
        text = "\n".join(line.rstrip() for line in draw(list(titles.values()), edges).splitlines())
        if max(map(len, text.splitlines())) <= _WIDTH:
            return text
    return as_list(stages)


def as_list(stages: Sequence[Group]) -> str:
    """A line a stage with what it follows from."""
    wide = max((len(stage.title) for stage in stages), default=0)
    return "\n".join(
        f"{stage.title:{wide}}  <- {', '.join(stage.needs)}" if stage.needs else stage.title
        for stage in stages
    )


def as_mermaid(stages: Sequence[Group]) -> str:
    """A flowchart in Mermaid's language."""
    lines = ["flowchart TD"]
    lines += [f'  {_id(stage.name)}["{stage.title}"]' for stage in stages]
    lines += [f"  {_id(n)} --> {_id(stage.name)}" for stage in stages for n in stage.needs]
    return "\n".join(lines)


def _stage(address: str) -> str:
    return address.partition("@")[0]


def _id(name: str) -> str:
    """Some words, such as `end`, are Mermaid's own; paths of data hold dots and slashes."""
    return "s_" + "".join(c if c.isalnum() else "_" for c in name)


def _all_above(name: str, needs: dict[str, dict[str, None]]) -> set[str]:
    found: set[str] = set()
    waiting = list(needs[name])
    while waiting:
        one = waiting.pop()
        if one not in found:
            found.add(one)
            waiting += needs[one]
    return found
