"""``import affectloom`` is quick, and finds this package from any folder."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.places import ROOT

_SLOW = ("torch", "polars", "transformers", "scipy", "prefect", "dvc", "av", "pyarrow")


def python(code: str, folder: Path, *path: Path) -> subprocess.CompletedProcess:
    """Runs code in a fresh process whose imports come from the current folder first."""
    places = os.pathsep.join(str(one) for one in path)
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": places},
        capture_output=True,
        text=True,
        check=False,
    )


def test_importing_loads_nothing_slow(tmp_path):
    code = f"import sys, affectloom; print([n for n in {_SLOW!r} if n in sys.modules])"
    done = python(code, tmp_path, ROOT)
    assert (done.stdout, done.returncode) == ("[]\n", 0), done.stderr


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """What an editable install puts into site-packages, of a clone that is named affectloom."""
    parent = tmp_path_factory.mktemp("home")
    clone = parent / "affectloom"
    clone.mkdir()
    for name in ("affectloom", "models", "tasks", "flows"):
        (clone / name).symlink_to(ROOT / name)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        (clone / name).write_bytes((ROOT / name).read_bytes())
    site = tmp_path_factory.mktemp("site")
    code = f"from setuptools import build_meta; print(build_meta.build_editable({str(site)!r}))"
    done = python(code, clone)
    assert done.returncode == 0, done.stderr
    wheel = done.stdout.splitlines()[-1]
    zipfile.ZipFile(site / wheel).extractall(site)
    return site, clone


@pytest.mark.parametrize("where", ["clone", "parent", "beside models"])
def test_an_editable_install_is_found_from_any_folder(installed, where, tmp_path):
    site, clone = installed
    folder = {"clone": clone, "parent": clone.parent, "beside models": tmp_path}[where]
    (tmp_path / "models").mkdir()  # as folders of weights are named
    code = (
        f"import sys, site; sys.path[1:] = [p for p in sys.path[1:] if p != {str(ROOT)!r}]; "
        f"sys.meta_path[:] = [f for f in sys.meta_path if '__editable__' not in str(f)]; "
        f"site.addsitedir({str(site)!r}); "
        "import affectloom; print(affectloom.load.__module__, affectloom.Text('a').text)"
    )
    done = python(code, folder)
    assert (done.stdout, done.returncode) == ("affectloom.model a\n", 0), done.stderr


def test_a_file_in_the_way_is_told(tmp_path):
    (tmp_path / "tasks.py").write_text("")
    done = python("import affectloom", tmp_path, ROOT)
    assert done.returncode == 1
    assert f"finds that name in {tmp_path / 'tasks.py'}" in done.stderr
