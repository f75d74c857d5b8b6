"""Which of our files a module runs: its transitive first-party imports, read from the AST."""

import ast
import os
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

PACKAGES = ("flows", "tasks", "models")
#: Who steers and computes nothing: where files lie, which stages there are, how they are asked.
#: A path or a stage that is added changes no result, so no stage depends on these files.
STEERING = frozenset(
    Path("tasks", f"{name}.py") for name in ("layout", "params/model", "stages", "wiring")
)


def closure(modules: Iterable[str], root: Path) -> list[Path]:
    """Files that ``modules`` run, themselves included, relative to ``root`` and sorted.

    Imports under ``if TYPE_CHECKING`` do not run and do not count; package files that hold only a
    docstring do nothing and do not count either. What a module hands on unread, as scripts of a
    page, lies beside it in a folder named after it and belongs to it: ``page_assets`` to ``page``.
    """
    found: dict[Path, None] = {}
    waiting = [file_of(module, root) for module in modules]
    while waiting:
        file = waiting.pop()
        if file is None or file in found or file in STEERING:
            continue
        found[file] = None
        waiting += [file_of(name, root) for name in imports(root / file)]
    code = [file for file in found if not holds_nothing(root / file)]
    return sorted([*code, *(asset for file in code for asset in _assets(file, root))])


def _assets(file: Path, root: Path) -> list[Path]:
    folder = file.with_name(f"{file.stem}_assets")
    return [one.relative_to(root) for one in (root / folder).rglob("*") if one.is_file()]


def imports(file: Path) -> list[str]:
    """Dotted names of first-party modules that ``file`` imports when it runs."""
    return list(_parsed(file, file.stat().st_mtime_ns)[0])


def holds_nothing(file: Path) -> bool:
    """True for a file with nothing but a docstring."""
    return _parsed(file, file.stat().st_mtime_ns)[1]


@lru_cache(maxsize=4096)
def _parsed(file: Path, _modified: int) -> tuple[tuple[str, ...], bool]:
    """What a file imports, and whether it holds nothing but a docstring."""
    body = ast.parse(file.read_text(encoding="utf-8")).body
    names: dict[str, None] = {}
    for node in _running(body):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            # ``from package import module`` names a module as well as ``from module import name``
            found = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        names.update(dict.fromkeys(n for n in found if n.split(".")[0] in PACKAGES))
    is_empty = all(isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant) for n in body)
    return tuple(names), is_empty


def _running(body: Iterable[ast.AST]) -> Iterable[ast.AST]:
    """Statements that run, inner ones too; expressions hold no import, so none is looked into."""
    for node in body:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from _running(node.orelse)
            continue
        yield node
        for part in ("body", "orelse", "finalbody", "handlers", "cases"):
            yield from _running(getattr(node, part, ()))


def file_of(module: str, root: Path) -> Path | None:
    """The file of a dotted module, relative to ``root``; None without one."""
    base = module.replace(".", "/")
    for file in (f"{base}.py", f"{base}/__init__.py"):
        if os.path.exists(f"{root}/{file}"):  # asked ten thousand times: no path objects
            return Path(file)
    return None
