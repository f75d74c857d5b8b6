"""All that Prefect sees: reports of runs, the flows, clusters, serving.

``from flows.prefect import stage, pipeline`` gives the flows; only asking for them imports prefect.
"""

from typing import Any


def __getattr__(name: str) -> Any:
    from tasks.stages import STAGES

    if name not in ("stage", "pipeline", *STAGES):
        raise AttributeError(f"module {__name__} has no {name}")
    from flows.prefect.home import prepare_environment
    from tasks.layout import find_root

    prepare_environment(find_root())  # Prefect reads its settings while it is imported
    from flows.prefect import flows

    return getattr(flows, name)
