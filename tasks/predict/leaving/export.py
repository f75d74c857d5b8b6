"""A trained run as a folder that ``predict --model`` reads anywhere."""

import shutil
from pathlib import Path
from typing import Any

from models.encoders.weights import find_weights
from models.errors import UserError, hint
from tasks.atomic import replacing, write_json
from tasks.features.params import EncoderParams
from tasks.layout import Layout
from tasks.params.model import Params
from tasks.predict.leaving.card import forbids_passing_on, terms_of, write_card
from tasks.predict.leaving.carried import carry, is_local
from tasks.predict.leaving.folder import (
    CALIBRATION,
    CARD,
    CONFIG,
    ENCODERS,
    FORMAT,
    WEIGHTS,
    check_source,
)
from tasks.predict.leaving.folder_sums import write_sums
from tasks.predict.leaving.graphs import check_runtime, told, write_graphs
from tasks.predict.leaving.hub import push
from tasks.predict.model import Part, part_of_run, trained_runs


def export(name: str, layout: Layout, params: Params, out: Path, *, onnx: bool = False) -> Path:
    """Write every network of ``corpus/method`` with what is needed to use it.

    Args:
        name: of the run.
        layout: of the project.
        params: of the project.
        out: a folder that is new or empty.
        onnx: with a graph of each network as well.
    """
    known = trained_runs(layout)
    corpus, _, method = name.partition("/")
    if (corpus, method) not in known:
        names = ["/".join(ids) for ids in known]
        there_is = hint(name, names) if names else "nothing is trained"
        raise UserError(f"{name}: there is no such trained run; {there_is}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"--out {out} is in use; name a folder that is new or empty")
    part = part_of_run(corpus, method, layout, params)
    if onnx:
        check_runtime()
    weights = _weights(part, layout)
    try:
        _write(part, weights, layout, out, onnx)
    except UserError:
        shutil.rmtree(out, ignore_errors=True)  # a part of a model is none
        raise
    return out


def publish(name: str, layout: Layout, folder: Path, repository: str) -> str:
    """Push an exported model to a hub; returns its address there.

    Args:
        name: of the run, which tells the terms of its data.
        layout: of the project.
        folder: what ``export`` wrote.
        repository: ``owner/name``.
    """
    terms = terms_of(layout, name.partition("/")[0])
    return push(folder, repository, is_bound=forbids_passing_on(terms))


def _write(part: Part, weights: dict[str, str], layout: Layout, out: Path, onnx: bool) -> None:
    corpus, _, method = part.name.partition("/")
    entries = _entries(part, layout, out)
    runs = layout.runs(corpus, method)
    for run in part.runs:
        folder = out / run.folder.relative_to(runs)
        folder.mkdir(parents=True)
        for file in (CONFIG, WEIGHTS):
            shutil.copyfile(run.folder / file, folder / file)
    write_json(
        out / ENCODERS,
        {
            "format": FORMAT,
            "inputs": dict(part.inputs),
            "encoders": {
                encoder: entry.model_dump(mode="json", exclude_unset=True, exclude={"corpora"})
                for encoder, entry in entries.items()
            },
            "weights_sha256": weights,
            "faces": part.faces.model_dump(mode="json"),
            "listening": {n: w.model_dump(mode="json") for n, w in part.listening.items()},
        },
    )
    write_json(out / CALIBRATION, _calibration(part))
    more = told(write_graphs(part, layout, corpus, out)) if onnx else []
    with replacing(out / CARD) as temporary:
        card = write_card(part, entries, layout, more)
        temporary.write_text(card, encoding="utf-8")
    write_sums(out)


def _weights(part: Part, layout: Layout) -> dict[str, str]:
    """Encoder to the hash of its weights, which are those of training."""
    found = {}
    for encoder, entry in part.encoders.items():
        if not is_local(entry, layout.project):
            check_source(Path("params.yaml"), encoder, entry)
        weights = find_weights(entry.checkpoint, entry.pin, layout.cache, layout.project)
        expected = part.expected.get(encoder)
        if expected is not None and expected.weights_sha256 != weights.sha256:
            raise UserError(
                f"encoder {encoder} is not the one whose features {part.name} learnt from; bring "
                "its weights back, or train again"
            )
        found[encoder] = weights.sha256
    return found


def _entries(part: Part, layout: Layout, out: Path) -> dict[str, EncoderParams]:
    """Encoders as the folder names them; weights that only this machine has go along."""
    found = {}
    for encoder, entry in part.encoders.items():
        if is_local(entry, layout.project):
            name = carry(encoder, layout.project / str(entry.checkpoint), out)
            entry = entry.model_copy(update={"checkpoint": name})
        found[encoder] = entry
    return found


def _calibration(part: Part) -> dict[str, Any]:
    return {
        "fitted_on": "validation",
        "targets": dict(part.calibration),
        "ranges": {
            modality: {
                "mean": limits.mean.tolist(),
                "scale": limits.scale.tolist(),
                "limit": limits.limit,
            }
            for modality, limits in part.ranges.items()
        },
    }
