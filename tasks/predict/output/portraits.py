"""Small pictures of the faces that were looked at, for people who read an answer."""

import io
from collections.abc import Sequence
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
from PIL import Image

from tasks.predict.corpus import utterance_id
from tasks.tables.faces import FACES
from tasks.tables.parquet import table_files

#: Of a medium with more utterances, those of so many, evenly over time: some 300 KB in all.
MOST = 150
_SIDE_PX = 64
_COLUMNS = ["utterance_id", "chosen", "confidence", "crop"]


def portraits(faces: Path, dialogue: int, utterances: Sequence[str]) -> dict[str, bytes]:
    """Utterance to a JPEG of the face that was chosen in it, where its detector was surest.

    Args:
        faces: table of faces, with crops.
        dialogue: place of the medium in the corpus.
        utterances: ids in the answer, in order of time.
    """
    step = max(1, -(-len(utterances) // MOST))
    names = {utterance_id(dialogue, int(one) - 1): one for one in utterances[::step]}
    best: dict[str, tuple[float, bytes]] = {}
    for file in table_files(faces, FACES):
        for batch in pq.ParquetFile(file).iter_batches(batch_size=512, columns=_COLUMNS):
            is_asked = pl.col("utterance_id").is_in(list(names))
            is_shown = is_asked & pl.col("chosen") & pl.col("crop").is_not_null()
            rows = pl.DataFrame(pl.from_arrow(batch)).filter(is_shown)
            for name, _, confidence, crop in rows.iter_rows():
                one = names[name]
                if one not in best or (confidence or 0.0) > best[one][0]:
                    best[one] = (confidence or 0.0, crop)
    return {one: _small(best[one][1]) for one in utterances if one in best}


def _small(crop: bytes) -> bytes:
    picture = Image.open(io.BytesIO(crop)).convert("RGB")
    picture.thumbnail((_SIDE_PX, _SIDE_PX))
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=80)
    return stream.getvalue()
