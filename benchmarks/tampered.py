"""What ``predict --model`` says of folders that were tampered with: the table of docs/predict.md.

``python -m benchmarks.tampered`` trains a small project, exports its run, and does to copies of the
folder what ``tests/tasks/predict/tampering.py`` lists.
"""

import tempfile
from pathlib import Path

from tasks.predict.leaving.export import export
from tests.tasks.predict.leaving.tampering import rows
from tests.tasks.predict.projects import NAME, make_project


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        project = make_project(Path(name) / "project")
        model = export(NAME, project.layout, project.params, Path(name) / "exported")
        print("| done to it | what it says |\n|---|---|")
        print("\n".join(rows(model, Path(name))))


if __name__ == "__main__":
    main()
