"""What a method reads, told from its file without importing it: networks take seconds to import."""

import ast
from collections.abc import Mapping
from dataclasses import dataclass
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


def method_reads(name: str, entry: Mapping[str, Any] | None) -> Reads:
    """What the method of an entry reads; the defaults of ``Method`` where its file says nothing."""
    entry = entry or {}
    plugged = entry.get("backbone") if entry.get("plugin") else None
    file = registry.source("methods", plugged or entry.get("method") or name)
    if not file.exists():  # whoever looks for the method's code names the file
        return Reads()
    needs = registry.class_strings(file, "needs")
    extra = registry.class_strings(file, "extra_inputs")
    can_use = registry.class_strings(file, "can_use")
    is_blind = registry.class_value(file, "is_blind")
    return Reads(
        Reads.needs if needs is None else frozenset(needs),
        tuple(extra or ()),
        Reads.can_use if can_use is None else frozenset(can_use),
        isinstance(is_blind, ast.Constant) and is_blind.value is True,
    )


def method_level(name: str, entry: Mapping[str, Any] | None) -> str:
    """``Method.level`` of an entry's method: ``dialogue`` where its file says nothing."""
    entry = entry or {}
    plugged = entry.get("backbone") if entry.get("plugin") else None
    file = registry.source("methods", plugged or entry.get("method") or name)
    level = registry.class_value(file, "level") if file.exists() else None
    return str(level.value) if isinstance(level, ast.Constant) else "dialogue"


def method_modules(name: str, entry: Mapping[str, Any] | None) -> list[str]:
    """The modules of an entry's method, of its plug-in and of the backbone that it trains."""
    entry = entry or {}
    if entry.get("plugin"):
        backbone = str(entry.get("backbone") or entry.get("method") or name)
        plugin = str(entry["plugin"])
        own = [] if plugin == "none" else [registry.module_name("plugins", plugin)]
        return ["models.plugin", *own, registry.module_name("methods", backbone)]
    method = str(entry.get("method") or name)
    file = registry.source("methods", method)
    # a method may train another method as its backbone, as spcl does; cage's is a network's name
    backbone = entry.get("backbone") or (
        registry.field_default(file, "backbone") if file.exists() else None
    )
    is_method = backbone and registry.source("methods", str(backbone)).exists()
    found = [method, *([str(backbone)] if is_method else [])]
    return [registry.module_name("methods", one) for one in found]
