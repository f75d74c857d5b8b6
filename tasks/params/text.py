"""The text of ``params.yaml``: read strictly, or changed so that comments and layout stay."""

from pathlib import Path
from typing import Any

import yaml

from models.errors import UserError
from tasks.params.secrets import check_secrets


class _Strict(yaml.SafeLoader):
    """Refuses a key that stands twice, as DVC does; YAML's own reader keeps the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value:
            if (key.tag, str(key.value)) in seen:
                line = key.start_mark.line + 1
                raise UserError(f"{self.name} line {line}: '{key.value}' stands twice; keep one")
            seen.add((key.tag, str(key.value)))
        return super().construct_mapping(node, deep)


def read_mapping(file: Path) -> dict[str, Any]:
    """A file of keys and values as it stands, not yet validated."""
    try:
        loader = _Strict(file.read_text(encoding="utf-8"))
        loader.name = file.name
        found = loader.get_single_data()
    except UnicodeDecodeError as error:
        raise UserError(
            f"{file.name}: not UTF-8 text ({error.reason}); save it as UTF-8"
        ) from error
    except yaml.YAMLError as error:
        place = getattr(error, "problem_mark", None)
        line = f" line {place.line + 1}" if place else ""
        raise UserError(
            f"{file.name}{line}: not valid YAML ({error})".replace("\n", " ")
        ) from error
    except (ValueError, RecursionError) as error:  # a date that is none, lists in lists in lists
        raise UserError(f"{file.name}: not valid YAML ({error})") from error
    if found is None:
        raise UserError(f"{file.name} is empty; take the one of the repository")
    if not isinstance(found, dict):
        raise UserError(f"{file.name} is a {type(found).__name__}; it must hold keys and values")
    check_secrets(found, file.name)  # first of all, since other sentences show what they are about
    return found


def with_revision(text: str, encoder: str, revision: str) -> str:
    """The text with ``encoders.<encoder>.revision`` set, as a new key where there was none."""
    entry = _value(_value(yaml.compose(text), "encoders"), encoder)
    checkpoint = _value(entry, "checkpoint")
    if not isinstance(entry, yaml.MappingNode) or checkpoint is None:
        raise UserError(f"params.yaml: encoders.{encoder} names no checkpoint to pin")
    found = _value(entry, "revision")
    if found is not None:
        return text[: found.start_mark.index] + revision + text[found.end_mark.index :]
    key = next(key for key, value in entry.value if value is checkpoint)
    gap = ", " if entry.flow_style else "\n" + " " * key.start_mark.column
    at = checkpoint.end_mark.index
    return f"{text[:at]}{gap}revision: {revision}{text[at:]}"


def _value(node: yaml.Node | None, name: str) -> yaml.Node | None:
    if not isinstance(node, yaml.MappingNode):
        return None
    return next((value for key, value in node.value if key.value == name), None)
