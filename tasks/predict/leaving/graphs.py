"""Networks as graphs of ONNX, for runtimes that know neither this project nor torch."""

import importlib
import io
import logging
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from models.batch import Batch
from models.errors import UserError
from models.flat import Flat, tensors_of
from models.method import Method
from tasks.batches.dataset import Dataset
from tasks.evaluate.networks import Run, part_of, sources_of
from tasks.layout import Layout
from tasks.predict.model import Part

#: Version of the operators that graphs are made of.
OPSET = 18
GRAPH = "network.onnx"
#: How far a graph may be from its network, on any test row: absolute, or relative where above 1.
TOLERANCE = 1e-4
_ITEMS = 16


_FEATURES = (
    "`<modality>` is what its encoders give, side by side, 0 where it is missing; "
    "`<modality>_present` and `mask` say what is there (real utterances come first); `speakers` "
    "numbers them by first appearance. Rows of padding mean nothing."
)
_PICTURES = "`images` are faces as the method's `view` makes them, one a row."


@dataclass(frozen=True)
class Graph:
    """A graph that was written and compared.

    Attributes:
        file: where it lies.
        inputs: name to type and shape, as the runtime tells them.
        outputs: the same.
        rows: test rows that it was compared on.
        worst: largest difference there.
    """

    file: Path
    inputs: dict[str, str]
    outputs: dict[str, str]
    rows: int
    worst: float


class NoGraph(UserError):
    """A method cannot be a fixed graph."""


def check_runtime() -> None:
    """Raise where the packages of the extra ``onnx`` are not there, before anything is written."""
    for name in ("onnxruntime", "onnxscript", "onnx_ir"):
        _package(name)


def _package(name: Literal["onnxruntime", "onnxscript", "onnx_ir"]) -> Any:
    """A package that only graphs need; without types, since it may be away."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(
            f"--onnx needs the package {name}, which is not here ({error}); `uv pip install "
            "--require-hashes -r requirements-onnx.lock` brings it"
        ) from error


def write_graphs(part: Part, layout: Layout, corpus: str, out: Path) -> list[Graph]:
    """A graph for each network, beside its weights, each compared with it on its test rows.

    Args:
        part: the networks.
        layout: of the project; it needs the features of the corpus.
        corpus: what the networks learnt from.
        out: folder of the part.
    """
    check_runtime()
    runs = layout.runs(*part.name.split("/"))
    made: dict[str, Any] = {}  # networks that differ in weights alone share one export
    found = []
    sources = sources_of(layout, part.runs, corpus, part.inputs)
    for run, source in zip(part.runs, sources, strict=True):
        data = part_of(source, run, "test")
        kind = f"{type(run.method)} {run.method.config} {run.method.spec}"
        if kind not in made:
            made[kind] = graph_of(run.method, next(iter(_batches(data))))
        file = out / run.folder.relative_to(runs) / GRAPH
        file.parent.mkdir(parents=True, exist_ok=True)
        save_graph(made[kind], run.method, file)
        found.append(compared(run, data, file))
    return found


def _batches(data: Dataset) -> Iterator[Batch]:
    groups = [range(n, min(n + _ITEMS, len(data))) for n in range(0, len(data), _ITEMS)]
    return data.batches(groups)


def graph_of(method: Method, batch: Batch) -> Any:
    """A method as a program of ONNX; ``NoGraph`` says why there is none.

    Args:
        method: with its weights.
        batch: any of its batches: types and widths count, lengths do not.
    """
    tensors = {name: _example(value, name) for name, value in tensors_of(batch, method).items()}
    flat = Flat(method.eval(), list(tensors))
    shapes = tuple(_shape(name) for name in tensors)
    try:
        with torch.no_grad(), _quiet():
            program = torch.onnx.export(
                flat,
                tuple(tensors.values()),
                None,
                input_names=list(tensors),
                output_names=[target.name for target in method.spec.targets],
                dynamic_shapes=(shapes,),
                opset_version=OPSET,
                custom_translation_table=_translations(),
                optimize=False,  # so that weights keep their names
                verbose=False,
                dynamo=True,
            )
    except Exception as error:  # the exporter's errors have no common class
        raise NoGraph(why_not(error)) from error
    assert program is not None
    return program


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporter tells of itself: pages for a method that cannot be a graph."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _example(value: Tensor, name: str) -> Tensor:
    """The same in a size of which no dimension but widths is 1, which would be taken for fixed."""
    for dim, size in zip(range(len(_shape(name))), (2, 3, 4), strict=False):
        value = torch.cat([value] * size, dim).narrow(dim, 0, size) if len(value) else \
            value.new_zeros(size, *value.shape[1:])  # fmt: skip
    return value


def _shape(name: str) -> dict[int, Any]:
    """Dimensions of an input that differ from call to call."""
    dims = {0: torch.export.Dim("batch")}
    if name != "images":
        dims[1] = torch.export.Dim("utterances")
    if name.endswith(("_frames", "_frames_mask")):
        dims[2] = torch.export.Dim(f"{name.split('_frames')[0]}_frames")
    return dims


def _translations() -> dict[Any, Any]:
    """Operators of torch that onnxscript or the runtime lacks."""
    op = _package("onnxscript").opset18
    boolean = _package("onnx_ir").DataType.BOOL

    def sort(self: Any, stable: Any = None, dim: int = -1, descending: bool = False) -> Any:
        # of equal values ONNX takes the first, which is what stable means
        size = op.Reshape(op.Gather(op.Shape(self), dim, axis=0), op.Constant(value_ints=[1]))
        return op.TopK(self, size, axis=dim, largest=descending, sorted=True)

    def where(condition: Any, self: Any, other: Any) -> Any:
        if self.dtype == boolean:  # onnxruntime chooses between numbers only
            return op.Or(op.And(condition, self), op.And(op.Not(condition), other))
        return op.Where(condition, self, other)

    aten = torch.ops.aten
    return {aten.sort.stable: sort, aten.where.self: where}


def why_not(error: BaseException) -> str:
    """What keeps a method from being a graph, in a sentence for people."""
    while error.__cause__ is not None:
        error = error.__cause__
    said = " ".join(str(error).split())
    if type(error).__name__ == "GuardOnDataDependentSymNode":
        place = re.search(r"(models/\S+\.py:\d+)", said)
        where = f" ({place[1]})" if place else ""
        return f"what it computes depends on values in the data{where}, which no fixed graph does"
    if operator := re.search(r"No ONNX function found for <OpOverload\(op='([\w.]+)'", said):
        return f"its operator {operator[1]} has no counterpart in ONNX"
    return f"{type(error).__name__}: {said[:160]}"


def save_graph(program: Any, method: Method, file: Path) -> None:
    """Write a program with the weights of a network of the same kind."""
    tensor = _package("onnx_ir").tensor
    weights = {f"method.{name}": value for name, value in method.state_dict().items()}
    for name, value in program.model.graph.initializers.items():
        if name in weights:
            value.const_value = tensor(weights[name].numpy(force=True), name=name)
    program.save(file)


def compared(run: Run, data: Dataset, file: Path) -> Graph:
    """The graph, known to say what its network says on the test rows."""
    session = open_graph(file)
    rows, worst = 0, 0.0
    for batch in _batches(data):
        difference, count = difference_on(run.method, batch, session)
        worst, rows = max(worst, difference), rows + count
    if not worst <= TOLERANCE:
        raise NoGraph(
            f"{run.folder.name}: the graph of {type(run.method).__name__} is off by {worst:.2g} on "
            "a test row; it cannot be given away"
        )
    told = [{one.name: f"{one.type} {_dims(one.shape)}" for one in ends}
            for ends in (session.get_inputs(), session.get_outputs())]  # fmt: skip
    return Graph(file, *told, rows=rows, worst=worst)


def open_graph(file: Path) -> Any:
    """A graph in the runtime, on the CPU."""
    onnxruntime = _package("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def difference_on(method: Method, batch: Batch, session: Any) -> tuple[float, int]:
    """How far a graph is from its network on a batch, and on how many rows that is known."""
    tensors = tensors_of(batch, method)
    names = list(tensors)
    with torch.no_grad():
        wanted = Flat(method.eval(), names)(*tensors.values())
    given = {one.name: tensors[one.name].numpy() for one in session.get_inputs()}
    found = session.run(None, given)
    real = batch.mask.numpy() if names != ["images"] else slice(None)
    worst = 0.0
    for want, got in zip(wanted, found, strict=True):
        known = want.numpy()[real]
        if known.size:
            scale = np.maximum(1.0, np.abs(known))
            worst = max(worst, float((np.abs(known - got[real]) / scale).max()))
    return worst, int(batch.mask.sum()) if names != ["images"] else len(tensors["images"])


def _dims(shape: Sequence[object]) -> str:
    return f"({', '.join(map(str, shape))})"


def told(graphs: Sequence[Graph]) -> list[str]:
    """Lines of the card."""
    first = graphs[0]
    rows, worst = sum(one.rows for one in graphs), max(one.worst for one in graphs)
    meaning = _PICTURES if list(first.inputs) == ["images"] else _FEATURES
    return [
        "## Graphs",
        "",
        f"`{GRAPH}` beside the weights of each network is that network for ONNX, opset {OPSET}: "
        f"inputs as below, raw outputs. On {rows} predicted test rows of all networks the largest "
        f"difference under onnxruntime was {worst:.1e} (relative above 1).",
        "",
        "| input | type and shape |",
        "|---|---|",
        *(f"| `{name}` | {kind} |" for name, kind in first.inputs.items()),
        "",
        f"{meaning} An output is logits (for one of several categories: divide by the temperature "
        "in `calibration.json`, then softmax; for each of a set: sigmoid) or values. The answer is "
        "the mean over the networks of a target.",
        "",
    ]
