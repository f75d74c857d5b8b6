"""``methods.<name>.search`` in params.yaml: what is searched, how, and for how long.

With ``space`` the options named there are searched by tpe, random or grid search; without it the
method's genome is, by evolution or at random. Everything is judged on training and validation rows;
with several folds each is searched for itself, and each has the whole budget.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    NonNegativeInt,
    Tag,
    field_validator,
    model_validator,
)

from models.errors import UserError
from models.evolution import GenomeSpace
from models.method import Method
from tasks.params.recipes import resolve

#: Keys of an entry that decide which code and data are read: a search cannot change them.
_FIXED = (
    "method", "backbone", "plugin", "modalities", "corpora", "targets", "init_from", "search",
    "genome",
)  # fmt: skip
Choice = bool | int | float | str | list[Any]


class _SearchParams(BaseModel):
    """What every search has; numbers and seconds are those of one fold.

    Attributes:
        seed: of the search and of every candidate's training.
        proxy_epochs: train a candidate for so many epochs; 0 = as long as the entry says.
        proxy_share: share of the training items that a candidate sees, the same for all.
        min_rows: never show a candidate fewer items than this, unless there are fewer.
        finalists: train so many of the best in full, with several seeds, and take the best of
            them; below 2 the best candidate is taken as it is.
        final_seeds: trainings of each finalist, with seeds 0, 1, 2, ...
        max_parameters: a candidate whose network has more is not trained and counts as failed; 0 =
            no limit.
        max_seconds: start no candidate after so long; 0 = no limit. A search that this limit
            ends cannot be repeated exactly.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: NonNegativeInt = 0
    proxy_epochs: NonNegativeInt = 0
    proxy_share: float = Field(default=1.0, gt=0, le=1)
    min_rows: NonNegativeInt = 512
    finalists: NonNegativeInt = 3
    final_seeds: int = Field(default=3, ge=1)
    max_parameters: NonNegativeInt = 0
    max_seconds: float = Field(default=0.0, ge=0, allow_inf_nan=False)


class GenomeSearch(_SearchParams):
    """Search of a method's genome.

    Attributes:
        sampler: ``random`` spends the same budget without selection, and always all of it.
        population: genomes in a generation.
        generations: at most this many, the first population included.
        max_evaluations: at most this many different genomes; 0 = no limit.
        patience: generations without a gain after which evolution ends; 0 = never.
        scenario: ``partial`` judges half on all modalities and half on the mean over their proper
            subsets; ``full`` on all modalities alone.
    """

    sampler: Literal["evolution", "random"] = "evolution"
    population: int = Field(default=16, ge=3)
    generations: int = Field(default=10, ge=1)
    max_evaluations: NonNegativeInt = 160
    patience: NonNegativeInt = 3
    scenario: Literal["partial", "full"] = "partial"
    proxy_epochs: NonNegativeInt = 3
    proxy_share: float = Field(default=0.3, gt=0, le=1)


class Range(BaseModel):
    """Numbers from ``low`` to ``high``; whole ones if both are.

    Attributes:
        low: smallest.
        high: largest.
        log: draw on a logarithmic scale.
        step: only multiples of it above ``low``.
    """

    model_config = ConfigDict(frozen=True)

    low: int | float
    high: int | float
    log: bool = False
    step: int | float | None = Field(default=None, gt=0)

    @model_validator(mode="before")
    @classmethod
    def _has_only_its_keys(cls, values: Any) -> Any:
        for key in values if isinstance(values, Mapping) else ():
            if key not in cls.model_fields:
                known = ", ".join(cls.model_fields)
                raise ValueError(f"a range has no key '{key}'; it has: {known}")
        return values

    @model_validator(mode="after")
    def _is_a_range(self) -> "Range":
        if not (math.isfinite(self.low) and math.isfinite(self.high)) or self.low >= self.high:
            raise ValueError(f"low {self.low} has to be below high {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"low is {self.low}, but a logarithmic range begins above 0")
        if self.log and self.step is not None:
            raise ValueError("a logarithmic range has no step; leave one of the two out")
        if self.is_whole and isinstance(self.step, float):
            raise ValueError(f"the step {self.step} of a range of whole numbers is not whole")
        return self

    @property
    def is_whole(self) -> bool:
        """Both ends are whole numbers."""
        return isinstance(self.low, int) and isinstance(self.high, int)


def _shape(value: object) -> str:
    return "range" if isinstance(value, Mapping | Range) else "choices"


Choices = Annotated[
    Annotated[list[Choice], Tag("choices")] | Annotated[Range, Tag("range")],
    Discriminator(_shape),
]


class SpaceSearch(_SearchParams):
    """Search of options and trainer settings.

    Attributes:
        sampler: ``tpe`` learns from what it saw, ``grid`` tries every combination.
        space: option to a list of choices, or to a range.
        trials: candidates; ``grid`` tries at most this many, in the order of the lists.
        batch: candidates that are proposed together, and may be trained side by side.
    """

    sampler: Literal["tpe", "random", "grid"] = "tpe"
    space: dict[str, Choices] = Field(min_length=1)
    trials: int = Field(default=20, ge=1)
    batch: int = Field(default=4, ge=1)

    @field_validator("space")
    @classmethod
    def _have_choices(cls, space: dict[str, Any]) -> dict[str, Any]:
        for key, choices in space.items():
            if isinstance(choices, list) and not choices:
                raise ValueError(f"{key} has no choices")
        return space

    @model_validator(mode="after")
    def _is_countable(self) -> "SpaceSearch":
        for key, choices in self.space.items():
            if self.sampler == "grid" and isinstance(choices, Range):
                raise ValueError(f"{key} is a range, but grid search needs a list of choices")
        return self


SearchParams = GenomeSearch | SpaceSearch


def kind_of(search: Mapping[str, Any]) -> type[GenomeSearch] | type[SpaceSearch]:
    """Which search a mapping describes."""
    is_space = "space" in search or search.get("sampler") in ("tpe", "grid")
    return SpaceSearch if is_space else GenomeSearch


def genome_space(method: type[Method]) -> GenomeSpace | None:
    """The genome that a method lets a search change, if it has one."""
    return getattr(method, "genome_space", None)


def check(name: str, entry: Mapping[str, Any], search: SearchParams) -> None:
    """Refuse a search that cannot work, before any is begun.

    Args:
        name: key under ``methods``.
        entry: what stands there, without ``search``.
        search: what is asked for.
    """
    where = f"params.yaml: methods.{name}.search"
    recipe = resolve(name, entry)
    if recipe.init_from is not None:
        raise UserError(
            f"{where}: candidates are trained from scratch, but the entry has init_from; search "
            "an entry without it and copy what was found"
        )
    if isinstance(search, GenomeSearch):
        if genome_space(recipe.method) is None:
            raise UserError(
                f"{where}: {recipe.method.__name__} has no genome to evolve; name its options in "
                "search.space and take sampler tpe, random or grid"
            )
        if "genome" in entry:
            raise UserError(
                f"{where}: the genome is what is searched, but the entry has one; take it out"
            )
        return
    for option, value in _examples(search):
        if option in _FIXED:
            raise UserError(f"{where}.space: '{option}' cannot be searched; write several entries")
        try:
            resolve(name, {**entry, option: value})
        except UserError as error:
            sentence = str(error).removeprefix("params.yaml: ")
            raise UserError(f"{where}.space.{option}: {sentence}") from error


def _examples(search: SpaceSearch) -> Iterator[tuple[str, Any]]:
    for option, choices in search.space.items():
        values = [choices.low, choices.high] if isinstance(choices, Range) else choices
        yield from ((option, value) for value in values)
