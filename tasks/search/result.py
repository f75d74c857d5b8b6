"""What a search found, read by the stage that trains with it."""

import json
from collections.abc import Mapping
from typing import Any

from models.errors import UserError
from tasks.layout import Layout


def searched(layout: Layout, corpus: str, method: str) -> dict[int | None, Mapping[str, Any]]:
    """Fold to the options that its search found; None stands for the only fold there is."""
    file = layout.search(corpus, method) / "best.json"
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        if "folds" not in found:
            return {None: found["options"]}
        return {int(fold): one["options"] for fold, one in found["folds"].items()}
    except FileNotFoundError as error:
        raise UserError(
            f"{file} is not there; run stage search for {corpus}-{method} first"
        ) from error
    except (ValueError, KeyError) as error:
        raise UserError(
            f"{file} cannot be read; delete it and rerun stage search for {corpus}-{method}"
        ) from error
