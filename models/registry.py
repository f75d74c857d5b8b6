"""What lies in the folders whose modules are reached by name: methods, plug-ins, encoder families.

Names are told from files, without importing networks. A method is a file of its name, or a folder
of its name whose ``method.py`` holds it.
"""

import ast
import importlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Literal

Kind = Literal["methods", "plugins", "encoders"]

#: The project's folder.
ROOT = Path(__file__).resolve().parent.parent


def names(kind: Kind, root: Path = ROOT) -> list[str]:
    """Every name there is."""
    folder = root / "models" / kind
    files = [file.stem for file in folder.glob("[a-z]*.py")]
    return sorted([*files, *(file.parent.name for file in folder.glob("[a-z]*/method.py"))])


def source(kind: Kind, name: str, root: Path = ROOT) -> Path:
    """The file that holds ``name``, whether or not it exists."""
    folder = root / "models" / kind
    package = folder / name / "method.py"
    return package if package.exists() else folder / f"{name}.py"


def module_name(kind: Kind, name: str, root: Path = ROOT) -> str:
    """The dotted name of ``source``."""
    return ".".join(source(kind, name, root).relative_to(root).with_suffix("").parts)


def name_of(module: str) -> str:
    """The name under which a module of these folders is known; inverse of ``module_name``."""
    return module.split(".")[2]


def constant(file: Path, name: str) -> str:
    """The value of a plain ``NAME = "text"`` at the top of a module."""
    for target, value in _assigned(_parsed(file).body):
        if target == name:
            return ast.literal_eval(value)
    raise LookupError(f"{file} has no constant {name}")


def field_default(file: Path, field: str) -> object | None:
    """The plain default of ``field`` in a class of ``file``; None without one."""
    for node in ast.walk(_parsed(file)):
        for target, value in _assigned([node] if isinstance(node, ast.AnnAssign) else []):
            if target == field and isinstance(value, ast.Constant):
                return value.value
    return None


def class_strings(file: Path, name: str) -> list[str] | None:
    """The strings in ``name = frozenset({...})`` or ``name = (...)`` of a class; None without."""
    value = class_value(file, name)
    if value is None:
        return None
    constants = dict(_assigned(_parsed(file).body))
    inner = value.args[0] if isinstance(value, ast.Call) and value.args else value
    entries = inner.elts if isinstance(inner, ast.Set | ast.Tuple | ast.List) else []
    return [_string(entry, constants) for entry in entries]


def class_value(file: Path, name: str) -> ast.expr | None:
    """What stands after ``name =`` in a class; None without."""
    classes = [node for node in _parsed(file).body if isinstance(node, ast.ClassDef)]
    found = [value for node in classes for t, value in _assigned(node.body) if t == name]
    return found[0] if found else None


def _parsed(file: Path) -> ast.Module:
    return _parsed_at(file, file.stat().st_mtime_ns)


@lru_cache(maxsize=256)
def _parsed_at(file: Path, _modified: int) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def _assigned(body: Sequence[ast.AST]) -> list[tuple[str, ast.expr]]:
    found = []
    for node in body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        if isinstance(node, ast.AnnAssign):
            targets = [node.target]
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            found += [(t.id, node.value) for t in targets if isinstance(t, ast.Name)]
    return found


def _string(entry: ast.expr, constants: Mapping[str, ast.expr]) -> str:
    if isinstance(entry, ast.Name) and entry.id in constants:
        entry = constants[entry.id]
    return str(ast.literal_eval(entry))


def load(kind: Kind, name: str) -> ModuleType:
    """Import what is called ``name``."""
    return importlib.import_module(module_name(kind, name))


def part(name: str) -> ModuleType:
    """Import a module that only some instances of a stage run.

    It is named so that the others do not depend on it; the stage's row names it under ``code``.
    """
    return importlib.import_module(name)
