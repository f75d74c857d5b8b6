"""Models on a model hub: a folder is pushed as it was exported, and read with the same suspicion.

Only files that the format knows are downloaded, each named by what a model has, into a folder of
the commit; ``tasks.predict.leaving.folder`` checks them like those of any other folder.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from models.encoders.records import first_line, is_pinned
from models.errors import UserError

PREFIX = "hub:"
_REPOSITORY = r"\w[\w.-]*/\w[\w.-]*"
_ADDRESS = re.compile(rf"hub:({_REPOSITORY})(?:@(\w[\w.-]*(?:/\w[\w.-]*)*))?")
_NAME = r"[A-Za-z0-9][A-Za-z0-9_+.-]*"
#: Paths that a model has, in a part or as the only one.
_KNOWN = re.compile(
    rf"(parts/{_NAME}/)?(README\.md|LICENCE|encoders\.json|calibration\.json|sha256\.txt"
    rf"|weights/{_NAME}/{_NAME}\.(safetensors|json|txt|model)"
    rf"|({_NAME}/)+(config\.json|weights\.safetensors))"
)
#: Far above what any model needs.
_MOST_FILES, _MOST_BYTES = 10_000, 50_000_000_000


def folder_of(name: str, base: Path, cache: Path) -> Path:
    """The folder of a model that is named by its place here or on a hub.

    Args:
        name: a folder or ``hub:owner/name@revision``.
        base: what folders are relative to.
        cache: what is downloaded is kept there.
    """
    return download(name, cache) if name.startswith(PREFIX) else base / Path(name).expanduser()


def push(folder: Path, name: str, *, is_bound: bool) -> str:
    """Upload a model; a repository that is new is private.

    Args:
        folder: what ``export`` wrote.
        name: ``owner/name`` of the repository.
        is_bound: the terms of its data may forbid to publish it.

    Returns:
        Its address with the commit.
    """
    if not re.fullmatch(_REPOSITORY, name):
        raise UserError(f"--push {name}: write owner/name, as the hub has it")
    with _asking(f"--push {name}"):
        api = hub_api()
        api.create_repo(name, private=True, exist_ok=True)
        if is_bound and not api.model_info(name).private:
            raise UserError(
                f"--push {name}: that repository is public, and the terms of the data may forbid "
                f"to publish what was learnt from them (see {folder / 'README.md'}); make it "
                "private, or name a new one"
            )
        done = api.upload_folder(
            repo_id=name,
            folder_path=folder,
            commit_message="Export of affectloom",
            delete_patterns="*",  # networks of an earlier export would answer with these
        )
    return f"{PREFIX}{name}@{done.oid}"


def download(address: str, cache: Path) -> Path:
    """The folder of a model on a hub; a commit that was downloaded before asks nobody.

    Args:
        address: ``hub:owner/name`` or ``hub:owner/name@revision``.
        cache: what was downloaded is kept in its folder ``models``.
    """
    found = _ADDRESS.fullmatch(address)
    if not found:
        raise UserError(f"--model {address}: write hub:owner/name or hub:owner/name@revision")
    name, revision = found[1], found[2] or "main"
    if is_pinned(revision) and (kept := _kept(name, revision, cache)).is_dir():
        return kept
    with _asking(f"--model {address}"):
        info = hub_api().model_info(name, revision=revision, files_metadata=True)
    if not is_pinned(str(info.sha)):  # it names a folder here
        raise UserError(f"--model {address}: the hub names no commit; look at its address")
    kept = _kept(name, str(info.sha), cache)
    if kept.is_dir():
        return kept
    sizes = {one.rfilename: one.size or 0 for one in info.siblings or []}
    wanted = [file for file in sizes if _KNOWN.fullmatch(file)]
    if not any(Path(file).name == "encoders.json" for file in wanted):
        raise UserError(
            f"--model {address}: there is no encoders.json in it; `affectloom export --push` "
            "writes such models"
        )
    if len(wanted) > _MOST_FILES or sum(sizes[file] for file in wanted) > _MOST_BYTES:
        raise UserError(f"--model {address} is larger than any such model; look at what it is")
    kept.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{kept.name}.", suffix=".tmp", dir=kept.parent))
    try:
        with _asking(f"--model {address}"):
            _bring(name, str(info.sha), wanted, partial)
        partial.chmod(0o755)
        partial.replace(kept)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return kept


def _kept(name: str, commit: str, cache: Path) -> Path:
    return cache / "models" / f"{name.replace('/', '--')}@{commit}"


def _bring(name: str, commit: str, wanted: list[str], folder: Path) -> None:
    from huggingface_hub import hf_hub_download

    for file in wanted:
        hf_hub_download(name, file, revision=commit, local_dir=folder, endpoint=_endpoint())
    shutil.rmtree(folder / ".cache", ignore_errors=True)  # the library's notes


def _endpoint() -> str | None:
    """Of a hub of one's own; the library reads this only when it is imported."""
    return os.environ.get("HF_ENDPOINT") or None


def hub_api() -> Any:
    """The hub's client, which only publishing needs."""
    from huggingface_hub import HfApi

    return HfApi(endpoint=_endpoint())


@contextmanager
def _asking(what: str) -> Iterator[None]:
    """Errors of the hub and of the network as one sentence."""
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled

    try:
        yield
    except LocalTokenNotFoundError as error:
        raise UserError(f"{what}: the hub wants to know who you are; set HF_TOKEN") from error
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else ""
        hint = "; set HF_TOKEN to a token that may do this" if status in (401, 403) else ""
        raise UserError(f"{what}: the hub refuses ({first_line(error)}){hint}") from error
    except (OSError, OfflineModeIsEnabled) as error:
        raise UserError(f"{what}: the hub cannot be reached ({first_line(error)})") from error
    except ValueError as error:  # how the library tells what the hub's storage answered
        said = " ".join(str(error).split())
        raise UserError(f"{what}: the hub refuses ({said})") from error
    except Exception as error:
        # the hub's HTTP library changes its name with its versions, and has no public base class
        if type(error).__module__.startswith(("httpx", "httpcore", "requests")):
            raise UserError(f"{what}: the hub cannot be reached ({first_line(error)})") from error
        raise
