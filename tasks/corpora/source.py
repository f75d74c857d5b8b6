"""What adapters of recorded corpora share: options, file lists, CSV files, quarantine rows."""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

import polars as pl

from models.errors import UserError
from tasks.tables.quarantine import QUARANTINE

#: Folders that this project makes itself below a corpus's folder.
IMAGES, IMPORTS = "affectloom_images", "imported"


def choose(
    adapter: str,
    options: Mapping[str, object],
    choices: Mapping[str, Sequence[object]],
) -> dict[str, object]:
    """Options with defaults: the first of each one's choices; unknown names or values are errors.

    Args:
        adapter: who to name in an error.
        options: what ``params.yaml`` says.
        choices: option to its allowed values, the default first.
    """
    for name, value in options.items():
        if name not in choices:
            known = ", ".join(choices) or "none"
            raise UserError(
                f"params.yaml: the adapter {adapter} has no option '{name}'; options: {known}"
            )
        if value not in choices[name]:
            raise UserError(
                f"params.yaml: option {name} of adapter {adapter} is {value!r}; "
                f"choose one of {', '.join(map(str, choices[name]))}"
            )
    return {name: options.get(name, allowed[0]) for name, allowed in choices.items()}


def list_files(root: Path, suffixes: Iterable[str]) -> list[str]:
    """Files below ``root`` with one of ``suffixes``, as sorted relative paths with ``/``.

    Links to folders are followed; hidden files and what this project made are left out.
    """
    wanted = tuple(suffixes)
    found = []
    for folder, folders, names in os.walk(root, followlinks=True):
        folders[:] = sorted(f for f in folders if f[0] != "." and f not in (IMAGES, IMPORTS))
        place = PurePosixPath(Path(folder).relative_to(root).as_posix())
        found += [
            str(place / name) for name in names if name.lower().endswith(wanted) and name[0] != "."
        ]
    return sorted(found)


def with_stems(files: Sequence[str]) -> pl.DataFrame:
    """Columns media (relative path), folder (its last folder), stem and suffix."""
    frame = pl.DataFrame({"media": list(files)}, schema={"media": pl.String})
    name = pl.col("media").str.split("/").list.last()
    return frame.with_columns(
        folder=pl.col("media").str.split("/").list.get(-2, null_on_oob=True),
        stem=name.str.replace(r"\.[^.]*$", ""),
        suffix=name.str.extract(r"(\.[^.]*)$").str.to_lowercase(),
    )


def read_csv(
    path: Path, columns: Sequence[str], remedy: str, optional: Sequence[str] = ()
) -> pl.DataFrame:
    """A CSV file as text with column ``line``, the row's line number where no cell holds a break.

    Names are matched whatever their case and spaces around them; other columns are left out, and
    absent optional ones are null. Cells are stripped; empty cells are null.

    Args:
        path: the file.
        columns: names that must be there.
        remedy: what to do when it is not such a file.
        optional: names that may be there.
    """
    if not path.is_file():
        raise UserError(f"{path} does not exist; {remedy}")
    try:
        frame = pl.read_csv(path, infer_schema=False, encoding="utf8-lossy")
    except pl.exceptions.PolarsError as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path}: not a readable CSV file ({reason}); {remedy}") from error
    by_name = {name.strip().strip("\ufeff").lower(): name for name in reversed(frame.columns)}
    missing = [name for name in columns if name.lower() not in by_name]
    if missing:
        raise UserError(f"{path}: lacks column {missing[0]}; {remedy}")
    picked = [
        (
            pl.col(by_name[name.lower()]).str.strip_chars()
            if name.lower() in by_name
            else pl.lit(None, pl.String)
        ).alias(name)
        for name in (*columns, *optional)
    ]
    table = frame.select(picked).with_columns(
        pl.when(pl.col(pl.String) != "").then(pl.col(pl.String))
    )
    # polars 2.1 panics in pl.format over a filtered column whose table has uneven chunks
    return table.with_row_index("line", offset=2).rechunk()


def aside(rows: pl.DataFrame, where: pl.Expr, reason: str, detail: pl.Expr) -> pl.DataFrame:
    """Quarantine rows of files or lines that have no usable id.

    Args:
        rows: one for each.
        where: the file, or file and line.
        reason: the typed reason.
        detail: one sentence with the remedy.
    """
    return rows.select(
        utterance_id=pl.format("?/{}", where),
        stage=pl.lit("ingest"),
        reason=pl.lit(reason),
        detail=detail,
    ).select(list(QUARANTINE.columns))


def single(name: pl.Expr) -> list[pl.Expr]:
    """Ids of recordings that belong to no dialogue: each is a dialogue of one turn."""
    return [
        pl.format("{}/0", name).alias("utterance_id"),
        name.alias("dialogue_id"),
        pl.lit(0, pl.Int32).alias("turn"),
    ]


def best_media(rows: pl.DataFrame, key: str, rank: pl.Expr) -> tuple[pl.DataFrame, pl.DataFrame]:
    """One file of each recording, and files that stand there twice under one name.

    Args:
        rows: columns media, stem and ``key``.
        key: names the recording; several files may show it.
        rank: smallest is taken; null for files that are not wanted.
    """
    rows = rows.with_columns(rank=rank).filter(pl.col("rank").is_not_null())
    rows = rows.sort(key, "rank", "media")
    again = pl.struct("stem", "rank").is_first_distinct()
    return rows.filter(again).unique(key, keep="first", maintain_order=True), rows.filter(~again)
