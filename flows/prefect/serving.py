"""The flows as deployments: started, scheduled and cancelled in the UI, one run at a time."""

from prefect import serve
from prefect.types.entrypoint import EntrypointType

from flows.prefect import flows
from tasks.stages import STAGES

TAGS = ["affectloom"]


def serve_flows(cron: str | None = None) -> None:
    """Take runs from the UI until a signal comes.

    Two runs at once would undo each other's work, so all deployments share one place; what is
    started meanwhile waits for it.

    Args:
        cron: when the whole pipeline is brought up to date, e.g. ``0 3 * * *``; default: never.
    """
    kind = EntrypointType.MODULE_PATH  # run by import, from the folder of this process
    deployments = [
        flows.pipeline.to_deployment("pipeline", cron=cron, entrypoint_type=kind, tags=TAGS),
        *(
            getattr(flows, name).to_deployment(name, entrypoint_type=kind, tags=TAGS)
            for name in STAGES
        ),
    ]
    serve(*deployments, limit=1, print_starting_message=False)
