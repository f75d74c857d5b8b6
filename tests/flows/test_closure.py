from pathlib import Path

import pytest

from flows.closure import closure
from models import registry


@pytest.fixture
def project(tmp_path: Path) -> Path:
    files = {
        "tasks/__init__.py": '"""Doc."""\n',
        "tasks/stage.py": (
            "from typing import TYPE_CHECKING\n"
            "from models.net import Net\n"
            "if TYPE_CHECKING:\n    from tasks.types import Thing\n"
            "def run():\n    from tasks import late\n"
        ),
        "tasks/types.py": "Thing = int\n",
        "tasks/late.py": "import numpy\n",
        "tasks/unrelated.py": "import tasks.stage\n",
        "models/__init__.py": "LOADED = True\n",
        "models/net.py": "import models.layer\nNet = 1\n",
        "models/layer.py": 'MODALITY = "audio"\n',
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def _names(project: Path, *modules: str) -> set[str]:
    return {str(file) for file in closure(modules, project)}


def test_closure_follows_imports_inside_functions_and_through_modules(project):
    found = _names(project, "tasks.stage")
    assert {"tasks/stage.py", "tasks/late.py", "models/net.py", "models/layer.py"} <= found


def test_closure_leaves_out_what_never_runs(project):
    found = _names(project, "tasks.stage")
    assert "tasks/types.py" not in found
    assert "tasks/unrelated.py" not in found


def test_closure_counts_package_files_only_when_they_do_something(project):
    found = _names(project, "tasks.stage", "models")
    assert "models/__init__.py" in found
    assert "tasks/__init__.py" not in found


def test_a_folder_named_after_a_module_belongs_to_it(project):
    script = project / "models/net_assets/vendor/start.js"
    script.parent.mkdir(parents=True)
    script.write_text("start()")
    assert Path("models/net_assets/vendor/start.js") in closure(["tasks.stage"], project)
    assert script.relative_to(project) not in closure(["tasks.late"], project)


def test_a_constant_is_read_without_importing(project):
    assert registry.constant(project / "models/layer.py", "MODALITY") == "audio"
    with pytest.raises(LookupError, match="NOTHING"):
        registry.constant(project / "models/layer.py", "NOTHING")
