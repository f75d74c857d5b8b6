"""Where things lie for whoever calls from anywhere: in a project, or outside of any."""

import os
from pathlib import Path

from models.errors import UserError
from tasks.layout import Layout, find_root


def layout_of(root: Path) -> Layout:
    """That of the project in a folder, whatever folder is the current one."""
    cache = os.environ.get("AFFECTLOOM_CACHE") or root / ".cache" / "affectloom"
    return Layout(root=root / "data", cache=Path(cache).resolve(), project=root)


def layout_outside() -> Layout:
    """One in the user's cache folder, for models that were given away: no project is needed."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    cache = Path(os.environ.get("AFFECTLOOM_CACHE") or Path(home) / "affectloom").resolve()
    return Layout(root=cache / "data", cache=cache, project=cache)


def layout_for(folder: str | Path | None = None) -> Layout:
    """That of the project around a folder where there is one.

    Args:
        folder: has to be in a project where it is given; default: the current one.
    """
    if folder is not None:
        return layout_of(find_root(Path(folder).expanduser()))
    try:
        return layout_of(find_root())
    except UserError:  # no project here
        return layout_outside()
