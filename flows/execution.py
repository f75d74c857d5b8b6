"""Who does the work: settings from params.yaml and the environment."""

import os
from collections.abc import Mapping
from typing import Any

from models.errors import UserError
from tasks.params.model import ExecutionParams, parse

_PREFIX = "AFFECTLOOM_EXECUTION__"


def execution(raw: Mapping[str, Any]) -> ExecutionParams:
    """``execution`` of params.yaml; ``AFFECTLOOM_EXECUTION__<KEY>`` variables win."""
    values = dict(raw.get("execution") or {})
    parse(ExecutionParams, values, "execution")  # so that its mistakes are not the variables'
    for key in ExecutionParams.model_fields:
        value = os.environ.get(_PREFIX + key.upper())
        if value:
            values[key] = value
            try:
                parse(ExecutionParams, values, "execution")
            except UserError as error:
                why = str(error).split(": ")[-1]
                raise UserError(
                    f"the variable {_PREFIX}{key.upper()} is {value!r}: {why}"
                ) from error
    return parse(ExecutionParams, values, "execution")


def worker_count(settings: ExecutionParams) -> int:
    """Workers to start: as asked, or one for each core this process may use."""
    return settings.workers or len(os.sched_getaffinity(0))
