"""A faces table whose crops tell the category of their utterance by colour."""

import io

import numpy as np
from PIL import Image

from tasks.tables.faces import FACES
from tasks.tables.parquet import write_table
from tests.places import here
from tests.tasks.corpus_factory import CLASSES, CORPUS

COLOURS = {
    "angry": (220, 30, 30),
    "happy": (30, 220, 30),
    "neutral": (30, 30, 220),
    None: (9, 9, 9),
}


def encoded(pixels, kind="PNG", **options):
    """Bytes of a picture."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **options)
    return stream.getvalue()


def painted(colour, seed=0, side_px=16):
    """A noisy picture (side_px, side_px, 3) of one colour."""
    noise = np.random.default_rng(seed).normal(0, 12, (side_px, side_px, 3))
    return np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)


def face_row(name, frame, crop, quality=0.5, chosen=True, track=0):
    return {
        "utterance_id": name, "frame": frame, "track": track, "chosen": chosen,
        "is_detected": True, "quality": quality, "crop": crop, "status": "ok",
    }  # fmt: skip


def no_face(name):
    return {
        "utterance_id": name, "frame": -1, "track": -1, "chosen": False, "is_detected": False,
        "status": "quarantined", "reason": "no_face",
    }  # fmt: skip


def faces_of(corpus, crops=2):
    """Rows for every utterance of a corpus: as many crops each; none for ``tiny/d00/u2``.

    Another track shows a colour that no class has.
    """
    categories = {row["utterance_id"]: row["category"] for row in corpus.labels}
    assert set(categories.values()) <= {*CLASSES, None}
    rows = []
    for i, row in enumerate(corpus.utterances):
        name = row["utterance_id"]
        if name == f"{CORPUS}/d00/u2":
            rows.append(no_face(name))
            continue
        for frame in range(crops):
            pixels = painted(COLOURS[categories.get(name)], 100 * i + frame)
            rows.append(face_row(name, frame, encoded(pixels), 0.5 + 0.1 * frame))
        stranger = encoded(painted((250, 250, 10), i))
        rows.append(face_row(name, 0, stranger, 0.99, chosen=False, track=1))
    return rows


def write_faces(rows):
    """Write the faces table of the tiny corpus."""
    write_table(FACES, FACES.frame(rows), here().faces(CORPUS))
