"""The folder of a finished run."""

import platform
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors.torch import save_file

from models.training import Fitted
from tasks.atomic import write_json
from tasks.train.job import Job, Setup
from tasks.train.warm_start import WEIGHTS


def write_run(
    folder: Path,
    job: Job,
    setup: Setup,
    fitted: Fitted,
) -> None:
    """Write a finished run: weights, options, and the record of its training."""
    method, source, common = setup.method, setup.source, job.common
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    save_file(fitted.state, folder / WEIGHTS)
    config = {
        "method": common.method,
        "entry": dict(job.entry),
        "inputs": dict(common.reader.inputs),
        "dims": source.dims,
        **({"frame_dims": source.frame_dims} if source.frame_dims else {}),
        "speakers": method.spec.speakers,
        "people": method.spec.people,
        **({"parts": asdict(method.spec.parts)} if method.spec.parts is not None else {}),
        "targets": [asdict(target) for target in method.spec.targets],
        "seed": job.seed,
        "fold": job.fold,
    }
    write_json(folder / "config.json", config)
    report = {
        **config,
        "corpus": common.corpus,
        "method_options": asdict(setup.recipe.config),
        "training": asdict(setup.recipe.train),
        **({"init_from": job.init} if job.init is not None else {}),
        **({"devices": common.devices} if common.devices > 1 else {}),
        "data": dict(common.data),
        "versions": {
            # without the patch release, which computes the same: run folders are compared by bytes
            "python": ".".join(platform.python_version_tuple()[:2]),
            "torch": torch.__version__,
            "affectloom": version("affectloom"),
        },
        "parameters": sum(p.numel() for p in method.parameters()),
        "rows": {"train": len(setup.train.rows), "validation": len(setup.validation.rows)},
        **({"train_items_without_picture": setup.train.unseen} if source.images else {}),
        "chosen_epoch": fitted.chosen_epoch,
        "validation_score": fitted.score,
        "stopped_early": fitted.stopped_early,
        "history": fitted.history,
    }
    write_json(folder / "report.json", report)
    if fitted.history:
        (folder / "history.tsv").write_text(history_table(fitted.history))


def history_table(history: Sequence[Mapping[str, float]]) -> str:
    """One line for each epoch as `dvc plots` reads it; a loss that an epoch lacks stays empty."""
    columns = list(dict.fromkeys(name for record in history for name in record))
    lines = ["\t".join("step" if name == "epoch" else name for name in columns)]
    lines += [
        "\t".join(f"{record[name]:.9g}" if name in record else "" for name in columns)
        for record in history
    ]
    return "\n".join(lines) + "\n"
