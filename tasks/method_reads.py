"""What a method reads, told from its file without importing it: networks take seconds to import."""

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models import registry


@dataclass(frozen=True)
class Reads:
    """What one entry under ``methods`` reads.

    Attributes:
        needs: ``Method.needs``: ``pooled``, ``frames``, ``images``.
        extra: ``Method.extra_inputs``.
        can_use: ``Method.can_use``.
        is_blind: ``Method.is_blind``.
    """

    needs: frozenset[str] = frozenset({"pooled"})
    extra: tuple[str, ...] = ()
    can_use: frozenset[str] = frozenset({"audio", "video", "text"})
    is_blind: bool = False

    @property
    def has_features(self) -> bool:
        """It reads the features of the modalities."""
        return bool(self.needs & {"pooled", "frames"})

    @property
    def code(self) -> list[str]:
        """Modules of the data layer that are imported by name for it."""
        modules = {"frames": "tasks.batches.sequences", "images": "tasks.batches.face_images"}
        return [module for need, module in modules.items() if need in self.needs]


def method_reads(name: str, entry: Mapping[str, Any] | None, root: Path) -> Reads:
    """What the method of an entry reads; the defaults of ``Method`` where its file says nothing."""
    entry = entry or {}
    plugged = entry.get("backbone") if entry.get("plugin") else None
    method = plugged or entry.get("method") or name
    file = registry.source("methods", method, root)
    if not file.exists():  # whoever looks for the method's code names the file
        return Reads()
    tree = ast.parse(file.read_text(encoding="utf-8"))
    needs = _class_strings(tree, "needs")
    extra = _class_strings(tree, "extra_inputs")
    can_use = _class_strings(tree, "can_use")
    is_blind = _class_value(tree, "is_blind")
    return Reads(
        Reads.needs if needs is None else frozenset(needs),
        tuple(extra or ()),
        Reads.can_use if can_use is None else frozenset(can_use),
        isinstance(is_blind, ast.Constant) and is_blind.value is True,
    )


def _class_strings(tree: ast.Module, name: str) -> list[str] | None:
    """The strings in ``name = frozenset({...})`` or ``name = (...)`` of a class; None without."""
    value = _class_value(tree, name)
    if value is None:
        return None
    constants = {target: value for target, value in _assigned(tree.body)}
    inner = value.args[0] if isinstance(value, ast.Call) and value.args else value
    entries = inner.elts if isinstance(inner, ast.Set | ast.Tuple | ast.List) else []
    return [_string(entry, constants) for entry in entries]


def _class_value(tree: ast.Module, name: str) -> ast.expr | None:
    """What stands after ``name =`` in a class; None without."""
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    found = [value for node in classes for t, value in _assigned(node.body) if t == name]
    return found[0] if found else None


def _assigned(body: list[ast.stmt]) -> list[tuple[str, ast.expr]]:
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
