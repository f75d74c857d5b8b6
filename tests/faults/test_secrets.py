"""Nothing that the environment keeps secret stands in what a run leaves."""

import zipfile

import pyarrow.parquet as pq
import pytest

from tests.faults.project import SECRETS
from tests.tally import note

pytestmark = pytest.mark.faults

#: The part of each that is secret.
HIDDEN = {name: value.split("@")[0].split(":")[-1].encode() for name, value in SECRETS.items()}


def readable(file) -> bytes:
    """A file's bytes, and what is packed inside."""
    content = file.read_bytes()
    if file.suffix == ".parquet":
        table = pq.read_table(file)
        content += str(table.schema.metadata).encode() + str(table.to_pylist()).encode()
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as packed:
            content += b"".join(packed.read(name) for name in packed.namelist())
    return content


def test_no_file_holds_a_secret(calm):
    files = [file for file in calm.rglob("*") if file.is_file() and "__pycache__" not in file.parts]
    assert len(files) > 200
    found = {
        (name, str(file.relative_to(calm)))
        for file in files
        for name, secret in HIDDEN.items()
        if secret in readable(file)
    }
    note("secrets of the environment", "lost" if found else "survived", len(HIDDEN))
    assert found == set()


def test_the_search_finds_what_is_there(calm, tmp_path):
    (tmp_path / "x").write_bytes(b"..." + HIDDEN["PIP_INDEX_URL"])
    assert HIDDEN["PIP_INDEX_URL"] == b"umbrellaweather"
    assert HIDDEN["PIP_INDEX_URL"] in readable(tmp_path / "x")
