"""``tasks`` and ``models`` are plain words: a file of that name may lie beside a script."""

from importlib.util import find_spec
from pathlib import Path

for _name in ("tasks", "models"):
    _found = find_spec(_name)
    _origin = _found.origin if _found else None
    if _origin is None or Path(_origin).parent.parent != Path(__file__).parent.parent:
        _where = _origin or "nowhere"
        raise ImportError(
            f"affectloom needs its own package `{_name}`, but Python finds that name in {_where}; "
            "start Python in another folder, or rename what lies there"
        )
