"""What a search found, read by the stages that come after it."""

import json
from collections.abc import Mapping
from typing import Any

from models.errors import UserError
from tasks import paths


def searched(corpus: str, method: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    """An entry of ``methods`` with the options that its search found; others stay as they are."""
    plain = {key: value for key, value in entry.items() if key != "search"}
    if entry.get("search") is None:
        return plain
    file = paths.search(corpus, method) / "best.json"
    try:
        found = json.loads(file.read_text(encoding="utf-8"))["options"]
    except FileNotFoundError as error:
        raise UserError(
            f"{file} is not there; run stage search for {corpus}-{method} first"
        ) from error
    except (ValueError, KeyError) as error:
        raise UserError(
            f"{file} cannot be read; delete it and rerun stage search for {corpus}-{method}"
        ) from error
    return {**plain, **found}
