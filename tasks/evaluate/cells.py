"""Test rows predicted with modalities hidden, and with the weights of every kept epoch."""

from collections.abc import Sequence

import torch
from safetensors.torch import load_file

from models.batch import MODALITIES
from models.training import best_device, predict
from tasks.batches.dataset import Dataset
from tasks.batches.hiding import Hidden, draw_masks, only, subsets
from tasks.batches.source import Source
from tasks.evaluate.grids import CHOSEN, Grids
from tasks.evaluate.networks import Run
from tasks.evaluate.predictions import scored_truth


def fill(
    grids: Grids,
    rates: Sequence[float],
    mask_seed: int,
    one: Run,
    source: Source,
    names: Sequence[str],
    data: Dataset,
    plain: dict[str, torch.Tensor],
) -> None:
    """Predict test with modalities hidden, and with the weights of every kept epoch.

    Masks that hide the same of what the method reads are predicted once: for a method of one
    modality most of them hide nothing.

    Args:
        grids: takes the outputs.
        rates: shares of cells to hide.
        mask_seed: of the masks, the same for every method.
        one: the run.
        source: what it reads.
        names: modalities of the corpus: masks are drawn over all of them, so that a method that
            uses fewer meets the same ones.
        data: the test rows.
        plain: outputs with nothing hidden.
    """
    hidden = {"+".join(s): only(data, s, len(data.rows)) for s in subsets(source.modalities)}
    for rate in rates:
        masks = draw_masks(len(source.ids), rate, mask_seed, len(names))[data.rows]
        hidden[f"{rate:g}"] = Hidden(data, {name: masks[:, i] for i, name in enumerate(names)})
    present = {name: there[data.rows] for name, there in source.present.items()}
    known = {only(data, MODALITIES, len(data.rows)).cells(present): plain}
    cells = {CHOSEN: plain}
    for name, seen in hidden.items():
        left = seen.cells(present)
        if left not in known:
            known[left] = predict(one.method, seen, device=best_device())
        cells[name] = known[left]
    chosen = {name: value.clone() for name, value in one.method.state_dict().items()}
    epochs = []
    for file in sorted((one.folder / "snapshots").glob("*.safetensors")):
        one.method.load_state_dict(load_file(file))
        epochs.append(predict(one.method, data, device=best_device()))
    one.method.load_state_dict(chosen)
    truths = {target: scored_truth(data, target) for target in one.targets}
    grids.add(one.seed, truths, cells, epochs)
