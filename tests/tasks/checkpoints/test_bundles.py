"""Bundles of checkpoints: what goes in comes out, and nothing else gets in."""

import hashlib
import io
import json
import os
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.encoders.fetching import fetch
from models.encoders.records import RECORD
from models.encoders.weights import find_weights
from models.errors import UserError
from tasks.checkpoints.bundles import Bundled, export_bundle, import_bundle
from tasks.checkpoints.stage import TinyCheckpoint, make_checkpoint
from tests.hub_factory import COMMIT, NAME, write_hub_cache


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    """A bundle of one tiny checkpoint, beside the cache it was made from."""
    root = tmp_path_factory.mktemp("bundle")
    tiny = make_checkpoint(TinyCheckpoint(kind="bert", width=16, layers=1), 1, root / "tiny")
    write_hub_cache(root / "hub", tiny)
    before = os.environ.get("HF_HUB_CACHE")
    os.environ["HF_HUB_CACHE"] = str(root / "hub")
    try:
        folder = fetch(NAME, COMMIT, root / "cache")
    finally:
        os.environ.pop("HF_HUB_CACHE")
        if before is not None:
            os.environ["HF_HUB_CACHE"] = before
    export_bundle([Bundled(NAME, COMMIT, folder)], root / "bundle.tar")
    return root / "bundle.tar"


def members(bundle: Path) -> dict[str, bytes]:
    with tarfile.open(bundle) as tar:
        return {m.name: tar.extractfile(m).read() for m in tar.getmembers()}


def write_tar(path: Path, content: dict[str, bytes], links: dict[str, str] | None = None) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data in content.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
        for name, target in (links or {}).items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            tar.addfile(member)
    return path


def forged(bundle: Path, path: Path, name: str, data: bytes) -> Path:
    """A bundle that lists one more file, and holds it."""
    content = members(bundle)
    listed = json.loads(content["bundle.json"])
    digest = hashlib.sha256(data).hexdigest()
    listed["checkpoints"][0]["files"][name] = {"sha256": digest, "bytes": len(data)}
    content["bundle.json"] = json.dumps(listed).encode()
    return write_tar(path, content | {f"0/{name}": data})


def files_under(folder: Path) -> set[str]:
    return {str(f.relative_to(folder)) for f in folder.rglob("*") if f.is_file()}


def test_a_bundle_brings_the_same_weights_to_another_machine(bundle, tmp_path):
    (one,) = import_bundle(bundle, tmp_path)
    assert (one.checkpoint, one.revision, one.is_new) == (NAME, COMMIT, True)
    there = find_weights(NAME, COMMIT, tmp_path)
    here = find_weights(NAME, COMMIT, bundle.parent / "cache")
    assert there.sha256 == here.sha256
    assert there.trained is here.trained is False
    (again,) = import_bundle(bundle, tmp_path)
    assert not again.is_new
    assert not list((tmp_path / "weights").glob(".*.tmp"))


def test_the_same_checkpoints_make_the_same_bytes(bundle, tmp_path):
    (one,) = import_bundle(bundle, tmp_path)
    export_bundle([one], tmp_path / "again.tar")
    assert (tmp_path / "again.tar").read_bytes() == bundle.read_bytes()


@pytest.mark.parametrize(
    "name", ["../evil.json", "/tmp/evil.json", "a/b.json", ".hidden.json", "evil.bin", "evil.pkl"]
)
def test_names_outside_the_folder_and_pickles_are_refused(bundle, tmp_path, name):
    evil = forged(bundle, tmp_path / "evil.tar", name, b"{}")
    cache = tmp_path / "deep" / "cache"
    with pytest.raises(UserError, match="has no place in a bundle"):
        import_bundle(evil, cache)
    assert files_under(tmp_path) == {"evil.tar"}


def test_members_that_are_not_listed_or_no_files_are_refused(bundle, tmp_path):
    content = members(bundle)
    more = write_tar(tmp_path / "more.tar", content | {"../../evil.json": b"{}"})
    with pytest.raises(UserError, match=r"'\.\./\.\./evil.json', which bundle.json does not list"):
        import_bundle(more, tmp_path / "cache")
    data = content.pop("0/model.safetensors")
    link = write_tar(tmp_path / "link.tar", content, {"0/model.safetensors": "/etc/passwd"})
    with pytest.raises(UserError, match="does not list in this form"):
        import_bundle(link, tmp_path / "cache")
    lacking = write_tar(tmp_path / "lacking.tar", content)
    with pytest.raises(UserError, match=r"lacks 0/model.safetensors"):
        import_bundle(lacking, tmp_path / "cache")
    changed = write_tar(
        tmp_path / "changed.tar", content | {"0/model.safetensors": data[:-1] + b"\0"}
    )
    with pytest.raises(UserError, match=r"model.safetensors is damaged"):
        import_bundle(changed, tmp_path / "cache")
    assert files_under(tmp_path / "cache") == set()


@pytest.mark.parametrize("name", ["../../elsewhere", "a/../b", "owner/name/more", ""])
def test_a_checkpoint_cannot_name_its_own_folder(bundle, tmp_path, name):
    content = members(bundle)
    content["bundle.json"] = content["bundle.json"].replace(NAME.encode(), name.encode())
    with pytest.raises(UserError):
        import_bundle(write_tar(tmp_path / "evil.tar", content), tmp_path / "deep" / "cache")
    assert files_under(tmp_path) == {"evil.tar"}


@pytest.mark.parametrize("content", [b"", b"no tar at all", b"\0" * 2048])
def test_what_is_no_bundle_is_one_sentence(tmp_path, content):
    (tmp_path / "b.tar").write_bytes(content)
    with pytest.raises(UserError, match="is no bundle"):
        import_bundle(tmp_path / "b.tar", tmp_path / "cache")
    with pytest.raises(UserError, match="there is no bundle"):
        import_bundle(tmp_path / "absent.tar", tmp_path / "cache")


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), cut=st.booleans())
def test_a_flipped_bit_or_a_cut_never_brings_other_weights(
    bundle, tmp_path_factory, place, bit, cut
):
    folder = tmp_path_factory.mktemp("flip")
    whole = bundle.read_bytes()
    content = bytearray(whole)
    at = int(place * len(whole))
    if cut:
        content = content[:at]
    else:
        content[at] ^= 1 << bit
    (folder / "b.tar").write_bytes(content)
    here = find_weights(NAME, COMMIT, bundle.parent / "cache")
    try:
        import_bundle(folder / "b.tar", folder / "cache")
    except UserError:
        assert files_under(folder / "cache") == set()
    else:  # in padding, or in what a tar says beside names and sizes
        assert find_weights(NAME, COMMIT, folder / "cache").sha256 == here.sha256


def test_only_what_is_as_it_was_fetched_is_exported(bundle, tmp_path):
    (one,) = import_bundle(bundle, tmp_path)
    (one.folder / "config.json").write_text("{}")
    with pytest.raises(UserError, match="is not what was fetched"):
        export_bundle([one], tmp_path / "b.tar")
    assert RECORD in files_under(one.folder)
    assert not (tmp_path / "b.tar").exists()
