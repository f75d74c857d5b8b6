"""Boxes in pixels to regions of a picture, with its size as it is seen upright.

The size is read from the file's header; only of a PNG, whose EXIF may come last, all is read.
"""

import logging
import warnings
from pathlib import Path

import polars as pl
from PIL import Image, UnidentifiedImageError

from tasks.media.stills import orientation

#: A box with less than this share of its area inside the picture is a mistake, not a cut person.
_INSIDE = 0.5

log = logging.getLogger("affectloom")


def picture_sizes(root: Path, media: pl.Series) -> pl.DataFrame:
    """Columns media, width_px, height_px (null where unreadable) and is_there; one row a file."""
    names = media.drop_nulls().unique().sort().to_list()
    sizes = [_size(root / name) for name in names]
    return pl.DataFrame(
        {
            "media": names,
            "width_px": [size[0] for size in sizes],
            "height_px": [size[1] for size in sizes],
            "is_there": [(root / name).is_file() for name in names],
        },
        schema={
            "media": pl.String,
            "width_px": pl.Float64,
            "height_px": pl.Float64,
            "is_there": pl.Boolean,
        },
    )


def _size(path: Path) -> tuple[int | None, int | None]:
    try:
        with warnings.catch_warnings():
            # the pixels of a huge picture are not touched here
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as picture:  # reads the header only
                width, height = picture.size
                return (height, width) if orientation(picture).is_transposed else (width, height)
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, ValueError):
        return None, None


def add_regions(rows: pl.DataFrame, root: Path, corpus: str) -> pl.DataFrame:
    """Add ``region`` (fractions) and ``reason``, ``detail`` for rows that cannot have one.

    A box that reaches over the edge is cut there, for nothing of the picture is lost by it; how
    many were cut is logged. A file that is not there keeps a null region: ingest reports it.

    Args:
        rows: columns media and x0_px, y0_px, x1_px, y1_px (corners in the upright picture, y
            downwards).
        root: folder that media are relative to.
        corpus: who to name in the log.
    """
    rows = rows.join(picture_sizes(root, rows["media"]), on="media", how="left")
    x0, y0, x1, y1 = (pl.col(name) for name in ("x0_px", "y0_px", "x1_px", "y1_px"))
    width, height = pl.col("width_px"), pl.col("height_px")
    cut = [x0.clip(0, width), y0.clip(0, height), x1.clip(0, width), y1.clip(0, height)]
    area = (x1 - x0) * (y1 - y0)
    inside = (cut[2] - cut[0]) * (cut[3] - cut[1])
    is_box = pl.all_horizontal(corner.is_finite().fill_null(False) for corner in (x0, y0, x1, y1))
    bad = ~is_box | (x1 <= x0) | (y1 <= y0) | (inside < _INSIDE * area)
    unread = pl.col("is_there") & width.is_null()
    corners = pl.format(
        "{}, {}, {}, {}", *(c.cast(pl.String).fill_null("?") for c in (x0, y0, x1, y1))
    )
    rows = rows.with_columns(
        region=pl.when(pl.col("is_there") & ~bad).then(
            pl.concat_list(cut[0] / width, cut[1] / height, cut[2] / width, cut[3] / height)
        ),
        reason=pl.when(unread)
        .then(pl.lit("unreadable_image"))
        .when(pl.col("is_there") & bad)
        .then(pl.lit("bad_box")),
        detail=pl.when(unread)
        .then(pl.format("{} is no readable picture; copy it again", "media"))
        .when(pl.col("is_there") & bad)
        .then(
            pl.format(
                "box {} is none or lies mostly outside the {} x {} px picture {}; mend it",
                corners,
                width.cast(pl.Int64),
                height.cast(pl.Int64),
                "media",
            )
        ),
        is_cut=(pl.col("is_there") & ~bad & (inside < area)).fill_null(False),
    )
    count = int(rows["is_cut"].sum())
    if count:
        log.info("%s: %s boxes reach over the edge of their picture and end there", corpus, count)
    return rows.drop("is_cut", "width_px", "height_px", "is_there")
