"""Checksums of a model's files: with one bit that a disk or a copy turned it answers otherwise."""

import re
from pathlib import Path

from models.errors import UserError
from tasks.atomic import replacing
from tasks.media.decoding import media_sha256

#: As ``sha256sum -c`` reads it.
SUMS = "sha256.txt"
_LINE = re.compile(r"([0-9a-f]{64})  (\S.*)")
_MOST_BYTES = 1_000_000


def write_sums(folder: Path) -> None:
    """Note the checksum of every file below a model's folder."""
    files = sorted(file for file in folder.rglob("*") if file.is_file() and file.name != SUMS)
    lines = [f"{media_sha256(file)}  {file.relative_to(folder).as_posix()}\n" for file in files]
    with replacing(folder / SUMS) as temporary:
        temporary.write_text("".join(lines), encoding="utf-8")


def check_sums(folder: Path) -> None:
    """Raise at the first file that is not what its maker wrote.

    Files that are away are no matter, since parts of a model may be taken alone, nor is a folder
    without checksums, as older ones are.
    """
    sums = folder / SUMS
    if not sums.exists():
        return
    if sums.stat().st_size > _MOST_BYTES:
        raise UserError(f"{sums} is larger than any such file; take the model from its maker")
    for number, line in enumerate(sums.read_bytes().splitlines(), 1):
        found = _LINE.fullmatch(line.decode("utf-8", errors="replace"))
        name = Path(found[2]) if found else Path()
        if found is None or name.is_absolute() or ".." in name.parts:
            raise UserError(f"{sums} line {number} is no checksum; copy the model anew")
        file = folder / name
        if file.is_file() and media_sha256(file) != found[1]:
            raise UserError(
                f"{file} is not as its maker wrote it (other SHA-256 than in {SUMS}); copy the "
                f"model anew, or remove {SUMS} where the change is yours"
            )
