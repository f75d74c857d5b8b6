"""What lies in the folders whose modules are reached by name: methods, plug-ins, encoder families.

Names are told from files, without importing networks. A method is a file of its name, or a folder
of its name whose ``method.py`` holds it.
"""

import importlib
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


def load(kind: Kind, name: str) -> ModuleType:
    """Import what is called ``name``."""
    return importlib.import_module(module_name(kind, name))
