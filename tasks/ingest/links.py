"""Media that are links out of their corpus's folder: a stranger's link could show any file."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

import polars as pl

#: Where DVC keeps files by content; folders that it manages are full of links there.
_DVC_CACHE = re.compile(r"/files/md5/[0-9a-f]{2}/[0-9a-f]{30}$")


def find_leaving(
    media: Sequence[str], root: Path, corpus_folder: Path, allowed: Sequence[str]
) -> pl.DataFrame:
    """Media that lie elsewhere than they say.

    Args:
        media: names below ``root``, each once.
        root: the folder of all corpora.
        corpus_folder: of the corpus, a folder or a link to one.
        allowed: further folders that links may lead to.

    Returns:
        Columns media, reason, detail.
    """
    homes = [os.path.realpath(folder) for folder in (corpus_folder, *allowed)]
    found = []
    for name in media:
        real = os.path.realpath(root / name)
        inside = any(os.path.commonpath((real, home)) == home for home in homes)
        if not inside and not _DVC_CACHE.search(real):
            detail = (
                f"{root / name} is a link to {real}, outside the corpus's folder; copy the file, "
                "or name its folder in corpora.<corpus>.media of params.yaml"
            )
            found.append({"media": name, "reason": "link_outside", "detail": detail})
    names = ("media", "reason", "detail")
    return pl.DataFrame(found, schema=dict.fromkeys(names, pl.String))
