"""The trained networks of a method, and what each of them reads."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from models.batch import MODALITIES, Target
from models.errors import UserError
from models.method import Method, Spec
from models.part_scales import PartSpec
from tasks.batches.dataset import Dataset
from tasks.batches.source import Source, source_for
from tasks.layout import Layout
from tasks.params.inputs import Named
from tasks.params.recipes import Recipe, build, resolve


@dataclass(frozen=True)
class Run:
    """One trained network."""

    folder: Path
    seed: int
    fold: int
    recipe: Recipe
    method: Method
    report: Mapping[str, Any]

    @property
    def targets(self) -> tuple[Target, ...]:
        """What it predicts."""
        return self.method.spec.targets


def part_of(source: Source, one: Run, split: str) -> Dataset:
    """All rows of a split as the method of a run sees them."""
    data = source.part(one.fold, split, one.method.level, one.targets, labelled=False)
    return data.seen_through(one.method.view, one.method.shots)


def sources_of(
    layout: Layout, runs: Sequence[Run], corpus: str, inputs: Mapping[str, Named]
) -> list[Source]:
    """What each run reads of a corpus.

    Searched options may differ between folds; of those only the length of sequences changes what
    is read, and runs that read the same share it. Networks that were trained on another corpus
    know nobody here: an index of theirs would be somebody else's.
    """
    found: dict[int, Source] = {}
    for one in runs:
        if one.recipe.max_frames not in found:
            source = source_for(layout, one.recipe, corpus, inputs)
            is_home = one.report["corpus"] == corpus
            found[one.recipe.max_frames] = source if is_home else source.of_strangers()
    return [found[one.recipe.max_frames] for one in runs]


def load_runs(layout: Layout, corpus: str, method: str) -> list[Run]:
    """Every run of a method with its weights, by seed, fold and target.

    Each is built with the options that it was trained with: folds may have different ones.
    """
    folder = layout.runs(corpus, method)
    runs = []
    for file in sorted(folder.rglob("config.json")):
        config = json.loads(file.read_text())
        recipe, network = network_of(config, method)
        network.load_state_dict(load_file(file.parent / "weights.safetensors"))
        report = json.loads((file.parent / "report.json").read_text())
        runs.append(Run(file.parent, config["seed"], config["fold"], recipe, network, report))
    if not runs:
        raise UserError(f"{folder}: there are no runs; run stage train for {corpus}-{method} first")
    for target in [target for one in runs for target in one.targets]:
        first = next(t for one in runs for t in one.targets if t.name == target.name)
        if target.names != first.names:
            raise UserError(
                f"{folder}: some runs predict {', '.join(first.names)} and some "
                f"{', '.join(target.names)} of {target.name}; search no option that changes this, "
                f"and run stage train for {corpus}-{method} again"
            )
    return runs


def network_of(config: Mapping[str, Any], method: str) -> tuple[Recipe, Method]:
    """A network as its run's ``config.json`` describes it, without its weights."""
    targets = tuple(
        Target(t["name"], t["kind"], tuple(t["names"]), t["lower"], t["upper"])
        for t in config["targets"]
    )
    dims, frame_dims = (
        {m: found[m] for m in MODALITIES if m in found}  # JSON has an order of its own
        for found in (config["dims"], config.get("frame_dims", {}))
    )
    # compiling takes longer than a look at the test rows
    recipe = resolve(method, {k: v for k, v in config["entry"].items() if k != "compile"})
    people, parts = config.get("people", 0), config.get("parts")
    known = None if parts is None else PartSpec.of(parts)
    spec = Spec(dims, targets, config["speakers"], frame_dims, people, known)
    return recipe, build(recipe, spec)


def targets_of(runs: Sequence[Run]) -> list[Target]:
    """Every target that one of the runs predicts."""
    found: dict[str, Target] = {}
    for one in runs:
        found |= {target.name: target for target in one.targets}
    return list(found.values())
