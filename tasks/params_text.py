"""Single values of ``params.yaml`` changed in its text: comments, order and layout stay."""

import yaml

from models.errors import UserError


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
