"""Addresses in the store are pinned: code that moves must not make clips be computed again."""

from dataclasses import replace
from pathlib import Path

import pytest

from tasks.faces.addresses import about, clip_key
from tasks.faces.params import FacesParams
from tasks.faces.stage import read_clips
from tasks.features import inputs
from tasks.features import stage as features
from tasks.features.stage import EncoderParams
from tasks.layout import Layout
from tasks.store.segments import fingerprint
from tasks.tables.faces import FACES
from tasks.tables.parquet import write_table
from tasks.tables.utterances import UTTERANCES

#: One clip of each kind; the hash of its bytes is made up.
CLIPS: list[dict] = [
    {"utterance_id": "toy/d/part", "media": "toy/a.mp4", "start_s": 1.25, "end_s": 2.5},
    {"utterance_id": "toy/d/region", "media": "toy/a.mp4", "region": [0.0, 0.0, 0.5, 1.0]},
    {"utterance_id": "toy/d/whole", "media": "toy/a.mp4", "text": "well, hello"},
]


@pytest.fixture
def layout(tmp_path) -> Layout:
    layout = Layout(tmp_path / "data", cache=tmp_path / "cache", project=tmp_path)
    shared = {"dialogue_id": "toy/d", "media_sha256": "ab" * 32}
    rows = [shared | {"turn": turn} | clip for turn, clip in enumerate(CLIPS)]
    write_table(UTTERANCES, UTTERANCES.frame(rows), layout.utterances("toy"))
    shown = {"frame": 0, "track": 0, "chosen": True, "is_detected": True, "status": "ok"}
    crops = [
        shown | {"utterance_id": clip["utterance_id"], "time_s": 0.5, "crop": bytes([turn])}
        for turn, clip in enumerate(CLIPS)
    ]
    write_table(FACES, FACES.frame(crops), layout.faces("toy"))
    return layout


def test_a_clips_faces_lie_where_they_lay(layout):
    assert [clip_key(clip)[:12] for clip in read_clips(layout, "toy")] == [
        "525f009152a2",
        "e032a5735d20",
        "503e2aa76151",
    ]


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        (FacesParams(), "8f0359725945b6c2dd62a853"),
        (FacesParams(detect="whole", rate_hz=2, crop_format="png"), "ed7634349e8751df1ef5a9c8"),
    ],
)
def test_the_fingerprint_of_faces_is_what_it_was(params, expected):
    said = about(params)
    assert set(said["libraries"]) == {
        "torch",
        "torchvision",
        "opencv-python-headless",
        "av",
        "numpy",
        "facenet-pytorch",
    }
    assert fingerprint(said | {"libraries": {}})[:24] == expected


@pytest.mark.parametrize(
    ("modality", "options", "expected"),
    [
        ("audio", {}, ["aa1541a99a28", "90ce7d510e06", "90ce7d510e06"]),
        ("audio", {"cut_s": 1.0}, ["449677808da2", "2b4dd8e49509", "2b4dd8e49509"]),
        ("text", {}, [None, None, "3a1ebab17627"]),
        ("video", {}, ["9651ca9502a5", "3fa597b8ecbb", "a6f2972b829e"]),
    ],
)
def test_a_clips_features_lie_where_they_lay(layout, modality, options, expected):
    table = inputs.read_utterances(layout, "toy")
    items = inputs.plan(modality, table, layout.faces("toy"), 1, **options)
    assert [item.key and item.key[:12] for item in items] == expected


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        (EncoderParams(family="prosody"), "8ccbf9e93373566c590e8b66"),
        (
            EncoderParams(family="hf_audio", checkpoint="x", dtype="float32", layer=2),
            "522388a28bec55d5ddcbd760",
        ),
        (EncoderParams(family="facenet", dtype="float32", max_faces=4), "2ef365456c09a58274311dfa"),
        (
            EncoderParams(family="hf_text", checkpoint="x", dtype="bfloat16", context=2),
            "b43c4afcb27f5ca0400f19c7",
        ),
    ],
)
def test_the_fingerprint_of_features_is_what_it_was(params, expected):
    weights = replace(features.find_weights(None, None, Path()), sha256="cd" * 32)
    settings = features.make_settings(params, weights)
    identity = features.encoder_identity(params, weights, settings)
    assert fingerprint(identity | {"libraries": {}})[:24] == expected
