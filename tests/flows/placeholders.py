"""A copy of the code whose outs are placeholders that DVC believes to be up to date."""

import contextlib
import shutil
from pathlib import Path

from dvc.repo import Repo

from flows import graph
from tests.places import ROOT


def make_project(root: Path, params: str) -> Path:
    """The project in ``root`` with ``params`` for params.yaml; nothing in it is stale."""
    for package in ("flows", "tasks", "models"):
        shutil.copytree(
            ROOT / package, root / package, ignore=shutil.ignore_patterns("__pycache__", "*.tmp")
        )
    (root / ".dvcignore").write_text((ROOT / ".dvcignore").read_text())
    (root / "params.yaml").write_text(params)
    graph.sync(graph.read_raw_params(root), root)
    with Repo.init(str(root), no_scm=True) as repo:
        outs = {out.fs_path: stage.addressing for stage in repo.index.stages for out in stage.outs}
        for name, made_by in outs.items():
            _write(Path(name), f"placeholder of {made_by}")
        named = {d.def_path for stage in repo.index.stages for d in stage.deps}
        for folder in sorted(root / path for path in named if path.startswith(_GIVEN)):
            if not folder.exists():
                _write(folder, folder.name)
        with contextlib.chdir(root):
            repo.commit(force=True)
    return root


#: Folders that no stage of the project makes, or that are parts of an out.
_GIVEN = ("data/checkpoints/", "data/raw/")


def _write(path: Path, text: str) -> None:
    if path.suffix:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    else:
        path.mkdir(parents=True, exist_ok=True)
        (path / "placeholder").write_text(text)
