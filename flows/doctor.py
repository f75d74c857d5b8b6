"""``affectloom doctor``: what is wrong with this machine or this clone, and how to mend it."""

import importlib
import json
import re
import sys
from pathlib import Path

from flows import graph, machine
from flows.machine import Finding
from flows.prefect.home import api_url, has_api
from flows.settings import read_params, read_whole
from models.errors import UserError
from tasks.layout import default_cache
from tasks.media.confined import missing_walls


def examine(root: Path, fix: bool = False) -> list[Finding]:
    """Look at everything; with ``fix``, drop dead locks and leftovers and rewrite dvc.yaml."""
    return [
        _python(),
        _libraries(),
        _server_imports(),
        _params(root),
        _dvc_yaml(root, fix),
        _dead_locks(root, fix),
        _leftovers(root, fix),
        _prefect(),
        *machine.all_of(root),
        _numerics(),
        _decoders(),
    ]


def _python() -> Finding:
    found, is_ok = sys.version.split()[0], sys.version_info >= (3, 11)
    return Finding("python", is_ok, found, "" if is_ok else "set PYTHON to 3.11 or newer for make")


def _libraries() -> Finding:
    broken = []
    for name in ("av", "cv2", "torch", "torchaudio", "transformers", "polars", "pyarrow", "dvc"):
        try:
            importlib.import_module(name)
        except Exception as error:  # whatever a broken library raises is what we report
            broken.append(f"{name} ({error})")
    if broken:
        return Finding("libraries", False, f"cannot import {'; '.join(broken)}", "run `make setup`")
    return Finding("libraries", True, "all import")


def _server_imports() -> Finding:
    try:
        importlib.import_module("prefect.server.api.server")
    except Exception as error:  # a wrong fastapi raises TypeError, others may raise anything
        return Finding(
            "prefect server", False, f"does not import ({error})", "run `make setup` for the pins"
        )
    return Finding("prefect server", True, "imports")


def _params(root: Path) -> Finding:
    try:
        params = read_whole(root)
        params.check_everything()
    except UserError as error:
        return Finding("params.yaml", False, str(error))
    return Finding("params.yaml", True, "every key is known")


def _dvc_yaml(root: Path, fix: bool) -> Finding:
    try:
        raw = read_params(root).raw
        if not graph.out_of_step(graph.render(raw, root), root):
            return Finding("dvc.yaml", True, "in step with params.yaml and the code")
        if fix:
            graph.sync(raw, root)
            return Finding("dvc.yaml", True, "rewritten")
    except UserError as error:
        return Finding("dvc.yaml", False, str(error))
    return Finding("dvc.yaml", False, "out of step with params.yaml", "run `affectloom sync`")


def _dead_locks(root: Path, fix: bool) -> Finding:
    """Entries of DVC's lock file whose process is gone, or is no longer a DVC process."""
    file = root / ".dvc" / "tmp" / "rwlock"
    if not file.exists() or not file.read_text().strip():
        return Finding("locks", True, "none held")
    try:
        held = json.loads(file.read_text())  # {"read": {path: [holder]}, "write": {path: holder}}
    except ValueError:
        if fix:
            file.unlink()
            return Finding("locks", True, f"{file} was broken and is removed")
        return Finding("locks", False, f"{file} is broken", "`doctor --fix` removes it")
    kept: dict[str, dict[str, object]] = {"read": {}, "write": {}}
    total = dead = 0
    for kind, paths_held in held.items():
        for path, holders in paths_held.items():
            found = holders if isinstance(holders, list) else [holders]
            alive = [holder for holder in found if _is_dvc(holder["pid"])]
            total, dead = total + len(found), dead + len(found) - len(alive)
            if alive:
                kept[kind][path] = alive if isinstance(holders, list) else alive[0]
    if not dead:
        return Finding("locks", True, f"{total} held by running processes" if total else "none")
    if fix:
        file.write_text(json.dumps({kind: found for kind, found in kept.items() if found}))
        return Finding("locks", True, f"{dead} left by killed processes were dropped")
    return Finding("locks", False, f"{dead} left by killed processes", "`doctor --fix` drops them")


def _is_dvc(pid: int) -> bool:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return b"dvc" in command


def _leftovers(root: Path, fix: bool) -> Finding:
    """Temporary files of processes that were killed while writing."""
    found = [
        file
        for folder in (root / "data", default_cache())
        if folder.exists()
        for file in folder.rglob(".*.tmp")
    ]
    if fix:
        for file in found:
            file.unlink()
        return Finding("leftovers", True, f"{len(found)} removed")
    detail = f"{len(found)} temporary files of killed runs; `doctor --fix` removes them"
    return Finding("leftovers", True, detail if found else "none")


def _public(url: str) -> str:
    """An address without the name and password that may stand in it."""
    return re.sub(r"//[^/@]*@", "//", url)


def _prefect() -> Finding:
    if has_api():
        return Finding("prefect API", True, f"answers at {_public(api_url())}")
    where = f" at {_public(api_url())}" if api_url() else ""
    return Finding("prefect API", True, f"none{where}; `affectloom ui` starts one")


def _numerics() -> Finding:
    """How the processor computes bfloat16 where torch was seen to go wrong on some with AMX."""
    try:
        hidden = importlib.import_module("models.encoders.hidden")
    except Exception as error:  # whatever a broken library raises; "libraries" says it too
        return Finding("numerics", False, f"torch does not import ({error})", "run `make setup`")
    dtype, error = hidden.best_dtype(), hidden.narrow_error()
    detail = f"encoders with `dtype: auto` compute in {dtype}"
    if error > 0.05:
        detail += (
            f"; bfloat16 convolutions of few channels are wrong here (off by {error:.2g}), so they "
            "and encoders that a check finds wrong compute in float32"
        )
    return Finding("numerics", True, detail)


def _decoders() -> Finding:
    """Whether processes that read media from strangers can give up writing and the network."""
    missing = missing_walls()
    if missing:
        return Finding("decoders", True, f"this machine lacks {'; '.join(missing)}")
    return Finding("decoders", True, "can neither write files, nor open sockets, nor run programs")
