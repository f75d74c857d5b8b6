"""All that imports prefect: the pipeline as a flow, reporting, clusters."""
