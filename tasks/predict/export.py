"""A trained run as a folder that ``predict --model`` reads anywhere."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.encoders.weights import find_weights
from models.errors import UserError, hint
from tasks.atomic import replacing, write_json
from tasks.layout import Layout
from tasks.params import Params
from tasks.predict.folder import (
    CALIBRATION,
    CARD,
    CONFIG,
    ENCODERS,
    FORMAT,
    WEIGHTS,
    check_source,
)
from tasks.predict.folder_sums import write_sums
from tasks.predict.model import Part, part_of_run, trained_runs


def export(name: str, layout: Layout, params: Params, out: Path) -> Path:
    """Write every network of ``corpus/method`` with what is needed to use it.

    Args:
        name: of the run.
        layout: of the project.
        params: of the project.
        out: a folder that is new or empty.
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
    weights = _weights(part, layout)
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
                for encoder, entry in part.encoders.items()
            },
            "weights_sha256": weights,
            "faces": part.faces.model_dump(mode="json"),
        },
    )
    write_json(out / CALIBRATION, _calibration(part))
    with replacing(out / CARD) as temporary:
        temporary.write_text(_card(part, layout, corpus, method), encoding="utf-8")
    write_sums(out)
    return out


def _weights(part: Part, layout: Layout) -> dict[str, str]:
    """Encoder to the hash of its weights, which are those of training."""
    found = {}
    for encoder, entry in part.encoders.items():
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


def _card(part: Part, layout: Layout, corpus: str, method: str) -> str:
    """What people need to know before they believe it."""
    targets = {target.name: target for run in part.runs for target in run.targets}
    lines = [
        f"# {part.name}",
        "",
        f"{len(part.runs)} networks of the method `{method}`, trained by affectloom on the corpus "
        f"`{corpus}`; together they answer with the mean of what they say.",
        "",
        f"Reads: {', '.join(part.modalities) or 'nothing'}. What a medium lacks is masked.",
        "",
        "| predicts | names | on test rows |",
        "|---|---|---|",
    ]
    scores = _scores(layout.details(corpus, method))
    for name, target in targets.items():
        lines.append(f"| {name} | {', '.join(target.names)} | {scores.get(name, 'not scored')} |")
    lines += ["", "## Encoders", ""]
    for encoder, entry in part.encoders.items():
        where = f"`{entry.checkpoint}`" if entry.checkpoint else "no weights"
        pin = f" at `{entry.pin}`" if entry.pin else ""
        lines.append(f"* {encoder}: {entry.family}, {where}{pin}")
    lines += [
        "",
        "## Terms and limits",
        "",
        f"The networks learnt from `{corpus}`: its terms, and those of the encoders, bind whoever "
        "uses or passes them on. They know the people, languages and rooms of that corpus; an "
        "input that is unlike it is marked in every answer. What a face or voice shows is not what "
        "a person feels.",
        "",
        "    affectloom predict MEDIA --model THIS_FOLDER",
        "",
    ]
    return "\n".join(lines)


def _scores(file: Path) -> Mapping[str, str]:
    """Target to its headline score on test."""
    if not file.exists():
        return {}
    found = {}
    for name, target in json.loads(file.read_text(encoding="utf-8"))["targets"].items():
        test = target.get("test", {})
        score = test.get("metrics", {}).get(target["headline"], {})
        if score.get("mean") is not None:
            spread = f" ± {score['std']:.3f}" if score.get("std") is not None else ""
            found[name] = f"{target['headline']} {score['mean']:.3f}{spread}, {test['n']} rows"
    return found
