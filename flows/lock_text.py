"""The text of ``dvc.lock``, cut into the entries of its stages.

DVC's parser takes seconds for a file of many stages, and its writer too. Whoever wants one entry,
or an order of entries, needs neither.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from tasks.atomic import replacing

_HEAD = "schema: '2.0'\nstages:\n"
#: The line that begins a stage's entry, with a name as DVC writes it without quotes.
_NAME = re.compile(r"^  ([A-Za-z_][\w@.-]*):\n", re.MULTILINE)


def entries(text: str) -> dict[str, str] | None:
    """Name of each stage to its lines; None where the file is not as DVC writes it for stages."""
    if not text.startswith(_HEAD) or not text.endswith("\n"):
        return None
    body = text[len(_HEAD) :]
    starts = [found.start() for found in _NAME.finditer(body)]
    if not starts or starts[0] > 0:
        return None
    cuts = [body[a:b] for a, b in zip(starts, [*starts[1:], len(body)], strict=True)]
    if re.search(r"^ {,2}[^ \n]", "".join(map(_rest, cuts)), re.MULTILINE):
        return None  # something else stands between the stages or below them
    found = {_name(cut): cut for cut in cuts}
    return found if len(found) == len(cuts) else None


def _name(cut: str) -> str:
    return cut[2 : cut.index(":\n")]


def _rest(cut: str) -> str:
    return cut[cut.index("\n") + 1 :]


def write(file: Path, cuts: Iterable[str]) -> None:
    """Put entries into the lock file, in the order given."""
    with replacing(file) as temporary:
        temporary.write_text(_HEAD + "".join(cuts), encoding="utf-8")
