"""The table of faces: one row per sampled frame and face track."""

import polars as pl

from tasks.tables.contract import UTTERANCE_ID, Column, Table
from tasks.tables.words import STATUSES

FACES = Table(
    "faces",
    {
        "utterance_id": UTTERANCE_ID,
        "frame": Column(pl.Int32, "index of the sampled frame within the utterance; -1: none"),
        "time_s": Column(pl.Float64, "time within the media file", nullable=True),
        "track": Column(pl.Int32, "face track within the utterance; -1: no face"),
        "chosen": Column(pl.Boolean, "True: this track is taken as the speaker's"),
        "box_px": Column(pl.List(pl.Float32), "x0, y0, x1, y1 in the upright frame", nullable=True),
        "landmarks_px": Column(
            pl.List(pl.Float32), "x, y of eyes, nose, mouth corners, upright frame", nullable=True
        ),
        "confidence": Column(pl.Float32, "detector's probability", nullable=True),
        "is_detected": Column(pl.Boolean, "False: interpolated between two detections"),
        "quality": Column(
            pl.Float32, "0 (useless) to 1, from size, sharpness, pose", nullable=True
        ),
        "speaking": Column(
            pl.Float32, "correlation of mouth motion and voice energy: a hint", nullable=True
        ),
        "crop": Column(pl.Binary, "aligned face, JPEG or PNG bytes", nullable=True),
        "status": Column(pl.String, "ok, degraded or quarantined", choices=STATUSES),
        "reason": Column(pl.String, "why not ok, e.g. no_face", nullable=True),
    },
    key=("utterance_id", "frame", "track"),
    made_by="stage faces",
    row_group=128,
)
