"""What the two names given to ``affectloom compare`` mean: a method, a run folder or a revision.

linear                 the method as it stands in this working tree
meld/linear            the same, when several corpora have it
data/runs/meld/linear/seed0      one run, or all runs below a folder
main, HEAD~1, exp-name           everything as of a git revision or DVC experiment
HEAD~1:linear, v1:meld/linear    one method as of a revision
"""

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import polars as pl
import yaml

from models.errors import UserError, hint
from tasks.clusters import COLUMNS
from tasks.dvc_lock import Locked, decoded, read_lock
from tasks.layout import Layout
from tasks.report.tested import Tested, check_tested
from tasks.selection import methods_of
from tasks.tables.parquet import files_of

#: Path to content, or None where it does not exist.
Reader = Callable[[Path], bytes | None]
#: Path of a table to its files, none where it does not exist.
Lister = Callable[[Path], list[Path]]


@dataclass(frozen=True)
class Ref:
    """One of the two things to compare; ``corpus`` and ``method`` are None where all are meant.

    Attributes:
        label: as the user wrote it.
        read: reads a file of the project as of then.
        layout: where its files lie.
        corpus: restricts to this corpus.
        method: restricts to this method.
        seeds: restricts to these seeds.
        targets: restricts to these targets.
        files: finds the files of a table as of then.
    """

    label: str
    read: Reader
    layout: Layout
    corpus: str | None = None
    method: str | None = None
    seeds: tuple[int, ...] | None = None
    targets: tuple[str, ...] | None = None
    files: Lister = files_of

    def params(self) -> dict:
        """Content of params.yaml as of then."""
        found = self.read(Path("params.yaml"))
        if found is None:
            raise UserError(
                f"{self.label}: there is no params.yaml, so it is no affectloom project"
            )
        return yaml.safe_load(found) or {}

    def methods(self) -> list[tuple[str, str]]:
        """Every (corpus, method) that is meant."""
        raw = self.params()
        return [
            (corpus, method)
            for corpus in raw.get("corpora") or {}
            for method in methods_of(raw, corpus)
            if self.corpus in (None, corpus) and self.method in (None, method)
        ]

    def tested(self, corpus: str, method: str) -> Tested:
        """Details and predictions of one method as of then, restricted to the seeds."""
        where = f"{self.label}: {self.layout.predictions(corpus, method)}"
        details, table = (
            self.read(file)
            for file in (
                self.layout.details(corpus, method),
                self.layout.predictions(corpus, method),
            )
        )
        if details is None or table is None:
            raise UserError(f"{where} does not exist; run stage evaluate@{corpus}-{method} first")
        one = check_tested(json.loads(details), pl.read_parquet(io.BytesIO(table)), None, where)
        if self.seeds is None:
            return one
        kept, validation = (
            rows.filter(pl.col("seed").is_in(self.seeds)) for rows in (one.table, one.validation)
        )
        missing = sorted(set(self.seeds) - set(kept.get_column("seed")))
        if missing:
            raise UserError(f"{where} has no predictions of seed {missing[0]}; run stage evaluate")
        return Tested(one.details, kept, where, validation)

    def places(self, corpus: str) -> pl.DataFrame:
        """utterance_id, dialogue_id and speaker of every utterance as of then."""
        table = self.layout.utterances(corpus)
        found = [self.read(file) for file in self.files(table)]
        parts = [pl.read_parquet(io.BytesIO(part), columns=list(COLUMNS)) for part in found if part]
        if not parts:
            raise UserError(f"{self.label}: {table} does not exist")
        return pl.concat(parts)

    def lock(self) -> dict[str, Locked]:
        """dvc.lock as of then."""
        found = self.read(Path("dvc.lock"))
        return read_lock(decoded(found, f"{self.label}: dvc.lock")) if found else {}

    def options(self, corpus: str, method: str, targets: Sequence[str]) -> dict:
        """All options of a training, defaults included, as its first report.json has them."""
        folder = self.layout.runs(corpus, method)
        for seed in self.seeds or range(100):
            for name in (*targets, "+".join(targets)):
                found = self.read(folder / f"seed{seed}" / name / "report.json")
                if found is not None:
                    report = json.loads(found)
                    return {k: report[k] for k in ("method_options", "training", "inputs")}
        return {}


def _read_here(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def resolve(layout: Layout, text: str) -> Ref:
    """The meaning of one name."""
    here = Ref(text, _read_here, layout)
    if Path(text).is_dir() and next(Path(text).rglob("report.json"), None):
        return _run_folder(layout, text)
    if found := _named(text, here):
        return found
    revision, colon, name = text.partition(":")
    readers = _readers_at(revision)
    if readers is None:
        _unknown(text, here)
    there = Ref(text, readers[0], layout, files=readers[1])
    if not colon:
        return there
    if found := _named(name, there):
        return found
    known = ", ".join(sorted({method for _, method in there.methods()})) or "none"
    raise UserError(f"{revision} has no method '{name}'; its methods: {known}")


def _named(text: str, ref: Ref) -> Ref | None:
    corpus, slash, method = text.rpartition("/")
    known = ref.methods()
    if slash and (corpus, method) in known:
        return Ref(ref.label, ref.read, ref.layout, corpus, method)
    if not slash and any(method == m for _, m in known):
        return Ref(ref.label, ref.read, ref.layout, None, method)
    return None


def _run_folder(layout: Layout, text: str) -> Ref:
    folder = Path(text)
    reports = [json.loads(f.read_text()) for f in sorted(folder.rglob("report.json"))]
    found = {(report["corpus"], report["method"]) for report in reports}
    if len(found) > 1:
        raise UserError(f"{text} holds runs of several methods; name the folder of one")
    corpus, method = found.pop()
    if not folder.resolve().is_relative_to(layout.runs(corpus, method).resolve()):
        raise UserError(
            f"{text} lies outside {layout.runs(corpus, method)}, so its predictions are not known "
            "here; name a run of this project or a git revision"
        )
    seeds = tuple(sorted({report["seed"] for report in reports}))
    targets = tuple(dict.fromkeys(t["name"] for report in reports for t in report["targets"]))
    return Ref(text, _read_here, layout, corpus, method, seeds, targets)


def _readers_at(revision: str) -> tuple[Reader, Lister] | None:
    """What reads the project as of a revision; None if there is no such revision."""
    from dvc.api import DVCFileSystem
    from dvc.exceptions import DvcException
    from dvc.scm import SCMError

    try:
        files = DVCFileSystem(".", rev=revision)
        is_project = files.exists("params.yaml")
    except (DvcException, SCMError):
        return None
    if not is_project:  # what DVC also says of a revision that does not exist
        return None

    def read(path: Path) -> bytes | None:
        if not files.exists(str(path)):
            return None
        try:
            found = files.read_bytes(str(path))
        except (DvcException, OSError) as error:
            raise UserError(
                f"{revision}: {path} is in neither DVC's cache nor a remote ({error}); "
                f"`dvc fetch --rev {revision}` or `git checkout {revision}` and `dvc repro` "
                "bring it back"
            ) from error
        return found.encode() if isinstance(found, str) else found

    def listed(path: Path) -> list[Path]:
        if files.isdir(str(path)):
            names = files.ls(str(path), detail=False)
            return sorted(path / Path(name).name for name in names if name.endswith(".parquet"))
        return [path] * files.exists(str(path))

    return read, listed


def _unknown(text: str, here: Ref) -> NoReturn:
    names = sorted({m for _, m in here.methods()})
    known = f"methods: {', '.join(names) or 'none'}"
    near = hint(text.rpartition("/")[2], names, known)
    raise UserError(f"'{text}' is no method, run folder or git revision; {near}")
