"""Where the faces of a clip lie in the store: what their rows depend on, as hashes."""

import hashlib
import importlib.metadata
import json
from dataclasses import astuple

from models.mtcnn.networks import weights_sha256
from tasks.faces.params import FacesParams
from tasks.faces.windows import ClipRequest
from tasks.media.spans import Span
from tasks.store.segments import fingerprint

#: Raised when the same clip and parameters give other rows than before.
FACES_VERSION = 2
_LIBRARIES = ("torch", "torchvision", "opencv-python-headless", "av", "numpy", "facenet-pytorch")


def about(params: FacesParams) -> dict[str, object]:
    """Everything but the clip on which a clip's rows depend."""
    return {
        "stage": "faces",
        "version": FACES_VERSION,
        "params": params.model_dump(mode="json"),
        "weights_sha256": weights_sha256(),
        "libraries": _libraries(),
    }


def _libraries() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in _LIBRARIES}


def metadata(params: FacesParams) -> dict[str, str]:
    """What the table's schema says about how it was made."""
    knobs = params.model_dump(mode="json")
    flat = {f"param.{key}": json.dumps(value) for key, value in knobs.items()}
    flat |= {f"library.{name}": version for name, version in _libraries().items()}
    return flat | {
        "stage": "faces",
        "fingerprint": fingerprint(about(params)),
        "version": str(FACES_VERSION),
        "detector": "mtcnn" if params.detect == "faces" else "none",
        "weights_sha256": weights_sha256(),
    }


def clip_key(clip: ClipRequest) -> str:
    """Hash of what a clip's rows depend on beside ``about``: bytes, span and region."""
    span = clip.span or Span("")
    region = None if span.region is None else astuple(span.region)
    content = [clip.media_sha256, span.start_s, span.end_s, region]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
