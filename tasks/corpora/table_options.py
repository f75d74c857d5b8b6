"""What ``params.yaml`` may say of a table of the user's own: columns, labels, scales."""

from typing import Literal

from pydantic import Field, model_validator

from tasks.corpora.files import Options
from tasks.targets import FAMILIES, NUMBERS

#: What an utterance can be given.
TableField = Literal[
    "utterance",
    "dialogue",
    "turn",
    "speaker",
    "session",
    "media",
    "start_s",
    "end_s",
    "text",
    "language",
    "split",
    "region",
    "sex",
    "age",
    "dataset",
]


class TargetOptions(Options):
    """Where the judgements of one target stand.

    Attributes:
        column: the only column; its rater is ``released`` unless a column of raters is named.
        columns: one column for each rater: names of columns, or rater to column.
        name: what the long form calls this target; the target's own name by default.
        scale: lowest and highest value; required for numbers, never taken from the data.
        sign: -1 where the low end means "positive" or "active".
        separator: between the labels of a set in one field.
    """

    column: str | None = None
    columns: list[str] | dict[str, str] | None = None
    name: str | None = None
    scale: tuple[float, float] | None = None
    sign: Literal[1, -1] = 1
    separator: str = "|"

    def raters(self) -> dict[str, str]:
        """Rater to column; empty in the long form."""
        if self.column is not None:
            return {"released": self.column}
        if isinstance(self.columns, dict):
            return self.columns
        return {name: name for name in self.columns or ()}


class LabelOptions(Options):
    """Where the judgements stand: columns for each target, or one row for each judgement.

    Attributes:
        file: their file; the file of the utterances by default.
        utterance: column of ``file`` with the id of the utterance; as in ``columns`` by default.
        dialogue: column of ``file`` with the dialogue, where ids repeat between dialogues.
        rater: column with the name of the rater.
        target: long form: column that names the target.
        value: long form: column of numbers.
        label: long form: column of labels; the column ``value`` by default.
        targets: target to the place of its judgements.
    """

    file: str | None = None
    utterance: str | None = None
    dialogue: str | None = None
    rater: str | None = None
    target: str | None = None
    value: str | None = None
    label: str | None = None
    targets: dict[str, TargetOptions] = Field(default_factory=dict)

    @property
    def is_long(self) -> bool:
        """One row for each judgement."""
        return self.target is not None

    @model_validator(mode="after")
    def _check(self) -> "LabelOptions":
        if self.is_long and self.value is None and self.label is None:
            raise ValueError("the long form needs `value`, `label` or both: names of columns")
        if not self.is_long and (self.value or self.label):
            raise ValueError("`value` and `label` belong to the long form, which needs `target`")
        for name, target in self.targets.items():
            if name not in FAMILIES:
                raise ValueError(f"no target is called '{name}'; known: {', '.join(FAMILIES)}")
            given = [key for key in ("column", "columns") if getattr(target, key) is not None]
            if self.is_long and given:
                raise ValueError(f"{name}: `{given[0]}` belongs to the wide form; leave it out")
            if not self.is_long and len(given) != 1:
                raise ValueError(f"{name}: name its `column`, or its `columns` by rater")
            given_columns = target.columns or ()
            named = list(
                given_columns.values() if isinstance(given_columns, dict) else given_columns
            )
            twice = [column for column in named if named.count(column) > 1]
            if twice:
                raise ValueError(f"{name}: the column '{twice[0]}' is named for two raters")
            if self.rater is not None and target.columns is not None:
                raise ValueError(f"{name}: `columns` name raters already; leave `rater` out")
            if name in NUMBERS and target.scale is None:
                raise ValueError(f"{name}: declare its `scale`, such as [1, 5]")
            if not target.separator:
                raise ValueError(f"{name}: `separator` is empty; leave it out")
            if target.scale is not None and not target.scale[0] < target.scale[1]:
                raise ValueError(f"{name}: a scale is [lowest, highest]")
        return self


class ExpectedOptions(Options):
    """Counts that the table should have; others are reported."""

    utterances: int | None = None
    dialogues: int | None = None


class TableOptions(Options):
    """How a table of the user's own is read.

    Attributes:
        file: ``.csv``, ``.tsv``, ``.parquet``, ``.jsonl`` or ``.ndjson``, in the corpus's folder.
        columns: our field to the table's column; ``utterance`` is required. ``region`` may name
            four columns. Without ``dialogue`` each utterance stands alone, without ``turn`` the
            order of the rows counts.
        constants: our field to one value for all rows.
        media: pattern of the media path around the field, such as ``wav/{}.wav``.
        splits: the table's word for a split to train, validation or test.
        delimiter: of a text table; comma, or tab for ``.tsv``.
        encoding: of a text table.
        labels: where the judgements stand.
        label_map: raw label to category; to null sets it aside on purpose.
        expected: counts to check.
        citation: for the report.
        licence: for the report.
    """

    file: str
    columns: dict[TableField, str | list[str]]
    constants: dict[Literal["speaker", "session", "language", "split", "dataset"], str] = Field(
        default_factory=dict
    )
    media: str = "{}"
    splits: dict[str, Literal["train", "validation", "test"]] = Field(default_factory=dict)
    delimiter: str | None = Field(None, min_length=1, max_length=1)
    encoding: str = "utf-8"
    labels: LabelOptions = LabelOptions()
    label_map: dict[str, str | None] | None = None
    expected: ExpectedOptions = ExpectedOptions()
    citation: str = ""
    licence: str = ""

    @model_validator(mode="after")
    def _check(self) -> "TableOptions":
        if "utterance" not in self.columns:
            raise ValueError("columns needs `utterance`, the column with the ids")
        for field, column in self.columns.items():
            if isinstance(column, list) and not (field == "region" and len(column) == 4):
                raise ValueError(f"columns.{field}: name one column (four only for region)")
        both = sorted(set(self.columns) & set(self.constants))
        if both:
            raise ValueError(f"{both[0]} is both in columns and in constants; keep one")
        if self.media.count("{}") != 1:
            raise ValueError("media needs {} once, where the field's value goes")
        return self
