"""Graphs of ONNX say what their networks say, whatever the lengths; what cannot be one says why."""

import importlib
import importlib.util

import pytest
import torch

from models.errors import UserError
from models.flat import batch_of, tensors_of
from tasks.predict.leaving import graphs
from tasks.predict.leaving.export import export
from tasks.predict.leaving.folder import CARD, read_model
from tasks.predict.leaving.graphs import GRAPH, NoGraph, difference_on, graph_of, save_graph
from tests.models.methods.test_conformance import outputs, prepared, toy
from tests.tasks.predict.projects import NAME

needs_onnx = pytest.mark.skipif(
    any(importlib.util.find_spec(n) is None for n in ("onnxruntime", "onnxscript")),
    reason="the extra onnx is not installed: requirements-onnx.lock",
)


def session_of(method, batch, file):
    save_graph(graph_of(method, batch), method, file)
    return graphs.open_graph(file)


@pytest.mark.parametrize("name", ["linear", "emi", "cage"])
def test_a_batch_goes_through_plain_tensors_and_back(name):
    data = toy(name)
    method, batch = prepared(name, data), data.batch([0, 1])
    tensors = tensors_of(batch, method)
    if name == "cage":
        assert list(tensors) == ["images"]
        return
    again = outputs(method, batch_of(tensors))
    for target, values in outputs(method, batch).items():
        assert torch.equal(again[target], values)


@needs_onnx
@pytest.mark.parametrize("name", ["linear", "cage"])
def test_a_graph_answers_as_its_network_at_other_lengths(name, tmp_path):
    data = toy(name, absent=0.3)
    method = prepared(name, data)
    session = session_of(method, data.batch([0, 1]), tmp_path / GRAPH)
    for items in ([0], [4, 3, 2], list(range(len(data)))):
        worst, rows = difference_on(method, data.batch(items), session)
        assert worst < graphs.TOLERANCE
    assert rows > 3


@needs_onnx
def test_weights_of_another_seed_go_into_the_same_graph(tmp_path):
    data = toy("linear")
    first, second = prepared("linear", data), prepared("linear", data, seed=1)
    program = graph_of(first, data.batch([0, 1]))
    save_graph(program, second, tmp_path / GRAPH)
    session = graphs.open_graph(tmp_path / GRAPH)
    assert difference_on(second, data.batch([2, 3]), session)[0] < graphs.TOLERANCE
    assert difference_on(first, data.batch([2, 3]), session)[0] > 1e-3


@needs_onnx
def test_a_method_that_depends_on_values_says_where_and_nothing_else(capfd):
    data = toy("gru")
    with pytest.raises(NoGraph, match=r"depends on values in the data \(models/.*\.py:\d+\)"):
        graph_of(prepared("gru", data), data.batch([0, 1]))
    assert capfd.readouterr().err == ""


@needs_onnx
def test_an_export_with_graphs_has_one_beside_each_network(project, tmp_path):
    import onnxruntime

    out = export(NAME, project.layout, project.params, tmp_path / "model", onnx=True)
    files = sorted(out.rglob(GRAPH))
    assert len(files) == 4
    assert all((file.parent / "weights.safetensors").exists() for file in files)
    inputs = onnxruntime.InferenceSession(files[0]).get_inputs()
    assert {one.name: one.shape for one in inputs}["mask"] == ["batch", "utterances"]
    card = (out / CARD).read_text()
    assert "opset 18" in card
    assert "On 24 predicted test rows of all networks" in card
    assert "| `audio_present` | tensor(bool) (batch, utterances) |" in card
    assert len(read_model(out).parts[0].runs) == 4


@needs_onnx
def test_a_graph_that_says_something_else_is_not_given_away(project, tmp_path, monkeypatch):
    monkeypatch.setattr(graphs, "difference_on", lambda *_: (0.1, 3))
    with pytest.raises(NoGraph, match=r"is off by 0\.1 on a test row"):
        export(NAME, project.layout, project.params, tmp_path / "model", onnx=True)
    assert not (tmp_path / "model").exists()


def test_without_the_extra_nothing_is_written_and_the_remedy_is_named(
    project, tmp_path, monkeypatch
):
    def refuse(name, *rest):
        if name.startswith("onnx"):
            raise ImportError("No module named 'onnxruntime'")
        return found(name, *rest)

    found = importlib.import_module
    monkeypatch.setattr(graphs.importlib, "import_module", refuse)
    with pytest.raises(UserError, match=r"-r requirements-onnx.lock"):
        export(NAME, project.layout, project.params, tmp_path / "model", onnx=True)
    assert not (tmp_path / "model").exists()
