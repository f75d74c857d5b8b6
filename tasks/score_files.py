"""What the files of scores hold: details of a method, scores on other corpora, the leaderboard.

The types are for whoever writes or reads such a file and for the type checker: in memory the
contents are the dictionaries that JSON gives. Metrics that are undefined are null.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NotRequired, TypedDict

from models.metrics.scoring import Kind


class Spread(TypedDict):
    """Mean and sample standard deviation over seeds."""

    mean: float | None
    std: float | None


class Oracle(Spread):
    """The headline metric of epochs chosen on test, and how many there were to choose from."""

    epochs_tried: int


class Cell(Spread):
    """The headline metric with cells hidden, and every other metric: means over masks.

    Attributes:
        metrics: every metric; ``std`` is over seeds, here as everywhere.
        over_masks: standard deviation of the headline over masks, mean over seeds; absent where all
            masks hide the same.
    """

    metrics: NotRequired[dict[str, Spread]]
    over_masks: NotRequired[float | None]


class Bins(TypedDict):
    """Bins of confidence with their accuracy, and the error rate of the most confident rows."""

    count: list[int]
    confidence: list[float | None]
    accuracy: list[float | None]
    risk: list[float | None]


class Reliability(TypedDict, total=False):
    """Bins of the probabilities as predicted, and by temperature where there is one."""

    raw: Bins
    calibrated: Bins


class SplitScores(TypedDict):
    """Scores of a target on one split.

    Attributes:
        n: rows with a label.
        metrics: over seeds.
        by_seed: seed to every metric.
        undefined: seed to the metrics without a value, and why.
        derived: labels that nobody gave, and that are not scored.
        kinds: of values: how many of the scored labels raters gave, and how many the speakers.
        reliability: of the classes on test.
    """

    n: int
    metrics: dict[str, Spread]
    by_seed: dict[str, dict[str, float | None]]
    undefined: dict[str, dict[str, str]]
    derived: NotRequired[int]
    kinds: NotRequired[dict[str, int]]
    reliability: NotRequired[Reliability]


class TargetScores(TypedDict):
    """What a target is, and its scores on the splits of which some row has a label."""

    headline: str
    higher_is_better: bool
    kind: Kind
    names: list[str]
    validation: NotRequired[SplitScores]
    test: NotRequired[SplitScores]


class TargetDetails(TargetScores):
    """The same with what was found beside the plain scores.

    Attributes:
        subsets: modalities that were left, joined by ``+``, to scores.
        missing_rates: share of cells that were hidden to scores.
        test_oracle: None where no epoch was kept beside the chosen one.
    """

    subsets: dict[str, Cell]
    missing_rates: dict[str, Cell]
    test_oracle: Oracle | None


class RunDetails(TypedDict):
    """One network, as its ``report.json`` describes it."""

    seed: int
    fold: int
    targets: list[str]
    history: list[dict[str, float]]
    parameters: int
    chosen_epoch: int
    validation_score: float
    stopped_early: bool
    rows: dict[str, int]
    data: dict[str, str]


class Details(TypedDict):
    """Content of ``<method>.details.json``."""

    corpus: str
    method: str
    convention: NotRequired[str]
    libraries: dict[str, str]
    targets: dict[str, TargetDetails]
    runs: list[RunDetails]


class Curve(TypedDict):
    """Shares of rows whose absolute error is at most 0, ``step``, twice ``step``, ..."""

    step: float
    shares: list[float]


class TransferTarget(TypedDict):
    """Scores of one target on another corpus; without interval where no row has a shared label."""

    headline: str
    higher_is_better: bool
    kind: Kind
    names: list[str]
    only_trained: list[str]
    only_tested: list[str]
    n: int
    rows_left_out: int
    networks: int
    metrics: dict[str, Spread]
    remark: str
    coverage: NotRequired[dict[str, Curve]]
    ci_low: NotRequired[float | None]
    ci_high: NotRequired[float | None]
    n_dialogues: NotRequired[int]
    n_clusters: NotRequired[int]


class Transfer(TypedDict):
    """What the stage ``transfer`` writes.

    Attributes:
        unshared: targets that the other corpus cannot test, and why.
        shared_media: test rows whose media the networks' own corpus holds too.
    """

    trained_on: str
    tested_on: str
    method: str
    convention: str
    libraries: dict[str, str]
    targets: dict[str, TransferTarget]
    unshared: dict[str, str]
    shared_media: int


class TransferCell(TypedDict):
    """One method on one target of another corpus: a score, or the ``reason`` why there is none."""

    method: str
    trained_on: str
    tested_on: str
    target: str | None
    reason: NotRequired[str]
    metric: NotRequired[str]
    mean: NotRequired[float | None]
    std: NotRequired[float | None]
    higher_is_better: NotRequired[bool]
    ci_low: NotRequired[float | None]
    ci_high: NotRequired[float | None]
    n: NotRequired[int]
    n_dialogues: NotRequired[int]
    networks: NotRequired[int]
    names: NotRequired[list[str]]
    only_trained: NotRequired[list[str]]
    only_tested: NotRequired[list[str]]
    rows_left_out: NotRequired[int]
    remark: NotRequired[str]
    shared_media: NotRequired[int]


class CurvesAcross(TypedDict):
    """Coverage of a method's absolute errors on another corpus, by dimension."""

    method: str
    trained_on: str
    tested_on: str
    target: str
    curves: dict[str, Curve]


class HeadlineScore(Spread):
    """The metric that ranks, with its interval; null where the score was selected."""

    name: str
    ci_low: float | None
    ci_high: float | None


class Against(TypedDict):
    """The paired test of a method against one ranked below it."""

    method: str
    difference: float | None
    ci_low: float | None
    ci_high: float | None
    p_holm: float | None
    significant: bool
    seeds_needed: int | None
    verdict: str


class Entry(TypedDict):
    """One method on one target, as ``leaderboard.json`` has it.

    Attributes:
        rank: from 1; None where the method failed.
        selected: the split took part in choosing the epoch.
        metric: the headline metric.
        metrics: every metric.
        all_rows: the headline metric over the rows of all folds, where it is a mean over folds.
        n: rows that were scored.
        n_test: the same, 0 where the labels of test are hidden.
        clustered_by: what intervals and tests draw together.
        significant_vs_next: the paired test against the next rank.
        validation: the headline metric on validation.
        ensemble: the headline metric of the mean prediction over seeds.
        parameters: of the largest network.
        against: every method ranked below.
        failed: why there is no score.
    """

    method: str
    rank: int | None
    split: str
    selected: bool
    metric: HeadlineScore
    metrics: dict[str, Spread]
    all_rows: float | None
    seeds: int
    n: int
    n_test: int
    n_dialogues: int
    n_clusters: int
    clustered_by: str
    significant_vs_next: bool
    verdict: str
    validation: Spread | None
    test_oracle: Oracle | None
    ensemble: float | None
    parameters: int | None
    remark: str
    against: list[Against]
    failed: NotRequired[str]


#: Clips of a stage by status, with ``reasons``; or why the stage is ``unfinished``.
Account = dict[str, int | str | dict[str, int]]


class Provenance(TypedDict):
    """What the numbers of the leaderboard were made from.

    Attributes:
        cross_corpus: scores on other corpora, where there are any.
        judged: corpus/method to a short hash of its scores.
        parameters: params.yaml but for how it is executed.
        encoders: name to what its features say of it.
        versions: of the libraries that computed features.
        clips: corpus to stage to what became of the clips.
    """

    cross_corpus: NotRequired[list[TransferCell]]
    judged: dict[str, str]
    convention: str
    parameters: dict[str, Any]
    encoders: dict[str, dict[str, str]]
    versions: dict[str, str]
    clips: dict[str, dict[str, Account]]


@dataclass(frozen=True)
class Board:
    """The leaderboard.

    Attributes:
        corpora: corpus to target to entries, best first.
        provenance: what they were made from.
    """

    corpora: Mapping[str, Mapping[str, list[Entry]]]
    provenance: Provenance

    def to_json(self) -> dict[str, Any]:
        """Content of ``leaderboard.json``."""
        return {**self.corpora, "provenance": self.provenance}

    @classmethod
    def of_json(cls, content: Mapping[str, Any]) -> "Board":
        """The leaderboard of what ``to_json`` made."""
        corpora = {name: found for name, found in content.items() if name != "provenance"}
        return cls(corpora, content["provenance"])
