"""Which methods can be graphs of ONNX, and why the others cannot: the table of docs/predict.md.

``python -m benchmarks.graphs [METHOD ...]`` builds every method in a small size, writes its graph
and compares the two on batches of other lengths. It needs requirements-onnx.lock.
"""

import sys
import tempfile
from pathlib import Path

from models.method import find_method, method_names
from tasks.predict.leaving.graphs import (
    GRAPH,
    NoGraph,
    difference_on,
    graph_of,
    open_graph,
    save_graph,
)
from tests.models.methods.test_conformance import prepared, toy


def verdict(name: str) -> str:
    data = toy(name)
    method = prepared(name, data)
    try:
        program = graph_of(method, data.batch([0, 2, 5]))
    except NoGraph as error:
        return f"no: {error}"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / GRAPH
        save_graph(program, method, file)
        session = open_graph(file)
        batches = [data.batch(items) for items in ([0], [1, 2, 3, 4], [5, 0], [3])]
        worst = max(difference_on(method, batch, session)[0] for batch in batches)
    return f"yes, {worst:.0e}"


def main() -> None:
    print("| method | works on | graph |\n|---|---|---|")
    for name in sys.argv[1:] or method_names():
        print(f"| {name} | {find_method(name).level} | {verdict(name)} |", flush=True)


if __name__ == "__main__":
    main()
