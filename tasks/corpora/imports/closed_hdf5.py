"""HDF5 files from strangers: only what lies in the file itself is read, and only as much.

HDF5 can show other files as its own: external links, data sets stored outside, virtual data sets.
And a few bytes can claim terabytes, which are filled in when they are read.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from models.errors import UserError

#: No filter of HDF5 packs more tightly: deflate ends near 1,030.
_MOST_PACKED = 1_100
#: Values of one data set that are read at once.
_MOST_BYTES = 4 << 30


def check_closed(h5py: Any, file: Path, group: Any) -> None:
    """Raise where anything below ``group`` is not plain content of ``file``.

    Args:
        h5py: the package.
        file: what people know it as.
        group: an open file, or a group of one.
    """
    for name, part in _walk(h5py, file, group):
        if not isinstance(part, h5py.Dataset):
            continue
        if part.is_virtual or part.external:
            kind = "a virtual data set" if part.is_virtual else "a data set stored outside"
            raise UserError(
                f"{file}: {name} is {kind}: it shows the content of other files, which is not "
                "imported; write its values into the file itself"
            )
        claimed, stored = int(part.nbytes), int(part.id.get_storage_size())
        if claimed > _MOST_PACKED * stored:
            raise UserError(
                f"{file}: {name} claims {claimed:,} bytes of values but holds {stored:,}; "
                "the file is damaged or made to fill the memory"
            )
        if claimed > _MOST_BYTES:
            raise UserError(
                f"{file}: {name} has {claimed / 2**30:.1f} GB of values; at most "
                f"{_MOST_BYTES >> 30} GB of one segment are imported: cut it into several"
            )


def _walk(h5py: Any, file: Path, group: Any) -> Iterator[tuple[str, Any]]:
    """Every part below ``group`` with its path; no link is followed but hard ones, each once."""
    seen: set[Any] = set()
    waiting = [("", group)]
    while waiting:
        where, part = waiting.pop()
        for name in part:
            path = f"{where}/{name}"
            if not isinstance(part.get(name, getlink=True), h5py.HardLink):
                raise UserError(
                    f"{file}: {path} is a link to somewhere else, which is not followed; write "
                    "its values into the file itself"
                )
            found = part[name]
            place = h5py.h5o.get_info(found.id).addr
            if place in seen:  # groups may hold each other
                continue
            seen.add(place)
            yield path, found
            if isinstance(found, h5py.Group):
                waiting.append((path, found))
