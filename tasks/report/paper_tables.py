"""Tables as the papers of the field print them, in LaTeX or Markdown.

Bold are the best value of a column and every value that does not differ from it significantly
(paired bootstrap of groups that share people or dialogues, and seeds; Holm's correction over all
pairs of the column). Where a
corpus keeps the labels of its test part to itself, the scores are of validation, the caption says
that they were selected on these rows, and nothing is tested or bold.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from models.statistics.bootstrap import Resamples, compare_all, resample
from models.statistics.resampling import Resamplable, resamplable
from tasks.labels.card import read_card, rules_of
from tasks.labels.params import LabelsParams
from tasks.labels.scales import Scale
from tasks.layout import Layout
from tasks.report.paper_columns import Column, columns
from tasks.report.table_text import Cell, PaperTable
from tasks.report.tested import SELECTED, Rows, Tested, align, check_seeds, load_tested, read_places
from tasks.score_files import Cell as GridCell
from tasks.score_files import TargetScores
from tasks.tables.label_rows import labels_in
from tasks.tables.labels import LABELS
from tasks.tables.parquet import read_metadata, read_table

_TIES = (
    "Bold: the best and all that do not differ from it significantly (paired bootstrap of groups "
    "that share people or dialogues, and seeds; Holm's correction over all pairs)."
)
_UNTESTED = "Nothing is tested or bold."
_BEST = "Bold: the best as printed; average: plain mean over the rates."
#: Known of a corpus that lists labels in the order they were given.
_FIRST = "first_label_top3"
_UNIT = "Shares are in percent."
#: What papers print of sentiment with cells missing: weighted F1 of its sign.
_SIGNS = {"sentiment": ("f1_has0", "f1_non0")}


def paper_tables(
    layout: Layout,
    corpora: Mapping[str, Sequence[str]],
    *,
    resamples: int,
    seed: int,
    scales: Mapping[str, Mapping[str, Scale]] | None = None,
) -> list[PaperTable]:
    """Every table of every corpus.

    Args:
        layout: where the scores lie.
        corpora: corpus to its methods, the rows in their order.
        scales: corpus to the scale of each column's ratings, where declared.
        resamples: of the cluster bootstrap behind the ties.
        seed: of the bootstrap.
    """
    found = []
    for corpus, methods in corpora.items():
        tested, failed = load_tested(layout, corpus, methods)
        declared = (scales or {}).get(corpus, {})
        for target in dict.fromkeys(t for one in tested.values() for t in one.targets):
            mine = {m: one for m, one in tested.items() if target in one.targets}
            found += _scores(layout, corpus, target, mine, failed, declared, resamples, seed)
            metrics = (
                next(iter(mine.values())).targets[target]["headline"],
                *_SIGNS.get(target, ()),
            )
            found += [t for m in metrics if (t := _rates(corpus, target, m, mine, failed))]
    return found


def scales_of(layout: Layout, corpus: str, labels: LabelsParams) -> Mapping[str, Scale]:
    """Column to the scale that its ratings were given on, as the stage ``labels`` takes it."""
    return rules_of(labels, read_card(read_metadata(layout.annotations(corpus)))).scales


def _scores(
    layout: Layout,
    corpus: str,
    target: str,
    tested: Mapping[str, Tested],
    failed: Mapping[str, str],
    scales: Mapping[str, Scale],
    resamples: int,
    seed: int,
) -> list[PaperTable]:
    rows = align(target, tested, read_places(layout, corpus))
    check_seeds(rows, {m: one.where for m, one in tested.items()})
    first = next(iter(tested.values()))
    found, known = first.targets[target], first.scores(target)["metrics"]
    seeds, is_test = len(next(iter(rows.seeds.values()))), first.split(target) == "test"
    over = f"mean ± standard deviation over {seeds} seeds" if seeds > 1 else "one seed"
    tables = []
    firsts = _first_labels(layout, corpus, rows, found) if _FIRST in known else None
    for about, wanted in columns(target, found["kind"], found["names"], scales).items():
        shown = [column for column in wanted if column.metric in known]
        if not shown:
            continue
        cells: dict[str, list[Cell]] = {method: [] for method in tested}
        for column in shown:
            form = resamplable(column.metric, found["kind"], found["names"], rows.folds, firsts)
            found_cells = (
                _cells(column, form, rows, resamples, seed)
                if is_test
                else _selected_cells(column, form, rows)
            )
            for method, cell in found_cells.items():
                cells[method].append(cell)
        unit = f"{_UNIT} " if any(column.is_percent for column in shown) else ""
        caption = (
            f"{corpus}, {target}{', ' if about else ''}{about}: {over}, {len(rows.truth)} "
            f"{_utterances(first, target)}. {unit}{_TIES if is_test else _UNTESTED}"
        )
        headings = tuple(column.heading for column in shown)
        tables.append(PaperTable(caption, headings, _with_failed(cells, failed)))
    return tables


def _first_labels(layout: Layout, corpus: str, rows: Rows, target: TargetScores) -> np.ndarray:
    """(n,) place of the label that was listed first, 0 where a row has no label."""
    names = list(target["names"])
    listed = labels_in(read_table(LABELS, layout.labels(corpus)))
    place = pl.col("first_category").replace_strict(
        names, range(len(names)), default=0, return_dtype=pl.Int64
    )
    known = rows.ids.to_frame("utterance_id").join(
        listed, on="utterance_id", how="left", maintain_order="left"
    )
    return known.select(place).to_series().to_numpy()


def _utterances(one: Tested, target: str) -> str:
    hidden = f"VALIDATION utterances ({SELECTED}, no test score: the labels of test are hidden)"
    return "test utterances" if one.split(target) == "test" else hidden


def _cells(
    column: Column, form: Resamplable, rows: Rows, resamples: int, seed: int
) -> dict[str, Cell]:
    """One column: each method's value, bold if it is the best or does not differ from it."""
    drawn = resample(
        column.metric,
        form,
        rows.truth,
        rows.predictions,
        rows.clusters.codes,
        n_resamples=resamples,
        seed=seed,
    )
    tied = ties(drawn, is_higher_better=column.is_higher_better)
    return {
        method: Cell(_printed(values, column), method in tied)
        for method, values in drawn.estimates.items()
    }


def ties(drawn: Resamples, *, is_higher_better: bool) -> set[str]:
    """The best method and every one that does not differ from it.

    Which one is the best is found afterwards, so the correction is over all pairs: over those with
    the best alone, one of 10 equal methods would lose its bold in every eighth table.
    """
    means = {m: float(values.mean()) for m, values in drawn.estimates.items()}
    best = _best(means, is_higher_better)
    if best is None:
        return set()
    tests = [test for test in compare_all(drawn) if best in (test.first, test.second)]
    worse = {m for test in tests if test.is_significant() for m in (test.first, test.second)}
    return {m for m in means if math.isfinite(means[m])} - (worse - {best})


def _selected_cells(column: Column, form: Resamplable, rows: Rows) -> dict[str, Cell]:
    """One column of scores whose epochs were chosen on these rows: nothing is tested, or bold."""
    together, once = np.zeros(len(rows.truth), np.int64), np.ones((1, 1))
    found = {
        method: np.array([form.weighted(rows.truth, run, together, once)[0] for run in runs])
        for method, runs in rows.predictions.items()
    }
    return {method: Cell(_printed(values, column)) for method, values in found.items()}


def _printed(values: np.ndarray, column: Column) -> str:
    """Mean and standard deviation over seeds (S,)."""
    sd = float(values.std(ddof=1)) if len(values) > 1 else math.nan
    return _number(float(values.mean()), sd, column)


def _rates(
    corpus: str,
    target: str,
    metric: str,
    tested: Mapping[str, Tested],
    failed: Mapping[str, str],
) -> PaperTable | None:
    grids = {m: one.targets[target]["missing_rates"] for m, one in tested.items()}
    rates = sorted({rate for grid in grids.values() for rate in grid}, key=float)
    # cells are masked on test, so where its labels are hidden they have no score
    if not rates or any(one.split(target) != "test" for one in tested.values()):
        return None
    found = next(iter(tested.values())).targets[target]
    is_headline = metric == found["headline"]
    column = Column(metric, "", is_higher_better=not is_headline or found["higher_is_better"])
    if found["kind"] != "values" or not is_headline:
        column = Column(metric, "", 100.0, 2, column.is_higher_better, is_percent=True)
    if not is_headline:
        grids = {method: _of_metric(grid, metric) for method, grid in grids.items()}
        if not any(grids.values()):
            return None
    values = {method: [_mean(grid.get(rate)) for rate in rates] for method, grid in grids.items()}
    for line in values.values():
        line.append(sum(line) / len(line))
    cells: dict[str, list[Cell]] = {method: [] for method in grids}
    for index in range(len(rates) + 1):
        best = _best({m: line[index] for m, line in values.items()}, column.is_higher_better)
        printed = {m: _number(line[index], math.nan, column) for m, line in values.items()}
        for method, text in printed.items():
            cells[method].append(Cell(text, best is not None and text == printed[best]))
    unit = f"{_UNIT} " if column.is_percent else ""
    caption = (
        f"{corpus}, {target}: {metric} by share of missing cells, mean over seeds and "
        f"masks. {_over_masks(grids, column)}{unit}{_BEST}"
    )
    return PaperTable(caption, (*rates, "Average"), _with_failed(cells, failed))


def _of_metric(grid: Mapping[str, GridCell], metric: str) -> dict[str, GridCell]:
    """The cells with another metric in the headline's place."""
    return {
        rate: {**scores[metric]}
        for rate, cell in grid.items()
        if metric in (scores := cell.get("metrics", {}))
    }


def _over_masks(grids: Mapping[str, Mapping[str, GridCell]], column: Column) -> str:
    """How far masks move a score."""
    found = [cell.get("over_masks") for grid in grids.values() for cell in grid.values()]
    known = [value for value in found if value is not None]
    if not known:
        return ""
    return f"Standard deviation over masks: at most {_number(max(known), math.nan, column)}. "


def _mean(cell: GridCell | None) -> float:
    value = None if cell is None else cell["mean"]
    return math.nan if value is None else float(value)


def _best(values: Mapping[str, float], is_higher_better: bool) -> str | None:
    defined = {m: v for m, v in values.items() if math.isfinite(v)}
    if not defined:
        return None
    return max(defined, key=lambda m: defined[m] if is_higher_better else -defined[m])


def _number(value: float, sd: float, column: Column) -> str:
    if not math.isfinite(value):
        return "undefined"
    text = f"{value * column.scale:.{column.digits}f}"
    return text if math.isnan(sd) else f"{text} ± {sd * column.scale:.{column.digits}f}"


def _with_failed(
    cells: Mapping[str, Sequence[Cell]], failed: Mapping[str, str]
) -> tuple[tuple[str, tuple[Cell, ...]], ...]:
    width = max((len(row) for row in cells.values()), default=0)
    rows = [(method, tuple(row)) for method, row in cells.items()]
    rows += [(method, (Cell("failed"),) * width) for method in failed]
    return tuple(rows)
